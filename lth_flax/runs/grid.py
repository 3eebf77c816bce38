"""Configurations: every combination of the depths, epochs and learning rates that flags name.

Depth and epochs change what is compiled, and are one `Shape` each. Learning
rates are values of rows, and share a shape's programs.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lth_flax.config import Config
from lth_flax.errors import UserError
from lth_flax.records import configuration_name


class Shape(NamedTuple):
    """What rows must have in common to share compiled programs."""

    num_layers: int
    epochs: int


def shapes(config: Config) -> list[Shape]:
    """Every depth with every number of epochs."""
    return [Shape(layers, epochs) for layers in config.num_layers for epochs in config.epochs]


def name_of(config: Config, settings: Mapping[str, Any], rate: float) -> str:
    """What tells a configuration from the others of this run, such as "num_layers=4".

    `settings` are those of a row, as records have them.
    """
    varied = [n for n in (*Shape._fields, "learning_rate") if len(getattr(config, n)) > 1]
    values = {**settings, "learning_rate": rate}
    return configuration_name({name: values[name] for name in varied})


def step_of(config: Config, name: str, epochs: int, steps_per_epoch: int) -> int:
    """The step that a setting such as `rewind_epoch` names: epochs, or with % a share of training.

    Raises:
      UserError: it is no number, or not before the end of training.
    """
    (step,) = steps_of(name, [getattr(config, name)], epochs, steps_per_epoch).values()
    return step


def steps_of(flag: str, points: Sequence[str], epochs: int, steps_per_epoch: int) -> dict[str, int]:
    """The step of each point of training that a flag names; errors as `step_of`."""
    total, found = epochs * steps_per_epoch, {}
    for point in points:
        text = point.strip()
        try:
            share = float(text[:-1]) / 100 if text.endswith("%") else float(text) / epochs
            if not 0 <= share < 1:
                raise ValueError
        except ValueError:
            raise UserError(
                f"--{flag}={point} is no point of training: expected a number of "
                f"epochs from 0 to below {epochs}, or a share from 0% to below 100%"
            ) from None
        found[point] = min(round(share * total), total - 1)
    return found
