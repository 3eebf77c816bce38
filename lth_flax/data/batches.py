"""Length buckets, splits and epoch plans, as index arrays (NumPy).

Rows that share a program must run the same number of batches of the same
shapes. So splits are stratified by label *and* bucket, which gives every seed
the same counts; the seed permutes the examples inside a bucket, and the order
of the batches is common to all seeds.
"""

from collections.abc import Iterator, Mapping, Sequence
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


class Epoch(NamedTuple):
    """One epoch of training: what is in every batch, and in which order batches come.

    order: the bucket of every step, common to all rows.
    indices: per bucket, its batches in the order in which they come.
    """

    order: Int[np.ndarray, " steps"]
    indices: tuple[Int[np.ndarray, "rows batches batch"], ...]

    def examples(self, start: int = 0) -> int:
        """How many examples each row sees in the steps from `start` on."""
        done = np.bincount(self.order[:start], minlength=len(self.indices))
        return sum(
            int(np.count_nonzero(batches[0, behind:] != NOTHING))
            for batches, behind in zip(self.indices, done, strict=True)
        )


class Call(NamedTuple):
    """Work for one call of a training program: `steps` batches of a bucket from its `first` on."""

    bucket: int
    first: int
    steps: int


class EvaluationCall(NamedTuple):
    """Work for one call of an evaluation program: the first `steps` of `indices`."""

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
        if not history and not np.isfinite(least[size]):  # fewer texts than min_texts
            return (int(distinct[-1]),)
        if least[size] >= work[size]:  # one more saves nothing, or would hold too few
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


def training_epoch(
    members: Mapping[int, Members], seeds: Sequence[int], epoch: int, *, batch_size: int
) -> Epoch:
    """A random permutation of the epoch's batches, which together are every example once.

    Depends on nothing but the arguments: which seeds are beside a row, the model and the
    backend leave its batches and their order as they are.

    Args:
      members: per seed, its training examples in each bucket. All seeds have the same
        number in a bucket.
      seeds: per row, what draws the examples of each batch.
      epoch: from 1; it draws, for all rows, the order of the batches.
    """
    counts = batch_counts(members[seeds[0]], batch_size)
    buckets = np.repeat(np.arange(len(counts)), counts)
    numbers = np.concatenate([np.arange(count) for count in counts])  # of a batch in its bucket
    drawn = generator(0, "bucket order", epoch).permutation(len(buckets))
    order, numbers = buckets[drawn], numbers[drawn]
    indices = []
    for bucket, count in enumerate(counts):
        filled = np.empty((len(seeds), count, batch_size), np.int32)
        for seed in set(seeds):
            rng = generator(seed, "batches", epoch, bucket)
            batches = _batches(rng.permutation(members[seed][bucket]), batch_size)
            filled[np.asarray(seeds) == seed] = batches[numbers[order == bucket]]
        indices.append(filled)
    return Epoch(order.astype(np.int32), tuple(indices))


def training_calls(
    order: Int[np.ndarray, " steps"], *, start: int = 0, ends: Sequence[int] = (), most: int
) -> Iterator[Call]:
    """The steps of an epoch from `start` on, in order: a call is a run of one bucket.

    Steps count from the first of `order`. A call ends at each of `ends`, and has at most `most`
    steps: which batch comes when does not depend on that.
    """
    done = np.bincount(order[:start], minlength=int(order.max(initial=0)) + 1)
    while start < len(order):
        bucket = int(order[start])
        end = min([start + most, len(order), *(end for end in ends if end > start)])
        others = np.flatnonzero(order[start:end] != bucket)
        steps = int(others[0]) if len(others) else end - start
        yield Call(bucket, int(done[bucket]), steps)
        done[bucket] += steps
        start += steps


def evaluation_calls(
    members: Sequence[Members], *, batch_sizes: Sequence[int], steps_per_call: Sequence[int]
) -> list[EvaluationCall]:
    """Every example once, in order, bucket after bucket; sizes and steps are per bucket."""
    calls = []
    for bucket, (size, steps) in enumerate(zip(batch_sizes, steps_per_call, strict=True)):
        batches = np.stack([_batches(row[bucket], size) for row in members])
        for start in range(0, batches.shape[1], steps):
            part = batches[:, start : start + steps]
            filled = np.full((len(members), steps, size), NOTHING, np.int32)
            filled[:, : part.shape[1]] = part
            calls.append(EvaluationCall(bucket, filled, part.shape[1]))
    return calls


def evaluation_batch_size(counts: Sequence[int], *, largest: int) -> int:
    """The size, at most `largest`, whose batches of parts of these sizes have the least padding.

    A bucket often holds fewer texts of a split than a batch could. Of equals the
    largest: the fewest batches.
    """
    sizes = range(1, min(largest, max([1, *counts])) + 1)
    # A batch costs something by itself: else one example at a time would never be padded.
    return min(sizes, key=lambda size: (sum(-(-n // size) * (size + 8) for n in counts), -size))


def batch_counts(members: Members, batch_size: int) -> tuple[int, ...]:
    """The number of batches of each bucket in an epoch."""
    return tuple(-(-len(part) // batch_size) for part in members)


def batch_count(members: Members, batch_size: int) -> int:
    """The number of batches, and so of training steps, in an epoch."""
    return sum(batch_counts(members, batch_size))


def _batches(members: np.ndarray, batch_size: int) -> Int[np.ndarray, "batches batch"]:
    """The members in their order; a batch that is not full is filled up with `NOTHING`."""
    # Spread evenly: 110 examples in batches of 50 are 37 + 37 + 36, so that no
    # step follows the gradient of a handful.
    number = -(-len(members) // batch_size)
    result = np.full((number, batch_size), NOTHING, np.int32)
    least, more = divmod(len(members), max(number, 1))
    sizes = least + (np.arange(number) < more)
    result[np.arange(batch_size) < sizes[:, None]] = members
    return result
