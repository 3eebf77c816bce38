"""Does the original initialization matter? Figure 3 of the paper, done with care.

Train a dense network, prune its smallest weights, put the mask back on the
original initialization (the ticket) and on controls, train each again with the
mask kept, and compare them over paired seeds:

  python -m lth_flax.experiments.winning_ticket --flagfile=configs/quickstart.flags
"""

import jax
import numpy as np

from lth_flax.experiments import command
from lth_flax.experiments.arms import ARMS, Seed
from lth_flax.experiments.flags import FLAGS
from lth_flax.experiments.results import Entry, Method
from lth_flax.experiments.run import Run, replicate
from lth_flax.experiments.setup import (
    chosen_arms,
    chosen_levels,
    configure_jax,
    load,
    prepare,
    seed_block,
)
from lth_flax.pruning.levels import Level, next_mask
from lth_flax.pruning.masks import full_mask
from lth_flax.pruning.scores import SCORES
from lth_flax.randomness import key
from lth_flax.types import Mask, Params


def main() -> None:
    levels, arms, seeds = chosen_levels(), chosen_arms(), seed_block()
    if FLAGS.dense_only:
        levels = ()
    source = load()
    configure_jax(rows=len(seeds))
    setup = prepare(source, seeds, rows=len(seeds) * len(arms))
    method = Method("winning_ticket", FLAGS.schedule, FLAGS.scope, FLAGS.criterion)
    run = Run.open(setup, method, rows=len(seeds) * (1 + len(levels) * len(arms)))
    if run.finished:
        run.finish()
        return

    # Train dense networks.
    families = {seed: setup.seed(seed) for seed in seeds}
    masks = {seed: full_mask(families[seed].initial_params) for seed in seeds}
    dense = [
        Entry("dense", s, 0, 0, 0.0, 0, replicate(setup, families[s].initial_params, masks[s], s))
        for s in seeds
    ]
    outcomes = run.train(dense)
    trained = {entry.seed: outcome.params for entry, outcome in zip(dense, outcomes, strict=True)}

    # One-shot: every mask from the dense network, all levels in one table.
    # Iterative: a level's mask from the ticket of the level before.
    oneshot = FLAGS.schedule == "oneshot"
    rounds = [levels] if oneshot else [(level,) for level in levels]
    for group in filter(None, rounds):
        entries = []
        for level in group:
            spent = setup.steps_per_replicate * (1 if oneshot else level.index)
            for seed in seeds:
                found = _mask(families[seed], trained[seed], masks[seed], level)
                if not oneshot:
                    masks[seed] = found
                for arm, draw in arms:
                    params, mask = ARMS[arm](families[seed], found, level.index, draw)
                    entries.append(
                        Entry(
                            arm, seed, draw, level.index, level.target_sparsity, spent,
                            replicate(setup, params, mask, seed),
                        )
                    )  # fmt: skip
        for entry, outcome in zip(entries, run.train(entries), strict=True):
            if entry.arm == "ticket":
                run.save_ticket(entry, families[entry.seed].initial_params, outcome)
                if not oneshot:
                    trained[entry.seed] = outcome.params
    run.finish()


def _mask(family: Seed, trained: Params, mask: Mask, level: Level) -> Mask:
    """Scores the trained weights and prunes to the level, on the CPU."""
    with jax.default_device(jax.devices("cpu")[0]):
        scores = SCORES[FLAGS.criterion](
            trained,
            initial_params=family.initial_params,
            key=key(family.seed, "random scores", level.index),
        )
        found = next_mask(scores, mask, level, scope=FLAGS.scope, schedule=FLAGS.schedule)
    return jax.tree_util.tree_map(np.asarray, found)


if __name__ == "__main__":
    command.run(main)
