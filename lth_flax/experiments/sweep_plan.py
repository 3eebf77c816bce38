"""What a sweep is made of: the cells of a grid times blocks of seeds. Pure.

A cell is one combination of the values that `--grid` names; a task is a cell
and a block of seeds, and one run of the experiment's own command.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple
from urllib.parse import quote

from lth_flax.errors import UserError

Parse = Callable[[str, str], object]
"""(name of a flag, text) -> its value; raises `UserError` for what it cannot be."""


class Cell(NamedTuple):
    """Values of flags, and their name: "num_layers=2,epochs=3", or nothing without a grid."""

    name: str
    values: tuple[tuple[str, str], ...]


class Task(NamedTuple):
    """One run: its name, which is its path below the sweep's directory, its cell and its seeds."""

    name: str
    cell: Cell
    seeds: range

    def arguments(self, given: Sequence[str]) -> list[str]:
        """The flags of its run, after those given to the sweep: the last value of a flag counts."""
        grid = [f"--{name}={value}" for name, value in self.cell.values]
        return [*given, *grid, f"--seeds={self.seeds.start}:{self.seeds.stop}"]


def cells_of(grid: Sequence[str], parse: Parse) -> list[Cell]:
    """Every combination of the values, the last flag changing fastest.

    Raises:
      UserError: a grid is not NAME=VALUE,...; a flag or value is there twice, or
        is none.
    """
    axes: dict[str, list[str]] = {}
    for text in grid:
        name, equals, listed = text.partition("=")
        values = listed.split(",")
        if not (name and equals and all(values)):
            raise UserError(
                f"--grid={text} is no grid: expected NAME=VALUE,VALUE,... such as num_layers=2,4"
            )
        if name in axes:
            raise UserError(f"--grid names {name} twice: give all of its values at once")
        parsed = [parse(name, value) for value in values]
        twice = [v for n, v in enumerate(values) if parsed[n] in parsed[:n]]
        if twice:
            raise UserError(f"--grid={text} has the value {twice[0]} twice: give each once")
        axes[name] = values
    combinations = itertools.product(*([(n, v) for v in values] for n, values in axes.items()))
    return [Cell(",".join(f"{n}={quote(v, safe='')}" for n, v in c), c) for c in combinations]


def seed_blocks(seeds: range, size: int) -> list[range]:
    """Blocks of `size` seeds in order; the last may be smaller."""
    return [
        range(start, min(start + size, seeds.stop))
        for start in range(seeds.start, seeds.stop, size)
    ]


def plan(cells: Sequence[Cell], blocks: Sequence[range]) -> list[Task]:
    """All tasks, cell by cell."""
    return [
        Task("/".join(filter(None, (cell.name, f"seeds_{b.start}_{b.stop}"))), cell, b)
        for cell in cells
        for b in blocks
    ]
