"""`ticket.json`: what a ticket says about itself, read as if a stranger had written it."""

import math
import reprlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lth_flax import storage
from lth_flax.errors import UserError
from lth_flax.models.classifier import parameter_shapes
from lth_flax.orbax_arrays import Damaged, Leaves, Unusable
from lth_flax.types import READOUTS

METADATA_FILE = "ticket.json"

FORMAT_VERSION = 2
FIRST_FORMAT = 1
"""Of the first edition: its checksum, where it has one, covers the arrays alone."""

MOST_ARRAY_BYTES = 8 * 2**30
"""A ticket whose stated shapes need more memory than this is refused."""

TREES = ("initial_params", "mask", "trained_params", "rewind_params")
OPTIONAL_TREES = ("rewind_params",)
FORMAT_KEYS = ("format_version", "files", *storage.FORMAT_KEYS)
"""Keys of the file that belong to the format, not to the ticket's own metadata."""

TEXT_TASK = "text_classification"
"""The task whose model and vocabulary this module knows; those of others are what they say."""

_SIZES = ("vocabulary_size", "embedding_size", "num_layers", "num_classes")
_MOST_SIZE = 2**31 - 1
_MOST_LAYERS = 1000


def read_metadata(file: Path) -> dict[str, Any]:
    """The content of `ticket.json`, checked.

    Raises:
      UserError: it is not there, is no plain file, is not strict JSON, or does
        not describe a ticket of this format version.
    """
    try:
        metadata = storage.read_json(file)
    except FileNotFoundError as error:
        raise UserError(
            f"{file.parent} is no ticket: cannot read {file.name} ({error.strerror}); "
            "give a directory such as WORK_DIR/tickets/seed_0/level_0.8"
        ) from error
    except Unusable as error:
        raise UserError(f"ticket {file.parent} cannot be read ({error})") from error
    except Damaged as error:
        raise UserError(f"{file.parent}: {error}: expected a saved ticket") from error
    if metadata.get("format_version") == FIRST_FORMAT:
        metadata = _of_first_format(metadata)
    check_metadata(metadata, str(file))
    return metadata


