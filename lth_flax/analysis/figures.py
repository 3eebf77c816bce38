"""Figures of a summary. Pure: a summary in, a `Figure` out, no pyplot and so no global state.

`figure_bytes` gives the same bytes for the same summary, as PNG or SVG.
"""

import io
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from lth_flax.analysis.draw_density import density_figure, masks_of
from lth_flax.analysis.draw_learning import learning_figure
from lth_flax.analysis.draw_scores import (
    accuracy_figure,
    breakdown_figure,
    breakdown_rows,
    gap_figure,
    retraining_figure,
)
from lth_flax.analysis.paper import Curve
from lth_flax.analysis.plot_style import PAGE_MM, style
from lth_flax.analysis.terminal import Summary, scored
from lth_flax.files import write_bytes_atomic


def figures_of(
    summary: Summary,
    paper: Mapping[str, Curve] | None = None,
    width_mm: float = PAGE_MM,
) -> dict[str, Figure]:
    """Every figure that the summary has data for, by file name without suffix.

    Configurations that are no grid (of other data sets, say) have figures of their own:
    "accuracy", "accuracy_2" and so on.
    """
    ones = summary["configurations"]
    if summary["factors"] or len(ones) == 1:
        return _figures(summary, paper, width_mm)
    return {
        f"{name}_{number}" if number > 1 else name: figure
        for number, one in enumerate(ones, start=1)
        for name, figure in _figures({**summary, "configurations": [one]}, paper, width_mm).items()
    }


def _figures(
    summary: Summary, paper: Mapping[str, Curve] | None, width_mm: float
) -> dict[str, Figure]:
    ones = summary["configurations"]
    at = [scored(one) for one in ones]
    figures = {}
    if summary["factors"] or any(one["levels"] for one in ones):  # else a single point
        figures["accuracy"] = accuracy_figure(summary, paper, width_mm)
    if any(gaps["levels"] for one in at for gaps in one["comparisons"].values()):
        figures["gap"] = gap_figure(summary, width_mm)
    if any(one["learning_curves"] for one in ones):
        figures["learning"] = learning_figure(summary, width_mm)
    if any(one["retraining"] for one in at):
        figures["retraining"] = retraining_figure(summary, width_mm)
    if breakdown_rows(summary):
        figures["breakdown"] = breakdown_figure(summary, width_mm)
    with_masks = next((one for one in ones if masks_of(one)), None)
    if with_masks:
        figures["density"] = density_figure(with_masks, summary["options"]["treatment"], width_mm)
    return figures


def figure_bytes(figure: Figure, kind: str = "png", dpi: int = 200) -> bytes:
    """The figure as "png" or "svg", the same bytes every time: no dates, no random ids."""
    stream = io.BytesIO()
    metadata = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    with style():
        figure.savefig(stream, format=kind, dpi=dpi, metadata=metadata)
    return stream.getvalue()


def write_figure(folder: Path, name: str, figure: Figure) -> bytes:
    """Writes NAME.png and NAME.svg; the bytes of the PNG."""
    png = figure_bytes(figure, "png")
    write_bytes_atomic(folder / f"{name}.png", png)
    figure.set_layout_engine("none")  # everything is in its place; finding it again takes as long
    write_bytes_atomic(folder / f"{name}.svg", figure_bytes(figure, "svg"))
    return png
