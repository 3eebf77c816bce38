"""Winning tickets: train, prune the smallest weights, rewind, train again, compare.

Iterative magnitude pruning (Frankle & Carbin, arXiv 1803.03635): train theta_0 under the mask,
prune a share of what survives, put the mask back on theta_0, and again. One-shot: every level
from the dense network. With a rewind point, tickets start from where the dense network was
by then (late rewinding, Frankle et al., arXiv 1912.05671), as do shuffled and random masks;
`reinit` starts fresh, and all have trained as many steps in the end.

Masks may come from elsewhere: from scores at initialization or at a step (`mask_from`), from the
dense network while it trains (Early-Bird), or from a training in which the mask changes (`method`).
The tables of all of them are in `runs.tables`.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lth_flax.analysis.terminal import reach_sentence
from lth_flax.arms import FRESH, MATCHED, check_arms
from lth_flax.config import Config, MaskSearch
from lth_flax.cores import cores_here
from lth_flax.errors import UserError
from lth_flax.ignored import refuse_ignored
from lth_flax.result import Result
from lth_flax.runs import grid
from lth_flax.runs.choices import chosen_arms, chosen_levels, draws_of, seed_block
from lth_flax.runs.origin import check_origin, finding, origin_of, where
from lth_flax.runs.plan import Part, tell
from lth_flax.runs.results import Method
from lth_flax.runs.run import Run
from lth_flax.runs.setup import build
from lth_flax.runs.tables import Search
from lth_flax.task_check import check_task
from lth_flax.tasks import Examples, Task, Training
from lth_flax.training.host import prepare_cpu

ARGUMENTS = {"criterion": "score", "reinit_draws": "draws"}
"""What `find_tickets` calls a setting that a flag has another name for."""


def find_tickets(
    task: Task,
    examples: Examples,
    *,
    seeds: int | Sequence[int],
    levels: Sequence[float],
    training: Training,
    arms: Sequence[str | Callable[..., Any]] = ("ticket", "reinit"),
    draws: int = 1,
    schedule: str | None = None,
    score: str | Callable[..., Any] = "magnitude",
    scope: str = "global",
    mask_from: float | str = "end",
    method: str | Callable[..., Any] | None = None,
    rewind: float | str = 0,
    structure: str | Sequence[str] | None = None,
    unit_norm: float = 1.0,
    prunable: Callable[..., bool] | None = None,
    margin: float = 0.5,
    alpha: float = 0.05,
    work_dir: str | Path | None = None,
    **settings: Any,
) -> Result:
    """Trains dense networks, tickets and their controls, and compares them over paired seeds.

    Where JAX has not started yet, every core of a CPU becomes a device, as for commands: the same
    settings then lead to the same bits. Where it has, the devices that are there are used.

    Args:
      seeds: how many, from 0, or which, in a row: `range(100, 108)`.
      levels: target sparsities (shares removed), increasing, each in [0, 1).
      arms: names (`lth_flax.arms.ARMS`), or functions like those.
      draws: fresh initializations per seed, of `reinit`.
      schedule: "iterative" (the default where there is no method) or "oneshot".
      score: a name (`lth_flax.pruning.scores.SCORES`), or a function like those.
      scope: "global" ranks all prunable weights together, "tensor" each tensor alone.
      mask_from: whose weights are scored: "end" of training, "initialization", or a point of
        training, in epochs (0.5) or as a share ("5%").
      method: finds the mask during training instead: "early_bird", "gradual", "set", "rigl", or
        a function (`lth_flax.runs.methods`). The ticket is then the network that is trained so.
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
      settings: of scores and methods, by the names of their flags, such as `mask_every=50`.

    Raises:
      UserError: a value that cannot be, or a `work_dir` that holds something else.
    """
    for name, value, kind in (
        ("task", task, Task), ("examples", examples, Examples), ("training", training, Training),
    ):  # fmt: skip
        if not isinstance(value, kind):
            raise UserError(
                f"{name} is of type {type(value).__name__}: expected an lth.{kind.__name__}, "
                f"see help(lth.{kind.__name__})"
            )
    block = _block(seeds)
    known = [field.name for field in fields(MaskSearch)]
    if unknown := set(settings).difference(known):
        raise UserError(
            f"find_tickets({min(unknown)}=...): expected one of its arguments, or of "
            f"{', '.join(known)}"
        )
    settings |= {
        **{name: getattr(training, name) for name in training.__dataclass_fields__},
        **({} if prunable is None else {"prunable": prunable}),
    }
    try:
        config = Config(
            seeds=f"{block[0]}:{block[-1] + 1}",
            dataset=examples.name,
            levels=levels,  # type: ignore[arg-type]
            arms=arms,  # type: ignore[arg-type]
            reinit_draws=draws,
            schedule=schedule or "iterative",
            scope=scope,
            mask_from=str(mask_from),
            method=method,  # type: ignore[arg-type]
            given=frozenset({"schedule"} if schedule else ()),
            criterion=score,  # type: ignore[arg-type]
            structure=structure or (),  # type: ignore[arg-type]
            unit_norm=unit_norm,
            rewind_epoch=str(rewind),
            margin=margin,
            alpha=alpha,
            **settings,
        )
    except UserError as error:
        flag, equals, rest = str(error).partition("=")
        raise UserError(f"{ARGUMENTS.get(flag, flag)}{equals}{rest}") from None
    refuse_ignored(config)
    prepare_cpu(cores_here())
    check_task(task, examples, seed=block[0], batch_size=training.batch_size)
    if not task.settings:
        task = replace(task, settings={"task": task.name or "task", "version": task.version or ""})
    directory = None if work_dir is None else Path(work_dir)
    run = search(
        config, lambda num_layers: task, examples, directory=directory, say=lambda line: None
    )
    return Result(run)


def _block(seeds: int | Sequence[int]) -> Sequence[int]:
    """The seeds, in a row."""
    try:
        block = range(seeds) if isinstance(seeds, int | np.integer) else list(seeds)
        if block and list(block) == list(range(block[0], block[0] + len(block))):
            return block
    except TypeError:  # no whole numbers, or nothing to go through
        pass
    raise UserError(
        f"seeds={seeds!r}: expected how many, or which, in a row, such as range(100, 108)"
    )


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
    check_origin(config)
    if config.method is not None:
        config = replace(config, schedule="oneshot")  # each level by itself
    seeds, rates = seed_block(config), config.learning_rate
    levels = () if config.dense_only else chosen_levels(config)
    arms, shapes = chosen_arms(config), grid.shapes(config)
    method = Method(
        "winning_ticket",
        config.schedule,
        config.scope,
        config.text("criterion"),
        where(config),
        {"keep_mask": config.keep_mask, "rewind_epoch": config.rewind_epoch, **finding(config)},
    )
    table = len(seeds) * len(rates)
    largest_table = table * max(1, len(arms) * (len(levels) if config.schedule == "oneshot" else 1))
    setups = (
        build(config, task_of(s.num_layers), examples, seeds, epochs=s.epochs, rows=largest_table)
        for s in shapes
    )
    first = next(setups)
    check_arms([arm.name for arm in arms], first.task.model)
    matched = any(arm.name in MATCHED for arm in arms)
    per_shape = table * (1 + matched + len(levels) * len(arms))
    per_epoch = first.steps_per_epoch
    origins = [origin_of(config, shape.epochs, per_epoch) for shape in shapes]
    rewound = table * len(levels) * sum(arm.name not in FRESH for arm in arms)
    steps = [
        per_epoch * shape.epochs * per_shape - origin.rewind * rewound
        for shape, origin in zip(shapes, origins, strict=True)
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
    if any(arm.name in FRESH for arm in arms):
        first.check_fresh()
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
            for number, origin in enumerate(origins):
                if number:
                    run.use(next(setups))
                rows = [(rate, seed) for rate in rates for seed in seeds]
                Search(run, config, origin, levels, arms, rows).train()
    except BaseException:
        run.close()
        raise
    return run
