"""Barriers against the point from which two copies were trained: one figure."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lth_flax.analysis.panels import handle
from lth_flax.analysis.plot_style import PAGE_MM, arm_styles, finish, new_figure, style
from lth_flax.analysis.stability import Line, barrier
from lth_flax.analysis.words import percent

_LABELS = {
    "train_loss": "Barrier of\ntraining loss",
    "test_error": "Barrier of\ntest error (points)",
}
_LOOKS: dict[bool, tuple[str, dict[str, Any]]] = {
    False: ("as trained", {"color": "#0072B2", "marker": "o", "linestyle": "-"}),
    True: ("units matched", {"color": "#D55E00", "marker": "s", "linestyle": (0, (5, 2))}),
}
STABLE_POINTS = 2.0
"""Points of error below which a network counts as stable (arXiv 1912.05671)."""


def connectivity_figure(lines: Sequence[Line], note: str) -> Figure:
    """Rows: training loss, test error. Columns: rates, sparsities. Points: seeds; lines: means."""
    families = list(dict.fromkeys((line.learning_rate, line.sparsity) for line in lines))
    points = list(dict.fromkeys((line.rewind_step, line.rewind_point) for line in lines))
    with style():
        figure = new_figure()
        grid = figure.subplots(2, len(families), squeeze=False, sharex=True, sharey="row")
        for row, (measure, label) in enumerate(_LABELS.items()):
            grid[row, 0].set_ylabel(label)
            for column, family in enumerate(families):
                axes = grid[row, column]
                for matched, (_, look) in _LOOKS.items():
                    found = [
                        [
                            barrier(getattr(line, measure))
                            for line in lines
                            if (line.learning_rate, line.sparsity) == family
                            and (line.rewind_step, line.matched) == (step, matched)
                        ]
                        for step, _ in points
                    ]
                    at = np.arange(len(points)) + (0.05 if matched else -0.05)
                    for place, values in zip(at, found, strict=True):
                        axes.plot(
                            [place] * len(values), values, linestyle="", marker=".",
                            markersize=2.5, alpha=0.5, color=look["color"], zorder=2,
                        )  # fmt: skip
                    means = [np.mean(values) if values else np.nan for values in found]
                    axes.plot(at, means, linewidth=1.1, markersize=3.5, zorder=3, **look)
                if measure == "test_error":
                    axes.axhline(STABLE_POINTS, color="#444444", linewidth=0.6, linestyle=":")
                axes.set_xticks(range(len(points)), [name for _, name in points])
        for column, (rate, sparsity) in enumerate(families):
            tickets = f"\ntickets of {percent(sparsity)}%" if sparsity else ""
            grid[0, column].set_title(f"learning rate {rate:g}{tickets}")
            grid[-1, column].set_xlabel("Copies part after\n(epochs, or share of training)")
        handles = [handle(name, look) for name, look in _LOOKS.values()]
        text = f"{note}\nthe highest point on the line between two copies, above the mean of its "
        text += f"ends; small points: seeds; dotted: {STABLE_POINTS:g} points, stable below"
        return finish(figure, PAGE_MM, 80, handles, text)


def gap_figure(lines: Sequence[Line], note: str) -> Figure:
    """What tickets are ahead of their masks on fresh weights, against how stable they are.

    A large point is the mean over seeds at one rewind point, a small one a seed.
    """
    tickets = [line for line in lines if line.sparsity and not line.matched]
    families = dict.fromkeys((line.learning_rate, line.sparsity) for line in tickets)
    names = {family: f"rate {family[0]:g}, {percent(family[1])}%" for family in families}
    looks = arm_styles(list(names.values()))
    with style():
        figure = new_figure()
        axes = figure.subplots()
        for family, name in names.items():
            look = {**looks[name], "linestyle": ""}
            mine = [line for line in tickets if (line.learning_rate, line.sparsity) == family]
            for point in dict.fromkeys(line.rewind_point for line in mine):
                some = [line for line in mine if line.rewind_point == point]
                found = [(barrier(line.test_error), line.gap) for line in some]
                axes.plot(*zip(*found, strict=True), **{**look, "markersize": 2.0}, alpha=0.4)
                mean = np.mean(found, axis=0)
                axes.plot(*mean, **{**look, "markersize": 4.5}, zorder=3)
                axes.annotate(point, mean, (3, 3), textcoords="offset points", fontsize=6)
        axes.axhline(0, color="#444444", linewidth=0.6)
        axes.axvline(STABLE_POINTS, color="#444444", linewidth=0.6, linestyle=":")
        axes.set_xlabel("Barrier of test error between two copies (points)")
        axes.set_ylabel("Ticket minus reinit\n(points of accuracy)")
        text = f"{note}\nlarge points: means over seeds, by rewind point; small points: seeds; "
        text += f"dotted: {STABLE_POINTS:g} points, stable to its left"
        handles = [handle(name, {**looks[name], "linestyle": ""}) for name in names.values()]
        return finish(figure, PAGE_MM, 75, handles, text)
