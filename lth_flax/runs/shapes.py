"""A run of one shape of network after the other, or what it would take."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from lth_flax.analysis.terminal import reach_sentence
from lth_flax.config import Config
from lth_flax.runs.plan import Part, tell
from lth_flax.runs.results import Method
from lth_flax.runs.run import Run
from lth_flax.runs.setup import Setup
from lth_flax.runs.workdir import directory_of


def train_shapes(
    config: Config,
    method: Method,
    setups: Iterator[Setup],
    train: Callable[[Run], object],
    *,
    rows: int,
    epochs: Sequence[int],
    tickets: int = 0,
    masks: int = 0,
    arm: str = "ticket",
    draws: Mapping[str, int] | None = None,
) -> tuple[Run, dict[str, Any]]:
    """Trains one shape of network after the other, or says with --plan what that would take.

    Without it a note comes first where seeds are too few to show anything.

    Args:
      train: trains the tables of one.
      rows, tickets, masks: of each shape, as in `Part`.
      epochs: of all rows of each shape together.
      arm, draws: what is compared with controls, and their draws; all tests are one family.

    Returns:
      the finished run and its summary.
    """
    first = next(setups)
    steps = [first.steps_per_epoch * number for number in epochs]
    if config.plan:
        every = zip(itertools.chain([first], setups), steps, strict=True)
        parts = (Part(setup, rows, of_shape, tickets, masks) for setup, of_shape in every)
        tell(parts, draws=draws or {}, alpha=config.alpha, arm=arm, tests=len(draws or {}))
    if reach := reach_sentence(draws or {}, len(first.seeds), config.alpha, len(draws or {})):
        print(reach)
    directory, rows = directory_of(config, method), rows * len(epochs)
    run = Run.open(first, method, directory=directory, rows=rows, steps=sum(steps))
    if not run.finished:
        train(run)
        for setup in setups:
            run.use(setup)
            train(run)
    return run, run.finish()
