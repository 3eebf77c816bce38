"""How far a run is: a bar on a terminal, lines in a log."""

import os
import sys
from collections.abc import Callable
from time import perf_counter

from tqdm import tqdm
from tqdm.contrib import DummyTqdmFile

from lth_flax.streams import before_last_words

QUIET_SECONDS = 600.0
"""A log is not silent for longer, as long as training goes on."""

BAR = "{desc}{percentage:3.0f}% |{bar}| {rate_fmt}, {remaining} left{postfix}"


def _columns() -> int:
    """Of the terminal; 0 where it has no width, as one of `docker run --tty` may have."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):
        return 80


class Progress:
    """Counts training steps and rows.

    On a terminal with a bar, the rate and the time left; what is printed meanwhile stands above
    it. Elsewhere, or without `bar`, with a line for every finished table, and one every ten
    minutes of a table.
    """

    def __init__(
        self, *, rows: int, steps: int, bar: bool, say: Callable[[str], None] = print
    ) -> None:
        self._rows, self._rows_done = rows, 0
        self._steps, self._steps_done = steps, 0
        self._bar = tqdm(
            total=steps,
            unit=" steps",
            unit_scale=True,
            bar_format=BAR,
            postfix=self._rows_of(),
            disable=not (bar and sys.stderr and sys.stderr.isatty() and _columns()),
            file=sys.stderr,
            dynamic_ncols=True,
            leave=False,
        )
        self._streams = sys.stdout, sys.stderr
        if not self._bar.disable:
            sys.stderr = DummyTqdmFile(sys.stderr)  # type: ignore[assignment]
            if sys.stdout.isatty():  # the same terminal: one writer knows where the bar is
                sys.stdout = sys.stderr
            before_last_words.callback(self.close)
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

    def finished(self, rows: int) -> None:
        """So many rows, a slice of the table, are done."""
        self._rows_done += rows
        self._bar.set_postfix_str(self._rows_of())

    def end(self) -> None:
        """The table is done."""
        self._line(self._rows_of())

    def close(self) -> None:
        """Takes the bar away."""
        if not self._bar.disable:
            self._bar.close()  # which disables it
            sys.stdout, sys.stderr = self._streams

    def _rows_of(self) -> str:
        return f"{self._rows_done} of {self._rows} replicates"

    def _line(self, what: str) -> None:
        self._said = perf_counter()
        if self._bar.disable:
            minutes = (self._said - self._started) / 60
            self._say(f"{self._table}: {what} after {minutes:.1f} min")
