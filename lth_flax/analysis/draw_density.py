"""Which matrices and gates the masks emptied."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, NullFormatter

from lth_flax.analysis.plot_style import COLUMN_MM, PAGE_MM, finish, new_figure, style
from lth_flax.analysis.words import (
    FACTORS,
    count,
    dataset_name,
    factor_values,
    percent,
    plain,
)

GATES = {"i": "input gate", "f": "forget gate", "g": "candidate", "o": "output gate"}
_WORDS = {"input_kernel": "input", "recurrent_kernel": "recurrent", "kernel": "weights"}
_MOST_ROWS = 60


def density_figure(
    configuration: Mapping[str, Any], arm: str = "ticket", width_mm: float = PAGE_MM
) -> Figure:
    """Share of weights kept, per matrix and gate (rows) and level (columns), as a heat map.

    Mean over seeds, in percent; a cell with nothing left in some seed is
    outlined. The masks of `arm`, else of the first arm with any. Gates are left out where
    they would be too many to read.
    """
    tables = masks_of(configuration)
    arm = arm if arm in tables else next(iter(tables))
    table = tables[arm]
    names = sorted({name for entry in table for name in entry["mean"]}, key=_reading_order)
    if len(names) > _MOST_ROWS:
        names = [name for name in names if name.rpartition("/")[2] not in GATES]
    kept = np.array([[entry["mean"].get(name, np.nan) for entry in table] for name in names])
    least = np.array([[entry["min"].get(name, np.nan) for entry in table] for name in names])
    with style():
        figure = new_figure()
        axes = figure.subplots()
        axes.grid(False)
        floor = max(1e-4, float(np.min(kept[kept > 0], initial=1.0)))
        norm = LogNorm(min(floor, 0.5), 1.0)
        image = axes.imshow(np.maximum(kept, floor), aspect="auto", cmap="cividis", norm=norm)
        small = 4.6 if width_mm <= COLUMN_MM else 5.8
        for (row, column), value in np.ndenumerate(kept):
            dark = norm(max(value, floor)) < 0.5
            axes.text(column, row, _shown(value), ha="center", va="center", fontsize=small,
                      color="white" if dark else "black")  # fmt: skip
            if least[row, column] == 0:
                axes.add_patch(Rectangle((column - 0.46, row - 0.43), 0.92, 0.86, fill=False,
                                         edgecolor="#D55E00", linewidth=1.1))  # fmt: skip
        axes.set_yticks(range(len(names)), [_in_words(name) for name in names], fontsize=small)
        axes.set_xticks(range(len(table)), [percent(e["target_sparsity"]) for e in table])
        for row in range(1, len(names)):
            if _matrix(names[row]) != _matrix(names[row - 1]):
                axes.axhline(row - 0.5, color="white", linewidth=1.8)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("Sparsity: weights removed (%)")
        bar = figure.colorbar(image, ax=axes, aspect=40, pad=0.02)
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}"))
        bar.ax.yaxis.set_minor_formatter(NullFormatter())
        bar.set_label("Kept (%), log scale" if len(names) > 8 else "Kept (%)")
        name = factor_values(configuration["factors"], FACTORS) if configuration["name"] else ""
        title = ", ".join(part for part in (dataset_name(configuration["dataset"]), name) if part)
        note = (
            f"{title}: weights that the {plain(arm)} masks keep (%), mean of "
            f"{count(len(configuration['seeds']), 'seed')}; outlined: nothing left in some seed"
        )
        return finish(figure, width_mm, max(2.7 * len(names), 14) + 14, [], note)


def masks_of(configuration: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The density tables of the arms that have masks of their own and prune anything."""
    return {
        arm: table
        for arm, table in configuration["density"].items()
        if isinstance(table, list) and any(entry["target_sparsity"] > 0 for entry in table)
    }


def _matrix(name: str) -> str:
    head, _, last = name.rpartition("/")
    return head if last in GATES else name


def _in_words(name: str) -> str:
    """Of "lstm_0/forward/input_kernel": "layer 1 forward, input"; a gate alone of its own row."""
    *path, last = name.split("/")
    if last in GATES:
        return GATES[last]
    words = []
    for part in (*path, last):
        stem, _, number = part.rpartition("_")
        if stem == "lstm" and number.isdecimal():
            words.append(f"layer {int(number) + 1}")
        else:
            words.append(_WORDS.get(part, plain(part)))
    return " ".join(words[:-1]) + f", {words[-1]}" if len(words) > 2 else " ".join(words)


def _reading_order(name: str) -> list[tuple[int, int, str]]:
    """Layers by number, forward before backward, a matrix before its gates, the head last."""
    order = ("forward", "backward", "input_kernel", "recurrent_kernel", "i", "f", "g", "o")
    key = [(0 if name.startswith("lstm_") else 1, 0, "")]
    for part in name.split("/"):
        stem, _, number = part.rpartition("_")
        if part in order:
            key.append((order.index(part), 0, ""))
        else:
            key.append((len(order), int(number) if number.isdecimal() else 0, stem))
    return key


def _shown(share: float) -> str:
    value = 100 * share
    if np.isnan(share):
        return ""
    if 0 < value < 0.05:
        return "<.1"  # not to be taken for nothing
    return f"{value:.0f}" if value >= 9.95 or value == 0 else f"{value:.1f}"
