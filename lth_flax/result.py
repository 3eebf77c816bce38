"""What `find_tickets` found, for a notebook: records, statistics, verdict, figures, tickets."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from lth_flax.analysis.figures import figure_bytes, figures_of
from lth_flax.analysis.page import report_html
from lth_flax.analysis.terminal import terminal_table, terminal_text
from lth_flax.errors import UserError
from lth_flax.records import Record
from lth_flax.runs.run import Run
from lth_flax.tickets import Ticket, load_ticket


class SavedTickets(Mapping[tuple[int, float], Ticket]):
    """(seed, target sparsity) -> the ticket below a folder, read when it is asked for."""

    def __init__(self, folder: Path) -> None:
        self._paths = {}
        for level in folder.glob("seed_*/level_*"):
            with contextlib.suppress(ValueError):  # someone's "level_0.5 copy"
                self._paths[int(level.parent.name[5:]), float(level.name[6:])] = level

    def __getitem__(self, key: tuple[int, float]) -> Ticket:
        if key not in self._paths:
            raise _absent(key, self)
        return load_ticket(self._paths[key])

    def __iter__(self) -> Iterator[tuple[int, float]]:
        return iter(sorted(self._paths))

    def __len__(self) -> int:
        return len(self._paths)


class HeldTickets(dict[tuple[int, float], Ticket]):
    """The same in memory."""

    def __missing__(self, key: Any) -> Ticket:
        raise _absent(key, self)


def _absent(key: Any, there: Mapping[tuple[int, float], Ticket]) -> KeyError:
    return KeyError(f"{key}: expected (seed, sparsity), one of {', '.join(map(str, there))}")


class Result:
    """The answer of a run.

    records: one row per network, checkpoint (last, best epoch) and split.
    summary: the statistics; `summary.json` of a work directory.
    tickets: (seed, target sparsity) -> `Ticket`.
    """

    def __init__(self, run: Run) -> None:
        self.summary: dict[str, Any] = run.finish()
        self.records: Sequence[Record] = run.records
        self.tickets: Mapping[tuple[int, float], Ticket] = HeldTickets(run.tickets)
        if run.directory is not None:
            self.tickets = SavedTickets(run.directory / "tickets")
        self._page = {"settings": run.setup.config.shown(), "provenance": run.provenance}

    @property
    def verdict(self) -> str:
        """The answer in one sentence."""
        headline = self.summary["headline"]
        return str(headline["sentence"]) if headline else "Nothing was compared: one arm alone."

    def table(self) -> str:
        """Scores of arms over levels, for a terminal."""
        return "\n\n".join(
            terminal_table(self.summary, one) for one in self.summary["configurations"]
        )

    def figure(self, name: str = "accuracy") -> Figure:
        """A figure of the report, such as "accuracy" or "gap".

        Raises:
          UserError: there is none of this name.
        """
        figures = figures_of(self.summary, None)
        if name not in figures:
            raise UserError(f"figure {name!r}: expected one of {', '.join(figures)}")
        return figures[name]

    def __repr__(self) -> str:
        return terminal_text(self.summary)

    def _repr_html_(self) -> str:
        images = {
            name: figure_bytes(figure, "png")
            for name, figure in figures_of(self.summary, None).items()
        }
        return report_html(self.summary, images, **self._page)
