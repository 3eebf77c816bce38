"""`--plan`: what a run would train, take and be able to show, told without training it.

A few steps of the real program are timed on the devices that are there; nothing is written.
"""

from collections.abc import Callable, Iterable, Mapping
from time import perf_counter
from typing import NamedTuple

import jax

from lth_flax.analysis.statistics import reach
from lth_flax.analysis.words import count
from lth_flax.errors import Planned
from lth_flax.runs.setup import Setup
from lth_flax.training.loop import Hooks, Stopped
from lth_flax.training.table import Replicate, Start
from lth_flax.types import Params

PATIENCE_SECONDS = 5.0
"""For the steps that are timed; at least `CALLS` calls of a program, however long they take."""

CALLS = 4
RECORD_BYTES, CURVE_BYTES = 1500, 120
"""Of a row of records.csv, of which a network has four, and of curves.csv."""


class Part(NamedTuple):
    """The tables of one shape of network.

    steps: of all rows together.
    tickets: how many are saved.
    masks: how many each network is scored under besides its own.
    networks: that are not trained, and scored on the training and test splits.
    """

    setup: Setup
    rows: int
    steps: int
    tickets: int = 0
    masks: int = 0
    networks: int = 0


class Cost(NamedTuple):
    """Measured: seconds to compile, of a step of one row, and to score one example of one row."""

    compile: float
    step: float
    score: float


def tell(
    parts: Iterable[Part],
    *,
    draws: Mapping[str, int],
    alpha: float,
    arm: str = "ticket",
    tests: int = 1,
    say: Callable[[str], None] = print,
) -> None:
    """Says rows, steps, hours, disk and the smallest p, and writes nothing.

    Args:
      draws: of every control that a test compares the arm with.
      tests: how many p-values are adjusted together.

    Raises:
      Planned: always, at the end.
    """
    rows = steps = seconds = disk = saving = 0.0
    seeds = 2**31
    for part in parts:
        setup = part.setup
        seeds, epochs = min(seeds, len(setup.seeds)), setup.trainer.workload.epochs
        params = setup.initialize(setup.seeds[0])
        cost = measure(setup, params)
        validation, test = (_count(setup, split) for split in ("validation", "test"))
        # Validation each epoch, the test set at the last and at the best, both under each mask.
        scored = epochs * validation + 2 * test + part.masks * (validation + test)
        seconds += cost.compile + part.steps * cost.step + part.rows * scored * cost.score
        seconds += part.networks * (_count(setup, "train") + test) * cost.score
        size = sum(leaf.nbytes for leaf in jax.tree_util.tree_leaves(params))
        records = (4 + 2 * part.masks) * RECORD_BYTES + epochs * CURVE_BYTES
        disk += part.rows * (records + (2 + part.masks) * test)  # a byte for each answer
        # Initial and trained weights, and a byte for each weight of the mask.
        disk += part.tickets * size * 2.25
        # Weights, two moments, those of the best epoch, a mask: of a slice, three times.
        saving = max(saving, 3 * 4.25 * size * setup.trainer.engine.rows)
        rows, steps = rows + part.rows, steps + part.steps
        name = setup.task.model.words if setup.task.model else "a network"
        say(
            f"{name}: {part.rows:,} rows (networks to train), {part.steps:,} steps in all, "
            f"{1000 * cost.step:.3g} ms each with {setup.trainer.engine.rows} rows side by side"
        )
    say(f"Plan: {rows:,.0f} rows, {steps:,.0f} steps")
    say(f"Time: about {seconds / 3600:.2g} hours on this machine, as busy as it is now")
    say(f"Disk: about {disk / 1e6:,.1f} MB in the end, {saving / 1e6:,.1f} MB more until then")
    for control, number in draws.items():
        found = reach(seeds, number, alpha / tests)
        least = min(1, tests * found.smallest_p)
        adjusted = f", {least:.2g} adjusted for {tests} tests" * (tests > 1)
        say(
            f"Smallest p of {arm} against {control}, with {count(seeds, 'seed')} and "
            f"{count(number, 'draw')}: {found.smallest_p:.2g}{adjusted} "
            f"({'below' if found.enough else 'never below'} --alpha={alpha:g})"
        )
    say("Nothing was written; without --plan the same command runs it")
    raise Planned


def measure(setup: Setup, params: Params) -> Cost:
    """Times the first steps of one slice, and one evaluation, after they are compiled."""
    trainer = setup.trainer
    count = trainer.engine.rows
    seeds = [setup.seeds[row % len(setup.seeds)] for row in range(count)]
    first, rate = Start(params, setup.full_mask(params)), setup.config.learning_rate[0]
    clock = trainer.clock
    marks: list[tuple[float, int]] = []

    def on_steps(steps: int) -> None:
        marks.append((perf_counter() - clock.evaluate, steps))

    def stop() -> bool:
        return len(marks) > CALLS and marks[-1][0] - marks[0][0] > PATIENCE_SECONDS

    compile, train = clock.compile, clock.train
    replicates = [Replicate(lambda: first, seed, rate) for seed in seeds]
    try:
        list(trainer.train(replicates, hooks=Hooks(on_steps=on_steps, stop=stop)))
        spent, steps = clock.train - train, sum(number for _, number in marks)
    except Stopped:  # the first call was waited for with what it compiled
        spent, steps = marks[-1][0] - marks[0][0], sum(number for _, number in marks[1:])
    members = [trainer.workload.members[seed]["validation"] for seed in seeds]
    begun = perf_counter()
    trainer.programs.predict(trainer.engine.place_rows([params] * count), members)
    score = (perf_counter() - begun) / (count * _count(setup, "validation"))
    return Cost(clock.compile - compile, spent / steps, score)


def _count(setup: Setup, split: str) -> int:
    """Examples of a split."""
    return sum(map(len, setup.examples.draw(setup.seeds[0])[split]))
