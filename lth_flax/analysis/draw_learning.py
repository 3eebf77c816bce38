"""Learning curves: validation score and losses against training steps."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lth_flax.analysis.panels import handle
from lth_flax.analysis.plot_style import (
    COLUMN_MM,
    PAGE_MM,
    arm_styles,
    factor_looks,
    finish,
    new_figure,
    style,
    what_ran,
    wrapped,
)
from lth_flax.analysis.terminal import Summary
from lth_flax.analysis.words import arm_name, factor_value, factor_values, level_name, score_label

Line = tuple[dict[str, Any], Mapping[str, Any]]
"""(style, learning curve)."""


def learning_figure(summary: Summary, width_mm: float = PAGE_MM) -> Figure:
    """Rows: validation score, training loss, validation loss. Columns: sparsities, one line per
    arm; in a grid the dense networks, one line per value of the first factor.
    """
    with style():
        few = width_mm <= COLUMN_MM
        columns, handles = _grid_columns(summary) if summary["factors"] else _levels(summary, few)
        rows = {
            "validation_accuracy": score_label(summary["metric"], "Validation").replace(
                " ", "\n", 1
            ),
            "train_loss": "Training\nloss",
            "validation_loss": "Validation\nloss",
        }
        lines = [line for column in columns.values() for line in column]
        rows = {k: v for k, v in rows.items() if any(_defined(c[k]) for _, c in lines)}
        figure = new_figure()
        grid = figure.subplots(len(rows), len(columns), squeeze=False, sharex=True, sharey="row")
        for column, (title, found) in enumerate(columns.items()):
            for row, name in enumerate(rows):
                axes = grid[row, column]
                for look, curve in found:
                    _draw(axes, curve, name, look)
                axes.margins(x=0.03)
            grid[0, column].set_title(wrapped(title, (width_mm - 16) / len(columns), 7.5))
            in_steps = all(curve["steps"] for _, curve in lines)
            grid[-1, column].set_xlabel("Training steps" if in_steps else "Epochs")
            grid[-1, column].xaxis.set_major_locator(MaxNLocator(5, integer=True))
        for row, (name, label) in enumerate(rows.items()):
            grid[row, 0].set_ylabel(label)
            if name == "validation_accuracy" and summary["metric"]["unit"] == "points":
                low, high = grid[row, 0].get_ylim()
                grid[row, 0].set_ylim(max(low, 0), min(high, 100))
        nets = "dense networks, " if summary["factors"] else ""
        text = f"{what_ran(summary).partition(';')[0]}: {nets}means over seeds and draws"
        if any(_defined(curve["validation_accuracy_low"]) for _, curve in lines):
            text += f", band: {100 * summary['options']['confidence']:g}% interval"
        return finish(figure, width_mm, 30 * len(rows) + 10, handles, text)


def _defined(values: Sequence[float | None] | None) -> bool:
    return any(value is not None for value in values or ())


def _draw(axes: Any, curve: Mapping[str, Any], name: str, look: Mapping[str, Any]) -> None:
    x = curve["steps"] or curve["epochs"]
    at = [i for i, value in enumerate(curve[name]) if value is not None]
    few = len(at) <= 12  # markers at many epochs would hide the lines
    axes.plot([x[i] for i in at], [curve[name][i] for i in at], linewidth=1.1, markersize=2.8,
              markeredgewidth=0.4, markeredgecolor="white", zorder=3,
              **{**look, "marker": look["marker"] if few else ""})  # fmt: skip
    low, high = curve.get(f"{name}_low") or [], curve.get(f"{name}_high") or []
    band = [i for i in at if i < len(low) and low[i] is not None and high[i] is not None]
    if band:
        axes.fill_between([x[i] for i in band], [low[i] for i in band], [high[i] for i in band],
                          color=look["color"], alpha=0.13, linewidth=0, zorder=1)  # fmt: skip


def _levels(summary: Summary, few: bool) -> tuple[dict[str, list[Line]], list[Any]]:
    """Columns: the levels nearest to 50, 90 and 95%, the dense curve in each of them."""
    one = summary["configurations"][0]
    styles = arm_styles(one["arms"])
    curves = one["learning_curves"]
    dense = [(styles["dense"] | {"marker": ""}, c) for c in curves if c["arm"] == "dense"]
    others = [c for c in curves if c["arm"] != "dense"]
    columns = {
        f"{level_name(level)} sparsity": dense
        + [(styles[c["arm"]], c) for c in others if c["target_sparsity"] == level]
        for level in _chosen({c["target_sparsity"] for c in others}, few)
    }
    arms = [arm for arm in one["arms"] if any(c["arm"] == arm for c in curves)]
    handles = [
        handle(
            arm_name(arm, one["settings"]), styles[arm] | ({"marker": ""} if arm == "dense" else {})
        )
        for arm in arms
    ]
    return columns or {"": dense}, handles


def _grid_columns(summary: Summary) -> tuple[dict[str, list[Line]], list[Any]]:
    first, looks = factor_looks(summary)
    _, *rest = summary["factors"]
    columns: dict[str, list[Line]] = {}
    for one in summary["configurations"]:
        title = factor_values(one["factors"], rest)
        found = [c for c in one["learning_curves"] if c["arm"] == "dense"]
        columns.setdefault(title, []).extend((looks[one["factors"][first]], c) for c in found)
    return columns, [handle(factor_value(first, v), look) for v, look in looks.items()]


def _chosen(levels: Iterable[float], few: bool) -> list[float]:
    wanted = (0.5, 0.95) if few else (0.5, 0.9, 0.95)
    near = [min(levels, key=lambda x: abs(x - w), default=None) for w in wanted]
    return sorted({level for level in near if level is not None})
