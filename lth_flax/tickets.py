"""Tickets: a mask with the weights that it goes with, saved so that they can be used again.

A ticket is a directory:
  ticket.json   what it is: model settings, vocabulary, classes, how it was found
  arrays/       an orbax checkpoint: initial parameters, mask, trained weights
`load_ticket` needs nothing else, and executes nothing from it.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from lth_flax.errors import UserError
from lth_flax.quiet import quiet_orbax, write_fault
from lth_flax.records import write_text_atomic
from lth_flax.ticket_files import (
    METADATA_FILE,
    check_files,
    damaged,
    file_digests,
    folders,
    remove_folder,
)
from lth_flax.ticket_metadata import (
    ARRAY_FOLDERS,
    FORMAT_KEYS,
    FORMAT_VERSION,
    OPTIONAL_TREES,
    TREES,
    check_metadata,
    expected_leaves,
    read_metadata,
)
from lth_flax.types import Mask, Params


@dataclass(frozen=True)
class Ticket:
    """A winning-ticket candidate.

    initial_params: the weights that training starts from (theta_0).
    mask: the mask, of the same tree; 0-d leaves are not prunable.
    trained_params: the masked weights at the end of its own training.
    rewind_params: theta_k where training starts from step k, else None.
    metadata: "model" (the arguments of `BiLSTMClassifier`), "vocabulary" (words
      by id), "class_names", "dataset", "split_fingerprint", "seed", "level",
      "target_sparsity", "settings" and how it was found: all JSON values.
    """

    initial_params: Params
    mask: Mask
    trained_params: Params
    metadata: Mapping[str, Any]
    rewind_params: Params | None = None

    @property
    def digest(self) -> str:
        """sha256 of all arrays, hexadecimal: two tickets with the same one train alike."""
        return _digest(_all_leaves(self))


def save_ticket(path: str | os.PathLike[str], ticket: Ticket) -> None:
    """Writes a ticket directory; one that is there is replaced only once the new one is whole.

    The new arrays go beside the old ones, and `ticket.json` says which count:
    replacing that one file is the switch.

    Raises:
      UserError: the arrays do not fit the ticket's model, or it cannot be
        written; a ticket that was there is still valid then.
    """
    target = Path(path).absolute()
    arrays = _all_leaves(ticket)
    reserved = sorted(ticket.metadata.keys() & set(FORMAT_KEYS))
    if reserved:
        raise ValueError(f"ticket metadata must not have {', '.join(reserved)}")
    with _writing(target):
        used, free = folders(target)
        metadata = {
            **ticket.metadata,
            "format_version": FORMAT_VERSION,
            "arrays": {
                name: {path: [list(leaf.shape), str(leaf.dtype)] for path, leaf in leaves.items()}
                for name, leaves in arrays.items()
            },
            "arrays_in": free,
            "sha256": _digest(arrays),
        }
        _json(metadata)
        # What could not be loaded is not saved.
        check_metadata(metadata, f"ticket {target}")
        expected_leaves(metadata, f"ticket {target}")
        target.mkdir(parents=True, exist_ok=True)
        remove_folder(target, free)
        # Asked before, as orbax on a full disk fails in the background and at length.
        needed = sum(leaf.nbytes for leaves in arrays.values() for leaf in leaves.values())
        if shutil.disk_usage(target).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        try:
            with ocp.StandardCheckpointer() as checkpointer:
                trees = {name: _tree(leaves) for name, leaves in arrays.items()}
                checkpointer.save(target / free, trees)
        except Exception:
            remove_folder(target, free)  # on a full disk, what was written is in the way
            raise
        metadata["files"] = file_digests(target / free)
        write_text_atomic(target / METADATA_FILE, _json(metadata))
        if used is not None:
            remove_folder(target, used)


def load_ticket(path: str | os.PathLike[str]) -> Ticket:
    """Reads a ticket directory.

    Shapes are checked against the stated model before any array is read.

    Raises:
      UserError: the directory is no ticket, is damaged, or has another format version.
    """
    directory = Path(path).absolute()
    metadata = read_metadata(directory / METADATA_FILE)
    expected = expected_leaves(metadata, str(directory / METADATA_FILE))
    folder = metadata.get("arrays_in", ARRAY_FOLDERS[0])
    check_files(directory, folder, expected, metadata.get("files"))
    arrays = _read_arrays(directory, folder, expected)
    # The first tickets had no digests.
    if "sha256" in metadata and metadata["sha256"] != _digest(arrays):
        raise damaged(directory, "they are not those that ticket.json was written for")
    trees = {name: _tree(leaves) for name, leaves in arrays.items()}
    return Ticket(
        initial_params=trees["initial_params"],
        mask=trees["mask"],
        trained_params=trees["trained_params"],
        rewind_params=trees.get("rewind_params"),
        metadata={k: v for k, v in metadata.items() if k not in FORMAT_KEYS},
    )


def _read_arrays(
    directory: Path, folder: str, expected: Mapping[str, Any]
) -> dict[str, dict[str, np.ndarray]]:
    """All leaves by tree and path. What is on disk is compared before it is read."""
    target = {
        name: _tree({path: np.zeros(*leaf) for path, leaf in leaves.items()})
        for name, leaves in expected.items()
    }
    try:
        with quiet_orbax(), ocp.StandardCheckpointer() as checkpointer:
            found = checkpointer.metadata(directory / folder)
            found = getattr(found, "item_metadata", found)
            found = getattr(found, "tree", found)
            on_disk = {name: _paths(tree) for name, tree in _paths(found, depth=1).items()}
            _check_on_disk(on_disk, expected)
            restored = checkpointer.restore(directory / folder, target)
        arrays = {name: _leaves(tree) for name, tree in restored.items()}
        _check_on_disk(arrays, expected)
    except Exception as error:  # orbax raises many kinds for a damaged directory
        raise damaged(directory, " ".join(str(error).split())[:200]) from error
    return arrays


def _check_on_disk(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    for name in sorted(found.keys() | expected.keys()):
        paths = found.get(name, {}).keys() | expected.get(name, {}).keys()
        for path in sorted(paths):
            leaf = found.get(name, {}).get(path)
            shape, dtype = expected.get(name, {}).get(path, (None, None))
            stated = (getattr(leaf, "shape", None), str(getattr(leaf, "dtype", None)))
            if stated != (shape, dtype):
                raise ValueError(f"{name} {path} is {stated}, expected {(shape, dtype)}")
            # A chunk is decompressed whole, whatever the shape is.
            chunk = getattr(getattr(leaf, "storage", None), "chunk_shape", None)
            if chunk is not None and any(c > max(n, 1) for c, n in zip(chunk, shape, strict=True)):
                raise ValueError(f"{name} {path} has chunks of {chunk}, larger than {shape}")


@contextlib.contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Whatever keeps a ticket from being written becomes one line, and orbax says no more."""
    try:
        with quiet_orbax():
            yield
    except UserError:
        raise
    except (OSError, ValueError, jax.errors.JaxRuntimeError) as error:
        raise UserError(f"ticket {target} cannot be written ({write_fault(error)})") from error


