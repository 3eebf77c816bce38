"""What all figures share: colours, markers, the sparsity axis, the caption.

Colours are Okabe & Ito's, told apart by the colour-blind; arms differ in
marker and line style too, for print without colour. The sparsity axis is the
share of weights that remain, on a log scale and labelled by sparsity, as in
Frankle & Carbin (arXiv 1803.03635): equal pruning rates are equal steps, and
the high sparsities, where curves part, get room.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

STYLES: dict[str, tuple[str, str, Any]] = {
    "ticket": ("#0072B2", "o", "-"),
    "reinit": ("#D55E00", "s", (0, (5, 2))),
    "shuffled": ("#009E73", "^", (0, (6, 2, 1, 2))),
    "random": ("#CC79A7", "D", (0, (2, 1.5))),
}
SPARE_STYLES: list[tuple[str, str, Any]] = [
    ("#E69F00", "v", (0, (8, 3))),
    ("#56B4E9", "P", (0, (3, 1, 1, 1))),
    ("#999933", "X", (0, (1, 2))),
]
GREY = "#444444"
SPARSITY_LABEL = "Sparsity of prunable weights (%), on a log scale of what remains"
RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.hashsalt": "lth_flax",  # element ids in SVG are random without it
    "svg.fonttype": "path",
    "text.parse_math": False,  # a name may have two dollar signs
}


def styles_of(summary: dict[str, Any]) -> dict[str, tuple[str, str, Any]]:
    others = [arm for arm in summary["arms"] if arm not in STYLES and arm != "dense"]
    spare = {arm: SPARE_STYLES[i % len(SPARE_STYLES)] for i, arm in enumerate(others)}
    return {**STYLES, **spare}


def caption(summary: dict[str, Any], checkpoint: str) -> str:
    n = len(summary["seeds"])
    epoch = {"last": "last epoch", "best": "best validation epoch"}[checkpoint]
    return (
        f"{summary['dataset']}, {summary['schedule']} pruning, {epoch}; "
        f"n = {n} seed{'s' * (n != 1)}"
    )


def sparsity_axis(axes: Axes, levels: Sequence[float], room: int = 16) -> None:
    """Remaining weights on a log scale, most on the left, ticks named by sparsity."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nothing is left at sparsity 1, and nothing is shown there
        axes.set_xscale("log")
    shown = sorted({level for level in levels if level < 1}) or [0.0]
    densest, sparsest = 1 - shown[0], 1 - shown[-1]
    spread = max(densest / sparsest, 1.5)
    axes.set_xlim(densest * spread**0.04, sparsest / spread**0.04)
    ticks: list[float] = []
    for level in [shown[0], *reversed(shown[1:])]:  # both ends first, so they keep their labels
        position = np.log(1 - level)
        if all(abs(position - np.log(1 - tick)) > np.log(spread) / room for tick in ticks):
            ticks.append(level)
    axes.xaxis.set_major_locator(FixedLocator([1 - tick for tick in sorted(ticks)]))
    axes.xaxis.set_major_formatter(FixedFormatter([f"{100 * t:.3g}" for t in sorted(ticks)]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(SPARSITY_LABEL)
