"""Which matrices and gates the masks emptied."""

from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, NullFormatter

from lth_flax.analysis.plot_style import GREY, RC
from lth_flax.analysis.statistics import level_name


def density_figure(summary: dict[str, Any], arm: str | None = None) -> Figure:
    """Share of weights kept, per matrix and gate (rows) and level (columns), as a heat map.

    Mean over seeds, in percent; a cell with nothing left in some seed is
    outlined. By default the treatment's masks, else those of the first arm with any.
    """
    tables = {name: table for name, table in summary["density"].items() if isinstance(table, list)}
    if arm is None:
        arm = summary["options"]["treatment"]
        arm = arm if arm in tables else next(iter(tables))
    table = tables[arm]
    names = sorted(table[0]["mean"], key=_reading_order)
    kept = np.array([[entry["mean"].get(name, np.nan) for entry in table] for name in names])
    least = np.array([[entry["min"].get(name, np.nan) for entry in table] for name in names])
    with matplotlib.rc_context({**RC, "axes.grid": False}):
        height = 1.5 + 0.17 * len(names)
        figure = Figure(figsize=(max(5.4, 3.0 + 0.48 * len(table)), height), layout="constrained")
        axes = figure.add_subplot()
        floor = max(1e-4, float(np.min(kept[kept > 0], initial=1.0)))
        norm = LogNorm(min(floor, 0.5), 1.0)
        image = axes.imshow(np.maximum(kept, floor), aspect="auto", cmap="cividis", norm=norm)
        for (row, column), value in np.ndenumerate(kept):
            dark = norm(max(value, floor)) < 0.5
            axes.text(
                column,
                row,
                _percent(value),
                ha="center",
                va="center",
                fontsize=6,
                color="white" if dark else "black",
            )
            if least[row, column] == 0:
                axes.add_patch(
                    Rectangle(
                        (column - 0.47, row - 0.44),
                        0.94,
                        0.88,
                        fill=False,
                        edgecolor="#D55E00",
                        linewidth=1.3,
                    )
                )
        axes.set_yticks(range(len(names)), names, fontsize=6.5, family="DejaVu Sans Mono")
        axes.set_xticks(
            range(len(table)), [level_name(e["target_sparsity"]) for e in table], fontsize=7.5
        )
        for row in range(1, len(names)):
            if names[row].rpartition("/")[0] != names[row - 1].rpartition("/")[0]:
                axes.axhline(row - 0.5, color="white", linewidth=2.2)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("Sparsity of prunable weights (target)")
        axes.set_ylabel("Matrix and gate")
        bar = figure.colorbar(image, ax=axes, aspect=40, pad=0.02)
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}"))
        bar.ax.yaxis.set_minor_formatter(NullFormatter())
        bar.set_label("Weights kept (%), log scale")
        n = len(summary["seeds"])
        axes.set_title(
            f"{summary['dataset']}: weights kept by the {arm} masks (%),\n"
            f"mean of {n} seed{'s' * (n != 1)}; outlined: nothing left in some seed",
            loc="left",
            fontsize=8,
            color=GREY,
        )
    return figure


def _reading_order(name: str) -> list[tuple[int, int, str]]:
    """Layers by number, forward before backward, gates as i, f, g, o, the head last."""
    order = ("forward", "backward", "input_kernel", "recurrent_kernel", "i", "f", "g", "o")
    key = [(0 if name.startswith("lstm_") else 1, 0, "")]
    for part in name.split("/"):
        stem, _, number = part.rpartition("_")
        if part in order:
            key.append((order.index(part), 0, ""))
        else:
            key.append((len(order), int(number) if number.isdecimal() else 0, stem))
    return key


def _percent(share: float) -> str:
    percent = 100 * share
    if np.isnan(share):
        return ""
    return f"{percent:.0f}" if percent >= 9.95 or percent == 0 else f"{percent:.1f}"