def _json(metadata: Mapping[str, Any]) -> str:
    """Strict JSON; `ValueError` or `TypeError` for what JSON has no word for."""
    options: dict[str, Any] = {"indent": 1, "sort_keys": True, "ensure_ascii": False}
    return json.dumps(metadata, allow_nan=False, **options) + "\n"


def _digest(arrays: Mapping[str, Mapping[str, np.ndarray]]) -> str:
    """sha256 of all leaves with their names, shapes and types, hexadecimal."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        for path in sorted(arrays[name]):
            leaf = arrays[name][path]
            digest.update(f"{name} {path} {leaf.shape} {leaf.dtype}\n".encode())
            digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def _all_leaves(ticket: Ticket) -> dict[str, dict[str, np.ndarray]]:
    named = {name: getattr(ticket, name) for name in TREES}
    return {
        name: _leaves(tree)
        for name, tree in named.items()
        if tree is not None or name not in OPTIONAL_TREES
    }


def _leaves(tree: Any) -> dict[str, np.ndarray]:
    return {path: np.asarray(leaf) for path, leaf in _paths(tree).items()}


def _paths(tree: Any, depth: int | None = None, prefix: str = "") -> dict[str, Any]:
    """Leaves, or subtrees `depth` levels down, by their paths."""
    if not isinstance(tree, Mapping) or depth == 0:
        return {prefix: tree}
    result: dict[str, Any] = {}
    for name, subtree in tree.items():
        deeper = None if depth is None else depth - 1
        result.update(_paths(subtree, deeper, f"{prefix}/{name}" if prefix else str(name)))
    return result


def _tree(leaves: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = leaf
    return tree
