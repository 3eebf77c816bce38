"""Panels of scores against sparsity: means with intervals, seeds as small points.

Panels that are compared share both axes. An interval that the axis cuts ends in
an arrow, and the caption says so.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from lth_flax.analysis.plot_style import COLUMN_MM, SparsityScale, wrapped

Limits = tuple[float, float]


class Point(NamedTuple):
    """One level of a series. `style` is what this marker has otherwise."""

    level: float
    mean: float
    interval: Sequence[float] | None
    seeds: Sequence[float] = ()
    style: dict[str, Any] = {}


class Series(NamedTuple):
    """One line of a panel."""

    style: dict[str, Any]
    points: list[Point]


class Panel(NamedTuple):
    """One pair of axes; `dense` is the level line that the others are read against."""

    title: str
    series: list[Series]
    dense: Point | None = None


def point(level: float, estimate: dict[str, Any] | None, **style: Any) -> list[Point]:
    """The estimate at a level as a list of one, or nothing where it does not exist."""
    if not estimate or estimate["mean"] is None:
        return []
    seeds = [value for _, value in estimate["by_seed"]]
    return [Point(level, estimate["mean"], estimate["interval"], seeds, style)]


def points_of(panels: Sequence[Panel]) -> list[Point]:
    found = [point for panel in panels for series in panel.series for point in series.points]
    return found + [panel.dense for panel in panels if panel.dense]


def limits_of(points: Sequence[Point], include: Sequence[float] = ()) -> Limits:
    """An axis that holds all means and seeds, and of the intervals what does not squeeze them."""
    core = [v for p in points for v in (p.mean, *p.seeds)] + list(include) or [0.0]
    low, high = min(core), max(core)
    room = max(0.6 * (high - low), 3.0)
    ends = [end for p in points for end in p.interval or ()] + [low, high]
    low, high = max(min(ends), low - room), min(max(ends), high + room)
    pad = 0.05 * max(high - low, 1.0)
    return low - pad, high + pad


def columns_for(panels: int, width_mm: float) -> int:
    if width_mm <= COLUMN_MM:
        return 1 if panels <= 3 else 2
    return panels if panels <= 3 else 2 if panels == 4 else 3


def draw_panels(
    figure: Figure,
    panels: Sequence[Panel],
    scale: SparsityScale,
    rows_of_limits: Sequence[Limits],
    *,
    width_mm: float,
    ylabel: str,
    symlog: float | None = None,
) -> tuple[bool, float]:
    """Every panel once for each of the limits, one above the other.

    Args:
      symlog: the scale is linear up to this and logarithmic beyond.

    Returns:
      whether an interval was cut, and the height in mm that the panels need.
    """
    columns = columns_for(len(panels), width_mm)
    bands = -(-len(panels) // columns)
    kinds = len(rows_of_limits)
    grid = figure.subplots(bands * kinds, columns, squeeze=False, sharex=True, sharey=False)
    axes_mm = (width_mm - 13) / columns - 3
    titles = [wrapped(panel.title, axes_mm, 7.5) for panel in panels]
    cut = False
    for number in range(bands * columns):
        band, column = divmod(number, columns)
        for kind, limits in enumerate(rows_of_limits):
            axes = grid[band * kinds + kind, column]
            if number >= len(panels):
                axes.set_visible(False)
                continue
            if symlog:
                _symlog(axes, symlog, limits)
            axes.set_ylim(limits)
            cut |= _draw(axes, panels[number], scale, limits, axes_mm)
            lowest = kind == kinds - 1 and number + columns >= len(panels)
            scale.label(axes, axes_mm, name=lowest)
            axes.tick_params(labelbottom=lowest, labelleft=column == 0)
            if kind == 0:
                axes.set_title(titles[number])
            if kind + 1 < kinds:
                axes.axhspan(*rows_of_limits[kind + 1], color="#0072B2", alpha=0.06, linewidth=0)
            elif kinds > 1:
                axes.set_title("enlarged: the shaded part", color="#555555", fontsize=6.5)
            if column == 0:
                axes.set_ylabel(ylabel)
    rows = bands * kinds
    lines = max(title.count("\n") for title in titles)
    height = rows * {1: 52.0, 2: 42.0, 3: 36.0}.get(rows, 32.0) + bands * 3.3 * lines + 10
    return cut, height


def _draw(axes: Axes, panel: Panel, scale: SparsityScale, limits: Limits, axes_mm: float) -> bool:
    cut = False
    if panel.dense:
        dense = panel.dense
        if dense.interval:
            axes.axhspan(*dense.interval, color="#444444", alpha=0.12, linewidth=0, zorder=0)
        axes.axhline(dense.mean, color="#444444", linewidth=0.9, zorder=1)
        axes.plot([scale(0.0)] * len(dense.seeds), dense.seeds, "o", color="#444444", alpha=0.5,
                  markersize=1.7, markeredgewidth=0, zorder=2)  # fmt: skip
    middle = (len(panel.series) - 1) / 2
    apart = min(3.0, 0.8 * scale.closest_mm(axes_mm) * 72 / 25.4 / max(len(panel.series), 1))
    for number, series in enumerate(panel.series):
        cut |= _draw_series(axes, series, scale, limits, apart * (number - middle))
    return cut


def _draw_series(
    axes: Axes, series: Series, scale: SparsityScale, limits: Limits, offset_points: float
) -> bool:
    """Series stand side by side: shifted on the paper, while their data stay where they are."""
    figure = axes.get_figure()
    assert figure is not None
    shift = ScaledTranslation(offset_points / 72, 0, figure.dpi_scale_trans)
    aside = {"transform": axes.transData + shift, "color": series.style["color"]}
    low, high = limits
    points = series.points
    x = [scale(p.level) for p in points]
    axes.plot(x, [p.mean for p in points], linewidth=1.0, alpha=0.85, zorder=3,
              linestyle=series.style["linestyle"], **aside)  # fmt: skip
    bars = [(at, *p.interval, p.mean) for at, p in zip(x, points, strict=True) if p.interval]
    cut = False
    if bars:
        places, bottom, top, mean = map(np.array, zip(*bars, strict=True))
        axes.vlines(places, np.clip(bottom, low, high), np.clip(top, low, high), linewidth=0.9,
                    zorder=3, **aside)  # fmt: skip
        inside = (low <= mean) & (mean <= high)
        for end, marker, beyond in ((low, "v", bottom < low), (high, "^", top > high)):
            for x_cut in places[inside & beyond]:
                axes.plot([x_cut], [end], marker, markersize=3, clip_on=False, zorder=5, **aside)
                cut = True
    seeds = [(at, value) for at, p in zip(x, points, strict=True) for value in p.seeds]
    axes.plot(*np.reshape(seeds, (-1, 2)).T, "o", alpha=0.4, markersize=1.7, markeredgewidth=0,
              zorder=2, **aside)  # fmt: skip
    marks = {"marker": series.style["marker"], "markersize": 3.4, "linestyle": "",
             "markeredgewidth": 0.5, "markeredgecolor": "white", "zorder": 4}  # fmt: skip
    common = [(at, p.mean) for at, p in zip(x, points, strict=True) if not p.style]
    axes.plot(*np.reshape(common, (-1, 2)).T, **aside, **marks)
    for at, p in zip(x, points, strict=True):
        if p.style:
            axes.plot([at], [p.mean], **{**aside, **marks, **p.style})
    return cut


def _symlog(axes: Axes, linear: float, limits: Limits) -> None:
    axes.set_yscale("symlog", linthresh=linear, linscale=0.7)
    steps = [0.5, 1, 2, 5, 10, 20, 50, 100]
    shown = [s for s in steps if s >= linear / 2]
    ticks = [
        t for t in (*(-s for s in reversed(shown)), 0.0, *shown) if limits[0] <= t <= limits[1]
    ]
    axes.set_yticks(ticks, [f"{t:+g}" if t else "0" for t in ticks])
    axes.minorticks_off()


def handle(label: str, style: dict[str, Any], **changes: Any) -> Line2D:
    """A line of the legend."""
    look = {"markersize": 3.6, "markeredgecolor": "white", "markeredgewidth": 0.5, "linewidth": 1.1}
    return Line2D([], [], label=label, **{**look, **style, **changes})
