"""The tables of a search: dense networks, then for each level the mask, and its arms.

A table is a list of entries whose networks are not made yet. Each is made when its slice is
trained: what it starts from is drawn again, or read from what earlier tables left.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, lru_cache, partial
from typing import Any

import jax
import numpy as np

from lth_flax.arms import FRESH, MATCHED, Family
from lth_flax.config import Config
from lth_flax.numerics import pinned
from lth_flax.pruning.levels import Level
from lth_flax.randomness import key
from lth_flax.runs import grid
from lth_flax.runs.choices import Arm
from lth_flax.runs.costs import Costs
from lth_flax.runs.masks import Pruner, Scored, by_slices
from lth_flax.runs.methods import MaskRule, mask_rule
from lth_flax.runs.origin import Origin
from lth_flax.runs.platforms import host_device
from lth_flax.runs.results import Entry
from lth_flax.runs.run import Again, Run
from lth_flax.runs.setup import Setup
from lth_flax.training.early_bird import EarlyBirdState, emergence
from lth_flax.training.loop import Trainer
from lth_flax.training.mask_state import PrunedState
from lth_flax.training.table import Kept, Outcome, Replicate, Span, Start
from lth_flax.types import Mask, Params

Row = tuple[float, int]
"""(learning rate, seed): the rows of a dense table."""


@dataclass
class Search:
    """The tables of one shape of network.

    config: how masks are found here.
    arms: the ticket is the first.
    rows: what is paired: arms of one row share seed and learning rate.
    name: of the ticket among other arms.
    dense, trained, fresh: once they are trained, dense networks, those that are scored, and dense
      ones of fresh initializations.
    """

    run: Run
    config: Config
    origin: Origin
    levels: Sequence[Level]
    arms: Sequence[Arm]
    rows: Sequence[Row]
    name: str = "ticket"
    dense: Mapping[Row, Again] = field(default_factory=dict)
    trained: Mapping[Row, Again] = field(default_factory=dict)
    fresh: Mapping[Row, Again] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._mask_of = by_slices(self._find_masks, self.setup.trainer.engine.rows)
        self._costs = Costs(self.setup, self.config, self.origin, self.levels)
        self._early = lru_cache(maxsize=1)(self._read_early)
        self._said = cache(lambda row: [said for _, said in self._early(row)])

    @property
    def setup(self) -> Setup:
        return self.run.setup

    def train(self) -> None:
        """Dense networks, then level after level, or all of them at once."""
        if not self.dense:
            # Where networks are scored, or tickets start; Early-Bird has its masks in the end.
            keep = self.setup.steps_per_replicate if self._watched else self.origin.step
            span = Span(keep=keep or self.origin.rewind or None)
            trainer = self._rule_trainer if self._watched else None
            self.dense = self._train_dense(span=span, trainer=trainer)
        if not self.levels:
            return
        if any(arm.name in MATCHED for arm in self.arms):
            # For arms that are matched to them; they are no arm, and stand in no record.
            self.fresh = self._train_dense(0, recorded=False)
        if self._in_training:
            self._train_under_rule()
            return
        # At once: every mask from the dense network, or from initialization.
        # Level after level: a mask from the ticket of the level before.
        after = self.config.schedule == "iterative" and self.origin.step != 0
        rounds = [[n] for n in range(len(self.levels))] if after else [range(len(self.levels))]
        self.trained = self.dense
        for numbers in rounds:
            entries, starts = [], []
            for number in numbers:
                for row in self.rows:
                    begin = self._begin(number, row)
                    for arm in self.arms:
                        start = partial(self._start, arm, number, row)
                        entries.append(self._entry(arm, number, row, start))
                        starts.append(0 if arm.name in FRESH else begin)
            tickets = self._train(entries, starts)
            if after:
                self.trained = tickets

    # Dense networks.

    def _train_dense(self, draw: int | None = None, **how: Any) -> dict[Row, Again]:
        """The networks of all rows, or of a fresh initialization of each."""
        entries = [
            Entry("dense", Replicate(partial(self._start_dense, row, draw), row[1], row[0]),
                  self._configuration(row))
            for row in self.rows
        ]  # fmt: skip
        return dict(zip(self.rows, self.run.train(entries, **how), strict=True))

    def _start_dense(self, row: Row, draw: int | None) -> Start:
        if self._watched and draw is None:
            return self._start_under_rule(0, row)
        return self.setup.start(row[1], draw)

    def _dense_params(self, row: Row, draw: int | None) -> Params:
        return (self.dense if draw is None else self.fresh)[row]().params

    def _configuration(self, row: Row) -> str:
        return grid.name_of(self.setup.config, self.setup.settings, row[0])

    # Masks.

    @cached_property
    def _pruner(self) -> Pruner:
        return Pruner(replace(self.setup, config=self.config))

    def _mask(self, number: int, row: Row) -> Mask:
        return self._mask_of(number, self.rows.index(row))

    def _find_masks(self, number: int, some: slice) -> list[Mask]:
        """The masks of a level, for the rows of one slice."""
        rows = self.rows[some]
        if self._rule is not None:
            return [self._early(row)[number][0] for row in rows]
        return self._pruner([self._scored(number, row) for row in rows], self.levels[number])

    def _scored(self, number: int, row: Row) -> Scored:
        """The network whose weights are scored for a level."""
        initial = self.setup.initialize(row[1])
        if self.origin.step == 0:
            mask = self.setup.full_mask(initial)
            if self.config.schedule == "iterative" and number:
                mask = self._mask(number - 1, row)
            return Scored(row[1], initial, mask, initial)
        outcome = self.trained[row]()
        params = outcome.params if self.origin.step is None else _kept(outcome).params
        return Scored(row[1], params, outcome.mask, initial)

    # Arms.

    def _start(self, arm: Arm, number: int, row: Row) -> Start:
        """Where an arm starts at a level."""
        family, kept = self._family(row, partial(self._trained, number, row)), Kept(None, None)
        mask, began = self._mask(number, row), self._begin(number, row)
        if began:
            kept = self._kept_at_begin(number, row)
            family = family._replace(initial_params=kept.params)
        return arm.start(family, mask, self.levels[number].index, kept)

    def _family(self, row: Row, trained: Callable[[], Params]) -> Family:
        dense = partial(self._dense_params, row)
        return self.setup.family(row[1])._replace(trained=trained, dense=dense)

    def _trained(self, number: int, row: Row) -> Params:
        """The trained network that a mask was found from."""
        return self.dense[row]().params if self._rule else self._scored(number, row).params

    def _begin(self, number: int, row: Row) -> int:
        """The step that tickets of a level start from."""
        if self._rule is not None and self.config.early_bird_start == "emergence":
            return self._said(row)[number]["step"] or 0
        return self.origin.rewind

    def _kept_at_begin(self, number: int, row: Row) -> Kept:
        outcome = self.dense[row]()
        if self._rule is None:
            return _kept(outcome)
        state: EarlyBirdState = _kept(outcome).opt_state
        params, inner = jax.tree_util.tree_map(lambda leaf: leaf[number], state.began)
        return Kept(params, PrunedState(outcome.mask, inner))

    def _entry(
        self, arm: Arm, number: int, row: Row, start: Callable[[], Start], **known: Any
    ) -> Entry:
        """The row of an arm at a level; `known` stands in place of what is derived here."""
        level = self.levels[number]
        spent, in_use = self._spent(number, row)
        if arm.name in MATCHED:  # and the dense network that it is matched to
            whole = self.setup.steps_per_replicate
            spent, in_use = spent + whole, in_use + whole
        return Entry(
            self.name if arm.name == "ticket" else arm.name,
            Replicate(start, row[1], row[0]),
            self._configuration(row),
            arm.draw,
            level.index,
            level.target_sparsity,
            spent,
            method=self.config.text("method") or self.config.text("criterion"),
            mask_dense_steps=in_use,
            search=self._said(row)[number] if self._watched else {},
        )._replace(**known)

    def _train(self, entries: Sequence[Entry], starts: Sequence[int]) -> dict[Row, Again]:
        """Trains the arms of levels; the tickets among them.

        Rows that start at one step are one table: those of others have further to go.
        """
        tickets: dict[Row, Again] = {}
        for step in sorted(set(starts), reverse=True):
            some = [entry for entry, start in zip(entries, starts, strict=True) if start == step]
            keep = max(self.origin.step, step) if self.origin.step else None
            found = self.run.train(some, Span(start=step, keep=keep), self._save)
            pairs = zip(some, found, strict=True)
            tickets |= {_row(entry): again for entry, again in pairs if entry.arm == self.name}
        return tickets

    def _save(self, entry: Entry, outcome: Outcome) -> None:
        if entry.arm == "ticket":  # of several methods, those of this one are kept
            row, number = _row(entry), [one.index for one in self.levels].index(entry.level)
            begun = (self._start_under_rule(number, row) if self._in_training
                     else self.setup.start(entry.seed))  # fmt: skip
            began = self._begin(number, row)
            rewound = self._kept_at_begin(number, row).params if began else None
            self.run.save_ticket(entry, begun.params, outcome, rewound)

    def _spent(self, number: int, row: Row) -> tuple[int, float]:
        """Steps of training before a mask, and the same with each as the share in use."""
        if self._rule is None:
            return self._costs.of_scores(number, self._pruner.cost)
        whole = self.setup.steps_per_replicate
        steps = (self._said(row)[number]["step"] or whole) if self._watched else 0
        return steps, float(steps)

    # Methods that find a mask during training.

    @property
    def _in_training(self) -> bool:
        """Whether the ticket is the network that is trained while its mask changes."""
        return self._rule is not None and not self._watched

    @property
    def _watched(self) -> bool:
        """Whether masks are drawn from the dense network while it trains: Early-Bird."""
        return self.config.method == "early_bird"

    @cached_property
    def _rule(self) -> MaskRule | None:
        if self.config.method is None:
            return None
        steps, per_epoch = self.setup.steps_per_replicate, self.setup.steps_per_epoch
        return mask_rule(self.config, self.levels, steps, per_epoch)

    @cached_property
    def _rule_trainer(self) -> Trainer:
        assert self._rule is not None
        trainer = self.setup.trainer
        return replace(trainer, recipe=trainer.recipe._replace(wrap=self._rule.wrap))

    @pinned()
    def _start_under_rule(self, number: int, row: Row) -> Start:
        """A network as it begins to train under the method."""
        assert self._rule is not None
        begun, chosen = self.setup.start(row[1]), key(row[1], "changing mask")
        with jax.default_device(host_device()):
            params, mask, own = self._rule.begin(
                begun.params, begun.mask, self.levels[number], chosen
            )
        return Start(params, jax.tree_util.tree_map(np.asarray, mask), own=own)

    def _read_early(self, row: Row) -> list[tuple[Mask, dict[str, Any]]]:
        """Per level, the mask that Early-Bird found, and what it says of it."""
        state: EarlyBirdState = _kept(self.dense[row]()).opt_state
        whole = self.setup.steps_per_replicate
        found = []
        for number in range(len(self.levels)):
            mask, said = emergence(state, number)
            said["share"] = round((said["step"] or whole) / whole, 6)  # of dense training
            found.append((mask, said))
        return found

    def _train_under_rule(self) -> None:
        """The networks whose mask changes as they train, then other arms on their last masks."""
        assert self._rule is not None
        cells = [(number, row) for number in range(len(self.levels)) for row in self.rows]
        whole, (ticket, *others) = self.setup.steps_per_replicate, self.arms
        first = self.setup.start(self.setup.seeds[0])
        said = self._rule.says(first.params, first.mask)
        in_use = [self._costs.of_changing(n, self._rule) for n in range(len(self.levels))]
        entries = [
            self._entry(
                ticket, number, row, partial(self._start_under_rule, number, row),
                in_use=in_use[number], search=said,
            )
            for number, row in cells
        ]  # fmt: skip
        found = self.run.train(entries, None, self._save, self._rule_trainer)
        entries = [
            self._entry(
                arm, number, row, partial(self._start_after, arm, number, row, end),
                mask_steps=whole, mask_dense_steps=whole * in_use[number],
            )
            for (number, row), end in zip(cells, found, strict=True) for arm in others
        ]  # fmt: skip
        if entries:
            self.run.train(entries)

    def _start_after(self, arm: Arm, number: int, row: Row, found: Again) -> Start:
        outcome = found()
        family = self._family(row, lambda: outcome.params)
        return arm.start(family, outcome.mask, self.levels[number].index)


def _row(entry: Entry) -> Row:
    return entry.replicate.learning_rate, entry.seed


def _kept(outcome: Outcome) -> Kept:
    assert outcome.kept is not None
    return outcome.kept
