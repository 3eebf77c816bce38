"""Paired gaps per level: treatment minus each control, and what retraining gains."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from lth_flax.analysis.panels import (
    Panel,
    Point,
    Series,
    draw_panels,
    handle,
    limits_of,
    point,
    points_of,
)
from lth_flax.analysis.plot_style import (
    GREY,
    PAGE_MM,
    SparsityScale,
    arm_styles,
    finish,
    interval_note,
    new_figure,
    ordered_styles,
    style,
)
from lth_flax.analysis.words import arm_name, factor_value, factor_values, plain

Summary = Mapping[str, Any]
_MARKS: dict[str | None, dict[str, Any]] = {
    "better": {"marker": "^", "markersize": 5.0},
    "worse": {"marker": "v", "markersize": 5.0},
    None: {"marker": "o", "markerfacecolor": "white"},
}


def gap_figure(summary: Summary, width_mm: float = PAGE_MM) -> Figure:
    """Treatment minus control of the same seed at each level, with intervals and the margin.

    A triangle points to where a difference is shown, adjusted over levels; a ring is none shown.
    """
    options = summary["options"]
    with style():
        panels, handles = _grid_gaps(summary) if summary["factors"] else _control_gaps(summary)
        treatment, alpha = options["treatment"], options["alpha"]
        words = {
            "better": f"{treatment} better, shown at {alpha:g} (adjusted over levels)",
            "worse": f"{treatment} worse, shown likewise",
            None: "no difference shown",
        }
        handles += [
            handle(text, {"color": GREY, "markeredgecolor": GREY, **_MARKS[way]}, linestyle="")
            for way, text in words.items()
        ]
        return _draw(
            summary,
            panels,
            handles,
            f"{plain(treatment).capitalize()} minus control\n(points)",
            width_mm,
        )


def retraining_figure(summary: Summary, width_mm: float = PAGE_MM) -> Figure:
    """Gain of training on after pruning, and what of it the dense network has too."""
    kinds = {
        "gain": "pruned and trained on, minus pruned alone",
        "over_dense_retrained": "pruned and trained on, minus dense trained on just as long",
    }
    with style():
        ones = summary["configurations"]
        first = next(iter(summary["factors"]), None)
        values = summary["factors"].get(first, [0.0])
        looks = dict(zip(values, ordered_styles(values), strict=True))
        panels = [
            Panel(
                title,
                [
                    Series(
                        one["name"],
                        looks[one["factors"][first] if first else 0.0],
                        [
                            p
                            for level in _found(one)["retraining"]
                            for p in point(level["target_sparsity"], level[kind]["estimate"])
                        ],
                    )
                    for one in ones
                ],
            )
            for kind, title in kinds.items()
        ]
        handles = [handle(factor_value(first, v), look) for v, look in looks.items() if first]
        return _draw(summary, panels, handles, "Gain (points of\nthe test score)", width_mm)


def _draw(
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
    handles.append(Patch(color="#F0E442", alpha=0.4, label=f"±{margin:g} points"))
    note = interval_note(summary, cut)
    if squeezed:
        note += f"\nthe scale is linear up to ±{linear:g} points and logarithmic beyond"
    return finish(figure, width_mm, height, handles, note)


def _found(one: Mapping[str, Any]) -> dict[str, Any]:
    return one["checkpoints"][one["primary_checkpoint"]]


def _gaps(comparison: Mapping[str, Any]) -> list[Point]:
    return [
        p
        for level in comparison["levels"]
        for p in point(level["target_sparsity"], level["gap"], **_marks(level["direction"]))
    ]


def _marks(direction: str | None) -> dict[str, Any]:
    return _MARKS[direction] if direction else {**_MARKS[None], "markeredgecolor": None}


def _control_gaps(summary: Summary) -> tuple[list[Panel], list[Any]]:
    """A panel for each control."""
    one = summary["configurations"][0]
    styles = arm_styles(one["arms"])
    return [
        Panel(
            f"minus {arm_name(control)}",
            [Series(control, {**styles[control], "linestyle": "-"}, _gaps(found))],
        )
        for control, found in _found(one)["comparisons"].items()
        if found["levels"]
    ], []


def _grid_gaps(summary: Summary) -> tuple[list[Panel], list[Any]]:
    """Against the headline's control: a panel for each value of the other factors, colour is
    the first; and one where each arm stands at its own learning rate.
    """
    first, *rest = summary["factors"]
    values = summary["factors"][first]
    looks = dict(zip(values, ordered_styles(values), strict=True))
    control = summary["options"]["headline_control"]
    panels: dict[str, list[Series]] = {}
    every = [(one["factors"], _found(one)["comparisons"], "") for one in summary["configurations"]]
    every += [(own["factors"], own["comparisons"], "own") for own in summary["own_rates"]]
    for factors, comparisons, own in every:
        found = comparisons.get(control) or next(iter(comparisons.values()), None)
        if not found or not found["levels"]:
            continue
        title = "each arm at its own learning rate" if own else factor_values(factors, rest)
        look = looks.get(factors.get(first), {"color": "black", "linestyle": "-", "marker": "o"})
        panels.setdefault(title, []).append(Series(plain(title), look, _gaps(found)))
    handles = [handle(factor_value(first, v), look, marker="") for v, look in looks.items()]
    return [Panel(title, series) for title, series in panels.items()], handles
