"""What sparsity does: accuracy, paired gaps, gains of training on after pruning, breakdowns."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lth_flax.analysis.panels import (
    Limits,
    Panel,
    Point,
    Series,
    draw_panels,
    handle,
    limits_of,
    point,
    points_of,
)
from lth_flax.analysis.paper import Curve
from lth_flax.analysis.plot_style import (
    GREY,
    PAGE_MM,
    SparsityScale,
    arm_styles,
    factor_looks,
    finish,
    interval_note,
    new_figure,
    style,
    what_ran,
)
from lth_flax.analysis.terminal import Summary, against_headline, scored
from lth_flax.analysis.words import (
    arm_name,
    count,
    factor_value,
    factor_values,
    in_points,
    plain,
    score_label,
)

_MAJORITY: dict[str, Any] = {"color": "black", "linewidth": 0.9, "linestyle": (0, (1, 2))}
_WHOLE = {"retrained": "dense_retrained"}
"""The network without pruning that an arm's line begins at, where that is not "dense"."""
_MARKS: dict[str | None, dict[str, Any]] = {
    "better": {"marker": "^", "markersize": 5.0},
    "worse": {"marker": "v", "markersize": 5.0},
    None: {"marker": "o", "markerfacecolor": "white"},
}


def accuracy_figure(
    summary: Summary, paper: Mapping[str, Curve] | None = None, width_mm: float = PAGE_MM
) -> Figure:
    """Means, intervals and seeds at every level, one line per arm, or per configuration of a grid;
    where a part falls deep, a second row of panels enlarges what stays near the dense network.

    `paper` adds curves of the paper, thin and dotted.
    """
    theirs: list[tuple[str, Curve, dict[str, Any]]] = [
        (name, curve, {"color": "black", "linestyle": ":", "marker": ".+x|12"[number % 6],
                       "markeredgecolor": "black", "linewidth": 0.7})
        for number, (name, curve) in enumerate(sorted((paper or {}).items()))
    ]  # fmt: skip
    with style():
        panels, handles = _grid_arms(summary) if summary["factors"] else _arms(summary)
        levels = {p.level for p in points_of(panels)} | ({0.0} if panels[0].dense else set())
        scale = SparsityScale(sorted(levels), [x for _, curve, _ in theirs for x, _ in curve])
        of_accuracy = summary["metric"]["unit"] == "points"
        majority = summary["configurations"][0]["majority_accuracy"] if of_accuracy else None
        whole, near = _limits(panels, majority, [y for _, curve, _ in theirs for _, y in curve])
        if of_accuracy:  # intervals of few seeds leave what is possible
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
            for _, curve, look in theirs:
                axes.plot([scale(x) for x, _ in curve], [y for _, y in curve], markersize=3,
                          zorder=1, **look)  # fmt: skip
        handles += [handle(f"the paper: {name}", look) for name, _, look in theirs]
        return finish(figure, width_mm, height, handles, interval_note(summary, cut))


def gap_figure(summary: Summary, width_mm: float = PAGE_MM) -> Figure:
    """Treatment minus control of the same seed at each level, with intervals and the margin.

    A triangle points to where a difference is shown, adjusted over levels; a ring is none shown.
    """
    treatment, alpha = summary["options"]["treatment"], summary["options"]["alpha"]
    words = {
        "better": f"{treatment} better, shown at {alpha:g} (adjusted over levels)",
        "worse": f"{treatment} worse, shown likewise",
        None: "no difference shown",
    }
    with style():
        panels, handles = _grid_gaps(summary) if summary["factors"] else (_gaps(summary), [])
        handles += [
            handle(text, {"color": GREY, "markeredgecolor": GREY, **_MARKS[way]}, linestyle="")
            for way, text in words.items()
        ]
        metric = summary["metric"]
        pair = [plain(treatment), "control"]  # a gap says how much better
        first, second = pair if metric["higher_is_better"] else pair[::-1]
        label = f"{first.capitalize()} minus {second}\n({metric['unit']})"
        return _around_zero(summary, panels, handles, label, width_mm)


def retraining_figure(summary: Summary, width_mm: float = PAGE_MM) -> Figure:
    """Gain of training on after pruning, and what of it the dense network has too."""
    kinds = {
        "gain": "pruned and trained on, minus pruned alone",
        "over_dense_retrained": "pruned and trained on, minus dense trained on just as long",
    }
    with style():
        first, looks = factor_looks(summary)
        panels = _grouped(
            (title, looks[one["factors"].get(first)],
             (p for level in scored(one)["retraining"]
              for p in point(level["target_sparsity"], level[kind]["estimate"])))
            for kind, title in kinds.items() for one in summary["configurations"]
        )  # fmt: skip
        handles = [handle(factor_value(first, v), look) for v, look in looks.items() if first]
        label = f"Difference in\nthe test score ({summary['metric']['unit']})"
        return _around_zero(summary, panels, handles, label, width_mm)


