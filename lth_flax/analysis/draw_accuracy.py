"""Test score against sparsity: one line per arm, or per configuration of a grid."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lth_flax.analysis.panels import (
    Limits,
    Panel,
    Series,
    draw_panels,
    handle,
    limits_of,
    point,
    points_of,
)
from lth_flax.analysis.paper import Curve
from lth_flax.analysis.plot_style import (
    PAGE_MM,
    SparsityScale,
    arm_styles,
    finish,
    interval_note,
    new_figure,
    ordered_styles,
    style,
)
from lth_flax.analysis.words import arm_name, count, factor_value, factor_values, score_label

Summary = Mapping[str, Any]
_MAJORITY: dict[str, Any] = {"color": "black", "linewidth": 0.9, "linestyle": (0, (1, 2))}


def accuracy_figure(
    summary: Summary, paper: Mapping[str, Curve] | None = None, width_mm: float = PAGE_MM
) -> Figure:
    """Means, intervals and seeds at every level; where a part falls deep, a second row of
    panels enlarges what stays near the dense network.

    `paper` adds curves of the paper, thin and dotted.
    """
    with style():
        panels, handles = grid_panels(summary) if summary["factors"] else _arm_panel(summary)
        levels = {p.level for p in points_of(panels)} | ({0.0} if panels[0].dense else set())
        theirs = [place for curve in (paper or {}).values() for place in curve]
        scale = SparsityScale(sorted(levels), [x for x, _ in theirs])
        majority = summary["configurations"][0]["majority_accuracy"]
        whole, near = _limits(panels, majority, [y for _, y in theirs])
        if summary["metric"]["unit"] == "points":  # intervals of few seeds leave what is possible
            whole = (max(whole[0], 0.0), min(whole[1], 100.0))
        if majority is not None:
            shown = majority >= whole[0]
            label = f"always the most frequent class: {majority:.1f}%"
            handles.append(handle(label + " (below)" * (not shown), _MAJORITY))
        limits = [whole, near] if near else [whole]
        figure = new_figure()
        cut, height = draw_panels(
            figure, panels, scale, limits, width_mm=width_mm, ylabel=score_label(summary["metric"])
        )
        for axes in figure.axes:
            if majority is not None:
                axes.axhline(majority, **_MAJORITY, zorder=1)
            _draw_paper(axes, paper or {}, scale)
        handles += [
            handle(f"the paper: {name}", _paper_style(number))
            for number, name in enumerate(sorted(paper or {}))
        ]
        return finish(figure, width_mm, height, handles, interval_note(summary, cut))


def _limits(
    panels: Sequence[Panel], majority: float | None, theirs: Sequence[float]
) -> tuple[Limits, Limits | None]:
    """Of the whole, and of what stays near dense where that is less than half of it."""
    found = points_of(panels)
    dense = [p.mean for p in found if p.level == 0] or [max((p.mean for p in found), default=0.0)]
    best, low = max(dense), min((p.mean for p in found), default=0.0)
    chance = min(low, best) if majority is None else min(majority, best)
    near = majority is not None and low - majority < 0.3 * (best - low) + 1
    whole = limits_of(found, [*theirs, majority] if near and majority is not None else theirs)
    held = [p for p in found if p.mean >= best - 0.25 * (best - chance)]
    inner = limits_of(held)
    enlarge = best - chance > 2 and 2 * (inner[1] - inner[0]) < whole[1] - whole[0]
    return whole, inner if enlarge else None


def _arm_panel(summary: Summary) -> tuple[list[Panel], list[Line2D]]:
    one = summary["configurations"][0]
    table = one["checkpoints"][one["primary_checkpoint"]]["table"]
    styles = arm_styles(one["arms"])
    series, handles, dense = [], [], []
    for arm in one["arms"]:
        cells = [cell for cell in table if cell["arm"] == arm]
        points = [p for cell in cells for p in point(cell["target_sparsity"], cell["score"])]
        draws = max((cell["draws"] for cell in cells), default=1)
        # Of each seed; longer, it would not fit into a column of 85 mm.
        label = arm_name(arm) + f" ({count(draws, 'draw')})" * (draws > 1)
        if arm == "dense":
            dense = points
            handles.append(handle(label, styles[arm], marker=""))
        elif points:
            series.append(Series(arm, styles[arm], points))
            handles.append(handle(label, styles[arm]))
    if not series:  # nothing was pruned: a point is more than a line with nothing beside it
        look = {**styles["dense"], "marker": "o"}
        return [Panel("", [Series("dense", look, dense)])], [handle(arm_name("dense"), look)]
    return [Panel("", series, dense[0] if dense else None)], handles


def grid_panels(summary: Summary) -> tuple[list[Panel], list[Line2D]]:
    """A panel for each arm that prunes and each value of the other factors; colour is the first."""
    first, *rest = summary["factors"]
    ones = summary["configurations"]
    values = summary["factors"][first]
    styles = dict(zip(values, ordered_styles(values), strict=True))
    combinations = sorted({tuple(one["factors"][name] for name in rest) for one in ones})
    arms = [arm for arm in dict.fromkeys(a for one in ones for a in one["arms"])
            if any(x > 0 for one in ones for x in _levels(one, arm))]  # fmt: skip
    panels = []
    for others in combinations:
        here = dict(zip(rest, others, strict=True))
        for arm in arms or ["dense"]:
            series = [
                Series(one["name"], styles[one["factors"][first]], _curve(one, arm))
                for one in ones
                if all(one["factors"][name] == value for name, value in here.items())
            ]
            title = [arm_name(arm)] if len(arms) > 1 or not rest else []
            panels.append(Panel("\n".join([*title, factor_values(here, rest)]).strip(), series))
    handles = [handle(factor_value(first, value), look) for value, look in styles.items()]
    return panels, handles


def _cells(one: Mapping[str, Any]) -> list[dict[str, Any]]:
    return one["checkpoints"][one["primary_checkpoint"]]["table"]


def _levels(one: Mapping[str, Any], arm: str) -> list[float]:
    return [cell["target_sparsity"] for cell in _cells(one) if cell["arm"] == arm]


def _curve(one: Mapping[str, Any], arm: str) -> list[Any]:
    """The arm's levels, after the dense network at 0."""
    chosen = [c for c in _cells(one) if c["arm"] in ("dense", arm)]
    return [p for cell in chosen for p in point(cell["target_sparsity"], cell["score"])]


def _paper_style(number: int) -> dict[str, Any]:
    return {"color": "black", "linestyle": ":", "marker": ".+x|12"[number % 6],
            "markeredgecolor": "black", "linewidth": 0.7}  # fmt: skip


def _draw_paper(axes: Any, paper: Mapping[str, Curve], scale: SparsityScale) -> None:
    for number, (_, curve) in enumerate(sorted(paper.items())):
        axes.plot([scale(x) for x, _ in curve], [y for _, y in curve], markersize=3, zorder=1,
                  **_paper_style(number))  # fmt: skip
