"""Two copies of a network trained on from one point, and the networks on the line between them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import jax
import numpy as np

from lth_flax.analysis.stability import Line
from lth_flax.matching import match_units, permute_units
from lth_flax.runs.setup import Setup
from lth_flax.tasks import Examples
from lth_flax.training.table import Outcome, Replicate, Span, Start
from lth_flax.types import Params

COPY = 2**31
"""A copy is a seed of its own, this far from the one whose split it has."""


def copies_of(seeds: Sequence[int]) -> list[int]:
    """Two of every seed."""
    return [seed + COPY * number for seed in seeds for number in (1, 2)]


def with_copies(examples: Examples) -> Examples:
    """Examples of which a copy sees what its seed does, in another order."""
    return replace(examples, draw=lambda seed: examples.draw(seed % COPY))


def measure(
    setup: Setup, seeds: Sequence[int], *, rate: float, point: str, step: int, points: int
) -> Iterator[Line]:
    """Trains every seed to a point and two copies of it from there; the lines between these.

    Args:
      setup: of the seeds and their copies.
      rate: the learning rate.
      point, step: where the copies part, in words and in training steps.
      points: networks on a line.
    """

    def begin(seed: int) -> Start:
        params = setup.initialize(seed)
        return Start(params, setup.full_mask(params))

    parting: dict[int, Callable[[], Start]] = {seed: partial(begin, seed) for seed in seeds}
    if step:
        rows = [Replicate(parting[seed], seed, rate) for seed in seeds]
        epochs = -(-step // setup.steps_per_epoch)
        for seed, outcome in zip(seeds, _train(setup, rows, Span(0, epochs, step)), strict=True):
            assert outcome.kept is not None
            kept = outcome.kept
            parting[seed] = partial(
                Start, kept.params, outcome.mask, kept.opt_state, carry=kept.carry
            )
    rows = [Replicate(parting[copy % COPY], copy, rate) for copy in copies_of(seeds)]
    ends = _train(setup, rows, Span(step))
    groups = setup.task.model.units if setup.task.model else None
    for number, seed in enumerate(seeds):
        one, other = (end.params for end in ends[2 * number : 2 * number + 2])
        for matched in (False, True):
            if matched and groups:
                units = groups(one)
                other = permute_units(other, units, match_units(other, one, units))
            scores = score_line(setup, seed, one, other, points)
            yield Line(rate, point, step, seed, matched, *scores)


def score_line(
    setup: Setup, seed: int, one: Params, other: Params, points: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Loss on the training split and error in percent on the test split, from one to the other."""

    def at(alpha: float) -> Params:
        return jax.tree_util.tree_map(lambda a, b: a + np.float32(alpha) * (b - a), one, other)

    networks = [(seed, at(number / (points - 1))) for number in range(points)]
    masks = [[setup.full_mask(one)]] * points
    train, test = (
        setup.trainer.evaluate_levels(networks, masks, split) for split in ("train", "test")
    )
    losses = (float(scores["loss"].mean(dtype=np.float64)) for scores in train)
    errors = (100 * (1 - float(scores["correct"].mean(dtype=np.float64))) for scores in test)
    return tuple(losses), tuple(errors)


def _train(setup: Setup, rows: Sequence[Replicate], span: Span) -> list[Outcome]:
    slices = setup.trainer.train(rows, span=span)
    return [outcome for finished in slices for outcome in finished.outcomes()]
