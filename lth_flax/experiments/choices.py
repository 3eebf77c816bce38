"""What an experiment's flags ask for: seeds, levels, arms, and how a mask is found."""

from collections import Counter
from collections.abc import Sequence

import jax
import numpy as np

from lth_flax.analysis.terminal import reach_sentence
from lth_flax.errors import UserError
from lth_flax.experiments.arms import ARMS, Seed
from lth_flax.experiments.flags import FLAGS, MOST_SEEDS
from lth_flax.pruning import levels as level_rules
from lth_flax.pruning.levels import Level, next_mask
from lth_flax.pruning.scores import SCORES
from lth_flax.randomness import key
from lth_flax.types import Mask, Params


def seed_block() -> range:
    """The seeds of this run: `--seeds=START:STOP`, or 0 to `--num_seeds`."""
    if FLAGS.seeds is None:
        return range(FLAGS.num_seeds)
    try:
        start, stop = (int(part) for part in FLAGS.seeds.split(":"))
        if not 0 <= start < stop < 2**31 or stop - start > MOST_SEEDS:
            raise ValueError
    except ValueError:
        raise UserError(
            f"--seeds={FLAGS.seeds} is no block of seeds: expected START:STOP with "
            f"0 <= START < STOP, such as 0:4, and at most {MOST_SEEDS} seeds"
        ) from None
    return range(start, stop)


def chosen_levels() -> tuple[Level, ...]:
    """The sparsity levels that the flags ask for."""
    if FLAGS.levels is not None and FLAGS.rounds is not None:
        raise UserError("--levels and --rounds both name sparsity levels: give one of them")
    try:
        if FLAGS.rounds is not None:
            return level_rules.from_rate(FLAGS.prune_rate, FLAGS.rounds)
        given = FLAGS.levels if FLAGS.levels is not None else ["0.5", "0.8", "0.9", "0.95"]
        try:
            values = [float(value) for value in given]
        except ValueError:
            raise ValueError(
                f"--levels={','.join(given)} is not a list of numbers: expected sparsities in "
                "[0, 1), such as 0.5,0.8,0.9"
            ) from None
        levels = level_rules.from_sparsities(values)
        # Rows and tickets are named like this: two of one name would overwrite each other.
        if len({f"{level.target_sparsity:g}" for level in levels}) < len(levels):
            raise ValueError(f"levels must differ in six digits, found {','.join(given)}")
        # Statistics pair them like this, and nothing can be drawn at 1.
        rounded = {round(level.target_sparsity, 9) for level in levels}
        if len(rounded) < len(levels) or max(rounded) == 1:
            raise ValueError(
                "levels must differ from each other and from 1 in nine decimals, found "
                f"{','.join(given)}"
            )
        return levels
    except ValueError as error:
        raise UserError(f"{error}; see --levels, --prune_rate and --rounds") from None


def one_shot() -> None:
    """For commands that prune trained networks only once.

    Raises:
      UserError: flags ask for what such a command does not do.
    """
    if FLAGS["schedule"].present and FLAGS.schedule != "oneshot":
        raise UserError(
            f"--schedule={FLAGS.schedule}: this command prunes each trained network one-shot to "
            "every level; leave it out, or run winning_ticket"
        )
    FLAGS["schedule"].value = "oneshot"
    for name in ("arms", "reinit_draws", "dense_only", "rewind_epoch", "keep_mask"):
        if FLAGS[name].present and FLAGS[name].value != FLAGS[name].default:
            raise UserError(f"--{name} is for winning_ticket: leave it out here")


def chosen_arms() -> list[tuple[str, int]]:
    """(arm, draw) for every row that a seed has at one level."""
    for arm in FLAGS.arms:
        if arm not in ARMS:
            raise UserError(
                f"unknown arm {arm!r} in --arms: expected some of {', '.join(ARMS)} "
                "(dense is always there)"
            )
    if len(set(FLAGS.arms)) < len(FLAGS.arms):
        raise UserError(f"--arms={','.join(FLAGS.arms)} names an arm twice: name each once")
    if "ticket" not in FLAGS.arms:
        raise UserError("--arms must name ticket: the other arms are compared with it")
    return [
        (arm, draw)
        for arm in ARMS
        if arm in FLAGS.arms
        for draw in range(FLAGS.reinit_draws if arm == "reinit" else 1)
    ]


def say_reach(arms: Sequence[tuple[str, int]], seeds: int) -> None:
    """Says before training where so few seeds and draws cannot reach `--alpha`, and what would."""
    draws = Counter(arm for arm, _ in arms if arm != "ticket")
    line = reach_sentence(draws, seeds, FLAGS.alpha)
    if line:
        print(line)


def pruned(family: Seed, trained: Params, mask: Mask, level: Level) -> Mask:
    """Scores the trained weights and prunes to the level, on the CPU (host arrays)."""
    with jax.default_device(jax.devices("cpu")[0]):
        scores = SCORES[FLAGS.criterion](
            trained,
            initial_params=family.initial_params,
            key=key(family.seed, "random scores", level.index),
        )
        found = next_mask(scores, mask, level, scope=FLAGS.scope, schedule=FLAGS.schedule)
    return jax.tree_util.tree_map(np.asarray, found)
