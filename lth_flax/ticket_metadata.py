"""`ticket.json`: what a ticket says about itself, read as if a stranger had written it."""

import json
import math
import reprlib
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lth_flax.errors import UserError
from lth_flax.types import READOUTS

FORMAT_VERSION = 1
MOST_JSON_BYTES = 2**28
MOST_ARRAY_BYTES = 8 * 2**30
"""A ticket whose stated shapes need more memory than this is refused."""

ARRAY_FOLDERS = ("arrays", "arrays_2")
"""Saving over a ticket fills the one that is not in use, then switches."""

TREES = ("initial_params", "mask", "trained_params", "rewind_params")
OPTIONAL_TREES = ("rewind_params",)
FORMAT_KEYS = ("format_version", "arrays", "arrays_in", "sha256", "files")
"""Keys of the file that belong to the format, not to the ticket's own metadata."""

_SIZES = ("vocabulary_size", "embedding_size", "hidden_size", "num_layers", "num_classes")
_MOST_SIZE = 2**31 - 1
_MOST_LAYERS = 1000

Leaves = Mapping[str, tuple[tuple[int, ...], str]]
"""Path of a leaf -> (shape, dtype name)."""


def read_metadata(file: Path) -> dict[str, Any]:
    """The content of `ticket.json`, checked.

    Raises:
      UserError: it is not there, is no plain file, is not strict JSON, or does
        not describe a ticket of this format version.
    """
    try:
        found = file.stat()
        if not stat.S_ISREG(found.st_mode):
            raise UserError(f"{file} is not a plain file: expected a ticket's JSON")
        if found.st_size > MOST_JSON_BYTES:
            raise UserError(f"{file} is larger than 256 MiB: expected a ticket's JSON")
        text = file.read_bytes().decode("utf-8")
        metadata = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
        # What is escaped in JSON can be half a character, which no file or terminal takes.
        json.dumps(metadata, ensure_ascii=False).encode("utf-8")
    except OSError as error:
        raise UserError(
            f"{file.parent} is no ticket: cannot read ticket.json ({error.strerror}); "
            "give a directory such as WORK_DIR/tickets/seed_0/level_0.8"
        ) from error
    except UserError:
        raise
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is not valid JSON: expected a saved ticket") from error
    check_metadata(metadata, str(file))
    return metadata


def check_metadata(metadata: Any, where: str) -> None:
    """Raises `UserError`, beginning with `where`, unless this describes a ticket."""
    if not isinstance(metadata, dict):
        raise UserError(f"{where} holds no JSON object: expected a saved ticket")
    version = metadata.get("format_version")
    if type(version) is not int or version != FORMAT_VERSION:
        raise UserError(
            f"{where} has format_version {reprlib.repr(version)}: this version reads "
            f"{FORMAT_VERSION}; update lth_flax, or save the ticket again"
        )
    kinds = {"model": dict, "arrays": dict, "vocabulary": list, "class_names": list}
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
    if metadata.get("arrays_in", ARRAY_FOLDERS[0]) not in ARRAY_FOLDERS:
        raise UserError(f"{where} is damaged: arrays_in must be one of {', '.join(ARRAY_FOLDERS)}")
    if not isinstance(metadata.get("sha256", ""), str):
        raise UserError(f"{where} is damaged: sha256 is of another type")
    files = metadata.get("files", {})
    if not (isinstance(files, dict) and all(isinstance(item, str) for item in files.values())):
        raise UserError(f"{where} is damaged: files must map names to digests")


