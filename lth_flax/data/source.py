"""A source: texts and labels as they were read, before any split."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int

from lth_flax.config import Config
from lth_flax.data.batches import SPLITS
from lth_flax.data.tokenizer import is_empty
from lth_flax.errors import UserError

MOST_CLASSES = 1000


@dataclass(frozen=True)
class Source:
    """Texts and labels, before any split. A data set is a function from the settings to one.

    Attributes:
      name: the dataset's name.
      texts: cleaned, not tokenized; one that cleaning empties stays, as "".
      labels: int32, 0 to `len(class_names) - 1`.
      class_names: in the order of the labels.
      official: "test" or "validation" -> true for the texts of the set's own split of that
        name. Splits that it does not have are drawn from the other texts.
      files: every file that was read.
      notes: what a reader of results should know about how it was read.
      fingerprint: sha256, hexadecimal, of the texts, the labels, their classes
        and which of them are official splits; computed where it is not given.

    Raises:
      UserError: they do not fit each other.
    """

    name: str
    texts: Sequence[str]
    labels: Int[np.ndarray, "texts"]
    class_names: Sequence[str]
    official: Mapping[str, Bool[np.ndarray, "texts"]] = field(default_factory=dict)
    files: Sequence[Path] = ()
    notes: Sequence[str] = ()
    fingerprint: str = ""

    def __post_init__(self) -> None:
        texts, names = tuple(self.texts), tuple(self.class_names)
        labels = np.asarray(self.labels)
        official = {split: np.asarray(inside) for split, inside in self.official.items()}
        masks = list(official.values())
        for fits, expected in (
            (
                texts and all(isinstance(text, str) for text in (*texts, *names)),
                "one or more texts, and names of classes, all of type str",
            ),
            (
                2 <= len(set(names)) == len(names) <= MOST_CLASSES,
                f"2 to {MOST_CLASSES} different classes, found {len(names)}: give another "
                "--label_key or --label_column",
            ),
            (
                labels.shape == (len(texts),)
                and labels.dtype.kind in "biu"
                and np.isin(labels, np.arange(len(names))).all(),
                f"as label of each text a whole number from 0 to {len(names) - 1}",
            ),
            (
                official.keys() <= set(SPLITS[1:])
                and all(mask.shape == (len(texts),) and mask.dtype == bool for mask in masks)
                and not (len(masks) == 2 and np.logical_and(*masks).any()),
                "official splits test and validation, which are true or false for each text, "
                "and true in one of them at most",
            ),
        ):
            if not fits:
                raise UserError(f"data set {self.name}: expected {expected}")
        # Of a frozen dataclass, before anyone sees it.
        vars(self).update(
            texts=texts, labels=labels.astype(np.int32), class_names=names, official=official
        )
        vars(self).update(fingerprint=self.fingerprint or self._fingerprint())

    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        for part in (self.texts, self.class_names):
            digest.update(len(part).to_bytes(8, "little"))
            for item in part:
                data = item.encode("utf-8", errors="surrogatepass")
                digest.update(len(data).to_bytes(8, "little") + data)
        digest.update(self.labels.astype("<i4").tobytes())
        for split, inside in sorted(self.official.items()):  # test before validation
            digest.update(split.encode() + inside.astype(np.uint8).tobytes())
        return digest.hexdigest()

    @property
    def pool(self) -> Int[np.ndarray, "rest"]:
        """The texts that no official split has: splits that it lacks are drawn from them."""
        held_out = np.zeros(len(self.texts), bool)
        for inside in self.official.values():
            held_out |= inside
        return np.flatnonzero(~held_out)

    @property
    def num_empty(self) -> int:
        """Texts without a token."""
        return sum(map(is_empty, self.texts))


def drawn_shares(config: Config, own: Collection[str]) -> dict[str, float]:
    """The share of every split that is drawn: those that the data has not of its own.

    Raises:
      UserError: they leave nothing to train on.
    """
    shares = {part: getattr(config, f"{part}_share") for part in SPLITS[1:] if part not in own}
    if sum(shares.values()) >= 1:
        given = " and ".join(f"--{part}_share={share}" for part, share in shares.items())
        raise UserError(f"{given} leave nothing to train on: expected a sum below 1")
    return shares


def official_splits(sizes: Mapping[str, int]) -> dict[str, Bool[np.ndarray, "texts"]]:
    """`official` of a source whose texts lie split after split; those of "train" are drawn from."""
    of_text = np.repeat(list(sizes), list(sizes.values()))
    return {split: of_text == split for split in sizes if split != "train"}
