"""The answer in the terminal: a table and one sentence. Pure functions of the summary."""

from collections.abc import Mapping, Sequence
from typing import Any

from lth_flax.analysis.statistics import level_name

CHECKPOINT_NAMES = {"last": "last epoch", "best": "epoch with the best validation accuracy"}
_WIDTH = 100


def verdict_sentence(summary: Mapping[str, Any]) -> str:
    """The verdict on the headline control, with its numbers, in one sentence."""
    if summary["headline"]:
        return summary["headline"]["sentence"]
    arms = ", ".join(summary["arms"])
    return f"No verdict: it needs tickets and a control, and the arms here are {arms}."


def terminal_table(summary: Mapping[str, Any]) -> str:
    """Test accuracy (%) with half the t interval, arms as columns, at most 100 characters wide."""
    rows = accuracy_rows(summary)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines: list[str] = []
    for block in _fit(widths):
        for row in rows:
            cells = (row[column].rjust(widths[column]) for column in block)
            lines.append("  ".join(cells).rstrip())
        lines.append("")
    n = len(summary["seeds"])
    spread = f" ± half of the {confidence_name(summary)} t interval" if n > 1 else ""
    epoch = CHECKPOINT_NAMES[summary["primary_checkpoint"]]
    lines.append(f"test accuracy in %, mean{spread}, n = {n} seed{'s' * (n != 1)}, {epoch}")
    return "\n".join(lines)


def _fit(widths: Sequence[int]) -> list[list[int]]:
    """Columns in blocks that fit the terminal, each beginning with the levels."""
    blocks, used = [[0]], widths[0]
    for column in range(1, len(widths)):
        if used + 2 + widths[column] > _WIDTH and len(blocks[-1]) > 1:
            blocks.append([0])
            used = widths[0]
        blocks[-1].append(column)
        used += 2 + widths[column]
    return blocks


def accuracy_rows(summary: Mapping[str, Any]) -> list[list[str]]:
    """Header, then dense, then one row per level: the same table everywhere."""
    found = summary["checkpoints"][summary["primary_checkpoint"]]
    cells = {(entry["arm"], entry["target_sparsity"]): entry for entry in found["table"]}
    arms = [arm for arm in summary["arms"] if arm != "dense"]
    dense = next((entry for (arm, _), entry in cells.items() if arm == "dense"), None)
    if not arms:
        return [["", "accuracy"], ["dense", plus_minus(dense)]]
    header = ["sparsity", *arms]
    gaps: dict[float, Mapping[str, Any]] = {}
    if summary["headline"]:
        control = summary["headline"]["control"]
        header.append(f"{summary['options']['treatment']} − {control}")
        gaps = {
            entry["target_sparsity"]: entry for entry in found["comparisons"][control]["levels"]
        }
    rows = [header]
    if dense:
        rows.append(["dense", plus_minus(dense), *[""] * (len(header) - 2)])
    for level in summary["levels"]:
        row = [level_name(level), *(plus_minus(cells.get((arm, level))) for arm in arms)]
        if summary["headline"]:
            row.append(plus_minus(gaps.get(level), sign="+"))
        rows.append(row)
    return rows


def plus_minus(entry: Mapping[str, Any] | None, sign: str = "") -> str:
    """A mean with half its interval.

    >>> plus_minus({"mean": 88.41, "interval": [88.0, 88.82]})
    '88.41 ± 0.41'
    """
    if entry is None or entry.get("mean") is None:
        return "–"
    mean = f"{entry['mean']:{sign}.2f}"
    if not entry["interval"]:
        return mean
    low, high = entry["interval"]
    return f"{mean} ± {(high - low) / 2:.2f}"


def confidence_name(summary: Mapping[str, Any]) -> str:
    """ "95%", or what the summary was made with."""
    return f"{100 * summary['options']['confidence']:g}%"


def diverged_sentence(summary: Mapping[str, Any]) -> str:
    """How many networks diverged and how they count; nothing where none did."""
    found = summary["diverged"]
    if not found["count"]:
        return ""
    first = ", ".join(
        f"{row['row_id']} in epoch {row['diverged_epoch']}" for row in found["rows"][:3]
    )
    more = ", ..." if found["count"] > 3 else ""
    networks = f"{found['count']} network{'s' * (found['count'] > 1)}"
    return f"Diverged: {networks} ({first}{more}); {found['treatment']}."
