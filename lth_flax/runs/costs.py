"""What masks cost: training steps, and the same as steps of a dense network."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import jax
import numpy as np

from lth_flax.config import Config
from lth_flax.pruning.levels import Level
from lth_flax.runs.origin import Origin
from lth_flax.runs.results import weights_in_use
from lth_flax.runs.setup import Setup


@dataclass(frozen=True)
class Costs:
    """Of the masks of one search."""

    setup: Setup
    config: Config
    origin: Origin
    levels: Sequence[Level]

    def of_scores(self, number: int, scoring: int) -> tuple[int, float]:
        """Steps of training before the mask of a level, and the same as dense ones.

        Args:
          scoring: batches of the loss that a mask's score takes besides training.
        """
        whole, step = self.setup.steps_per_replicate, self.origin.step
        rounds = self.levels[number].index if self.config.schedule == "iterative" else 1
        before = [0.0, *(level.target_sparsity for level in self.levels)][:rounds]
        steps, dense = 0, 0.0
        for place, sparsity in enumerate(before):
            # To the point of scoring, in later rounds from where tickets start.
            own = (whole if step is None else step) - (self.origin.rewind if place else 0)
            steps += own + scoring
            dense += (own + scoring) * self.in_use(sparsity)
        return steps, dense

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
