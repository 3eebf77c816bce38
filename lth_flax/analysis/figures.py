"""Figures of a summary. Pure: a summary in, a `Figure` out, no pyplot and so no global state.

`figure_bytes` gives the same bytes for the same summary, as PNG or SVG.
"""

import io
from collections.abc import Mapping
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from lth_flax.analysis.draw_accuracy import accuracy_figure
from lth_flax.analysis.draw_density import density_figure
from lth_flax.analysis.draw_gap import gap_figure
from lth_flax.analysis.paper import Curve
from lth_flax.analysis.plot_style import RC

__all__ = ["accuracy_figure", "density_figure", "figure_bytes", "figures_of", "gap_figure"]


def figures_of(
    summary: dict[str, Any], paper: Mapping[str, Curve] | None = None
) -> dict[str, Figure]:
    """Every figure that the summary has data for, by file name without suffix."""
    figures = {"accuracy": accuracy_figure(summary, paper=paper)}
    if summary["checkpoints"][summary["primary_checkpoint"]]["comparisons"]:
        figures["gap"] = gap_figure(summary)
    if any(isinstance(table, list) for table in summary["density"].values()):
        figures["density"] = density_figure(summary)
    return figures


def figure_bytes(figure: Figure, kind: str = "png", dpi: int = 160) -> bytes:
    """The figure as "png" or "svg", the same bytes every time: no dates, no random ids."""
    stream = io.BytesIO()
    metadata = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    with matplotlib.rc_context(RC):
        figure.savefig(stream, format=kind, dpi=dpi, metadata=metadata)
    return stream.getvalue()
