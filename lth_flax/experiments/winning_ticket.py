"""Does the original initialization matter? Figure 3 of the paper, done with care.

Train a dense network, prune its smallest weights, put the mask back on the
original initialization (the ticket) and on controls, train each again with the
mask kept, and compare them over paired seeds:

  python -m lth_flax.experiments.winning_ticket --flagfile=configs/quickstart.flags

With `--rewind_epoch` tickets start from where the dense network was by then
(late rewinding, Frankle et al., arXiv 1912.05671), as do shuffled and random
masks; `reinit` starts fresh, and all have trained as many steps in the end.
"""

from collections.abc import Sequence

import jax
import numpy as np

from lth_flax.experiments import command, grid
from lth_flax.experiments.arms import ARMS, Seed
from lth_flax.experiments.choices import (
    chosen_arms,
    chosen_levels,
    pruned,
    say_reach,
    seed_block,
)
from lth_flax.experiments.devices import configure_jax
from lth_flax.experiments.flags import FLAGS
from lth_flax.experiments.results import Entry, Method
from lth_flax.experiments.run import Run
from lth_flax.experiments.setup import build, load, prepare_data
from lth_flax.pruning.levels import Level
from lth_flax.pruning.masks import apply_mask
from lth_flax.training.loop import Kept, Outcome, Replicate, Span
from lth_flax.types import Mask, Params

Row = tuple[float, int]
"""(learning rate, seed): the rows of a dense table."""


def main() -> None:
    levels, arms, seeds = chosen_levels(), chosen_arms(), seed_block()
    if FLAGS.dense_only:
        levels = ()
    else:
        say_reach(arms, len(seeds))
    shapes, rates = grid.shapes(), grid.rates()
    source = load()
    table = len(seeds) * len(rates)
    configure_jax(rows=table)
    dataset = prepare_data(source, seeds)
    settings = {"keep_mask": FLAGS.keep_mask, "rewind_epoch": FLAGS.rewind_epoch}
    method = Method(
        "winning_ticket", FLAGS.schedule, FLAGS.scope, FLAGS.criterion, settings=settings
    )
    most = table * max(1, len(arms) * (len(levels) if FLAGS.schedule == "oneshot" else 1))
    setups = (build(dataset, seeds, shape, rows=most) for shape in shapes)
    first = next(setups)
    per_shape = table * (1 + len(levels) * len(arms))
    spe = first.steps_per_replicate // shapes[0].epochs
    rewinds = [grid.rewind_step(shape, spe) for shape in shapes]
    saved = sum(rewinds) * table * len(levels) * sum(arm != "reinit" for arm, _ in arms)
    steps = spe * sum(shape.epochs for shape in shapes) * per_shape - saved
    run = Run.open(first, method, rows=per_shape * len(shapes), steps=steps)
    if not run.finished:
        for number, shape in enumerate(shapes):
            if number:
                run.use(next(setups))
            Experiment(run, shape, rewinds[number], levels, arms).train(rates, seeds)
    run.finish()


class Experiment:
    """The tables of one shape."""

    def __init__(
        self,
        run: Run,
        shape: grid.Shape,
        rewind: int,
        levels: Sequence[Level],
        arms: Sequence[tuple[str, int]],
    ) -> None:
        self.run, self.shape, self.rewind = run, shape, rewind
        self.levels, self.arms = levels, arms

    def train(self, rates: Sequence[float], seeds: Sequence[int]) -> None:
        run, setup = self.run, self.run.setup
        families = {seed: setup.seed(seed) for seed in seeds}
        rows = [(rate, seed) for rate in rates for seed in seeds]

        # Train dense networks.
        masks = {row: setup.full_mask(families[row[1]].initial_params) for row in rows}
        dense = [
            self._entry("dense", 0, None, row, families[row[1]].initial_params, masks[row])
            for row in rows
        ]
        outcomes = run.train(dense, Span(keep=self.rewind or None))
        trained = {row: outcome.params for row, outcome in zip(rows, outcomes, strict=True)}
        kept = {row: outcome.kept for row, outcome in zip(rows, outcomes, strict=True)}

        # One-shot: every mask from the dense network, all levels in one table.
        # Iterative: a level's mask from the ticket of the level before.
        oneshot = FLAGS.schedule == "oneshot"
        rounds = [self.levels] if oneshot else [(level,) for level in self.levels]
        for group in filter(None, rounds):
            entries = []
            for level in group:
                for row in rows:
                    found = pruned(families[row[1]], trained[row], masks[row], level)
                    if not oneshot:
                        masks[row] = found
                    entries += self._arms(families[row[1]], kept[row], row, level, found)
            for entry, outcome in self._train(entries):
                if entry.arm == "ticket":
                    row = (entry.replicate.learning_rate, entry.seed)
                    self._save(entry, outcome, families[entry.seed], kept[row])
                    if not oneshot:
                        trained[row] = outcome.params

    def _arms(
        self, family: Seed, kept: Kept | None, row: Row, level: Level, found: Mask
    ) -> list[Entry]:
        """One row for each arm and draw at this level."""
        entries = []
        start = family if kept is None else family._replace(initial_params=kept.params)
        for arm, draw in self.arms:
            params, mask = ARMS[arm](start, found, level.index, draw)
            opt_state = None if kept is None or arm == "reinit" else kept.opt_state
            entries.append(self._entry(arm, draw, level, row, params, mask, opt_state))
        return entries

    def _entry(
        self,
        arm: str,
        draw: int,
        level: Level | None,
        row: Row,
        params: Params,
        mask: Mask,
        opt_state: object = None,
    ) -> Entry:
        rate, seed = row
        index, sparsity = (level.index, level.target_sparsity) if level else (0, 0.0)
        spent = min(index, 1) if FLAGS.schedule == "oneshot" else index
        worn = mask
        if not FLAGS.keep_mask:  # masked once, then free to grow back
            params = jax.tree_util.tree_map(np.asarray, apply_mask(params, mask))
            worn = self.run.setup.full_mask(params)
        return Entry(
            arm, seed, draw, index, sparsity,
            self._spent(spent),
            Replicate(params, worn, seed, rate, opt_state),
            grid.name_of(self.shape, rate),
            mask,
        )  # fmt: skip

    def _spent(self, rounds: int) -> int:
        """Steps of training before a mask: a whole run, then what is left after rewinding."""
        whole = self.run.setup.steps_per_replicate
        return whole * rounds - self.rewind * max(rounds - 1, 0)

    def _train(self, entries: Sequence[Entry]) -> list[tuple[Entry, Outcome]]:
        """Rewound rows as one table, fresh ones as another: those have further to go."""
        if not self.rewind:
            return list(zip(entries, self.run.train(entries), strict=True))
        result: list[tuple[Entry, Outcome]] = []
        for fresh, span in ((False, Span(start=self.rewind)), (True, Span())):
            some = [entry for entry in entries if (entry.arm == "reinit") == fresh]
            if some:
                result += zip(some, self.run.train(some, span), strict=True)
        return result

    def _save(self, entry: Entry, outcome: Outcome, family: Seed, kept: Kept | None) -> None:
        rewound = None if kept is None else kept.params
        self.run.save_ticket(entry, family.initial_params, outcome, rewound)


if __name__ == "__main__":
    command.run(main)
