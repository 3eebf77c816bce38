"""What training on after pruning gains, at each level."""

from collections.abc import Sequence

import numpy as np

from lth_flax.analysis.permutation import permutation_test, relabel
from lth_flax.analysis.result import Gain, Retraining
from lth_flax.analysis.statistics import Design, estimate
from lth_flax.analysis.tables import cells_of, scores_by_seed
from lth_flax.records import Record

BySeed = dict[int, float]
MOST_FLIPPED = 18


def minus(one: BySeed, other: BySeed) -> BySeed:
    """Paired differences over the seeds that both have."""
    return {seed: one[seed] - other[seed] for seed in sorted(one.keys() & other.keys())}


def gains(records: Sequence[Record]) -> dict[float, dict[str, BySeed]]:
    """By level and seed, in points: `gain` over the pruned network, `over_dense`,
    `over_dense_retrained`, and `gain_over_dense_gain`, the gain less that of the dense network.

    records: test rows of one checkpoint and configuration.
    """
    scores = {cell: scores_by_seed(rows) for cell, rows in cells_of(records).items()}

    def of(arm: str, level: float = 0.0) -> BySeed:
        return scores.get((arm, level), {})

    dense_gain = minus(of("dense_retrained"), of("dense"))
    return {
        level: {
            "gain": (gain := minus(retrained, of("pruned", level))),
            "over_dense": minus(retrained, of("dense")),
            "over_dense_retrained": minus(retrained, of("dense_retrained")),
            "gain_over_dense_gain": minus(gain, dense_gain),
        }
        for (arm, level), retrained in scores.items()
        if arm == "retrained"
    }


def retraining(records: Sequence[Record], confidence: float, design: Design) -> list[Retraining]:
    """The gains with intervals, and the exact test that flips their signs within seeds."""
    return [
        Retraining(
            level,
            **{
                name: Gain(estimate(values, confidence, design), sign_flip_p(list(values.values())))
                for name, values in kinds.items()
            },
        )
        for level, kinds in gains(records).items()
    ]


def sign_flip_p(differences: Sequence[float]) -> float | None:
    """Two-sided p that paired differences are centred at zero, over all flips of signs.

    None without differences, or with more than `MOST_FLIPPED`.
    """
    if not 0 < len(differences) <= MOST_FLIPPED:
        return None
    runs = np.array([[[[one]], [[0.0]]] for one in differences])  # a control that is always zero
    return permutation_test(relabel(runs, exact_limit=2**MOST_FLIPPED), np.ones(1)).p
