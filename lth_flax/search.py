"""Winning tickets: train, prune the smallest weights, rewind, train again, compare.

Iterative magnitude pruning (Frankle & Carbin, arXiv 1803.03635): train theta_0 under the mask,
prune a share of what survives, put the mask back on theta_0, and again. One-shot: every level
from the dense network. With a rewind point, tickets start from where the dense network was
by then (late rewinding, Frankle et al., arXiv 1912.05671), as do shuffled and random masks;
`reinit` starts fresh, and all have trained as many steps in the end.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import jax

from lth_flax.analysis.terminal import reach_sentence
from lth_flax.arms import FRESH, Family
from lth_flax.config import Config
from lth_flax.errors import UserError
from lth_flax.ignored import refuse_ignored
from lth_flax.pruning.levels import Level
from lth_flax.result import Result
from lth_flax.runs import grid
from lth_flax.runs.choices import Arm, chosen_arms, chosen_levels, draws_of, pruned, seed_block
from lth_flax.runs.plan import Part, tell
from lth_flax.runs.results import Entry, Method
from lth_flax.runs.run import Again, Run
from lth_flax.runs.setup import Setup, build
from lth_flax.tasks import Examples, Task, Training
from lth_flax.training.table import Kept, Outcome, Replicate, Span, Start
from lth_flax.types import Mask

Row = tuple[float, int]
"""(learning rate, seed): the rows of a dense table."""


def find_tickets(
    task: Task,
    examples: Examples,
    *,
    seeds: int | Sequence[int],
    levels: Sequence[float],
    training: Training,
    arms: Sequence[str | Callable[..., Any]] = ("ticket", "reinit"),
    draws: int = 1,
    schedule: str = "iterative",
    score: str | Callable[..., Any] = "magnitude",
    scope: str = "global",
    rewind: float | str = 0,
    structure: str | Sequence[str] | None = None,
    unit_norm: float = 1.0,
    prunable: Callable[..., bool] | None = None,
    margin: float = 0.5,
    alpha: float = 0.05,
    work_dir: str | Path | None = None,
) -> Result:
    """Trains dense networks, tickets and their controls, and compares them over paired seeds.

    Args:
      seeds: how many, from 0, or which, in a row: `range(100, 108)`.
      levels: target sparsities (shares removed), increasing, each in [0, 1).
      arms: names (`lth_flax.arms.ARMS`), or functions like those.
      draws: fresh initializations per seed, of `reinit`.
      schedule: "iterative" or "oneshot".
      score: a name (`lth_flax.pruning.scores.SCORES`), or a function like those.
      scope: "global" ranks all prunable weights together, "tensor" each tensor alone.
      rewind: tickets start from the dense network after so many epochs, or a share: "5%".
      structure: "units" prunes whole units, "features" those of the word vectors, a pair of
        both names both; levels are shares of these. The task has to say what its units are
        (`ModelInfo.units`). Default: single weights.
      unit_norm: p of a unit's score, the p-norm of its weights' scores; 1 is their sum.
      prunable: (path, leaf) -> whether a parameter may be pruned; default: kernels.
      margin: of equivalence, in points (of the metric's own unit, where that is no share).
      alpha: level of the tests.
      work_dir: keeps everything on disk, and continues what was stopped; None writes nothing.
        It knows a task by the source of its functions, or where that cannot be read by its
        name and version.

    Raises:
      UserError: a value that cannot be, or a `work_dir` that holds something else.
    """
    block = range(seeds) if isinstance(seeds, int) else seeds
    if not len(block) or list(block) != list(range(block[0], block[0] + len(block))):
        raise UserError(
            f"seeds={seeds!r}: expected how many, or which, in a row, such as range(100, 108)"
        )
    settings: dict[str, Any] = {
        **{name: getattr(training, name) for name in training.__dataclass_fields__},
        **({} if prunable is None else {"prunable": prunable}),
    }
    config = Config(
        seeds=f"{block[0]}:{block[-1] + 1}",
        dataset=examples.name,
        levels=tuple(levels),
        arms=tuple(arms),  # type: ignore[arg-type]
        reinit_draws=draws,
        schedule=schedule,
        scope=scope,
        criterion=score,  # type: ignore[arg-type]
        structure=structure or (),  # type: ignore[arg-type]
        unit_norm=unit_norm,
        rewind_epoch=str(rewind),
        margin=margin,
        alpha=alpha,
        **settings,
    )
    refuse_ignored(config)
    if not task.settings:
        task = replace(task, settings={"task": task.name or "task", "version": task.version or ""})
    directory = None if work_dir is None else Path(work_dir)
    run = search(config, lambda num_layers: task, examples, directory=directory, say=_nothing)
    return Result(run)


def search(
    config: Config,
    task_of: Callable[[int], Task],
    examples: Examples,
    *,
    directory: Path | None,
    say: Callable[[str], None] = print,
) -> Run:
    """`find_tickets` with all settings in one value, over a grid of depths, epochs and rates.

    Args:
      task_of: number of layers -> the task; asked for each of `config.num_layers`.
      directory: the work directory, if there is one.
    """
    seeds, rates = seed_block(config), config.learning_rate
    levels = () if config.dense_only else chosen_levels(config)
    arms, shapes = chosen_arms(config), grid.shapes(config)
    method = Method(
        "winning_ticket",
        config.schedule,
        config.scope,
        config.text("criterion"),
        settings={"keep_mask": config.keep_mask, "rewind_epoch": config.rewind_epoch},
    )
    table = len(seeds) * len(rates)
    most = table * max(1, len(arms) * (len(levels) if config.schedule == "oneshot" else 1))
    setups = (
        build(config, task_of(s.num_layers), examples, seeds, epochs=s.epochs, rows=most)
        for s in shapes
    )
    first = next(setups)
    per_shape = table * (1 + len(levels) * len(arms))
    spe = first.steps_per_epoch
    rewinds = [grid.rewind_step(config, shape, spe) for shape in shapes]
    rewound = table * len(levels) * sum(arm.name not in FRESH for arm in arms)
    steps = [
        spe * shape.epochs * per_shape - rewind * rewound
        for shape, rewind in zip(shapes, rewinds, strict=True)
    ]
    if config.plan:
        tell(
            (
                Part(setup, per_shape, of_shape, tickets=table * len(levels))
                for setup, of_shape in zip(itertools.chain([first], setups), steps, strict=True)
            ),
            draws=draws_of(arms) if levels else {},
            alpha=config.alpha,
            say=say,
        )
    run = Run.open(
        first, method, directory=directory, rows=per_shape * len(shapes), steps=sum(steps), say=say
    )
    reach = reach_sentence(draws_of(arms), len(seeds), config.alpha)
    if reach and levels:
        say(reach)
    if run.finished:
        return run
    try:
        with jax.default_matmul_precision(config.matmul_precision):
            for number, shape in enumerate(shapes):
                if number:
                    run.use(next(setups))
                Search(run, shape, rewinds[number], levels, arms).train(rates, seeds)
    except BaseException:
        run.close()
        raise
    return run


@dataclass
class Search:
    """The tables of one shape of network; `rewind` is the step that tickets start from.

    A table is a list of entries whose networks are not made yet. Each is made when its slice is
    trained: what it starts from is drawn again, or read from what earlier tables left.
    """

    run: Run
    shape: grid.Shape
    rewind: int
    levels: Sequence[Level]
    arms: Sequence[Arm]

    def __post_init__(self) -> None:
        # The arms of a row stand side by side in a table.
        self._pruned = lru_cache(maxsize=1)(self._prune)

    @property
    def setup(self) -> Setup:
        return self.run.setup

    def train(self, rates: Sequence[float], seeds: Sequence[int]) -> None:
        """Dense networks, then level after level, or all of them at once."""
        rows = [(rate, seed) for rate in rates for seed in seeds]

        # Train dense networks.
        entries = [self._entry("dense", 0, None, row, partial(self._dense, row)) for row in rows]
        dense = dict(
            zip(rows, self.run.train(entries, Span(keep=self.rewind or None)), strict=True)
        )

        # One-shot: every mask from the dense network, all levels in one table.
        # Iterative: a level's mask from the ticket of the level before.
        oneshot = self.setup.config.schedule == "oneshot"
        rounds = [self.levels] if oneshot else [(level,) for level in self.levels]
        trained = dense
        for group in filter(None, rounds):
            entries = [
                self._entry(
                    arm.name, arm.draw, level, row,
                    partial(self._start, arm, level, row, trained[row], dense[row]),
                )
                for level in group
                for row in rows
                for arm in self.arms
            ]  # fmt: skip
            tickets = self._train(entries, dense)
            if not oneshot:
                trained = tickets

    def _dense(self, row: Row) -> Start:
        params = self.setup.initialize(row[1])
        return Start(params, self.setup.full_mask(params))

    def _start(self, arm: Arm, level: Level, row: Row, trained: Again, dense: Again) -> Start:
        """Where an arm starts at a level; `trained` is the network that is pruned."""
        family, kept, found = self._pruned(level, row, trained, dense)
        params, mask = arm.function(family, found, level.index, arm.draw)
        return Start(params, mask, kept.opt_state if kept and arm.name not in FRESH else None)

    def _prune(
        self, level: Level, row: Row, trained: Again, dense: Again
    ) -> tuple[Family, Kept | None, Mask]:
        """What the arms of a row share at a level."""
        network = trained()
        family = self.setup.seed(row[1])._replace(trained=lambda: network.params)
        found = pruned(self.setup.config, family, network.params, network.mask, level)
        if not self.rewind:
            return family, None, found
        kept = dense().kept
        assert kept is not None
        return family._replace(initial_params=kept.params), kept, found

    def _entry(
        self, arm: str, draw: int, level: Level | None, row: Row, start: Callable[[], Start]
    ) -> Entry:
        rate, seed = row
        config = self.setup.config
        index, sparsity = (level.index, level.target_sparsity) if level else (0, 0.0)
        spent = min(index, 1) if config.schedule == "oneshot" else index
        return Entry(
            arm, seed, draw, index, sparsity,
            self._spent(spent),
            Replicate(start, seed, rate),
            grid.name_of(config, self.shape, rate),
        )  # fmt: skip

    def _spent(self, rounds: int) -> int:
        """Steps of training before a mask: a whole run, then what is left after rewinding."""
        whole = self.setup.steps_per_replicate
        return whole * rounds - self.rewind * max(rounds - 1, 0)

    def _train(self, entries: Sequence[Entry], dense: Mapping[Row, Again]) -> dict[Row, Again]:
        """Trains the arms of levels; the tickets among them, and on disk those in the end.

        Rewound rows are one table, fresh ones another: those have further to go.
        """
        tickets: dict[Row, Again] = {}
        parts: list[tuple[list[Entry], Span]] = [(list(entries), Span())]
        if self.rewind:
            fresh = [entry for entry in entries if entry.arm in FRESH]
            rewound = [entry for entry in entries if entry.arm not in FRESH]
            parts = [(rewound, Span(start=self.rewind)), (fresh, Span())]
        for some, span in parts:
            if some:
                found = self.run.train(some, span, partial(self._save, dense))
                pairs = zip(some, found, strict=True)
                tickets |= {_row(entry): again for entry, again in pairs if entry.arm == "ticket"}
        return tickets

    def _save(self, dense: Mapping[Row, Again], entry: Entry, outcome: Outcome) -> None:
        if entry.arm == "ticket":
            kept = dense[_row(entry)]().kept if self.rewind else None
            initial = self.setup.initialize(entry.seed)
            self.run.save_ticket(entry, initial, outcome, kept and kept.params)


def _row(entry: Entry) -> Row:
    return entry.replicate.learning_rate, entry.seed


def _nothing(line: str) -> None:
    del line
