"""The answer in the terminal: a table and sentences. Pure functions of the summary."""

from collections.abc import Mapping, Sequence
from typing import Any

from lth_flax.analysis.statistics import level_name, reach

CHECKPOINT_NAMES = {"last": "last epoch", "best": "epoch with the best validation score"}
_WIDTH = 100

Summary = Mapping[str, Any]
Configuration = Mapping[str, Any]
Rows = list[list[str]]
"""A table as text: its header, then its rows."""


def scored(one: Configuration) -> dict[str, Any]:
    """What was found at the checkpoint that a configuration is judged by."""
    return one["checkpoints"][one["primary_checkpoint"]]


def terminal_text(summary: Mapping[str, Any]) -> str:
    """The whole answer: every configuration's table, the main finding, factors, what failed."""
    configurations = summary["configurations"]
    parts = []
    if len(configurations) > 1:
        parts.append("\n".join(_aligned(overview_rows(summary))))
    for one in configurations:
        if len(configurations) > 1 and not one["levels"]:
            continue
        title = f"{one['name']}:\n" if one["name"] else ""
        parts.append(title + "\n".join(_table_lines(summary, one)))
        if one["checkpoints"][one["primary_checkpoint"]]["retraining"]:
            parts.append("\n".join(_aligned(retraining_rows(one))))
        diverged = diverged_sentence(one)
        parts += [diverged] if diverged else []
    parts.append("\n".join(_caption(summary, configurations[0])))
    return "\n\n".join([*parts, *sentences(summary)])


def sentences(summary: Mapping[str, Any]) -> list[str]:
    """The main finding and its story, then what the factors do."""
    found = [verdict_sentence(summary)]
    if summary["headline"] and summary["headline"]["story"]:
        found.append(summary["headline"]["story"])
    tests = [test["sentence"] for test in summary["factor_tests"]]
    if summary["chosen_rates"]:
        tests.append(summary["chosen_rates"]["test"]["sentence"])
    return found + [test for test in tests if test not in found]


def verdict_sentence(summary: Mapping[str, Any]) -> str:
    """The main finding, with its numbers, in one sentence."""
    headline = summary["headline"]
    if headline:
        where = (
            f"{headline['where'][0].upper()}{headline['where'][1:]}: " if headline["where"] else ""
        )
        return where + headline["sentence"]
    arms = sorted({arm for one in summary["configurations"] for arm in one["arms"]})
    unfinished = [one["unfinished"] for one in summary["configurations"] if one["unfinished"]]
    said = f"No verdict: it needs tickets and a control, and the arms here are {', '.join(arms)}"
    return ". ".join([said, *unfinished[:1]]) + "."


def terminal_table(summary: Mapping[str, Any], configuration: Configuration | None = None) -> str:
    """Test accuracy (%) with half the interval, arms as columns, at most 100 characters wide."""
    one = configuration or summary["configurations"][0]
    return "\n".join([*_table_lines(summary, one), "", *_caption(summary, one)])


def _table_lines(summary: Mapping[str, Any], one: Configuration) -> list[str]:
    rows = accuracy_rows(summary, one)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines: list[str] = []
    for block in _fit(widths):
        for row in rows:
            cells = (row[column].rjust(widths[column]) for column in block)
            lines.append("  ".join(cells).rstrip())
        lines.append("")
    return lines[:-1]


def _caption(summary: Mapping[str, Any], one: Configuration) -> list[str]:
    """What the numbers of a table are."""
    n = len(one["seeds"])
    spread = f" ± half of the {confidence_name(summary)} interval" if n > 1 else ""
    epoch = CHECKPOINT_NAMES[one["primary_checkpoint"]]
    what = score_name(summary["metric"])
    line = f"{what}, mean{spread}, n = {n} seed{'s' * (n != 1)}, {epoch}"
    return [line, f"interval: {one['variance']['words']}"] if n > 1 else [line]


def score_name(metric: Mapping[str, Any]) -> str:
    """What a table shows."""
    name = f"test {metric['name'].replace('_', ' ')}"
    if metric["unit"] == "points":
        return f"{name} in %"
    return name if metric["higher_is_better"] else f"{name} (lower is better)"


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


def accuracy_rows(
    summary: Mapping[str, Any], configuration: Configuration | None = None
) -> list[list[str]]:
    """Header, then dense, then one row per level: the same table everywhere."""
    one = configuration or summary["configurations"][0]
    found = one["checkpoints"][one["primary_checkpoint"]]
    cells = {(cell["arm"], cell["target_sparsity"]): cell["score"] for cell in found["table"]}
    arms = [arm for arm in one["arms"] if arm != "dense"]
    dense = cells.get(("dense", 0.0))
    if not arms:
        return [["", summary["metric"]["name"]], ["dense", plus_minus(dense)]]
    header = ["sparsity", *arms]
    gaps: dict[float, Any] = {}
    control = summary["options"]["headline_control"]
    comparison = found["comparisons"].get(control) or next(
        iter(found["comparisons"].values()), None
    )
    if comparison:
        pair = [summary["options"]["treatment"], comparison["control"]]
        # A gap says how much better.
        header.append(" − ".join(pair if summary["metric"]["higher_is_better"] else pair[::-1]))
        gaps = {entry["target_sparsity"]: entry["gap"] for entry in comparison["levels"]}
    rows = [header]
    if dense:
        rows.append(["dense", plus_minus(dense), *[""] * (len(header) - 2)])
    for level in one["levels"]:
        row = [level_name(level), *(plus_minus(cells.get((arm, level))) for arm in arms)]
        if comparison:
            row.append(plus_minus(gaps.get(level), sign="+"))
        rows.append(row)
    return rows


