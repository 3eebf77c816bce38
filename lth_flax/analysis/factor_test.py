"""Does a factor move an outcome? Permutations within seeds, and a slope with its interval.

Under the null hypothesis a seed's outcomes at the values of the factor are
exchangeable, because they share its split, order of data and noise. So the
labels of the values are permuted within each seed (a randomized block design).
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from lth_flax.analysis.statistics import t_interval
from lth_flax.analysis.tables import interval_json

EXACT_LIMIT = 300_000
DRAWS = 20_000
_ROUNDING = 1e-9

_PER = {"num_layers": "per doubling", "epochs": "per doubling", "learning_rate": "per tenfold"}


def factor_test(
    outcomes: Float[np.ndarray, "seeds values"],
    values: Sequence[float],
    factor: str,
    confidence: float = 0.95,
) -> dict[str, Any]:
    """The test that the factor does nothing, and what it does.

    Returns:
      `values` and `means` over seeds; `p` of the permutation test, whose
      statistic is the spread of the means (exact up to `EXACT_LIMIT`
      relabellings, else Monte Carlo of `DRAWS`); `slope`: least squares per
      seed on the logarithm of the factor, mean and t interval over seeds.
    """
    p, relabellings, exact = _permutation_p(outcomes)
    slope = None
    if min(values) > 0:
        base = 10 if factor == "learning_rate" else 2
        x = np.array([math.log(value, base) for value in values])
        x = x - x.mean()
        slope = interval_json(t_interval(outcomes @ x / (x @ x), confidence))
    return {
        "values": [float(value) for value in values],
        "means": [float(mean) for mean in outcomes.mean(axis=0)],
        "p": p,
        "relabellings": relabellings,
        "exact": exact,
        "slope": slope,
        "per": _PER[factor],
    }


def _spread(sums: np.ndarray) -> np.ndarray:
    return ((sums - sums.mean(axis=-1, keepdims=True)) ** 2).sum(axis=-1)


def _permutation_p(outcomes: np.ndarray) -> tuple[float, int, bool]:
    """(p, number of relabellings, whether these are all)."""
    seeds, values = outcomes.shape
    observed = _spread(outcomes.sum(axis=0))
    slack = _ROUNDING * (1 + float(observed))
    # Relabelling all seeds alike changes nothing: the first keeps its order.
    count = math.factorial(values) ** (seeds - 1)
    if count <= EXACT_LIMIT:
        orders = np.array(list(itertools.permutations(range(values))))
        sums = outcomes[:1]
        for row in outcomes[1:]:
            sums = (sums[:, None] + row[orders][None]).reshape(-1, values)
        return float(np.mean(_spread(sums) >= observed - slack)), count, True
    rng = np.random.default_rng(0)
    sums = np.zeros((DRAWS, values))
    for row in outcomes:
        sums += rng.permuted(np.tile(row, (DRAWS, 1)), axis=1)
    reached = int((_spread(sums) >= observed - slack).sum())
    return (1 + reached) / (1 + DRAWS), DRAWS, False


def sign_flip_p(differences: Sequence[float]) -> float | None:
    """Two-sided p that paired differences are centred at zero, by flipping their signs.

    Exact over all 2^n flips; None without differences, or with more than 18.
    """
    n = len(differences)
    if not 0 < n <= 18:
        return None
    signs = np.array(list(itertools.product((1, -1), repeat=n)))
    sums = np.abs(signs @ np.asarray(differences, float))
    observed = abs(float(np.sum(differences)))
    return float(np.mean(sums >= observed - _ROUNDING * (1 + observed)))
