"""What the arms of a row are given: the networks of its seed, trained ones too."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from lth_flax.arms import FRESH, FROZEN, MATCHED, Family
from lth_flax.errors import UserError
from lth_flax.runs.choices import Arm
from lth_flax.runs.results import Entry
from lth_flax.runs.run import Again, Run
from lth_flax.training.table import Replicate, Start
from lth_flax.types import Mask, Params

Row = tuple[float, int]
"""(learning rate, seed)."""


@dataclass
class Families:
    """Makes the families of rows; what is trained is read when an arm asks for it.

    fresh: the dense networks of fresh initializations, once trained.
    """

    run: Run
    fresh: dict[Row, Again] = field(default_factory=dict)

    def train(self, arms: Sequence[Arm], rows: Sequence[Row]) -> None:
        """Trains the dense networks of fresh initializations, if an arm is matched to them."""
        if not any(arm.name in MATCHED for arm in arms):
            return
        entries = [
            Entry(
                "dense_reinit", seed, 0, 0, 0.0, 0,
                Replicate(partial(self._start_fresh, seed), seed, rate),
            )
            for rate, seed in rows
        ]  # fmt: skip
        self.fresh = dict(zip(rows, self.run.train(entries, record=False), strict=True))

    def of(self, row: Row, trained: Callable[[], Params], dense: Again) -> Family:
        """The family of a row; `trained` is the network that its mask was found from."""
        family = self.run.setup.seed(row[1])
        return family._replace(trained=trained, dense=partial(self._dense, row, dense))

    def spent(self, arm: Arm) -> int:
        """Training steps before the mask of an arm, besides those of a ticket's."""
        return self.run.setup.steps_per_replicate if arm.name in MATCHED else 0

    def _start_fresh(self, seed: int) -> Start:
        params = self.run.setup.initialize(seed, 0)
        return Start(params, self.run.setup.full_mask(params))

    def _dense(self, row: Row, dense: Again, draw: int | None) -> Params:
        if draw is None:
            return dense().params
        if draw or row not in self.fresh:
            raise UserError(
                f"no dense network was trained from fresh initialization {draw}: expected 0, and "
                f"one of the arms {', '.join(sorted(MATCHED))}"
            )
        return self.fresh[row]().params


def start_of(arm: Arm, family: Family, mask: Mask, level: int, opt_state: Any = None) -> Start:
    """Where an arm starts; `opt_state` is that of its family's starting point."""
    params, mask = arm.function(family, mask, level, arm.draw)
    own = None if arm.name in FRESH else opt_state
    return Start(params, mask, own, frozen=arm.name in FROZEN)
