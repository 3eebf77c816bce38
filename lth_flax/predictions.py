"""`predictions.npz`: the predicted class of every test text, per row and checkpoint."""

import os
import zipfile
import zlib
from collections.abc import Mapping
from io import BytesIO

import numpy as np

from lth_flax.errors import UserError
from lth_flax.files import write_bytes_atomic
from lth_flax.records import MAX_FILE_BYTES

Predictions = dict[str, np.ndarray]
"""\"row id/checkpoint\" -> classes, in the order of the test split; and its labels, by seed."""


def labels_name(dataset: str, seed: int) -> str:
    """What the labels of a seed's test split are called."""
    return f"labels/{dataset}/seed={seed}"


def write_predictions(path: str | os.PathLike[str], predictions: Mapping[str, np.ndarray]) -> None:
    """Writes all of them atomically, by name: the same arrays are the same bytes."""
    buffer = BytesIO()
    # No allow_pickle=: older NumPy would write an array of that name.
    np.savez_compressed(buffer, **dict(sorted(predictions.items())))  # type: ignore[arg-type]
    write_bytes_atomic(path, buffer.getvalue())


def read_predictions(path: str | os.PathLike[str]) -> Predictions:
    """Reads a file of `write_predictions`; `UserError` where it is damaged."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            if sum(member.file_size for member in archive.zip.infolist()) > MAX_FILE_BYTES:
                raise ValueError(f"more than {MAX_FILE_BYTES} bytes")
            return {name: archive[name] for name in archive.files}
    # A damaged archive fails in its directory, its headers or its compressed data; one
    # array in place of an archive has no `files` and is no context manager.
    except (
        OSError, ValueError, EOFError, KeyError, TypeError, AttributeError, MemoryError,
        NotImplementedError, zipfile.BadZipFile, zlib.error,
    ) as error:  # fmt: skip
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path} cannot be read ({reason}): remove it, or give another directory"
        ) from None
