"""What an experiment's flags ask for: seeds, levels, arms, and how a mask is found."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import numpy as np

from lth_flax.arms import ARMS, Family
from lth_flax.config import DECIMAL_POINT, MOST_SEEDS, Config, settings_of
from lth_flax.errors import UserError
from lth_flax.numerics import pinned
from lth_flax.pruning import levels as level_rules
from lth_flax.pruning.levels import Level, Schedule, next_mask
from lth_flax.pruning.scores import random as random_scores
from lth_flax.pruning.select import Scope
from lth_flax.pruning.units import on_units, unit_scores, units_of
from lth_flax.randomness import key
from lth_flax.runs.platforms import host_device
from lth_flax.types import Mask, Params


def seed_block(config: Config) -> range:
    """The seeds of this run: `--seeds=START:STOP`, or 0 to `--num_seeds`."""
    if config.seeds is None:
        return range(config.num_seeds)
    try:
        start, stop = (int(part) for part in config.seeds.split(":"))
        if not 0 <= start < stop < 2**31 or stop - start > MOST_SEEDS:
            raise ValueError
    except ValueError:
        raise UserError(
            f"--seeds={config.seeds} is no block of seeds: expected START:STOP with "
            f"0 <= START < STOP, such as 0:4, and at most {MOST_SEEDS} seeds"
        ) from None
    return range(start, stop)


def chosen_levels(config: Config) -> tuple[Level, ...]:
    """The sparsity levels that the flags ask for."""
    if config.levels is not None and config.rounds is not None:
        raise UserError("--levels and --rounds both name sparsity levels: give one of them")
    try:
        if config.rounds is not None:
            return level_rules.from_rate(config.prune_rate, config.rounds)
        values = config.levels if config.levels is not None else (0.5, 0.8, 0.9, 0.95)
        levels = level_rules.from_sparsities(values)
        given = ",".join(map(str, values))
        # Rows and tickets are named like this: two of one name would overwrite each other.
        if len({f"{level.target_sparsity:g}" for level in levels}) < len(levels):
            raise ValueError(f"levels must differ in six digits, found {given}")
        # Statistics pair them like this, and nothing can be drawn at 1.
        rounded = {round(level.target_sparsity, 9) for level in levels}
        if len(rounded) < len(levels) or max(rounded) == 1:
            raise ValueError(
                f"levels must differ from each other and from 1 in nine decimals, found {given}"
            )
        return levels
    except ValueError as error:
        comma = config.levels and min(config.levels) == 0 and max(config.levels) >= 1
        hint = f" ({DECIMAL_POINT})" if comma else ""
        raise UserError(f"{error}{hint}; see --levels, --prune_rate and --rounds") from None


class Arm(NamedTuple):
    """A row that a seed has at every level; `draw` counts those of one name."""

    name: str
    draw: int
    function: Callable[..., tuple[Params, Mask]]


def chosen_arms(config: Config) -> list[Arm]:
    """The arms of a seed, in the order of the table, then those from outside the package."""
    setting = settings_of()["arms"]
    functions = {_arm_name(value): setting.function(value) for value in config.arms}
    if len(functions) < len(config.arms):
        raise UserError(f"--arms={config.text('arms')} names an arm twice: name each once")
    if "ticket" not in functions:
        raise UserError("--arms must name ticket: the other arms are compared with it")
    order = [name for name in ARMS if name in functions]
    order += [name for name in functions if name not in ARMS]
    return [
        Arm(name, draw, functions[name])
        for name in order
        for draw in range(config.reinit_draws if name == "reinit" else 1)
    ]


def _arm_name(value: Any) -> str:
    """A function's own name stands in records."""
    return value.__name__ if callable(value) else value.rpartition(":")[2]


def draws_of(arms: Sequence[Arm]) -> dict[str, int]:
    """Draws of every control."""
    return dict(Counter(arm.name for arm in arms if arm.name != "ticket"))


@pinned()
def pruned(config: Config, family: Family, trained: Params, mask: Mask, level: Level) -> Mask:
    """Scores the trained weights, or whole units, and prunes to the level, on the CPU."""
    groups, score = family.groups, settings_of()["criterion"].function(config.criterion)
    # One number per unit: a sum over its weights would tell wide layers from narrow ones.
    per_unit = bool(groups) and score is random_scores
    with jax.default_device(host_device()):
        scores = score(
            units_of(mask, groups) if per_unit else trained,
            initial_params=family.initial_params,
            key=key(family.seed, "random scores"),  # one draw for all levels: they nest
        )
        if groups and not per_unit:
            scores = unit_scores(scores, groups, norm=config.unit_norm)
        to_level = partial(
            next_mask,
            scores,
            level=level,
            scope=cast(Scope, config.scope),
            schedule=cast(Schedule, config.schedule),
        )
        found = on_units(mask, groups, to_level)
    return jax.tree_util.tree_map(np.asarray, found)
