"""Estimates over seeds: what an interval is made of, equivalence, Holm, and what a design reaches.

Records hold fractions; accuracies and gaps are in percentage points here. The
unit of every interval is the seed; draws of a control are averaged within one.
"""

import bisect
import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special  # not stats: it takes as long to import as all of ours

from lth_flax.analysis.permutation import EXACT_LIMIT, MONTE_CARLO_DRAWS
from lth_flax.records import grouped

POWER = 0.8
MOST_SEEDS = 10_000


@dataclass(frozen=True)
class Design:
    """How seeds depend on each other, which decides the variance of a mean over them.

    kind:
      "resplits": every seed splits one corpus again, so seeds share texts. The variance of a
        mean is s^2 (1/n + n_test/n_train) (Nadeau & Bengio, 2003).
      "shared test set": all seeds are scored on the same texts. The variance is s^2/n plus the
        variance over texts of the mean over seeds, divided by the number of texts.
      "seeds alone": nothing is known of the splits, or of single examples: s^2/n.
    """

    kind: str = "seeds alone"
    test_over_train: float = 0.0
    texts: int = 0

    @property
    def words(self) -> str:
        """What an interval covers."""
        if self.kind == "resplits":
            return (
                "t over seeds, corrected for splits drawn from one corpus "
                f"(variance times 1/n + {self.test_over_train:.2g}); permutation tests are exact "
                "given the splits"
            )
        if self.kind == "shared test set":
            return f"t over seeds, with the sampling of the {self.texts:,} test texts they share"
        return "t over seeds"

    def of_accuracy(self, percent: float) -> float:
        """The most that sampling the shared texts adds to the variance of a mean accuracy."""
        if self.kind != "shared test set" or not 0 <= percent <= 100:
            return 0.0
        return percent * (100 - percent) / self.texts


SEEDS_ALONE = Design()


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds. From one seed there is no interval; from none, no mean.

    error: the standard error that the interval is made of, by the design.
    """

    mean: float | None
    sd: float | None
    error: float | None
    interval: tuple[float, float] | None
    n_seeds: int
    by_seed: tuple[tuple[int, float], ...] = ()

    def above(self, bound: float) -> bool:
        """Whether the whole interval is."""
        return self.interval is not None and self.interval[0] > bound

    def below(self, bound: float) -> bool:
        return self.interval is not None and self.interval[1] < bound

    def within(self, low: float, high: float) -> bool:
        return self.interval is not None and low <= self.interval[0] <= self.interval[1] <= high


@dataclass(frozen=True)
class Equivalence:
    """Two one-sided t tests (Schuirmann, 1987) at every level of a range.

    All have to pass, so `p` is the largest and needs no adjustment;
    `smallest_margin_points` is the smallest margin that would pass. None where a level has
    one seed, which passes nothing.
    """

    margin_points: float
    p: float | None
    passes: bool
    smallest_margin_points: float | None


@dataclass(frozen=True)
class Reach:
    """What a design can show at best: the smallest two-sided p, and what alpha would need.

    `seeds` with these draws, `draws` with these seeds; None where no number is enough.
    """

    smallest_p: float
    alpha: float
    seeds: int | None
    draws: int | None

    @property
    def enough(self) -> bool:
        return self.smallest_p <= self.alpha


def mean_by_seed(values: Iterable[tuple[int, float]]) -> dict[int, float]:
    """(seed, value of a draw) averaged within each seed, seeds rising."""
    seeds = grouped(values, lambda pair: pair[0])
    return {seed: float(np.mean([value for _, value in seeds[seed]])) for seed in sorted(seeds)}


def estimate(
    by_seed: Mapping[int, float],
    confidence: float = 0.95,
    design: Design = SEEDS_ALONE,
    *,
    text_variance: float = 0.0,
    jackknife: Sequence[float] | None = None,
) -> Estimate:
    """The mean over seeds with the t interval of the design.

    text_variance: what the sampling of shared texts adds to the variance of the mean.
    jackknife: the estimate without each seed in turn, where something is chosen over all seeds;
      the seeds' spread is then that of its pseudo-values (Tukey, 1958).
    """
    values = np.array(list(by_seed.values()), float)
    pairs = tuple((int(seed), float(value)) for seed, value in by_seed.items())
    n = len(values)
    if not n:
        return Estimate(None, None, None, None, 0)
    mean = float(values.mean())
    if n < 2 or not np.isfinite(values).all():
        return Estimate(mean if math.isfinite(mean) else None, None, None, None, n, pairs)
    if jackknife is None:
        sd = float(values.std(ddof=1))
    else:
        sd = (n - 1) * float(np.std(jackknife, ddof=1))
    error = math.sqrt(sd**2 * (1 / n + design.test_over_train) + text_variance)
    half = float(special.stdtrit(n - 1, (1 + confidence) / 2)) * error
    return Estimate(mean, sd, error, (mean - half, mean + half), n, pairs)


def equivalence(
    estimates: Sequence[Estimate], margin: float = 0.5, alpha: float = 0.05
) -> Equivalence | None:
    """Tests that every one of the means lies within +-`margin` (unit of the values)."""
    if not estimates:
        return None
    largest, smallest = 0.0, 0.0
    for one in estimates:
        if one.mean is None or one.error is None:
            return Equivalence(margin, None, False, None)
        room, freedom = margin - abs(one.mean), one.n_seeds - 1
        if one.error == 0:
            p = 0.0 if room >= 0 else 1.0
        else:
            p = float(special.stdtr(freedom, -room / one.error))
        largest = max(largest, p)
        quantile = float(special.stdtrit(freedom, 1 - alpha))
        smallest = max(smallest, abs(one.mean) + quantile * one.error)
    return Equivalence(margin, largest, smallest <= margin, smallest)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number (Holm, 1979), in the given order."""
    p = np.asarray(p_values, float)
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(steps, 1.0)
    return [float(value) for value in adjusted]


