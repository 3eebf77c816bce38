"""The paper's own curves, read off its plots to about half a point: facts, for comparison."""

import csv
from pathlib import Path

from lth_flax.errors import UserError

FIGURES = (1, 2, 3, 4)
Curve = list[tuple[float, float]]
"""(sparsity as a share, test accuracy in percent), sparsities rising."""


def paper_curves(figure: int) -> dict[str, Curve]:
    """The curves of one of the paper's figures, by what its legend calls them.

    Raises:
      UserError: there is no such figure.
    """
    if figure not in FIGURES:
        raise UserError(f"the paper has no figure {figure}: expected one of 1 to {FIGURES[-1]}")
    curves: dict[str, Curve] = {}
    with open(Path(__file__).with_name("paper_figures.csv"), newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if int(row["figure"]) == figure:
                point = (float(row["pruning_rate"]), 100 * float(row["test_accuracy"]))
                curves.setdefault(row["series"], []).append(point)
    return {name: sorted(points) for name, points in curves.items()}
