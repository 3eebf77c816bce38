"""What masks cost: training steps, and the same as steps of a dense network."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import jax
import numpy as np

from lth_flax.config import Config
from lth_flax.pruning.levels import Level
from lth_flax.runs.methods import MaskRule
from lth_flax.runs.origin import Origin
from lth_flax.runs.results import weights_in_use
from lth_flax.runs.setup import Setup


class Scoring(NamedTuple):
    """What the scores of a mask cost.

    rounds: in which they are computed anew.
    steps: of each, gradients of a batch; dense: as steps of a dense network.
    """

    rounds: int
    steps: int
    dense: float


@dataclass(frozen=True)
class Costs:
    """Of the masks of one search."""

    setup: Setup
    config: Config
    origin: Origin
    levels: Sequence[Level]

    def of_scores(self, number: int, scoring: Scoring) -> tuple[int, float]:
        """Steps of training and scores before the mask of a level, and the same as dense ones."""
        whole, step = self.setup.steps_per_replicate, self.origin.step
        one_by_one = self.config.schedule == "iterative"
        rounds = self.levels[number].index if one_by_one else 1
        before = [0.0, *(level.target_sparsity for level in self.levels)][:rounds]
        steps, dense = 0, 0.0
        for place, sparsity in enumerate(before):
            # To the point of scoring, in later rounds from where tickets start.
            own = (whole if step is None else step) - (self.origin.rewind if place else 0)
            target = self.levels[place if one_by_one else number].target_sparsity
            kept = [(1 - target) ** (k / scoring.rounds) for k in range(scoring.rounds)]
            steps += own + scoring.rounds * scoring.steps
            dense += own * self.in_use(sparsity)
            dense += scoring.dense * sum(self.in_use(max(sparsity, 1 - share)) for share in kept)
        return steps, dense

    def of_changing(self, number: int, rule: MaskRule) -> float:
        """The mean share of weights in use while the mask of a level changes."""
        steps, sparsity = self.setup.steps_per_replicate, self.levels[number].target_sparsity
        return self.in_use(float(np.mean(rule.sparsities(sparsity, steps))))

    def in_use(self, sparsity: float) -> float:
        """The share of the weights of kernels that a network of this sparsity uses."""
        return 1 - sparsity * (1 - self._never_pruned)

    @cached_property
    def _never_pruned(self) -> float:
        """The share that no mask prunes."""
        params = self.setup.initialize(self.setup.seeds[0])
        mask = self.setup.full_mask(params)
        none = jax.tree_util.tree_map(lambda m: np.zeros_like(m) if np.ndim(m) else m, mask)
        return weights_in_use(params, none)
