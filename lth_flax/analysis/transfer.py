"""What tickets are worth elsewhere: a table of where they come from and where they are trained."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from lth_flax.analysis.compare import compared
from lth_flax.analysis.merge import split_groups
from lth_flax.analysis.result import Comparison, Options
from lth_flax.analysis.statistics import holm
from lth_flax.analysis.terminal import aligned
from lth_flax.files import write_text_atomic
from lth_flax.parts import read_rows
from lth_flax.predictions import Predictions
from lth_flax.records import Record, csv_text, where

NATIVE = "native"
"""What a ticket from elsewhere is compared with: the one that was found at the target."""


class Line(NamedTuple):
    """Tickets of one source at one target, against one control.

    gap: ticket minus control, mean over levels and seeds in points, better is positive; low, high:
      its interval; p: two-sided; p_adjusted: for all lines with this control (Holm). None where
      seeds are too few.
    """

    source: str
    target: str
    control: str
    seeds: int
    gap: float | None
    low: float | None
    high: float | None
    p: float | None
    p_adjusted: float | None
    verdict: str


def place(dataset: str, settings: Mapping[str, Any]) -> str:
    """Where a network was trained, in words: what a row and a column of the table are."""
    layers = settings["num_layers"]
    return (
        f"{dataset}, {settings['optimizer']} at {settings['learning_rate']:g}, {layers} "
        f"layer{'s' * (layers != 1)}"
    )


def origin(source: str, digests: str) -> str:
    """The `mask_from` of records, of which `lines_of` reads the source again."""
    return f"tickets of {source} ({digests})"


def lines_of(
    records: Sequence[Record],
    options: Options | None = None,
    predictions: Predictions | None = None,
) -> list[Line]:
    """Every source at every target, against each control; tickets from elsewhere also against the
    target's own, of the same seeds, where these were trained too."""
    options = options or Options()
    groups = [
        (found[1], place(group[0].dataset, group[0].settings), group)
        for group in split_groups(records)
        if (found := re.match(r"tickets of (.+) \(", group[0].mask_from))
    ]
    native = {target: group for source, target, group in groups if source == target}
    lines = []
    for source, target, group in groups:
        rows = list(group)
        if source != target and target in native:
            rows += [replace(row, arm=NATIVE) for row in where(native[target], arm="ticket")]
        for control in dict.fromkeys(row.arm for row in rows):
            if control in ("dense", options.treatment):
                continue
            comparison = compared(rows, control, options, predictions=predictions)
            lines.append(_line(source, target, comparison))
    for control in {line.control for line in lines}:
        tested = {n: one.p for n, one in enumerate(lines) if one.control == control and one.p}
        for n, adjusted in zip(tested, holm(list(tested.values())), strict=True):
            lines[n] = lines[n]._replace(p_adjusted=adjusted)
    return lines


def _line(source: str, target: str, found: Comparison) -> Line:
    primary, verdict = found.primary, found.verdict
    gap = primary.gap if primary else None
    low, high = (gap and gap.interval) or (None, None)
    return Line(
        source, target, found.control, len(found.seeds), gap.mean if gap else None, low, high,
        primary.p if primary else None, None, verdict.verdict if verdict else "",
    )  # fmt: skip


def table(lines: Sequence[Line]) -> str:
    """For a terminal: a block per control, sources below each other, targets beside each other."""
    blocks = []
    for control in dict.fromkeys(line.control for line in lines):
        some = [line for line in lines if line.control == control]
        targets = list(dict.fromkeys(line.target for line in some))
        rows = [[f"ticket minus {control}, points (adjusted p)", *(f"on {one}" for one in targets)]]
        for source in dict.fromkeys(line.source for line in some):
            cells = {line.target: line for line in some if line.source == source}
            rows.append([f"of {source}", *(_cell(cells.get(one)) for one in targets)])
        blocks.append(aligned(rows))
    return "\n\n".join(blocks)


def _cell(line: Line | None) -> str:
    if line is None or line.gap is None:
        return ""
    return f"{line.gap:+.2f}" + ("" if line.p_adjusted is None else f" ({line.p_adjusted:.2g})")


def write_transfer(directory: Path, options: Options) -> str:
    """Writes transfer.csv beside the records of a directory; the table for a terminal."""
    rows = read_rows(directory)
    lines = lines_of(rows.records, options, rows.predictions)
    write_text_atomic(directory / "transfer.csv", csv_text(Line._fields, lines))
    return table(lines)
