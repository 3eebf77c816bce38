"""Exact permutation tests of paired arms: which of a seed's runs is called the ticket.

Each seed gives 1 + d runs: one treatment and d draws of its control. Under the
null the treatment is one more draw, so within a seed any of the runs could
have been called the treatment; all (1 + d)^n such relabellings are equally
likely. Flipping the sign of the gap to the *average* control is not the same,
and not exact, where d > 1.

A run is a bundle: its accuracies at every learning rate and level. Bundles are
exchangeable as a whole, so where each arm stands at the rate that its own
validation accuracy chose, that choice is made again within every relabelling.

Up to `EXACT_LIMIT` relabellings all are enumerated. Beyond that they are drawn,
and the real one is counted among them: p = (k + 1) / (m + 1) (Phipson & Smyth, 2010).
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

EXACT_LIMIT = 1 << 17
MONTE_CARLO_DRAWS = 99_999
CHOICES_AT_ONCE = 1 << 20
"""Of a run of each seed, in memory at once: all of hundreds of seeds would be hundreds of MB."""
_ROUNDING = 1e-11


@dataclass(frozen=True)
class Relabelled:
    """The mean gap at each level under every relabelling, the real one first.

    slack: gaps that are nearer to each other differ by rounding alone.
    """

    gaps: Float[np.ndarray, "relabellings levels"]
    exact: bool
    slack: float

    @property
    def smallest_p(self) -> float:
        """The smallest two-sided p there is: a perfect separation would reach it."""
        return min(1.0, 2 / len(self.gaps))


@dataclass(frozen=True)
class PermutationTest:
    """p of each direction, and the two-sided p = min(1, 2 min of both)."""

    gap: float
    p_greater: float
    p_less: float

    @property
    def p(self) -> float:
        return min(1.0, 2 * min(self.p_greater, self.p_less))


@dataclass(frozen=True)
class MaxTTest:
    """Step-down max-T over levels (Westfall & Young, 1993), in one direction.

    `p` is each level's own p-value, `p_adjusted` holds the chance of any false
    rejection over all levels. A level where no relabelling moves the gap
    (every run of every seed equal) has p = 1.
    """

    p: Float[np.ndarray, " levels"]
    p_adjusted: Float[np.ndarray, " levels"]


def chosen_rates(
    treated: Float[np.ndarray, "*some rates levels"],
) -> Int[np.ndarray, "*some levels"]:
    """The rate of the best mean validation accuracy; the first of equal ones."""
    return np.round(treated, 9).argmax(axis=-2)  # what differs by rounding alone is equal


def split_means(
    runs: Float[np.ndarray, "seeds runs rates levels"],
) -> tuple[Float[np.ndarray, "rates levels"], Float[np.ndarray, "rates levels"]]:
    """Means over seeds of run 0 and of the others."""
    return runs[:, 0].mean(axis=0), runs[:, 1:].mean(axis=(0, 1))


def at_rates(
    values: Float[np.ndarray, "*some rates levels"], rates: Int[np.ndarray, "*some levels"]
) -> Float[np.ndarray, "*some levels"]:
    """At each level the value of the rate that is named for it."""
    return np.take_along_axis(values, rates[..., None, :], axis=-2)[..., 0, :]


def relabel(
    test: Float[np.ndarray, "seeds runs rates levels"],
    validation: Float[np.ndarray, "seeds runs rates levels"] | None = None,
    *,
    exact_limit: int = EXACT_LIMIT,
) -> Relabelled:
    """The gap of the run called treatment to the mean of its seed's other runs, relabelled.

    `validation` chooses each arm's rate at each level; it is needed where there are several.
    """
    seeds, runs, rates, _ = test.shape
    exact = runs**seeds <= exact_limit
    treated = _means(test, exact)
    controls = (test.sum(axis=1).mean(axis=0) - treated) / (runs - 1)
    slack = _ROUNDING * float(np.abs(test).max(initial=0.0))
    if rates == 1:
        return Relabelled((treated - controls)[:, 0], exact, slack)
    if validation is None:
        raise ValueError("several learning rates need validation accuracies to choose by")
    chooses = _means(validation, exact)
    others = (validation.sum(axis=1).mean(axis=0) - chooses) / (runs - 1)
    gaps = at_rates(treated, chosen_rates(chooses)) - at_rates(controls, chosen_rates(others))
    return Relabelled(gaps, exact, slack)


def _means(
    runs: Float[np.ndarray, "seeds runs rates levels"], exact: bool
) -> Float[np.ndarray, "relabellings rates levels"]:
    """Means over seeds of the chosen runs, for every choice of one run per seed."""
    seeds, count = runs.shape[:2]
    if exact:
        sums = np.zeros((1, *runs.shape[2:]))
        for of_seed in runs:
            sums = (sums[:, None] + of_seed[None]).reshape(-1, *runs.shape[2:])
        return sums / seeds
    rng = np.random.default_rng(0)  # the same choices for test and validation scores
    sums = np.zeros((MONTE_CARLO_DRAWS + 1, *runs.shape[2:]))
    step = max(1, CHOICES_AT_ONCE // seeds)
    for first in range(0, len(sums), step):
        part = sums[first : first + step]  # a view
        chosen = rng.integers(count, size=(len(part), seeds))
        if first == 0:
            chosen[0] = 0
        for of_seed, choice in zip(runs, chosen.T, strict=True):
            part += of_seed[choice]
    return sums / seeds


def permutation_test(
    relabelled: Relabelled, weights: Float[np.ndarray, " levels"]
) -> PermutationTest:
    """Tests the weighted mean gap over levels."""
    means = relabelled.gaps @ np.asarray(weights, float)
    slack = relabelled.slack
    return PermutationTest(
        gap=float(means[0]) if abs(means[0]) > slack else 0.0,
        p_greater=float(np.mean(means >= means[0] - slack)),
        p_less=float(np.mean(means <= means[0] + slack)),
    )


def step_down_max_t(relabelled: Relabelled, *, worse: bool = False) -> MaxTTest:
    """Tests per level that the treatment is better, or `worse`.

    The same relabelling holds for all levels of a seed at once, which keeps
    their correlation. A level's statistic is its gap over the root mean square
    of its relabelled gaps. Levels are stepped down from the largest statistic:
    the k-th is compared with the maximum over itself and all smaller ones.
    """
    gaps = -relabelled.gaps if worse else relabelled.gaps
    levels = gaps.shape[1]
    p, adjusted = np.ones(levels), np.ones(levels)
    scale = np.sqrt((gaps**2).mean(axis=0))
    moving = np.flatnonzero(scale > relabelled.slack)
    if moving.size:
        ranked = moving[np.argsort(-(gaps[0, moving] / scale[moving]), kind="stable")]
        drawn = gaps[:, ranked] / scale[ranked]
        bar = drawn[0] - relabelled.slack / scale[ranked]
        p[ranked] = (drawn >= bar).mean(axis=0)
        maxima = np.maximum.accumulate(drawn[:, ::-1], axis=1)[:, ::-1]
        adjusted[ranked] = np.maximum.accumulate((maxima >= bar).mean(axis=0))
    return MaxTTest(p, adjusted)


# Factors: several values per seed instead of a treatment and its controls.

FACTOR_EXACT_LIMIT = 300_000
FACTOR_DRAWS = 20_000


def factor_permutation(outcomes: Float[np.ndarray, "seeds values"]) -> tuple[float, int, bool]:
    """The share of relabellings that spread the means over seeds at least as much as the real one,
    how many were looked at, and whether these are all.

    Labels of the factor's values are permuted within each seed. Under the null a seed's
    outcomes at these values are exchangeable, since they share its split, order of data and
    noise (a randomized block design).
    """
    seeds, values = outcomes.shape
    # Relabelling all seeds alike changes nothing: the first keeps its order.
    count = math.factorial(values) ** (seeds - 1)
    observed = _spread(outcomes.sum(axis=0))
    slack = 1e-9 * (1 + float(observed))
    if count <= FACTOR_EXACT_LIMIT:
        orders = np.array(list(itertools.permutations(range(values))))
        sums = outcomes[:1]
        for row in outcomes[1:]:
            sums = (sums[:, None] + row[orders][None]).reshape(-1, values)
        return float(np.mean(_spread(sums) >= observed - slack)), count, True
    rng = np.random.default_rng(0)
    sums = np.zeros((FACTOR_DRAWS, values))
    for row in outcomes:
        sums += rng.permuted(np.tile(row, (FACTOR_DRAWS, 1)), axis=1)
    reached = int((_spread(sums) >= observed - slack).sum())
    return (1 + reached) / (1 + FACTOR_DRAWS), FACTOR_DRAWS, False


def _spread(sums: np.ndarray) -> np.ndarray:
    return ((sums - sums.mean(axis=-1, keepdims=True)) ** 2).sum(axis=-1)