def reach(seeds: int, draws: int, alpha: float = 0.05) -> Reach:
    """The smallest p of `seeds` seeds with `draws` control draws each, 2 (1 + d)^-n, and what
    `alpha` would need.

    Where relabellings are too many to enumerate they are drawn, and p ends at 2 / (m + 1).

    >>> reach(5, 1).smallest_p, reach(5, 1).seeds, reach(5, 1).draws
    (0.0625, 6, 2)
    """

    def smallest(n: int, d: int) -> float:
        count = (1 + d) ** n
        return min(1.0, 2 / (count if count <= EXACT_LIMIT else MONTE_CARLO_DRAWS + 1))

    # Beyond the limit p no longer falls, so there the search ends.
    most = math.ceil(math.log2(EXACT_LIMIT)) + 1
    more_seeds = (n for n in range(1, most + 1) if smallest(n, draws) <= alpha)
    more_draws = (d for d in range(1, EXACT_LIMIT + 1) if smallest(seeds, d) <= alpha)
    return Reach(
        smallest(seeds, draws),
        alpha,
        next(more_seeds, None) if draws else None,
        next(more_draws, None) if seeds else None,
    )


@functools.cache
def _quadrature() -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights, which take far longer than what they are used for."""
    return np.polynomial.legendre.leggauss(200)


def seeds_needed(sd: float, gap: float, alpha: float = 0.05, *, draws: int = 1) -> int | None:
    """Seeds that find a gap of this size with this spread over seeds, with a power of `POWER`.

    By the power of the two-sided paired t test (noncentral t), and never fewer than the
    permutation test needs to reach alpha at all. None where `MOST_SEEDS` are not enough.
    """
    least = max(reach(2, draws, alpha).seeds or 2, 2)

    # The noncentral t as a normal over the spread that is found, by quadrature over its quantiles:
    # SciPy's own differs between releases where the power is near 1.
    nodes, weights = _quadrature()

    def finds(n: int) -> bool:
        bar = special.stdtrit(n - 1, 1 - alpha / 2)
        shift = abs(gap) / sd * math.sqrt(n)
        spread = np.sqrt(special.chdtri(n - 1, (1 + nodes) / 2) / (n - 1))
        outside = special.ndtr(shift - bar * spread) + special.ndtr(-shift - bar * spread)
        return bool(weights @ outside / 2 >= POWER)

    if sd == 0 or finds(least):
        return least
    most = least
    while not finds(most):
        most *= 2
        if most > MOST_SEEDS:
            return None
    return bisect.bisect_left(range(most), True, lo=most // 2, key=finds)