def _of_first_format(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """As it is written now: leaves of all trees by one path, and the folder always named."""
    trees = metadata.get("arrays")
    if isinstance(trees, dict) and all(isinstance(leaves, dict) for leaves in trees.values()):
        trees = {
            f"{tree}/{path}": leaf
            for tree, leaves in trees.items()
            for path, leaf in leaves.items()
        }
    return {"arrays_in": "arrays", **metadata, "arrays": trees}


def check_metadata(metadata: Any, where: str) -> None:
    """Raises `UserError`, beginning with `where`, unless this describes a ticket."""
    version = metadata.get("format_version")
    if type(version) is not int or version not in (FIRST_FORMAT, FORMAT_VERSION):
        raise UserError(
            f"{where} has format_version {reprlib.repr(version)}: this version reads "
            f"{FIRST_FORMAT} and {FORMAT_VERSION}; update lth_flax, or save the ticket again"
        )
    if not is_text(metadata):
        return
    kinds = {"model": dict, "vocabulary": list, "class_names": list}
    for name, kind in kinds.items():
        if not isinstance(metadata.get(name), kind):
            raise UserError(f"{where} is damaged: {name} is missing or of another type")
    _check_model(metadata["model"], where)
    for name in ("vocabulary", "class_names"):
        words = metadata[name]
        if not all(isinstance(word, str) for word in words) or len(set(words)) < len(words):
            raise UserError(f"{where} is damaged: {name} must be distinct words")
    if len(metadata["vocabulary"]) > metadata["model"]["vocabulary_size"]:
        raise UserError(f"{where} is damaged: the vocabulary does not fit its model")
    if len(metadata["class_names"]) != metadata["model"]["num_classes"]:
        raise UserError(f"{where} is damaged: class_names do not fit its model")


def is_text(metadata: Mapping[str, Any]) -> bool:
    """Whether it is a ticket of text classification."""
    # Tickets of the first edition do not name their task: there was one.
    return metadata.get("task", TEXT_TASK) == TEXT_TASK


def expected_leaves(metadata: Mapping[str, Any], where: str) -> Leaves:
    """Leaves of every tree of the ticket, as its model settings say they must be: "mask/head/bias".

    Computed from numbers alone, so that no array is made for a claim. In the
    mask a leaf may be 0-d instead, which only the file can say. Of another task
    than text classification every tree must be like the initial parameters.

    Raises:
      UserError: the stated leaves are others, or need too much memory.
    """
    try:
        stated = storage.leaves_of(metadata)
    except Damaged as error:
        raise UserError(f"{where} is damaged: {error}") from error
    trees = {path.partition("/")[0] for path in stated}
    allowed = set(TREES)
    if not allowed - set(OPTIONAL_TREES) <= trees <= allowed:
        raise UserError(f"{where} is damaged: arrays must be {', '.join(TREES)}")
    if is_text(metadata):
        shapes = parameter_shapes(metadata["model"])
        kinds = dict.fromkeys(shapes, "float32")
    else:
        initial = {p[len(TREES[0]) + 1 :]: v for p, v in stated.items() if p.startswith(TREES[0])}
        shapes = {path: shape for path, (shape, _) in initial.items()}
        kinds = {path: kind for path, (_, kind) in initial.items()}
    size = 4 * len(trees) * sum(math.prod(shape) for shape in shapes.values())
    if size > MOST_ARRAY_BYTES:
        raise UserError(
            f"{where} states a model of {size} bytes: at most {MOST_ARRAY_BYTES} are read"
        )
    expected = {
        f"{tree}/{path}" if path else tree: (shape, "bool" if tree == "mask" else kinds[path])
        for tree in trees
        for path, shape in shapes.items()
    }
    for path in sorted(expected.keys() | stated.keys()):
        leaf, found = expected.get(path), stated.get(path)
        of_mask = path.partition("/")[0] == "mask"
        if found != leaf and not (leaf and of_mask and found == ((), "bool")):
            raise UserError(
                f"{where} is damaged: {path} is {reprlib.repr(found)}, expected {leaf} from its "
                "model settings"
            )
    if not any(shape for path, (shape, _) in stated.items() if path.partition("/")[0] == "mask"):
        raise UserError(f"{where} is damaged: its mask covers no parameter")
    return stated


def _check_model(model: Mapping[str, Any], where: str) -> None:
    known = set()
    for name, fits, expected in _model_rules(model):
        known.add(name)
        if not fits:
            raise UserError(
                f"{where} is damaged: model setting {name} is {reprlib.repr(model.get(name))}, "
                f"expected {expected}"
            )
    if unknown := model.keys() - known:
        raise UserError(f"{where} is damaged: unknown model settings {reprlib.repr(unknown)}")


def _model_rules(model: Mapping[str, Any]) -> Iterator[tuple[str, bool, str]]:
    """(setting, whether its value fits, what is expected); a rule relies on those before it."""
    widths: Any = model.get("hidden_size")
    compact = isinstance(widths, list)  # a pair of widths for each layer, any of which may be 0
    for name in _SIZES:
        least = 0 if compact and name == "embedding_size" else 1
        yield name, _is_size(model.get(name), least), f"a whole number from {least}"
    layers = model["num_layers"]
    yield "num_layers", layers <= _MOST_LAYERS, f"at most {_MOST_LAYERS}"
    if compact:
        fits = len(widths) == layers and all(
            isinstance(pair, list) and len(pair) == 2 and all(_is_size(width, 0) for width in pair)
            for pair in widths
        )
    else:
        fits = _is_size(widths, 1)
    yield "hidden_size", fits, "a whole number from 1, or two from 0 for each layer"
    for name in ("dropout", "embedding_dropout"):
        rate = model.get(name, 0.0)
        yield name, type(rate) in (int, float) and 0 <= rate < 1, "a number in [0, 1)"
    yield "readout", model.get("readout", READOUTS[0]) in READOUTS, f"one of {', '.join(READOUTS)}"
    between = model.get("dropout_between_layers", True)
    yield "dropout_between_layers", type(between) is bool, "true or false"


def _is_size(value: Any, least: int) -> bool:
    return type(value) is int and least <= value <= _MOST_SIZE