def _grouped(
    lines: Iterable[tuple[str, dict[str, Any], Iterable[Point]]], dense: Point | None = None
) -> list[Panel]:
    """A panel for each title of (title, look, points)."""
    panels: dict[str, list[Series]] = {}
    for title, look, points in lines:
        panels.setdefault(title, []).append(Series(look, list(points)))
    return [Panel(title, series, dense) for title, series in panels.items()]


# Accuracy.


def _curve(one: Mapping[str, Any], *arms: str) -> list[Point]:
    """The levels of an arm, or of the dense network and then of an arm."""
    cells = [cell for cell in scored(one)["table"] if cell["arm"] in arms]
    return [p for cell in cells for p in point(cell["target_sparsity"], cell["score"])]


def _arms(summary: Summary) -> tuple[list[Panel], list[Line2D]]:
    one = summary["configurations"][0]
    styles, dense = arm_styles(one["arms"]), _curve(one, "dense")
    lines, handles = [], []
    for arm in one["arms"]:
        draws = max((c["draws"] for c in scored(one)["table"] if c["arm"] == arm), default=1)
        # Of each seed; longer, it would not fit into a column of 85 mm.
        label = arm_name(arm, one["settings"]) + f" ({count(draws, 'draw')})" * (draws > 1)
        if arm == "dense":
            handles.append(handle(label, styles[arm], marker=""))
        elif points := _curve(one, arm):
            lines.append(("", styles[arm], points))
            handles.append(handle(label, styles[arm]))
    return _grouped(lines, dense[0] if dense else None), handles


def _grid_arms(summary: Summary) -> tuple[list[Panel], list[Line2D]]:
    """A panel for each arm that prunes and each value of the other factors; colour is the first."""
    first, looks = factor_looks(summary)
    _, *rest = summary["factors"]
    ones = sorted(
        summary["configurations"], key=lambda one: [one["factors"][name] for name in rest]
    )
    pruned = [c["arm"] for one in ones for c in scored(one)["table"] if c["target_sparsity"] > 0]
    arms = list(dict.fromkeys(pruned))
    named = len(arms) > 1 or not rest
    panels = _grouped(
        ("\n".join([arm_name(arm, one["settings"])] * (named and bool(arms))
                   + [factor_values(one["factors"], rest)]).strip(),
         looks[one["factors"][first]], _curve(one, _WHOLE.get(arm, "dense"), arm))
        for one in ones for arm in arms or ["dense"]
    )  # fmt: skip
    return panels, [handle(factor_value(first, value), look) for value, look in looks.items()]


def _limits(
    panels: Sequence[Panel], majority: float | None, theirs: Sequence[float]
) -> tuple[Limits, Limits | None]:
    """Of the whole, and of what stays near its own dense network where that is less than half."""
    found = points_of(panels)
    dense = [p.mean for p in found if p.level == 0] or [max((p.mean for p in found), default=0.0)]
    best, low = max(dense), min((p.mean for p in found), default=0.0)
    chance = min(low, best) if majority is None else min(majority, best)
    near = majority is not None and low - majority < 0.3 * (best - low) + 1
    whole = limits_of(found, [*theirs, majority] if near and majority is not None else theirs)
    held = []
    for panel in panels:
        for series in panel.series:
            points = [*filter(None, [panel.dense]), *series.points]
            own = next((p.mean for p in points if p.level == 0), best)
            if own >= (best + chance) / 2:  # a network that learned nothing has nothing to lose
                held += [p for p in points if p.mean >= own - 0.25 * (best - chance)]
    inner = limits_of(held)
    enlarge = best - chance > 2 and 2 * (inner[1] - inner[0]) < whole[1] - whole[0]
    return whole, inner if enlarge else None


# Gaps.


def _around_zero(
    summary: Summary, panels: Sequence[Panel], handles: list[Any], ylabel: str, width_mm: float
) -> Figure:
    """Panels around zero with shared axes; wide ranges are compressed beyond a few points."""
    points, margin = points_of(panels), summary["options"]["margin_points"]
    limits = limits_of(points, [-2 * margin, 2 * margin])
    linear = max(2.0, 2 * margin)
    squeezed = max(map(abs, limits)) > 4 * linear
    if squeezed:
        limits = (min(1.15 * limits[0], limits[0]), max(1.15 * limits[1], limits[1]))
    figure = new_figure()
    scale = SparsityScale(sorted({p.level for p in points}))
    cut, height = draw_panels(
        figure, panels, scale, [limits], width_mm=width_mm, ylabel=ylabel,
        symlog=linear if squeezed else None,
    )  # fmt: skip
    for axes in figure.axes:
        axes.axhspan(-margin, margin, color="#F0E442", alpha=0.4, linewidth=0, zorder=0)
        axes.axhline(0, color="black", linewidth=0.7, zorder=1)
    unit = summary["metric"]["unit"]
    handles.append(Patch(color="#F0E442", alpha=0.4, label=f"±{margin:g} {unit}"))
    note = interval_note(summary, cut)
    if squeezed:
        note += f"\nthe scale is linear up to ±{linear:g} {unit} and logarithmic beyond"
    return finish(figure, width_mm, height, handles, note)


