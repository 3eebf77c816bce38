"""How much can be pruned from a trained network? Figures 1 and 2 of the paper.

Train dense networks over depths, learning rates and seeds, prune each one-shot
to every level, and evaluate with no training after:

  python -m lth_flax.experiments.prune_after_training --flagfile=configs/tweets_prune_after.flags

This says how over-parametrized a network is. It is no evidence for winning tickets.
"""

import itertools
from collections.abc import Sequence

from lth_flax import cli
from lth_flax.arms import Seed
from lth_flax.config import Config
from lth_flax.pruning.levels import Level
from lth_flax.runs import grid
from lth_flax.runs.choices import chosen_levels, pruned, seed_block
from lth_flax.runs.devices import configure_jax
from lth_flax.runs.plan import Part, tell
from lth_flax.runs.results import Entry, Method
from lth_flax.runs.run import Run
from lth_flax.runs.workdir import directory_of
from lth_flax.text_tasks import load, prepare_data, text_setups
from lth_flax.training.loop import Kept, Replicate, Span
from lth_flax.types import Params


def main(config: Config) -> None:
    levels, seeds = chosen_levels(config), seed_block(config)
    shapes, rates = grid.shapes(config), config.learning_rate
    source = load(config)
    rows = len(seeds) * len(rates)
    configure_jax(config, rows=rows)
    dataset = prepare_data(config, source, seeds)
    method = Method("prune_after_training", "oneshot", config.scope, config.text("criterion"))
    setups = text_setups(config, dataset, seeds, rows=rows)
    first = next(setups)
    steps = [rows * first.steps_per_epoch * shape.epochs for shape in shapes]
    if config.plan:
        every = zip(itertools.chain([first], setups), steps, strict=True)
        parts = (Part(setup, rows, of_shape, masks=len(levels)) for setup, of_shape in every)
        tell(parts, draws={}, alpha=config.alpha)
    run = Run.open(
        first,
        method,
        directory=directory_of(config, method),
        rows=rows * len(shapes),
        steps=sum(steps),
    )
    if not run.finished:
        for number, shape in enumerate(shapes):
            if number:
                run.use(next(setups))
            train_and_prune(run, shape, rates, seeds, levels)
    run.finish()


def train_and_prune(
    run: Run,
    shape: grid.Shape,
    rates: Sequence[float],
    seeds: Sequence[int],
    levels: Sequence[Level],
    keep: int | None = None,
) -> list[tuple[Seed, Params, Kept | None, list[Entry]]]:
    """Trains dense networks of one shape, and records them dense and pruned to every level.

    Returns:
      per learning rate and seed: the seed's family, the trained parameters, the
      state at step `keep`, and the entries of the pruned networks.
    """
    setup = run.setup
    rows = [(rate, setup.seed(seed)) for rate in rates for seed in seeds]
    dense = []
    for rate, family in rows:
        start = Replicate(
            family.initial_params, setup.full_mask(family.initial_params), family.seed, rate
        )
        name = grid.name_of(setup.config, shape, rate)
        dense.append(Entry("dense", family.seed, 0, 0, 0.0, 0, start, name))
    outcomes = run.train(dense, Span(keep=keep))
    found = []
    for entry, (rate, family), outcome in zip(dense, rows, outcomes, strict=True):
        entries = []
        for level in levels:
            mask = pruned(setup.config, family, outcome.params, entry.replicate.mask, level)
            entries.append(
                Entry(
                    "pruned", family.seed, 0, level.index, level.target_sparsity,
                    setup.steps_per_replicate,
                    Replicate(outcome.params, mask, family.seed, rate),
                    entry.configuration,
                )
            )  # fmt: skip
        found.append((family, outcome.params, outcome.kept, entries))
    run.evaluate([entries for *_, entries in found], [params for _, params, *_ in found])
    return found


if __name__ == "__main__":
    cli.run(main, name="prune_after_training")