def overview_rows(summary: Mapping[str, Any]) -> list[list[str]]:
    """Of a grid: header, then one row for each configuration."""
    ones = [
        (one["name"], one["checkpoints"][one["primary_checkpoint"]])
        for one in summary["configurations"]
    ]
    arms = sorted({arm for _, found in ones for arm in found["breakdown"]["arms"]})
    kinds = [(arm, kind) for arm in arms for kind in ("breakdown", "crater")]
    controls = sorted({control for _, found in ones for control in found["comparisons"]})
    treatment = summary["options"]["treatment"]
    header = ["configuration", "dense", *(f"{arm}: {kind}" for arm, kind in kinds)]
    rows = [header + [f"{treatment} − {control}" for control in controls]]
    for name, found in ones:
        dense = next((c["score"] for c in found["table"] if c["arm"] == "dense"), None)
        primaries = [found["comparisons"].get(control) for control in controls]
        rows.append(
            [
                name,
                plus_minus(dense),
                *(crossing_text(found[kind]["arms"].get(arm)) for arm, kind in kinds),
                *(
                    plus_minus(one["primary"]["gap"] if one and one["primary"] else None, sign="+")
                    for one in primaries
                ),
            ]
        )
    return rows


def crossing_text(crossings: Mapping[str, Any] | None) -> str:
    """A breakdown or crater sparsity: its mean, or the median and how many broke."""
    if crossings is None:
        return "–"
    found, total = crossings["sparsity"], len(crossings["runs"])
    if found is None:
        bound = "≥ " if 2 * crossings["broke"] <= total else ""
        return (
            f"median {bound}{100 * crossings['median']:.1f}% ({crossings['broke']}/{total} broke)"
        )
    half = ""
    if found["interval"]:
        half = f" ± {50 * (found['interval'][1] - found['interval'][0]):.1f}"
    return f"{100 * found['mean']:.1f}%{half}"


def retraining_rows(configuration: Configuration) -> list[list[str]]:
    """Per level what retraining gains."""
    kinds = {
        "gain": "retrained − pruned",
        "over_dense": "retrained − dense",
        "over_dense_retrained": "retrained − dense retrained",
    }
    rows = [["sparsity", *kinds.values()]]
    found = configuration["checkpoints"][configuration["primary_checkpoint"]]
    for level in found["retraining"]:
        cells = [plus_minus(level[kind]["estimate"], sign="+") for kind in kinds]
        rows.append([level_name(level["target_sparsity"]), *cells])
    return rows


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return lines


def plus_minus(estimate: Mapping[str, Any] | None, sign: str = "") -> str:
    """A mean with half its interval.

    >>> plus_minus({"mean": 88.41, "interval": [88.0, 88.82]})
    '88.41 ± 0.41'
    """
    if estimate is None or estimate.get("mean") is None:
        return "–"
    mean = f"{estimate['mean']:{sign}.2f}"
    if not estimate["interval"]:
        return mean
    low, high = estimate["interval"]
    return f"{mean} ± {(high - low) / 2:.2f}"


def confidence_name(summary: Mapping[str, Any]) -> str:
    """ "95%", or what the summary was made with."""
    return f"{100 * summary['options']['confidence']:g}%"


def reach_sentence(draws: Mapping[str, int], seeds: int, alpha: float) -> str:
    """Which controls (with their draws) so few seeds cannot tell apart, and what would; or nothing.

    >>> reach_sentence({"reinit": 1}, 5, 0.05).split(":")[0]
    'note: 5 seeds with 1 draw of reinit cannot reach p = 0.05, at best 0.062'
    """
    parts = []
    for control, number in draws.items():
        found = reach(seeds, number, alpha)
        if not found.enough:
            ways = [f"{found.seeds} seeds"] if found.seeds else []
            ways += [f"{found.draws} draws each"] if found.draws else []
            parts.append(
                f"{seeds} seed{'s' * (seeds != 1)} with {number} draw{'s' * (number != 1)} of "
                f"{control} cannot reach p = {alpha:g}, at best {found.smallest_p:.2g}: "
                f"{' or '.join(ways) or 'no number of either'} would"
            )
    return f"note: {'; '.join(parts)} (blocks that are merged count together)" if parts else ""


def diverged_sentence(configuration: Configuration) -> str:
    """How many networks diverged and how they count; nothing where none did."""
    found = configuration["diverged"]
    if not found["count"]:
        return ""
    first = ", ".join(
        f"{row['row_id']} in epoch {row['diverged_epoch']}" for row in found["rows"][:3]
    )
    more = ", ..." if found["count"] > 3 else ""
    networks = f"{found['count']} network{'s' * (found['count'] > 1)}"
    return f"Diverged: {networks} ({first}{more}); {found['treatment']}."
