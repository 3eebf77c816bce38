"""Tickets: a mask with the weights that it goes with, saved so that they can be used again.

A ticket is a directory:
  ticket.json   what it is: model settings, vocabulary, classes, how it was found
  arrays/       an orbax checkpoint: initial parameters, mask, trained weights
`load_ticket` needs nothing else, and executes nothing from it.
"""

import hashlib
import os
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import unflatten_dict

from lth_flax import storage
from lth_flax.errors import UserError
from lth_flax.files import is_stranger
from lth_flax.models.classifier import BiLSTMClassifier
from lth_flax.orbax_arrays import Damaged, Unusable
from lth_flax.pruning.masks import path_names
from lth_flax.tickets.language import Language
from lth_flax.tickets.metadata import (
    FIRST_FORMAT,
    FORMAT_KEYS,
    FORMAT_VERSION,
    METADATA_FILE,
    OPTIONAL_TREES,
    TEXT_TASK,
    TREES,
    check_metadata,
    expected_leaves,
    is_text,
    read_metadata,
)
from lth_flax.tickets.prediction import Prediction, predict
from lth_flax.types import Mask, Params


@dataclass(frozen=True)
class Ticket:
    """A winning-ticket candidate.

    initial_params: the weights that training starts from (theta_0).
    mask: the mask, of the same tree; 0-d leaves are not prunable.
    trained_params: the masked weights at the end of its own training.
    rewind_params: theta_k where training starts from step k, else None.
    metadata: "task", "dataset", "seed", "level", "target_sparsity", "settings" and how
      it was found: all JSON values. Of text classification also "model" (the arguments of
      `BiLSTMClassifier`), "vocabulary" (words by id), "class_names", "split_fingerprint"; of
      language models "model" (of `LSTMLanguageModel`), "vocabulary", "tokenizer", "cleaning".

    Trees that are read back are dicts; the items of a list are named by their place, those of
    an object by its fields.
    """

    initial_params: Params
    mask: Mask
    trained_params: Params
    metadata: Mapping[str, Any]
    rewind_params: Params | None = None

    def __repr__(self) -> str:
        named = ("task", "dataset", "seed", "target_sparsity")
        held = (f"{name}={self.metadata[name]!r}" for name in named if name in self.metadata)
        return f"Ticket({', '.join(held)})"  # its weights would fill a notebook

    @property
    def model(self) -> BiLSTMClassifier:
        """The network of a ticket of text classification.

        Raises:
          UserError: it is a ticket of another task.
        """
        if not is_text(self.metadata):
            raise UserError(
                f"this is a ticket of {reprlib.repr(self.metadata.get('task'))}: expected one of "
                f"{TEXT_TASK}, whose network is known here"
            )
        return BiLSTMClassifier(**self.metadata["model"])

    @property
    def language(self) -> Language:
        """What scores and continues texts, of a ticket of a language model.

        Example:
          >>> ticket.language.score(["a wonderful film"])[0].perplexity  # doctest: +SKIP
          81.3

        Raises:
          UserError: it is a ticket of another task.
        """
        return Language.of(self.trained_params, self.metadata)

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """The label and the probabilities of each text, by the trained weights.

        Texts are cleaned, tokenized, cut and looked up as in training; see `prediction.predict`.

        Example:
          >>> ticket.predict(["a wonderful film"])[0].label  # doctest: +SKIP
          'positive'

        Raises:
          UserError: there is no text, or it is a ticket of another task.
        """
        return predict(self.model, self.trained_params, self.metadata, texts)

    @property
    def digest(self) -> str:
        """sha256 of all arrays, hexadecimal: two tickets with the same one train alike."""
        return _digest(_leaves(self))


def save_ticket(path: str | os.PathLike[str], ticket: Ticket) -> None:
    """Writes a ticket directory; one that is there is replaced only once the new one is whole.

    Raises:
      UserError: the arrays do not fit the ticket's model, or it cannot be
        written; a ticket that was there is still valid then.
      ValueError: its metadata has a key of the format.
    """
    target = Path(path).absolute()
    arrays = _leaves(ticket)
    reserved = sorted(ticket.metadata.keys() & set(FORMAT_KEYS))
    if reserved:
        raise ValueError(f"ticket metadata must not have {', '.join(reserved)}")
    metadata = {**ticket.metadata, "format_version": FORMAT_VERSION}
    # What could not be loaded is not saved.
    check_metadata(metadata, f"ticket {target}")
    expected_leaves({**metadata, "arrays": storage.stated(arrays)}, f"ticket {target}")
    try:
        _check_place(target)
        storage.save(target / METADATA_FILE, metadata, arrays)
    except OSError as error:
        raise UserError(f"ticket {target} cannot be written ({error.strerror})") from error
    except (Unusable, ValueError, TypeError) as error:  # also metadata that is not JSON
        raise UserError(f"ticket {target} cannot be written ({error})") from error


def load_ticket(path: str | os.PathLike[str]) -> Ticket:
    """Reads a ticket directory, of this edition or the first.

    Shapes are checked against the stated model before any array is read.

    Raises:
      UserError: the directory is no ticket, is damaged, cannot be read here, or
        has another format version.
    """
    directory = Path(path).absolute()
    metadata = read_metadata(directory / METADATA_FILE)
    expected = expected_leaves(metadata, str(directory / METADATA_FILE))
    try:
        arrays = storage.load_arrays(directory, metadata, expected)
        if metadata["format_version"] != FIRST_FORMAT:
            storage.check(metadata, arrays)
        elif metadata.get("sha256", _digest(arrays)) != _digest(arrays):
            raise Damaged("its arrays are not those that ticket.json was written for")
    except Unusable as error:
        raise UserError(f"ticket {directory} cannot be read ({error})") from error
    except Damaged as error:
        raise UserError(
            f"ticket {directory} is damaged ({error}): use another ticket, or save this one again"
        ) from error
    own = {name: value for name, value in metadata.items() if name not in FORMAT_KEYS}
    return Ticket(**unflatten_dict(arrays, sep="/"), metadata=own)


def _check_place(target: Path) -> None:
    """Raises `UserError` for a directory that holds something, but no ticket."""
    if (target / METADATA_FILE).exists() or not target.exists():
        return
    strange = sorted(
        entry.name
        for entry in target.iterdir()
        if not (storage.is_part(entry.name) or is_stranger(entry))
    )
    if strange:
        raise UserError(
            f"{target} is no ticket and holds {strange[0]}: give a new directory to save in"
        )


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    """sha256 of all leaves with their names, shapes and types, hexadecimal."""
    digest = hashlib.sha256()
    for path in sorted(arrays):
        tree, _, name = path.partition("/")
        leaf = arrays[path]
        digest.update(f"{tree} {name} {leaf.shape} {leaf.dtype}\n".encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def _leaves(ticket: Ticket) -> dict[str, np.ndarray]:
    """All leaves of all trees: "mask/head/kernel"."""
    trees = {name: getattr(ticket, name) for name in TREES}
    present = {n: t for n, t in trees.items() if t is not None or n not in OPTIONAL_TREES}
    return {
        "/".join(path_names(path)): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(present)
    }
