"""Breakdown sparsities: where pruning begins to cost accuracy, of every arm and configuration."""

from typing import Any

from matplotlib.figure import Figure

from lth_flax.analysis.panels import handle
from lth_flax.analysis.plot_style import (
    GREY,
    PAGE_MM,
    SparsityScale,
    arm_styles,
    factor_looks,
    finish,
    new_figure,
    style,
    what_ran,
)
from lth_flax.analysis.terminal import Summary, scored
from lth_flax.analysis.words import factor_values, plain


def breakdown_figure(summary: Summary, width_mm: float = PAGE_MM) -> Figure:
    """One line per arm and configuration: every run, an arrow where it never broke; the median."""
    rows = _rows(summary)
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
        points = summary["options"]["breakdown_points"]
        note = (
            f"{what_ran(summary)}\nBreakdown: the accuracy stays more than {points:g} "
            f"point{'s' * (points != 1)} below the dense network's from there on"
        )
        return finish(figure, width_mm, 5 * len(rows) + 14, handles, note)


def has_breakdown(summary: Summary) -> bool:
    return bool(_rows(summary))


def _rows(summary: Summary) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
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
