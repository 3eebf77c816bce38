"""What all figures share: the style, sizes, colours, the sparsity axis, legend and caption.

The style starts from matplotlib's own defaults, so that neither a matplotlibrc
nor MPLBACKEND changes a byte. Arms have Okabe & Ito's colours, told apart by the
colour-blind, and differ in marker and line too, for print without colour; values
of an ordered factor take colours in order, from viridis. The sparsity axis is the
share of weights that remain, on a log scale and labelled by sparsity, as in
Frankle & Carbin (arXiv 1803.03635): equal pruning rates are equal steps.
"""

import contextlib
import itertools
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lth_flax.analysis.words import CHECKPOINTS, SCHEDULES, count, dataset_name, percent, plain

PAGE_MM, COLUMN_MM = 180.0, 85.0
"""Widths of a figure over the page and in one column of two."""

GREY = "#444444"
ARM_STYLES: dict[str, dict[str, Any]] = {
    name: {"color": color, "marker": marker, "linestyle": line}
    for name, color, marker, line in (
        ("ticket", "#0072B2", "o", "-"),
        ("reinit", "#D55E00", "s", (0, (5, 2))),
        ("shuffled", "#009E73", "^", (0, (6, 2, 1, 2))),
        ("random", "#CC79A7", "D", (0, (2, 1.5))),
        ("pruned", "#0072B2", "o", "-"),
        ("retrained", "#D55E00", "s", (0, (5, 2))),
        ("dense", GREY, "_", "-"),
        ("dense_retrained", "black", "_", (0, (1, 1))),
    )
}
_SPARE = [
    {"color": color, "marker": marker, "linestyle": line}
    for color, marker, line in (
        ("#E69F00", "v", (0, (8, 3))),
        ("#56B4E9", "P", (0, (3, 1, 1, 1))),
        ("#999933", "X", (0, (1, 2))),
        ("#882255", "<", (0, (9, 2, 2, 2))),
        ("#44AA99", ">", (0, (4, 2))),
        ("#332288", "h", (0, (2, 2, 6, 2))),
        ("#AA4499", "*", (0, (1, 1))),
        ("#117733", "d", (0, (4, 1))),
        ("#661100", "p", (0, (3, 3))),
        ("#6699CC", "8", (0, (1, 1))),
        ("#DDAA33", "H", (0, (4, 2, 1, 2))),
        ("#CC6677", "1", (0, (7, 1))),
    )
]
_RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 7.0,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 7.0,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "legend.handlelength": 2.8,
    "lines.linewidth": 1.2,
    "svg.hashsalt": "lth_flax",  # element ids in SVG are random without it
    "svg.fonttype": "path",
    "text.parse_math": False,  # a name may have two dollar signs
}


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Inside, matplotlib's defaults and our style hold, whatever the user's settings."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_RC)
        yield


