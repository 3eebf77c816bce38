"""Streams: long sequences as stretches in parallel columns, as arrays and index arrays (NumPy).

A sequence is cut into stretches of equal length, and these into as many columns as a batch has
rows, each a run of neighbours. A batch is the next stretch of every column: what a network
remembers of a batch is what came before each stretch of the following one.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int

from lth_flax.data.batches import NOTHING, Epoch, EvaluationCall, Members
from lth_flax.errors import UserError

LENGTH = 35
"""Of a stretch: how far gradients flow back (truncated backpropagation through time)."""


def cut(
    name: str, given: np.ndarray | Mapping[str, np.ndarray], length: int
) -> dict[str, np.ndarray]:
    """The stretches of a sequence, [stretches, length, ...] by name; see `Examples.streams`.

    What is left at the end and is shorter than a stretch is left out.

    Raises:
      UserError: it is no sequence, or is shorter than a stretch.
    """
    if isinstance(given, Mapping):
        arrays = {key: np.asarray(array) for key, array in given.items()}
    else:
        tokens = np.asarray(given)
        if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
            _refuse(
                name,
                f"found {tokens.dtype}{list(tokens.shape)}: expected a sequence of token ids, "
                "[T] whole numbers, or a dict of arrays [T, ...]",
            )
        arrays = {"tokens": tokens[:-1], "targets": tokens[1:]}
    lengths = {key: len(array) if array.ndim else 0 for key, array in arrays.items()}
    if len(set(lengths.values())) != 1:
        _refuse(name, f"arrays of {lengths or 'nothing'} positions: expected equally long ones")
    count = min(lengths.values()) // length
    if not count:
        _refuse(
            name,
            f"{min(lengths.values())} positions are no stretch of {length}: give a longer "
            "sequence, or a smaller length",
        )
    return {
        key: array[: count * length].reshape(count, length, *array.shape[1:])
        for key, array in arrays.items()
    }


def in_columns(
    stretches: Int[np.ndarray, " stretches"], columns: int
) -> Int[np.ndarray, "steps columns"]:
    """Which stretch every column reads at each step; some columns end one step before others."""
    least, more = divmod(len(stretches), columns)
    sizes = least + (np.arange(columns) < more)
    starts = np.cumsum(sizes) - sizes
    steps = np.arange(sizes.max(initial=0))[:, None]
    # A column that has ended has no next one.
    at = np.minimum(starts + steps, max(len(stretches) - 1, 0))
    return np.where(steps < sizes, stretches[at], NOTHING).astype(np.int32)


def stream_epoch(members: Mapping[int, Members], seeds: Sequence[int], *, batch_size: int) -> Epoch:
    """The batches of any epoch, in their order; see `batches.training_epoch`."""
    indices = np.stack([in_columns(members[seed][0], batch_size) for seed in seeds])
    return Epoch(np.zeros(indices.shape[1], np.int32), (indices,))


def stream_call(members: Sequence[Members], *, columns: int, steps: int) -> EvaluationCall:
    """Every stretch once, from the first to the last: nothing of a stream is split over calls.

    Args:
      members: per row, the stretches of a split.
      steps: that the program has room for.
    """
    batches = np.stack([in_columns(row[0], columns) for row in members])
    filled = np.full((len(members), steps, columns), NOTHING, np.int32)
    filled[:, : batches.shape[1]] = batches
    return EvaluationCall(0, filled, batches.shape[1])


def _refuse(what: str, why: str) -> None:
    raise UserError(f"Examples ({what}): {why}")
