"""Figures of a comparison: one line for each configuration.

Depth is colour and marker, learning rate (or epochs) the style of the line.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lth_flax.analysis.paper import Curve
from lth_flax.analysis.plot_style import GREY, RC, SPARE_STYLES, STYLES, sparsity_axis

Comparison = Mapping[str, Any]

LINES: list[Any] = ["-", (0, (5, 2)), (0, (2, 1.5)), (0, (6, 2, 1, 2)), (0, (1, 2))]
PALETTE = [*((color, marker) for color, marker, _ in STYLES.values())] + [
    (color, marker) for color, marker, _ in SPARE_STYLES
]
AXES = {
    "pruned": "pruned, no training after",
    "retrained": "pruned and trained on",
    "ticket": "ticket",
    "reinit": "reinit",
}


def styles(comparison: Comparison) -> list[dict[str, Any]]:
    """Line style of each configuration."""
    factors = list(comparison["factors"])
    first = factors[0] if factors else "num_layers"
    rest = factors[1:]
    colors = comparison["factors"].get(first, [])
    combinations = sorted({tuple(c[name] for name in rest) for c in comparison["configurations"]})
    result = []
    for one in comparison["configurations"]:
        index = colors.index(one[first]) if one[first] in colors else 0
        color, marker = PALETTE[index % len(PALETTE)]
        line = LINES[combinations.index(tuple(one[name] for name in rest)) % len(LINES)]
        result.append({"color": color, "marker": marker, "linestyle": line})
    return result


def curves_figure(
    comparison: Comparison, paper: Mapping[str, Curve] | None = None, note: str = ""
) -> Figure:
    """Test accuracy against sparsity, a panel for each arm that prunes; the average is thick."""
    arms = _pruned_arms(comparison)
    with matplotlib.rc_context(RC):
        width = min(5.6 * len(arms), 11.2) if len(arms) > 1 else 7.0
        figure = Figure(figsize=(width, 5.0), layout="constrained")
        panels = figure.subplots(1, len(arms), sharey=True, squeeze=False)[0]
        levels = sorted({x["target_sparsity"] for a in arms for x in _all_cells(comparison, a)})
        for axes, arm in zip(panels, arms, strict=True):
            _curves(axes, comparison, arm)
            for number, (series, points) in enumerate(_of_arm(paper or {}, arm).items()):
                x, y = zip(*((1 - s, value) for s, value in points), strict=True)
                axes.plot(x, y, color="black", linewidth=0.8, linestyle=":", zorder=1)
                at = min(4 * number, len(points) - 1)  # names beside each other, not on top
                axes.annotate(series, (x[at], y[at]), fontsize=6.5, va="bottom", ha="left")
                levels = sorted({*levels, *(s for s, _ in points)})
            axes.axhline(
                comparison["majority_accuracy"], color="black", linewidth=1, linestyle=(0, (1, 2.5))
            )
            sparsity_axis(axes, [0.0, *levels], room=10 if len(arms) > 1 else 16)
            if len(arms) > 1:
                axes.set_xlabel("Sparsity (%), log scale of what remains")
            axes.set_title(AXES.get(arm, arm), loc="left")
        panels[0].set_ylabel("Test accuracy (%)")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=3 if len(arms) == 1 else 4,
            handlelength=3.4,
        )
        dotted = "dotted: majority class" + (", and the paper's own curves" if paper else "")
        figure.suptitle(
            f"{_caption(comparison)}\nmean over seeds; dense at 0; {dotted}{note}",
            x=0.01, ha="left", color=GREY, fontsize=8,
        )  # fmt: skip
    return figure


def _of_arm(paper: Mapping[str, Curve], arm: str) -> dict[str, Curve]:
    """The paper's curves of this arm: its figure 4 tells before from after retraining."""
    other = {"pruned": "after retraining", "retrained": "before retraining"}.get(arm)
    return {name: points for name, points in paper.items() if not (other and other in name)}


def _pruned_arms(comparison: Comparison) -> list[str]:
    arms = {arm for one in comparison["configurations"] for arm in one["breakdown"]}
    return sorted(arms, key=lambda arm: (list(AXES).index(arm) if arm in AXES else 99, arm))


def _all_cells(comparison: Comparison, arm: str) -> list[Mapping[str, Any]]:
    return [cell for one in comparison["configurations"] for cell in one["arms"].get(arm, [])]


def _curves(axes: Axes, comparison: Comparison, arm: str) -> None:
    for one, style in zip(comparison["configurations"], styles(comparison), strict=True):
        cells = [cell for cell in one["arms"].get(arm, []) if cell["mean"] is not None]
        if not cells:
            continue
        x = [1.0, *(1 - cell["target_sparsity"] for cell in cells)]
        means = [one["dense"]["mean"], *(cell["mean"] for cell in cells)]
        axes.plot(x, means, linewidth=1.3, markersize=4, label=one["name"] or arm, **style)
    average = comparison["average"].get(arm, [])
    if len(comparison["configurations"]) > 1 and average:
        axes.plot(
            [1 - cell["target_sparsity"] for cell in average],
            [cell["mean"] for cell in average],
            color="black", linewidth=2.4, alpha=0.55, zorder=5, label="average",
        )  # fmt: skip