def new_figure() -> Figure:
    """An empty figure whose parts are laid out so that nothing overlaps; see `finish`."""
    figure = Figure(layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def finish(
    figure: Figure, width_mm: float, panels_mm: float, handles: Sequence[Any], note: str
) -> Figure:
    """The figure with a small grey note above and the legend below.

    Its height is that of its panels, with their labels, and what note and legend need.
    """
    text = wrapped(note, width_mm)
    figure.suptitle(text, x=0.01, ha="left", color=GREY, fontsize=6.5)
    height = panels_mm + 3.2 * (1 + text.count("\n")) + 2
    if handles:
        longest = max(len(str(handle.get_label())) for handle in handles)
        columns = min(max(1, int(width_mm / (14 + 1.35 * longest))), len(handles))
        figure.legend(handles=handles, loc="outside lower center", ncols=columns)
        height += 3.9 * -(-len(handles) // columns) + 2
    figure.set_size_inches(width_mm / 25.4, height / 25.4)
    return figure


def arm_styles(arms: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour, marker and line of each arm."""
    others = [arm for arm in arms if arm not in ARM_STYLES]
    spare = {arm: _SPARE[number % len(_SPARE)] for number, arm in enumerate(others)}
    return {**ARM_STYLES, **spare}


def ordered_styles(values: Sequence[float]) -> list[dict[str, Any]]:
    """One style per value of an ordered factor, colours from dark to light."""
    shades = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.82, max(len(values), 2)))
    return [
        {"color": matplotlib.colors.to_hex(shade), "marker": "osD^vPX"[number % 7],
         "linestyle": "-"}
        for number, (_, shade) in enumerate(zip(values, shades, strict=False))
    ]  # fmt: skip


def factor_looks(summary: Mapping[str, Any]) -> tuple[Any, dict[Any, dict[str, Any]]]:
    """The first factor of a grid and the style of each of its values; None and one without any."""
    first = next(iter(summary["factors"]), None)
    values = summary["factors"].get(first, [None])
    return first, dict(zip(values, ordered_styles(values), strict=True))


class SparsityScale:
    """Where a level stands on the axis: the negative logarithm of what remains.

    Nothing remains at sparsity 1; it stands beyond the last level.
    """

    def __init__(self, levels: Sequence[float], reach: Sequence[float] = ()) -> None:
        """Every one of `levels` has its label; the axis holds `reach` too."""
        self.levels = sorted({*map(float, levels)}) or [0.0]
        self.reach = sorted({*self.levels, *map(float, reach)})
        finite = [-np.log(1 - level) for level in self.reach if level < 1] or [0.0]
        self._end = finite[-1] + max(0.25 * (finite[-1] - finite[0]), 0.3)

    def __call__(self, level: float) -> float:
        return float(-np.log(1 - level)) if level < 1 else float(self._end)

    def _limits(self) -> tuple[float, float]:
        first, last = self(self.reach[0]), self(self.reach[-1])
        pad = 0.04 * max(last - first, 0.5)
        return first - pad, last + pad

    def closest_mm(self, width_mm: float) -> float:
        """Between the two nearest levels, on axes of that width."""
        low, high = self._limits()
        places = map(self, self.levels)
        nearest = min((b - a for a, b in itertools.pairwise(places)), default=high - low)
        return nearest / (high - low) * width_mm

    def label(self, axes: Axes, width_mm: float, name: bool = True) -> None:
        """Limits, a tick and a label for every level, in as many lines as they need.

        `width_mm` is that of the axes, about.
        """
        low, high = self._limits()
        axes.set_xlim(low, high)
        per_mm = (high - low) / width_mm
        places = [self(level) for level in self.levels]
        ends: list[float] = []  # where the last label of each line ends
        texts = []
        for place, level in zip(places, self.levels, strict=True):
            text = percent(level)
            half = per_mm * (0.75 * len(text) + 0.35)
            line = next((i for i, end in enumerate(ends) if place - half > end), len(ends))
            ends[line : line + 1] = [place + half]
            texts.append("\n" * line + text)
        axes.set_xticks(places, texts)
        if name:
            narrow = width_mm < 45
            axes.set_xlabel("Sparsity (%)" if narrow else "Sparsity: weights removed (%)")


def wrapped(text: str, width_mm: float, points: float = 6.5) -> str:
    """Lines that fit the width in letters of that size, each given line by itself."""
    letters = max(12, int(width_mm / (0.205 * points)))
    return "\n".join("\n".join(textwrap.wrap(line, letters)) for line in text.split("\n"))


def what_ran(summary: Mapping[str, Any]) -> str:
    """ "financial tweets, iterative pruning, last epoch; 8 seeds"."""
    one = summary["configurations"][0]
    schedule = one["schedule"]
    parts = [
        dataset_name(one["dataset"]),
        one["name"] if not summary["factors"] else "",
        SCHEDULES.get(schedule, plain(schedule)) if one["levels"] else "",
        CHECKPOINTS[one["primary_checkpoint"]],
    ]
    seeds = {len(other["seeds"]) for other in summary["configurations"]}
    numbers = (
        count(seeds.pop(), "seed") if len(seeds) == 1 else f"{min(seeds)} to {max(seeds)} seeds"
    )
    return f"{', '.join(part for part in parts if part)}; {numbers}"


def interval_note(summary: Mapping[str, Any], cut: bool) -> str:
    """What ran, and what is drawn of it; `cut`: some interval leaves its axis."""
    text = what_ran(summary)
    if max(len(one["seeds"]) for one in summary["configurations"]) > 1:
        text += f"\nmean with {100 * summary['options']['confidence']:g}% interval, points: seeds"
        text += "; arrows: the interval goes on beyond the axis" * cut
    return text
