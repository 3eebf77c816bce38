"""A source: texts and labels as they were read, before any split."""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int

from lth_flax.data import synthetic
from lth_flax.data.tokenizer import is_empty


@dataclasses.dataclass(frozen=True)
class SourceOptions:
    """What the sources can be told; each takes what concerns it."""

    data_file: str | None = None
    validation_file: str | None = None
    test_file: str | None = None
    separator: str = "auto"
    encoding: str | None = None
    data_dir: str | None = None
    text_key: str | None = None
    label_key: str | None = None
    text_column: str | None = None
    label_column: str | None = None
    synthetic_size: int = synthetic.DEFAULT_SIZE
    synthetic_seed: int = 0


@dataclasses.dataclass(frozen=True)
class Source:
    """Texts and labels, before any split.

    Attributes:
      name: the dataset's name.
      texts: cleaned, not tokenized; one that cleaning empties stays, as "".
      labels: int32, 0 to `len(class_names) - 1`.
      class_names: in the order of the labels.
      official_test: true for the texts of the set's own test split; None where
        it has none.
      num_empty: texts without a token.
      fingerprint: sha256, hexadecimal, of the texts, the labels, their classes
        and which of them are official splits.
      official_validation: the same for a validation split of its own.
      files: every file that was read.
      notes: what a reader of results should know about how it was read.
    """

    name: str
    texts: tuple[str, ...]
    labels: Int[np.ndarray, "texts"]
    class_names: tuple[str, ...]
    official_test: Bool[np.ndarray, "texts"] | None
    num_empty: int
    fingerprint: str
    official_validation: Bool[np.ndarray, "texts"] | None = None
    files: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()


def make_source(
    name: str,
    texts: Sequence[str],
    labels: Int[np.ndarray, "texts"],
    class_names: Sequence[str],
    *,
    official_test: Bool[np.ndarray, "texts"] | None = None,
    official_validation: Bool[np.ndarray, "texts"] | None = None,
    files: Sequence[Path] = (),
    notes: Sequence[str] = (),
) -> Source:
    """A source with its empty texts counted and its fingerprint taken."""
    labels = np.asarray(labels, np.int32)
    digest = hashlib.sha256()
    for part in (texts, class_names):
        digest.update(len(part).to_bytes(8, "little"))
        for item in part:
            data = item.encode("utf-8", errors="surrogatepass")
            digest.update(len(data).to_bytes(8, "little") + data)
    digest.update(labels.astype("<i4").tobytes())
    for split, official in ((b"test", official_test), (b"validation", official_validation)):
        if official is not None:
            digest.update(split + official.astype(np.uint8).tobytes())
    return Source(
        name=name,
        texts=tuple(texts),
        labels=labels,
        class_names=tuple(class_names),
        official_test=official_test,
        num_empty=sum(map(is_empty, texts)),
        fingerprint=digest.hexdigest(),
        official_validation=official_validation,
        files=tuple(files),
        notes=tuple(notes),
    )