def breakdown_figure(comparison: Comparison) -> Figure:
    """Breakdown sparsity of every configuration: each seed, the mean and its interval."""
    arms = _pruned_arms(comparison)
    with matplotlib.rc_context(RC):
        number = len(comparison["configurations"])
        figure = Figure(figsize=(7.0, 1.6 + 0.34 * number * len(arms)), layout="constrained")
        axes = figure.add_subplot()
        names, place = [], 0
        for one, style in zip(comparison["configurations"], styles(comparison), strict=True):
            for arm in arms:
                cell = one["breakdown"].get(arm)
                if cell is None:
                    continue
                label = one["name"] or arm
                names.append(f"{label}: {arm}" if len(arms) > 1 and one["name"] else label)
                values = [100 * value for _, value in cell["by_seed"]]
                axes.plot(
                    values,
                    [place] * len(values),
                    "|",
                    color=style["color"],
                    markersize=9,
                    alpha=0.6,
                )
                if cell["mean"] is not None:
                    mean = 100 * cell["mean"]
                    low, high = cell["interval"] or [cell["mean"]] * 2
                    axes.errorbar(
                        mean, place, xerr=[[mean - 100 * low], [100 * high - mean]], capsize=3,
                        color=style["color"], marker=style["marker"], markersize=5,
                    )  # fmt: skip
                else:
                    axes.text(
                        0.02, place, "does not beat the majority class", fontsize=7, color=GREY,
                        va="center", transform=axes.get_yaxis_transform(),
                    )  # fmt: skip
                if cell["censored"]:
                    text = f" ≥ in {cell['censored']} of {cell['runs']}"
                    axes.text(
                        1.0, place, text, fontsize=7, color=GREY, va="center",
                        transform=axes.get_yaxis_transform(),
                    )  # fmt: skip
                place += 1
        low, high = axes.get_xlim()  # intervals of few seeds can leave what is possible
        axes.set_xlim(max(low, 0), min(high, 100))
        axes.set_yticks(range(place), names)
        axes.set_ylim(place - 0.4, -0.6)
        axes.set_xlabel("Breakdown sparsity (%): last level within 1 point of dense")
        axes.set_title(
            f"{_caption(comparison)}\nevery seed, mean and 95% t interval",
            loc="left", color=GREY, fontsize=8,
        )  # fmt: skip
    return figure


def retraining_figure(comparison: Comparison) -> Figure:
    """Gain of retraining against sparsity, and what of it the dense network has too."""
    kinds = {
        "gain": "retrained minus pruned",
        "over_dense_retrained": "retrained minus the dense network, trained on just as long",
    }
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(10.4, 4.6), layout="constrained")
        panels = figure.subplots(1, 2)
        for axes, (kind, title) in zip(panels, kinds.items(), strict=True):
            levels: set[float] = set()
            for one, style in zip(comparison["configurations"], styles(comparison), strict=True):
                cells = [c for c in one.get("retraining", []) if c[kind]["mean"] is not None]
                if not cells:
                    continue
                x = np.array([1 - cell["target_sparsity"] for cell in cells])
                levels |= {cell["target_sparsity"] for cell in cells}
                means = [cell[kind]["mean"] for cell in cells]
                axes.plot(x, means, linewidth=1.4, markersize=4, label=one["name"] or kind, **style)
                bounds = [cell[kind]["interval"] for cell in cells]
                if all(bounds):
                    low, high = zip(*bounds, strict=True)
                    axes.fill_between(x, low, high, color=style["color"], alpha=0.13, linewidth=0)
            axes.axhline(0, color=GREY, linewidth=1)
            if levels:
                sparsity_axis(axes, sorted(levels), room=10)
            axes.set_xlabel("Sparsity (%), log scale of what remains")
            axes.set_ylabel("Test accuracy (points)")
            axes.set_title(title, loc="left")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, handlelength=3.4)
        figure.suptitle(
            f"{_caption(comparison)}; mean and 95% t interval over seeds",
            x=0.01, ha="left", color=GREY, fontsize=8,
        )  # fmt: skip
    return figure


def figures_of_comparison(
    comparison: Comparison, paper: Mapping[str, Curve] | None = None
) -> dict[str, Figure]:
    """Every figure that the comparison has data for, by file name without suffix."""
    figures: dict[str, Figure] = {}
    if _pruned_arms(comparison):
        figures["comparison_accuracy"] = curves_figure(comparison, paper)
        figures["comparison_breakdown"] = breakdown_figure(comparison)
    if any("retraining" in one for one in comparison["configurations"]):
        figures["comparison_retraining"] = retraining_figure(comparison)
    return figures


def _caption(comparison: Comparison) -> str:
    n = len(comparison["seeds"])
    return (
        f"{comparison['experiment']}, {comparison['dataset']}, {comparison['schedule']} pruning, "
        f"last epoch; n = {n} seed{'s' * (n != 1)}"
    )


__all__: Sequence[str] = ("breakdown_figure", "curves_figure", "figures_of_comparison")
