"""The paired gap per level, one panel per control."""

from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lth_flax.analysis.plot_style import (
    GREY,
    RC,
    caption,
    sparsity_axis,
    styles_of,
)


def gap_figure(summary: dict[str, Any], checkpoint: str | None = None) -> Figure:
    """Paired gap per level, one panel per control, with t intervals and the equivalence margin.

    A filled marker is a level that differs after max-T correction; the levels
    of the primary test lie on the shaded part of the axis.
    """
    checkpoint = checkpoint or summary["primary_checkpoint"]
    comparisons = {
        control: found
        for control, found in summary["checkpoints"][checkpoint]["comparisons"].items()
        if found["levels"]
    }
    styles, options = styles_of(summary), summary["options"]
    with matplotlib.rc_context(RC):
        count = max(1, len(comparisons))
        figure = Figure(figsize=(max(7.4, 3.5 * count), 4.1), layout="constrained")
        panels = figure.subplots(1, count, squeeze=False)[0]
        for axes, (control, found) in zip(panels, comparisons.items(), strict=False):
            _draw_gaps(axes, found, styles[control], options)
            axes.set_title(_gap_title(control, found, options), loc="left", fontsize=8.5)
        treatment = options["treatment"]
        panels[0].set_ylabel(f"Paired gap, {treatment} minus control\n(points of test accuracy)")
        handles = [
            Line2D(
                [],
                [],
                marker="o",
                color=GREY,
                linestyle="",
                label=f"mean and {100 * options['confidence']:g}% t interval over seeds",
                markerfacecolor="white",
            ),
            Line2D(
                [],
                [],
                marker="o",
                color=GREY,
                linestyle="",
                label=f"adjusted p ≤ {options['alpha']:g}",
            ),
            Line2D(
                [],
                [],
                marker="o",
                color=GREY,
                alpha=0.35,
                linestyle="",
                markersize=3,
                label="one seed",
            ),
            Patch(color="#F0E442", alpha=0.45, label=f"±{options['margin_points']:g} points"),
            Patch(color="#dddddd", label="levels of the primary test"),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=3 if count < 3 else 5)
        figure.suptitle(caption(summary, checkpoint), fontsize=8, color=GREY, x=0.01, ha="left")
    return figure


def _draw_gaps(
    axes: Axes, found: dict[str, Any], style: tuple[str, str, Any], options: dict[str, Any]
) -> None:
    color, marker, _ = style
    margin = options["margin_points"]
    axes.axhspan(-margin, margin, color="#F0E442", alpha=0.35, linewidth=0, zorder=0)
    axes.axhline(0, color="black", linewidth=0.9, zorder=1)
    primary = [1 - e["target_sparsity"] for e in found["levels"] if e["in_primary"]]
    if primary:
        axes.axvspan(
            max(primary) * 1.06,
            min(primary) / 1.06,
            color="#dddddd",
            alpha=0.4,
            linewidth=0,
            zorder=-1,
        )
    for entry in found["levels"]:
        x = 1 - entry["target_sparsity"]
        values = [value for _, value in entry["by_seed"]]
        axes.plot(
            [x] * len(values),
            values,
            "o",
            color=color,
            alpha=0.3,
            markersize=2.6,
            markeredgewidth=0,
            zorder=2,
        )
        if entry["interval"]:
            axes.plot([x, x], entry["interval"], color=color, linewidth=1.5, zorder=3)
        tests = [entry["p_treatment_better_adjusted"], entry["p_control_better_adjusted"]]
        clear = any(p is not None and p <= options["alpha"] for p in tests)
        axes.plot(
            [x],
            [entry["mean"]],
            marker,
            color=color,
            markersize=5.5,
            zorder=4,
            markerfacecolor=color if clear else "white",
            markeredgewidth=1.3,
        )
    sparsity_axis(axes, [entry["target_sparsity"] for entry in found["levels"]], room=9)
    axes.set_xlabel("Sparsity of prunable weights (%)")  # short: panels are narrow


def _gap_title(control: str, found: dict[str, Any], options: dict[str, Any]) -> str:
    draws = f" ({found['draws']} draws per seed)" if found["draws"] > 1 else ""
    name, primary = f"{options['treatment']} − {control}{draws}", found["primary"]
    if primary is None:
        return name
    bounds = primary["interval"]
    spread = f" [{bounds[0]:+.2f}, {bounds[1]:+.2f}]" if bounds else ""
    better = primary["mean"] >= 0
    p = primary["p_treatment_better" if better else "p_control_better"]
    return f"{name}\n{primary['mean']:+.2f}{spread}, one-sided p = {p:.2g}"
