"""`predictions.npz`: the predicted class of every test text, per row and checkpoint."""

import os
import zipfile
import zlib
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np

from lth_flax.errors import UserError
from lth_flax.files import atomic_file
from lth_flax.records import MAX_FILE_BYTES

Predictions = Mapping[str, np.ndarray]
"""\"row id/checkpoint\" -> classes; and labels, by seed. Both are in the order of the run's test
split, which its length buckets decide: where texts are cut at another length it is another."""


def labels_name(dataset: str, seed: int) -> str:
    """What the labels of a seed's test split are called."""
    return f"labels/{dataset}/seed={seed}"


def write_predictions(path: str | os.PathLike[str], predictions: Predictions) -> None:
    """Writes all of them atomically, by name and one at a time: the same arrays, the same bytes.

    The form is that of `numpy.savez_compressed`, which would hold all of them.
    """
    with atomic_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(predictions):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, predictions[name], allow_pickle=False)


def read_predictions(path: str | os.PathLike[str]) -> Predictions:
    """Reads a file of `write_predictions`; `UserError` where it is damaged.

    In memory they stay compressed: each is unpacked when it is asked for.
    """
    try:
        archive = np.load(BytesIO(Path(path).read_bytes()), allow_pickle=False)
        if sum(member.file_size for member in archive.zip.infolist()) > MAX_FILE_BYTES:
            raise ValueError(f"more than {MAX_FILE_BYTES} bytes")
        for name in archive.files:  # damage is to be found here
            archive[name]
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
    found: Predictions = archive
    return found
