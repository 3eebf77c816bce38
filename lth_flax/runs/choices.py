"""What an experiment's flags ask for: seeds, levels, arms, and how a mask is found."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from lth_flax.arms import ARMS, FRESH, FROZEN, Family
from lth_flax.config import MOST_SEEDS, Config, settings_of
from lth_flax.errors import UserError
from lth_flax.pruning import levels as level_rules
from lth_flax.pruning.levels import Level
from lth_flax.settings import DECIMAL_POINT, own_name
from lth_flax.training.table import Kept, Start
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

    def start(self, family: Family, mask: Mask, level: int, kept: Kept | None = None) -> Start:
        """Where it starts at a level; `kept` has the state of the family's initial parameters."""
        params, mask = self.function(family, mask, level, self.draw)
        own = Kept(params, None) if kept is None or self.name in FRESH else kept
        return Start(params, mask, own.opt_state, frozen=self.name in FROZEN, carry=own.carry)


def chosen_arms(config: Config) -> list[Arm]:
    """The arms of a seed, in the order of the table, then those from outside the package."""
    setting = settings_of()["arms"]
    functions = {own_name(value): setting.function(value) for value in config.arms}
    if len(functions) < len(config.arms):
        raise UserError(f"--arms={config.text('arms')} names an arm twice: name each once")
    if "ticket" not in functions:
        raise UserError("--arms must name ticket: the other arms are compared with it")
    if not config.keep_mask and (unmasked := FROZEN.intersection(functions)):
        raise UserError(
            f"--nokeep_mask trains pruned weights, the arm {', '.join(unmasked)} freezes them: "
            "leave out one of the two"
        )
    order = [name for name in ARMS if name in functions]
    order += [name for name in functions if name not in ARMS]
    return [
        Arm(name, draw, functions[name])
        for name in order
        for draw in range(config.reinit_draws if name == "reinit" else 1)
    ]


def draws_of(arms: Sequence[Arm]) -> dict[str, int]:
    """Draws of every control."""
    return dict(Counter(arm.name for arm in arms if arm.name != "ticket"))
