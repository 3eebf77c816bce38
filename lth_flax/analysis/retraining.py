"""What training on after pruning gains, at each level."""

from collections.abc import Sequence

import numpy as np

from lth_flax.analysis.permutation import permutation_test, relabel
from lth_flax.analysis.result import Gain, Retraining
from lth_flax.analysis.seed_scores import SeedScores
from lth_flax.analysis.statistics import Design
from lth_flax.analysis.tables import cells_of
from lth_flax.predictions import Predictions
from lth_flax.records import Record

MOST_FLIPPED = 18


def gains(
    records: Sequence[Record], predictions: Predictions | None = None
) -> dict[float, dict[str, SeedScores]]:
    """By level and seed, in points: `gain` over the pruned network, `over_dense`,
    `over_dense_retrained`, and `gain_over_dense_gain`, the gain less that of the dense network.

    records: test rows of one checkpoint and configuration.
    """
    scores = {c: SeedScores.of(rows, predictions) for c, rows in cells_of(records).items()}

    def of(arm: str, level: float = 0.0) -> SeedScores:
        return scores.get((arm, level), SeedScores({}))

    dense_gain = of("dense_retrained") - of("dense")
    return {
        level: {
            "gain": (gain := retrained - of("pruned", level)),
            "over_dense": retrained - of("dense"),
            "over_dense_retrained": retrained - of("dense_retrained"),
            "gain_over_dense_gain": gain - dense_gain,
        }
        for (arm, level), retrained in scores.items()
        if arm == "retrained"
    }


def retraining(
    records: Sequence[Record],
    confidence: float,
    design: Design,
    predictions: Predictions | None = None,
) -> list[Retraining]:
    """The gains with intervals, and the exact test that flips their signs within seeds."""
    return [
        Retraining(
            level,
            **{
                name: Gain(
                    gain.estimate(confidence, design), sign_flip_p(list(gain.by_seed.values()))
                )
                for name, gain in kinds.items()
            },
        )
        for level, kinds in gains(records, predictions).items()
    ]


def sign_flip_p(differences: Sequence[float]) -> float | None:
    """Two-sided p that paired differences are centred at zero, over all flips of signs.

    None without differences, or with more than `MOST_FLIPPED`.
    """
    if not 0 < len(differences) <= MOST_FLIPPED:
        return None
    runs = np.array([[[[one]], [[0.0]]] for one in differences])  # a control that is always zero
    return permutation_test(relabel(runs, exact_limit=2**MOST_FLIPPED), np.ones(1)).p