def _of_levels(comparison: Mapping[str, Any]) -> list[Point]:
    found = []
    for level in comparison["levels"]:
        way = level["direction"]
        marks = _MARKS[way] if way else {**_MARKS[None], "markeredgecolor": None}
        found += point(level["target_sparsity"], level["gap"], **marks)
    return found


def _gaps(summary: Summary) -> list[Panel]:
    """A panel for each control."""
    one = summary["configurations"][0]
    styles = arm_styles(one["arms"])
    minus = "minus " * summary["metric"]["higher_is_better"]
    return _grouped(
        (f"{minus}{arm_name(control)}", {**styles[control], "linestyle": "-"}, _of_levels(found))
        for control, found in scored(one)["comparisons"].items() if found["levels"]
    )  # fmt: skip


def _grid_gaps(summary: Summary) -> tuple[list[Panel], list[Any]]:
    """Against the headline's control: a panel for each value of the other factors, colour is
    the first; and one where each arm stands at its own learning rate.
    """
    first, looks = factor_looks(summary)
    _, *rest = summary["factors"]
    every = [
        (factor_values(one["factors"], rest), one["factors"], scored(one)["comparisons"])
        for one in summary["configurations"]
    ]
    every += [
        ("each arm at its own learning rate", own["factors"], own["comparisons"])
        for own in summary["own_rates"]
    ]
    black = {"color": "black", "linestyle": "-", "marker": "o"}
    lines = []
    for title, factors, comparisons in every:
        found = against_headline(summary, comparisons)
        if found and found["levels"]:
            lines.append((title, looks.get(factors.get(first), black), _of_levels(found)))
    handles = [handle(factor_value(first, v), look, marker="") for v, look in looks.items()]
    return _grouped(lines), handles


# Breakdown sparsities.


def breakdown_figure(summary: Summary, width_mm: float = PAGE_MM) -> Figure:
    """One line per arm and configuration: every run, an arrow where it never broke; the median."""
    rows = breakdown_rows(summary)
    levels = {x for one in summary["configurations"] for x in one["levels"]}
    with style():
        label_mm = 1.3 * max(len(name) for name, _, _ in rows)
        figure = new_figure()
        axes = figure.subplots()
        lowest = min(run["sparsity"] for _, _, found in rows for run in found["runs"])
        scale = SparsityScale(sorted(levels), [lowest])
        for place, (_, look, found) in enumerate(rows):
            for run in found["runs"]:
                axes.plot(
                    [scale(run["sparsity"])], [place], ">" if run["censored"] else "o",
                    color=look["color"], alpha=0.45, markersize=3.2, markeredgewidth=0,
                )  # fmt: skip
            axes.plot([scale(found["median"])], [place], "|", color=look["color"],
                      markersize=11, markeredgewidth=1.8)  # fmt: skip
        scale.label(axes, width_mm - label_mm - 8)
        axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlabel("Breakdown sparsity (%)")
        grey = {"color": GREY, "linestyle": ""}
        handles = [
            handle("one network", grey, marker="o", alpha=0.5),
            handle("one that never broke, up to the last level", grey, marker=">", alpha=0.5),
            handle("median", grey, marker="|", markersize=8, markeredgewidth=1.6,
                   markeredgecolor=GREY),
        ]  # fmt: skip
        allowed = summary["options"]["breakdown_points"]
        note = (
            f"{what_ran(summary)}\nBreakdown: the accuracy stays more than "
            f"{in_points(allowed)} below the dense network's from there on"
        )
        return finish(figure, width_mm, 5 * len(rows) + 14, handles, note)


def breakdown_rows(summary: Summary) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(label, style, crossings); a network that learned nothing has none."""
    found = []
    first, looks = factor_looks(summary)
    for one in summary["configurations"]:
        table = scored(one)["breakdown"]["arms"]
        styles = arm_styles(one["arms"])
        for arm, crossings in table.items():
            if crossings["runs"] and one["levels"]:
                factors = factor_values(one["factors"], summary["factors"])
                name = ": ".join(p for p in (factors, plain(arm) if len(table) > 1 else "") if p)
                look = looks[one["factors"][first]] if first else styles[arm]
                found.append((name or plain(arm), look, crossings))
    return found
