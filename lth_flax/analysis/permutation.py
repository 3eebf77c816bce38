"""Exact permutation tests of paired arms: which of a seed's runs is called the ticket.

Each seed gives 1 + d runs: one treatment and d draws of its control. Under the
null the treatment is one more draw, so within a seed any of the runs could
have been called the treatment; all (1 + d)^n such relabellings are equally
likely. Flipping the sign of the gap to the *average* control is not the same,
and not exact, where d > 1.

A relabelled gap is the run called treatment minus the mean of the seed's other
runs. Up to `EXACT_LIMIT` relabellings all are enumerated; beyond that, seeded
Monte Carlo with p = (k + 1) / (m + 1) (Phipson & Smyth, 2010).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

EXACT_LIMIT = 1 << 20
MONTE_CARLO_DRAWS = 99_999
_CHUNK = 1 << 15
_TIE = 1e-9


@dataclass(frozen=True)
class PermutationTest:
    """A one-sided test in each direction of the mean paired gap.

    `gap` has the unit of the runs. `smallest_p` is what a perfect separation
    would reach. `relabellings` were looked at; all there are where `exact`.
    """

    gap: float
    p_greater: float
    p_less: float
    relabellings: int
    exact: bool
    smallest_p: float


@dataclass(frozen=True)
class MaxTTest:
    """Step-down max-T over levels (Westfall & Young, 1993), one direction.

    `statistic` is the mean gap over seeds divided by its standard deviation
    over all relabellings, so levels of different noise count alike. `p` is
    each level's own p-value, `p_adjusted` holds the chance of any false
    rejection over all levels. A level where no relabelling moves the gap
    (every run of every seed equal) has statistic 0 and p = 1.
    """

    statistic: Float[np.ndarray, " levels"]
    p: Float[np.ndarray, " levels"]
    p_adjusted: Float[np.ndarray, " levels"]


def run_gaps(
    runs: Float[np.ndarray, "seeds runs *levels"],
) -> Float[np.ndarray, "seeds runs *levels"]:
    """Of every run, its gap to the mean of the other runs of its seed."""
    count = runs.shape[1]
    return (runs - runs.mean(axis=1, keepdims=True)) * (count / (count - 1))


def permutation_test(
    runs: Float[np.ndarray, "seeds runs"], *, exact_limit: int = EXACT_LIMIT, rng_seed: int = 0
) -> PermutationTest:
    """Tests the mean gap of run 0, the treatment, against the seed's other runs.

    >>> permutation_test(np.array([[3.0, 1.0], [5.0, 4.0], [2.0, 0.0]])).p_greater
    0.125
    """
    gaps = run_gaps(runs)[:, :, None]
    seeds, count, _ = gaps.shape
    observed = float(gaps[:, 0].mean())
    slack = _slack(gaps)
    greater = less = total = 0
    for means in relabelled_means(gaps, exact_limit=exact_limit, rng_seed=rng_seed):
        greater += int(np.count_nonzero(means >= observed - slack))
        less += int(np.count_nonzero(means <= observed + slack))
        total += len(means)
    exact = is_exact(seeds, count, exact_limit)
    extra = 0 if exact else 1
    return PermutationTest(
        gap=observed if abs(observed) > slack else 0.0,
        p_greater=(greater + extra) / (total + extra),
        p_less=(less + extra) / (total + extra),
        relabellings=total,
        exact=exact,
        smallest_p=float(count) ** -seeds if exact else 1 / (total + 1),
    )


def step_down_max_t(
    runs: Float[np.ndarray, "seeds runs levels"],
    *,
    exact_limit: int = EXACT_LIMIT,
    rng_seed: int = 0,
) -> MaxTTest:
    """Tests per level that run 0 is better (greater); negate `runs` for the other direction.

    The same relabelling holds for all levels of a seed at once, which keeps
    their correlation. Levels are stepped down from the largest statistic: the
    k-th is compared with the maximum over itself and all smaller ones.
    """
    gaps = run_gaps(runs)
    seeds, count, levels = gaps.shape
    # A relabelling draws one of the seed's gaps, which sum to zero, so this
    # is the exact standard deviation, and the same under every relabelling.
    deviation = np.sqrt((gaps**2).mean(axis=1).sum(axis=0)) / seeds
    moving = np.flatnonzero(deviation > _slack(gaps))
    statistic, p, adjusted = np.zeros(levels), np.ones(levels), np.ones(levels)
    if moving.size == 0:
        return MaxTTest(statistic, p, adjusted)

    scale = deviation[moving]
    statistic[moving] = gaps[:, 0, moving].mean(axis=0) / scale
    order = np.argsort(-statistic[moving], kind="stable")  # largest first
    ranked = moving[order]
    bar = statistic[ranked] - _TIE
    own, stepped, total = np.zeros(len(ranked), int), np.zeros(len(ranked), int), 0
    standardized = gaps[:, :, ranked] / scale[order]
    for drawn in relabelled_means(standardized, exact_limit=exact_limit, rng_seed=rng_seed):
        own += np.count_nonzero(drawn >= bar, axis=0)
        maxima = np.maximum.accumulate(drawn[:, ::-1], axis=1)[:, ::-1]
        stepped += np.count_nonzero(maxima >= bar, axis=0)
        total += len(drawn)
    extra = 0 if is_exact(seeds, count, exact_limit) else 1
    p[ranked] = (own + extra) / (total + extra)
    adjusted[ranked] = np.maximum.accumulate((stepped + extra) / (total + extra))
    return MaxTTest(statistic, p, adjusted)


def is_exact(seeds: int, runs: int, exact_limit: int = EXACT_LIMIT) -> bool:
    """Whether all relabellings of so many seeds and runs are enumerated."""
    return runs**seeds <= exact_limit


def relabelled_means(
    gaps: Float[np.ndarray, "seeds runs levels"],
    *,
    exact_limit: int = EXACT_LIMIT,
    rng_seed: int = 0,
) -> Iterator[Float[np.ndarray, "some levels"]]:
    """The mean over seeds of the gaps of the chosen runs, for every relabelling, in blocks."""
    seeds, count, _ = gaps.shape
    if is_exact(seeds, count, exact_limit):
        split = seeds
        while count ** (seeds - split) < _CHUNK and split > 0:
            split -= 1
        tail = _all_sums(gaps[split:])
        for head in _all_sums(gaps[:split]):
            yield (head + tail) / seeds
        return
    rng = np.random.default_rng(rng_seed)
    for start in range(0, MONTE_CARLO_DRAWS, _CHUNK):
        size = min(_CHUNK, MONTE_CARLO_DRAWS - start)
        chosen = rng.integers(count, size=(size, seeds))
        total = np.zeros((size, gaps.shape[2]))
        for seed in range(seeds):
            total += gaps[seed, chosen[:, seed]]
        yield total / seeds


def _all_sums(
    gaps: Float[np.ndarray, "seeds runs levels"],
) -> Float[np.ndarray, "relabellings levels"]:
    """Sums over seeds for every choice of one run per seed."""
    sums = np.zeros((1, gaps.shape[2]))
    for of_seed in gaps:
        sums = (sums[:, None] + of_seed[None]).reshape(-1, gaps.shape[2])
    return sums


def _slack(gaps: np.ndarray) -> float:
    """What counts as a tie: sums of the same accuracies differ by rounding alone."""
    return _TIE * float(np.abs(gaps).max(initial=0.0))