def expected_leaves(metadata: Mapping[str, Any], where: str) -> dict[str, Leaves]:
    """Leaves of every tree of the ticket, as its model settings say they must be.

    Computed from numbers alone, so that no array is made for a claim. In the
    mask a leaf may be 0-d instead, which only the file can say.

    Raises:
      UserError: the stated leaves are others, or need too much memory.
    """
    shapes = _parameter_shapes(metadata["model"])
    arrays = metadata["arrays"]
    allowed = set(TREES)
    if not allowed - set(OPTIONAL_TREES) <= arrays.keys() <= allowed:
        raise UserError(f"{where} is damaged: arrays must be {', '.join(TREES)}")
    size = 4 * len(arrays) * sum(math.prod(shape) for shape in shapes.values())
    if size > MOST_ARRAY_BYTES:
        raise UserError(
            f"{where} states a model of {size} bytes: at most {MOST_ARRAY_BYTES} are read"
        )
    trees: dict[str, Leaves] = {}
    for name in arrays:
        stated = arrays[name]
        if not isinstance(stated, dict) or stated.keys() != shapes.keys():
            raise UserError(
                f"{where} is damaged: {name} does not have the parameters of its model settings"
            )
        dtype = "bool" if name == "mask" else "float32"
        leaves = {}
        for path, shape in shapes.items():
            if stated[path] == [list(shape), dtype]:
                leaves[path] = (shape, dtype)
            elif name == "mask" and stated[path] == [[], dtype]:
                leaves[path] = ((), dtype)
            else:
                raise UserError(
                    f"{where} is damaged: {name} {path} is {reprlib.repr(stated[path])}, expected "
                    f"{[list(shape), dtype]} from its model settings"
                )
        trees[name] = leaves
    if not any(shape for shape, _ in trees["mask"].values()):
        raise UserError(f"{where} is damaged: its mask covers no parameter")
    return trees


def _check_model(model: Mapping[str, Any], where: str) -> None:
    for name in _SIZES:
        value = model.get(name)
        if type(value) is not int or not 1 <= value <= _MOST_SIZE:
            raise UserError(
                f"{where} is damaged: model setting {name} is {reprlib.repr(value)}, "
                "expected a whole number from 1"
            )
    if model["num_layers"] > _MOST_LAYERS:
        raise UserError(
            f"{where} states {model['num_layers']} layers: at most {_MOST_LAYERS} are read"
        )
    for name in ("dropout", "embedding_dropout"):
        rate: Any = model.get(name, 0.0)
        if type(rate) not in (int, float) or not 0 <= rate < 1:
            raise UserError(
                f"{where} is damaged: model setting {name} is {reprlib.repr(rate)}, "
                "expected a number in [0, 1)"
            )
    if model.get("readout", READOUTS[0]) not in READOUTS:
        raise UserError(
            f"{where} is damaged: model setting readout is {reprlib.repr(model['readout'])}, "
            f"expected one of {', '.join(READOUTS)}"
        )
    if type(model.get("dropout_between_layers", True)) is not bool:
        raise UserError(f"{where} is damaged: dropout_between_layers must be true or false")
    rates = {"dropout", "embedding_dropout", "dropout_between_layers", "readout"}
    unknown = model.keys() - {*_SIZES, *rates}
    if unknown:
        raise UserError(f"{where} is damaged: unknown model settings {reprlib.repr(unknown)}")


def _parameter_shapes(model: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The public parameter layout, computed from the settings without building anything."""
    embed, hidden = model["embedding_size"], model["hidden_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "embedding/embedding": (model["vocabulary_size"], embed),
        "head/kernel": (2 * hidden, model["num_classes"]),
        "head/bias": (model["num_classes"],),
    }
    for layer in range(model["num_layers"]):
        features = embed if layer == 0 else 2 * hidden
        for direction in ("forward", "backward"):
            name = f"lstm_{layer}/{direction}"
            shapes[f"{name}/input_kernel"] = (features, 4 * hidden)
            shapes[f"{name}/recurrent_kernel"] = (hidden, 4 * hidden)
            shapes[f"{name}/bias"] = (4 * hidden,)
    return shapes


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):  # 1e999 is JSON, and reads as infinity
        raise ValueError(text)
    return value


def _refuse_constant(text: str) -> float:
    raise ValueError(text)  # NaN and Infinity, which Python would let through
