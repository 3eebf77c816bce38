"""Accuracy against sparsity, one line per arm."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lth_flax.analysis.paper import Curve
from lth_flax.analysis.plot_style import GREY, RC, caption, sparsity_axis, styles_of


def accuracy_figure(
    summary: dict[str, Any],
    checkpoint: str | None = None,
    paper: Mapping[str, Curve] | None = None,
) -> Figure:
    """Test accuracy against sparsity: mean and t interval per arm, every seed faint.

    Dense is the grey band; the majority class is dotted, or named at the
    lower edge where drawing it would squeeze the curves. `paper` adds curves of the
    paper, thin and dotted.
    """
    checkpoint = checkpoint or summary["primary_checkpoint"]
    table = summary["checkpoints"][checkpoint]["table"]
    styles = styles_of(summary)
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(7.0, 4.6), layout="constrained")
        axes = figure.add_subplot()
        handles = _draw_dense(axes, table)
        for arm in (name for name in summary["arms"] if name != "dense"):
            entries = [entry for entry in table if entry["arm"] == arm]
            if entries:
                handles.append(_draw_arm(axes, entries, arm, *styles[arm]))
        levels = sorted({entry["target_sparsity"] for entry in table})
        for number, (series, points) in enumerate(sorted((paper or {}).items())):
            levels = sorted({*levels, *(sparsity for sparsity, _ in points)})
            style: dict[str, Any] = {
                "color": "black",
                "linewidth": 0.9,
                "marker": ".+x|"[number % 4],
            }
            x, y = zip(*((1 - sparsity, value) for sparsity, value in points), strict=True)
            axes.plot(x, y, linestyle=":", markersize=4, zorder=1, **style)
            handles.append(Line2D([], [], linestyle=":", label=f"the paper: {series}", **style))
        sparsity_axis(axes, levels)
        axes.set_ylabel("Test accuracy (%)")
        handles.append(_draw_majority(axes, summary["majority_accuracy"]))
        figure.legend(
            handles=handles,
            loc="outside upper center",
            ncols=min(3, len(handles)),
            handlelength=3.2,
        )
        note = caption(summary, checkpoint) + _bands(summary)
        axes.set_title(note, loc="left", color=GREY, fontsize=8)
    return figure


def _draw_arm(
    axes: Axes, entries: Sequence[dict[str, Any]], arm: str, color: str, marker: str, line: Any
) -> Line2D:
    x = [1 - entry["target_sparsity"] for entry in entries]
    seeds = sorted({seed for entry in entries for seed, _ in entry["by_seed"]})
    for seed in seeds:
        values = [dict(map(tuple, entry["by_seed"])).get(seed, np.nan) for entry in entries]
        axes.plot(x, values, color=color, linewidth=0.6, alpha=0.25, zorder=2)
    bounded = [
        (at, *entry["interval"]) for at, entry in zip(x, entries, strict=True) if entry["interval"]
    ]
    if bounded:
        at, low, high = zip(*bounded, strict=True)
        axes.fill_between(at, low, high, color=color, alpha=0.16, linewidth=0, zorder=1)
    means = [entry["mean"] for entry in entries]
    style: dict[str, Any] = {"color": color, "marker": marker, "linestyle": line, "markersize": 4.8}
    axes.plot(
        x, means, linewidth=1.7, markeredgecolor="white", markeredgewidth=0.5, zorder=4, **style
    )
    draws = max(entry["draws"] for entry in entries)
    label = arm if draws == 1 else f"{arm} ({draws} draws per seed)"
    return Line2D([], [], label=label, linewidth=1.7, **style)


def _draw_dense(axes: Axes, table: Sequence[dict[str, Any]]) -> list[Any]:
    dense = next((entry for entry in table if entry["arm"] == "dense"), None)
    if dense is None:
        return []
    if dense["interval"]:
        axes.axhspan(*dense["interval"], color=GREY, alpha=0.13, linewidth=0, zorder=0)
    axes.axhline(dense["mean"], color=GREY, linewidth=1.1, zorder=1)
    values = [value for _, value in dense["by_seed"]]
    axes.plot([1.0] * len(values), values, "_", color=GREY, alpha=0.45, markersize=8, zorder=2)
    return [Line2D([], [], color=GREY, linewidth=1.1, label="dense")]


def _draw_majority(axes: Axes, majority: float) -> Line2D:
    """A dotted line, where the curves come near enough for it to fit."""
    low, high = axes.get_ylim()
    near = majority > low - 0.5 * (high - low)
    if near:
        axes.axhline(majority, color="black", linewidth=1.0, linestyle=(0, (1, 2.5)), zorder=1)
    label = f"majority class ({majority:.1f}%{'' if near else ', below the axis'})"
    return Line2D([], [], color="black", linewidth=1.0, linestyle=(0, (1, 2.5)), label=label)


def _bands(summary: dict[str, Any]) -> str:
    if len(summary["seeds"]) < 2:
        return ""
    confidence = 100 * summary["options"]["confidence"]
    return f"\nmean, {confidence:g}% t interval over seeds (band), every seed (faint)"
