"""Length buckets, splits and epoch plans, as index arrays (NumPy).

Rows that share a program must run the same number of batches of the same
shapes. So splits are stratified by label *and* bucket, which gives every seed
the same counts; the seed permutes the examples inside a bucket, and the order
of the buckets is common to all seeds.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from lth_flax.randomness import generator

SPLITS = ("train", "validation", "test")

NOTHING = -1
"""An index that only fills up a batch: weight zero."""

PADDING_GOAL = 0.1
"""No more shapes are compiled once this share of positions is padding."""

Members = tuple[Int[np.ndarray, " members"], ...]
"""For each bucket, positions in its arrays."""


class Call(NamedTuple):
    """Work for one call of a compiled program: `steps` batches of one bucket."""

    bucket: int
    indices: Int[np.ndarray, "rows most_steps batch"]
    steps: int


def choose_edges(
    lengths: Int[np.ndarray, " texts"], *, max_shapes: int, min_texts: int
) -> tuple[int, ...]:
    """Bucket edges (longest length per bucket) that minimize padded positions.

    Exact, by dynamic programming over the distinct lengths. The fewest edges
    whose padding is within `PADDING_GOAL`, and at most `max_shapes`; a bucket
    holds at least `min_texts` texts where there are that many, so that none
    trains on batches of a few examples.
    """
    distinct, counts = np.unique(np.maximum(np.asarray(lengths), 1), return_counts=True)
    total = np.concatenate([[0], np.cumsum(counts)])
    real = float(np.sum(distinct * counts))
    size = len(distinct)
    # work[j] = the least padded positions for the first j distinct lengths.
    work = np.full(size + 1, np.inf)
    work[0] = 0.0
    history: list[np.ndarray] = []
    for _ in range(min(max_shapes, size)):
        least, choice = np.full(size + 1, np.inf), np.zeros(size + 1, np.int64)
        for j in range(1, size + 1):
            held = total[j] - total[:j]
            costs = work[:j] + np.where(held >= min_texts, held * distinct[j - 1], np.inf)
            choice[j] = int(np.argmin(costs))
            least[j] = costs[choice[j]]
        if not np.isfinite(least[size]) and history:
            break
        if not np.isfinite(least[size]):  # fewer texts than min_texts: one bucket takes all
            return (int(distinct[-1]),)
        if history and least[size] >= work[size]:
            break
        work = least
        history.append(choice)
        if 1 - real / work[size] <= PADDING_GOAL:
            break
    edges, j = [], size
    for choice in reversed(history):
        edges.append(int(distinct[j - 1]))
        j = int(choice[j])
    return tuple(reversed(edges))


def bucket_of(lengths: Int[np.ndarray, " texts"], edges: Sequence[int]) -> np.ndarray:
    """The index of the first edge that a text fits under, [texts]."""
    return np.searchsorted(np.asarray(edges), np.asarray(lengths)).astype(np.int32)


def padding_share(lengths: Int[np.ndarray, " texts"], edges: Sequence[int]) -> float:
    """The share of positions that are padding, in [0, 1)."""
    padded = np.asarray(edges)[bucket_of(lengths, edges)].sum()
    return float(1 - np.sum(lengths) / padded)


def stratified_split(
    strata: Int[np.ndarray, " texts"], sizes: dict[str, float], *, seed: int
) -> dict[str, Int[np.ndarray, " members"]]:
    """Draws disjoint parts with the same share of every stratum.

    Args:
      strata: the stratum of each text, such as (label, bucket) as one number.
      sizes: the share of all texts in each part; the rest is "train".
      seed: permutes the members of a stratum. How many of each stratum go to a
        part depends on the counts alone, so it is the same for all seeds.

    Returns:
      text indices per part, increasing.
    """
    names, members = np.unique(strata, return_inverse=True)
    counts = np.bincount(members, minlength=len(names))
    taken = {part: _largest_remainder(counts, share) for part, share in sizes.items()}
    rng = generator(seed, "split")
    parts: dict[str, list[np.ndarray]] = {"train": [], **{part: [] for part in sizes}}
    for stratum in range(len(names)):
        order = rng.permutation(np.flatnonzero(members == stratum))
        for part in sizes:
            amount = int(taken[part][stratum])
            parts[part].append(order[:amount])
            order = order[amount:]
        parts["train"].append(order)
    return {part: np.sort(np.concatenate(pieces)) for part, pieces in parts.items()}


def _largest_remainder(counts: np.ndarray, share: float) -> np.ndarray:
    """Whole numbers near `share * counts` whose total is `round(share * total)`."""
    exact = share * counts
    floor = np.floor(exact).astype(np.int64)
    missing = round(share * float(counts.sum())) - int(floor.sum())
    for stratum in np.argsort(-(exact - floor), kind="stable")[: max(missing, 0)]:
        floor[stratum] += 1
    return floor


def training_calls(
    members: Sequence[Members],
    seeds: Sequence[int],
    epoch: int,
    *,
    batch_size: int,
    steps_per_call: Sequence[int],
) -> list[Call]:
    """One epoch: every training example once, in each row's own order.

    Args:
      members: per row, its training examples in each bucket. All rows have the
        same number in a bucket.
      seeds: per row, what permutes the examples inside a bucket.
      epoch: which epoch; it also draws the common order of the buckets.
      steps_per_call: per bucket, the most batches of a call.
    """
    calls = []
    for bucket, most in enumerate(steps_per_call):
        batches = np.stack(
            [
                _batches(row[bucket], batch_size, generator(seed, "batches", epoch, bucket))
                for row, seed in zip(members, seeds, strict=True)
            ]
        )
        calls += _calls(batches, bucket, most)
    order = generator(0, "bucket order", epoch).permutation(len(calls))
    return [calls[index] for index in order]


def cut_calls(calls: Sequence[Call], steps: Sequence[int]) -> list[Call]:
    """The same batches in the same order, with a call ending after each of `steps`.

    Steps count from the first batch of `calls`; those outside are no cuts.
    """
    result, done = [], 0
    for call in calls:
        inside = sorted({step - done for step in steps if 0 < step - done < call.steps})
        for start, end in zip([0, *inside], [*inside, call.steps], strict=True):
            indices = np.full_like(call.indices, NOTHING)
            indices[:, : end - start] = call.indices[:, start:end]
            result.append(Call(call.bucket, indices, end - start))
        done += call.steps
    return result


def evaluation_calls(
    members: Sequence[Members], *, batch_sizes: Sequence[int], steps_per_call: Sequence[int]
) -> list[Call]:
    """Every example once, in order, bucket after bucket; sizes and steps are per bucket."""
    calls = []
    for bucket, (size, most) in enumerate(zip(batch_sizes, steps_per_call, strict=True)):
        batches = np.stack([_batches(row[bucket], size, None) for row in members])
        calls += _calls(batches, bucket, most)
    return calls


def evaluation_batch_size(counts: Sequence[int], *, most: int) -> int:
    """The size, at most `most`, whose batches of parts of these sizes have the least padding.

    A bucket often holds fewer texts of a split than a batch could. Of equals the
    largest: the fewest batches.
    """
    sizes = range(1, min(most, max([1, *counts])) + 1)
    # A batch costs something by itself: else one example at a time would never be padded.
    return min(sizes, key=lambda size: (sum(-(-n // size) * (size + 8) for n in counts), -size))


def batch_count(members: Members, batch_size: int) -> int:
    """The number of batches, and so of training steps, in an epoch."""
    return sum(-(-len(part) // batch_size) for part in members)


def _batches(
    members: np.ndarray, batch_size: int, rng: np.random.Generator | None
) -> Int[np.ndarray, "batches batch"]:
    # Spread evenly: 110 examples in batches of 50 are 37 + 37 + 36, so that no
    # step follows the gradient of a handful.
    number = -(-len(members) // batch_size)
    result = np.full((number, batch_size), NOTHING, np.int32)
    order = members if rng is None else rng.permutation(members)
    for row, part in zip(result, np.array_split(order, max(number, 1)), strict=False):
        row[: len(part)] = part
    return result


def _calls(batches: Int[np.ndarray, "rows batches batch"], bucket: int, most: int) -> list[Call]:
    rows, number, batch_size = batches.shape
    calls = []
    for start in range(0, number, most):
        part = batches[:, start : start + most]
        steps = part.shape[1]
        filled = np.full((rows, most, batch_size), NOTHING, np.int32)
        filled[:, :steps] = part
        calls.append(Call(bucket, filled, steps))
    return calls
