"""How far a run is: a bar on a terminal, lines in a log."""

import sys
from collections.abc import Callable
from time import perf_counter

from tqdm import tqdm

QUIET_SECONDS = 600.0
"""A log is not silent for longer, as long as training goes on."""


def _print(line: str) -> None:
    print(line, flush=True)


class Progress:
    """Counts training steps and rows.

    On a terminal with a bar and the time left. Elsewhere, or without `bar`,
    with a line for every finished table, and one every ten minutes of a table.
    """

    def __init__(
        self, *, rows: int, steps: int, bar: bool, say: Callable[[str], None] = _print
    ) -> None:
        self._bar = tqdm(
            total=steps,
            unit="step",
            unit_scale=True,
            disable=None if bar else True,  # None: where stderr is no terminal
            file=sys.stderr,
            dynamic_ncols=True,
        )
        self._rows, self._rows_done = rows, 0
        self._steps, self._steps_done = steps, 0
        self._started = self._said = perf_counter()
        self._table = ""
        self._say = say

    def begin(self, table: str) -> None:
        """A table of that name."""
        self._table = table
        self._bar.set_description(table)

    def advance(self, steps: int) -> None:
        """So many steps of one row are done; more at once where a run goes on."""
        self._bar.update(steps)
        self._steps_done += steps
        if perf_counter() - self._said >= QUIET_SECONDS:
            self._line(f"{self._steps_done / self._steps:.0%} of all steps")

    def end(self, rows: int) -> None:
        """The table, of so many rows, is done."""
        self._rows_done += rows
        self._line(f"{self._rows_done} of {self._rows} replicates")

    def close(self) -> None:
        """Takes the bar away."""
        self._bar.close()

    def _line(self, what: str) -> None:
        self._said = perf_counter()
        if self._bar.disable:
            minutes = (self._said - self._started) / 60
            self._say(f"{self._table}: {what} after {minutes:.1f} min")
