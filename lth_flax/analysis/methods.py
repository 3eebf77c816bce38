"""Ways to a mask beside each other: one table, one figure, tests adjusted for their number."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from lth_flax.analysis.figures import write_figure
from lth_flax.analysis.panels import handle
from lth_flax.analysis.plot_style import (
    PAGE_MM,
    SparsityScale,
    arm_styles,
    finish,
    new_figure,
    style,
    what_ran,
)
from lth_flax.analysis.seed_scores import scores_by_seed
from lth_flax.analysis.tables import at_own_rates, cells_of
from lth_flax.analysis.terminal import Summary, adjusted_for_methods, aligned, scored
from lth_flax.analysis.words import level_name, score_label
from lth_flax.files import write_text_atomic
from lth_flax.records import Record, csv_text


class Line(NamedTuple):
    """One method at one level.

    score: mean over seeds; steps, dense_steps: of its search and training, means.
    gap: of the first method to this one over the levels, better is positive; p: two-sided;
      p_adjusted: for the number of methods (Holm). None of the first, and where there is no test.
    """

    method: str
    target_sparsity: float
    score: float
    steps: float
    dense_steps: float
    gap: float | None
    p: float | None
    p_adjusted: float | None


def lines_of(summary: Summary, records: Sequence[Record]) -> list[Line]:
    """Every method at every level, each at the learning rate that its validation score chooses
    there, where there are several.
    """
    one = summary["configurations"][0]
    found = (summary["own_rates"] or [scored(one)])[0]["comparisons"]
    tested = {name: test["primary"] for name, test in found.items() if test["primary"] is not None}
    adjusted = adjusted_for_methods(summary)
    lines = []
    rows_of = cells_of(at_own_rates(records, one["primary_checkpoint"]))
    for (arm, level), rows in rows_of.items():
        primary = tested.get(arm)
        trained = [row for row in rows if row.train_steps]
        lines.append(
            Line(
                arm,
                level,
                _mean(list(scores_by_seed(rows).values())),
                _mean([row.mask_steps + (row.train_steps or 0) for row in trained]),
                _mean([row.dense_steps or 0.0 for row in trained]),
                primary["gap"]["mean"] if primary else None,
                primary["p"] if primary else None,
                adjusted.get(arm),
            )
        )
    return lines


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(sorted(values))) if values else float("nan")


def table(lines: Sequence[Line], treatment: str) -> str:
    """One row per method, for a terminal: scores by level, cost at the last one, the test."""
    levels = sorted({line.target_sparsity for line in lines if line.target_sparsity})
    methods = dict.fromkeys(line.method for line in lines)
    rows = [["method", *(level_name(level) for level in levels), "steps", "dense steps",
             f"{treatment} minus it", "p", "adjusted p"]]  # fmt: skip
    for method in methods:
        mine = {line.target_sparsity: line for line in lines if line.method == method}
        last = mine[max(mine)]
        scores = [f"{mine[level].score:.2f}" if level in mine else "" for level in levels]
        if list(mine) == [0.0]:
            scores = [f"{last.score:.2f}"] + [""] * (len(levels) - 1)
        rows.append(
            [
                method, *scores, f"{last.steps:,.0f}", f"{last.dense_steps:,.0f}",
                "" if last.gap is None else f"{last.gap:+.2f}",
                "" if last.p is None else f"{last.p:.2g}",
                "" if last.p_adjusted is None else f"{last.p_adjusted:.2g}",
            ]
        )  # fmt: skip
    return aligned(rows)


def methods_figure(summary: Summary, lines: Sequence[Line]) -> Figure:
    """Scores against sparsity, and against what search and training cost together."""
    methods = list(dict.fromkeys(line.method for line in lines))
    styles = arm_styles(methods)
    with style():
        figure = new_figure()
        left, right = figure.subplots(1, 2, sharey=True)
        scale = SparsityScale([line.target_sparsity for line in lines])
        for method in methods:
            mine = [line for line in lines if line.method == method]
            scores = [line.score for line in mine]
            shown = {**styles[method], "markersize": 3}
            left.plot([scale(line.target_sparsity) for line in mine], scores, **shown)
            right.plot([line.dense_steps for line in mine], scores, **shown)
        scale.label(left, PAGE_MM / 2)
        right.set_xscale("log")
        right.xaxis.set_major_formatter("{x:,.0f}")
        right.xaxis.set_minor_formatter("")
        right.set_xlabel("Cost: dense-equivalent training steps, search included")
        left.set_ylabel(score_label(summary["metric"]))
        handles = [handle(method, styles[method]) for method in methods]
        rates = ", each at the learning rate that validation chose" * bool(summary["own_rates"])
        caption = f"{what_ran(summary)}\nmeans over seeds{rates}"
        return finish(figure, PAGE_MM, 75.0, handles, caption)


def write_methods(
    directory: Path, summary: Summary, records: Sequence[Record], *, draw: bool = True
) -> str:
    """Writes methods.csv and, to be drawn, report/methods.png and .svg.

    Returns:
      the table for a terminal.
    """
    lines = lines_of(summary, records)
    write_text_atomic(directory / "methods.csv", csv_text(Line._fields, lines))
    if draw:
        write_figure(directory / "report", "methods", methods_figure(summary, lines))
    return table(lines, summary["options"]["treatment"])
