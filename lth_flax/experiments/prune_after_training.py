"""How much can be pruned from a trained network? Figures 1 and 2 of the paper.

Train dense networks over depths, learning rates and seeds, prune each one-shot
to every level, and evaluate with no training after:

  python -m lth_flax.experiments.prune_after_training --flagfile=configs/tweets_prune_after.flags

This says how over-parametrized a network is. It is no evidence for winning tickets.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from lth_flax import cli
from lth_flax.config import Config
from lth_flax.data.sources import load_source
from lth_flax.pruning.levels import Level
from lth_flax.runs import grid
from lth_flax.runs.choices import chosen_levels, seed_block
from lth_flax.runs.devices import configure_jax
from lth_flax.runs.masks import Pruner, Scored, by_slices
from lth_flax.runs.results import Entry, Method
from lth_flax.runs.run import Again, Run
from lth_flax.runs.shapes import train_shapes
from lth_flax.text_tasks import prepare_data, text_setups
from lth_flax.training.table import Replicate, Span, Start
from lth_flax.types import Mask


def main(config: Config) -> None:
    levels, seeds = chosen_levels(config), seed_block(config)
    source = load_source(config)
    rows = len(seeds) * len(config.learning_rate)
    configure_jax(config)
    dataset = prepare_data(config, source, seeds)
    method = Method("prune_after_training", "oneshot", config.scope, config.text("criterion"))
    train_shapes(
        config,
        method,
        text_setups(config, dataset, seeds, rows=rows),
        lambda run: train_and_prune(run, levels),
        rows=rows,
        epochs=[rows * shape.epochs for shape in grid.shapes(config)],
        masks=len(levels),
    )


def train_and_prune(
    run: Run, levels: Sequence[Level], keep: int | None = None
) -> list[tuple[Again, list[Entry]]]:
    """Trains dense networks of one shape, and records them dense and pruned to every level.

    Returns:
      per learning rate and seed: the trained network, with its state at step `keep`, and the
      entries of the pruned networks.
    """
    setup = run.setup
    prune = Pruner(setup)

    def find(level: Level, some: slice) -> list[Mask]:
        networks = [
            Scored(seed, dense().params, dense().mask, setup.initialize(seed))
            for (_, seed), dense in zip(rows[some], trained[some], strict=True)
        ]
        return prune(networks, level)

    mask_of = by_slices(find, setup.trainer.engine.rows)

    def at(level: Level, number: int) -> Start:
        return Start(trained[number]().params, mask_of(level, number))

    rows = [(rate, seed) for rate in setup.config.learning_rate for seed in setup.seeds]
    entries = [
        Entry(
            "dense",
            Replicate(partial(setup.start, seed), seed, rate),
            grid.name_of(setup.config, setup.settings, rate),
        )
        for rate, seed in rows
    ]
    trained = run.train(entries, Span(keep=keep))
    found = [
        (
            dense,
            [
                entry._replace(
                    arm="pruned",
                    level=level.index,
                    target_sparsity=level.target_sparsity,
                    mask_steps=setup.steps_per_replicate,
                    replicate=replace(entry.replicate, start=partial(at, level, number)),
                )
                for level in levels
            ],
        )
        for number, (entry, dense) in enumerate(zip(entries, trained, strict=True))
    ]
    run.evaluate([of_levels for _, of_levels in found])
    return found


if __name__ == "__main__":
    cli.run(main, name="prune_after_training")
