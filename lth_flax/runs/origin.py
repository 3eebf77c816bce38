"""Where masks come from, and which settings go together."""

import dataclasses
from typing import Any, NamedTuple

from lth_flax.config import Config, MaskSearch
from lth_flax.errors import UserError
from lth_flax.runs import grid


class Origin(NamedTuple):
    """Where the masks of a search come from.

    step: of training, whose weights are scored: 0 at initialization; None: at its end, or where a
      method finds them during training.
    rewind: the step that tickets start from.
    """

    step: int | None
    rewind: int


def origin_of(config: Config, epochs: int, steps_per_epoch: int) -> Origin:
    """Where the masks of a run of so many epochs come from.

    Raises:
      UserError: settings that do not go together, or name no step of training.
    """
    check_origin(config)
    rewind = grid.step_of(config, "rewind_epoch", epochs, steps_per_epoch)
    if config.method is not None:
        return Origin(None, 0)
    if config.mask_from == "end":
        return Origin(None, rewind)
    step = 0
    if config.mask_from != "initialization":
        step = grid.step_of(config, "mask_from", epochs, steps_per_epoch)
    if rewind not in (0, step):
        raise UserError(
            f"--mask_from={config.mask_from} goes with tickets that start from initialization or "
            f"from that point: leave out --rewind_epoch={config.rewind_epoch}, or give both the "
            "same"
        )
    return Origin(step, rewind)


def check_origin(config: Config) -> None:
    """Raises `UserError` where settings of where masks come from do not go together."""
    name = config.text("method")
    if config.method is None:
        if config.mask_from == "initialization" and config.criterion == "magnitude_increase":
            raise UserError(
                "--score=magnitude_increase compares trained with initial weights: it goes with "
                "--mask_from=end or a point of training"
            )
        return
    wrong = {
        "schedule": "schedule" in config.given and config.schedule == "iterative",
        "mask_from": config.mask_from != "end",
        "rewind_epoch": config.rewind_epoch.strip().strip("0.%") != "",
        "criterion": config.criterion != "magnitude",
        "keep_mask": not config.keep_mask,
        "dense_only": config.dense_only,
    }
    for setting, is_so in wrong.items():
        if is_so:
            raise UserError(
                f"--{setting}={config.text(setting)} does not go with --method={name}, which "
                "finds the mask of each level in one training from initialization, by magnitude: "
                "leave out one of them"
            )


def where(config: Config) -> str:
    """Where masks come from, for records: as the settings say it."""
    if config.method is not None:
        return "during training"
    return {"end": "end of training"}.get(config.mask_from, config.mask_from)


def finding(config: Config) -> dict[str, Any]:
    """Settings of how masks are found, for records: those that are not at their default."""
    names = (field.name for field in dataclasses.fields(MaskSearch))
    return config.recorded(name for name in config.changed(names) if name != "mask_from")
