"""Two copies of a network trained on from one point, and the networks on the line between them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import jax
import numpy as np

from lth_flax.analysis.stability import Line
from lth_flax.matching import match_units, permute_units
from lth_flax.pruning.scores import magnitude
from lth_flax.pruning.select import prune
from lth_flax.runs.plan import Part
from lth_flax.runs.setup import Setup
from lth_flax.tasks import Examples
from lth_flax.training.table import Outcome, Replicate, Span, Start
from lth_flax.types import Mask, Params

Starts = Mapping[int, Callable[[], Start]]
"""Seed -> where its networks start."""

COPY = 2**31
"""A copy is a seed of its own, this far from the one whose split it has."""


def copies_of(seeds: Sequence[int]) -> list[int]:
    """Two of every seed."""
    return [seed + COPY * number for seed in seeds for number in (1, 2)]


def with_copies(examples: Examples) -> Examples:
    """Examples of which a copy sees what its seed does, in another order."""
    return replace(examples, draw=lambda seed: examples.draw(seed % COPY))


def planned(
    setup: Setup,
    seeds: Sequence[int],
    *,
    rates: int,
    steps: Sequence[int],
    points: int,
    sparsities: Sequence[float],
) -> Part:
    """What `measure` trains and scores, over so many rates and all steps where copies part."""
    whole, per_epoch = setup.steps_per_replicate, setup.steps_per_epoch
    tickets, copies = sum(map(bool, sparsities)), len(sparsities) * len(steps)
    dense = [whole if tickets else -(-step // per_epoch) * per_epoch for step in steps]
    rows = sum(map(bool, dense)) + 2 * (copies + tickets)
    trained = sum(dense) + 2 * len(sparsities) * sum(whole - step for step in steps)
    each = rates * len(seeds)
    return Part(
        setup,
        each * rows,
        each * (trained + 2 * tickets * whole),
        networks=each * 2 * copies * points,
    )


def measure(
    setup: Setup,
    seeds: Sequence[int],
    *,
    rate: float,
    point: str,
    step: int,
    points: int,
    sparsities: Sequence[float] = (0.0,),
    controls: dict[tuple[float, float], list[float]] | None = None,
) -> Iterator[Line]:
    """Trains every seed to a point and two copies of it from there; the lines between these.

    Args:
      setup: of the seeds and their copies.
      rate: the learning rate.
      point, step: where the copies part, in words and in training steps.
      points: networks on a line.
      sparsities: of the copies. 0: dense ones; else tickets, which share the mask of the largest
        weights of all at the end of dense training.
      controls: by rate and sparsity, test errors of the masks on fresh weights; what is missing is
        trained and put in: it is the same for every point.
    """

    def start(copy: int, of: Starts, masks: Mapping[int, Mask]) -> Start:
        found = of[copy % COPY]()
        return found._replace(mask=masks.get(copy % COPY, found.mask))

    def trained(of: Starts, masks: Mapping[int, Mask], span: Span) -> list[Outcome]:
        rows = [Replicate(partial(start, copy, of, masks), copy, rate) for copy in copies]
        return _train(setup, rows, span)

    controls, copies = {} if controls is None else controls, copies_of(seeds)
    parting: dict[int, Callable[[], Start]] = {seed: partial(setup.start, seed) for seed in seeds}
    dense: dict[int, Outcome] = {}
    if step or any(sparsities):
        rows = [Replicate(parting[seed], seed, rate) for seed in seeds]
        epochs = 0 if any(sparsities) else -(-step // setup.steps_per_epoch)
        dense = dict(zip(seeds, _train(setup, rows, Span(0, epochs, step or None)), strict=True))
    for seed, outcome in dense.items():
        if outcome.kept is not None:
            kept = outcome.kept
            parting[seed] = partial(
                Start, kept.params, outcome.mask, kept.opt_state, carry=kept.carry
            )
    groups = setup.task.model.units if setup.task.model else None
    for sparsity in sparsities:
        masks = {
            seed: prune(magnitude(outcome.params), outcome.mask, sparsity=sparsity)
            for seed, outcome in dense.items()
            if sparsity
        }
        ends = trained(parting, masks, Span(step))
        if sparsity and (rate, sparsity) not in controls:
            fresh = trained({seed: partial(setup.start, seed, 0) for seed in seeds}, masks, Span())
            found = [_error(end.outputs["last", "test"]) for end in fresh]
            controls[rate, sparsity] = [
                (one + other) / 2 for one, other in zip(found[::2], found[1::2], strict=True)
            ]
        for number, seed in enumerate(seeds):
            one, other = (end.params for end in ends[2 * number : 2 * number + 2])
            control = controls[rate, sparsity][number] if sparsity else None
            for matched in (False, True):
                if matched and groups:
                    units = groups(one)
                    other = permute_units(other, units, match_units(other, one, units))
                scores = score_line(setup, seed, one, other, points)
                yield Line(rate, point, step, seed, matched, *scores, sparsity, control)


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
    return tuple(losses), tuple(_error(scores) for scores in test)


def _error(outputs: Mapping[str, np.ndarray]) -> float:
    """In percent."""
    return 100 * (1 - float(outputs["correct"].mean(dtype=np.float64)))


def _train(setup: Setup, rows: Sequence[Replicate], span: Span) -> list[Outcome]:
    slices = setup.trainer.train(rows, span=span)
    return [outcome for finished in slices for outcome in finished.outcomes()]
