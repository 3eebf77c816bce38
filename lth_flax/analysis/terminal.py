"""The answer in the terminal: a table and sentences. Pure functions of the summary."""

from collections.abc import Mapping, Sequence
from typing import Any

from lth_flax.analysis.statistics import holm, reach
from lth_flax.analysis.words import CHECKPOINTS, count, level_name, plain
from lth_flax.records import arm_order, grouped

_WIDTH = 100

Summary = Mapping[str, Any]
Configuration = Mapping[str, Any]
Rows = list[list[str]]
"""A table as text: its header, then its rows."""


def scored(one: Configuration) -> dict[str, Any]:
    """What was found at the checkpoint that a configuration is judged by."""
    return one["checkpoints"][one["primary_checkpoint"]]


def against_headline(summary: Summary, comparisons: Mapping[str, Any]) -> Any:
    """The comparison with the headline's control, else the first; None where there is none."""
    first = next(iter(comparisons.values()), None)
    return comparisons.get(summary["options"]["headline_control"], first)


def terminal_text(summary: Summary) -> str:
    """The whole answer: every configuration's table, the main finding, factors, what failed."""
    configurations = summary["configurations"]
    several = len(configurations) > 1
    parts = [aligned(overview_rows(summary))] if several else []
    for one in configurations:
        if several and not one["levels"]:
            continue
        title = f"{one['name']}:\n" if one["name"] else ""
        parts.append(title + _table(summary, one))
        if scored(one)["retraining"]:
            parts.append(aligned(retraining_rows(one)))
        parts += filter(None, [diverged_sentence(one)])
    return "\n\n".join([*parts, _caption(summary, configurations[0]), *sentences(summary)])


def sentences(summary: Summary) -> list[str]:
    """The main finding and its story, then what the factors do."""
    found = [verdict_sentence(summary)]
    if summary["headline"] and summary["headline"]["story"]:
        found.append(summary["headline"]["story"])
    tests = [test["sentence"] for test in summary["factor_tests"]]
    if summary["chosen_rates"]:
        tests.append(summary["chosen_rates"]["test"]["sentence"])
    return found + [test for test in tests if test not in found]


def verdict_sentence(summary: Summary) -> str:
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


def adjusted_for_methods(summary: Summary) -> dict[str, float]:
    """p of the treatment against each other method, adjusted for their number (Holm)."""
    found = (summary["own_rates"] or [scored(summary["configurations"][0])])[0]["comparisons"]
    p = {name: one["primary"]["p"] for name, one in found.items() if one["primary"]}
    return dict(zip(p, holm(list(p.values())), strict=True))


def main_finding(summary: Summary) -> str:
    """The verdict in a few words; of many methods, which differ when adjusted for their number."""
    headline = summary["headline"]
    if headline and summary["experiment"] == "compare_methods":
        adjusted, options = adjusted_for_methods(summary), summary["options"]
        differ = [plain(name) for name, p in adjusted.items() if p <= options["alpha"]]
        return (
            f"of {count(len(adjusted), 'method')}, {', '.join(differ) or 'none'} shown to differ "
            f"from {plain(options['treatment'])} (adjusted for their number)"
        )
    where = f"{headline['where']}: " if headline and headline["where"] else ""
    return where + headline["verdict"] if headline else "–"


def terminal_table(summary: Summary, configuration: Configuration | None = None) -> str:
    """Test accuracy (%) with half the interval, arms as columns, at most 100 characters wide."""
    one = configuration or summary["configurations"][0]
    return f"{_table(summary, one)}\n\n{_caption(summary, one)}"


def _table(summary: Summary, one: Configuration) -> str:
    return aligned(accuracy_rows(summary, one), left=False, width=_WIDTH)


def aligned(rows: Rows, *, left: bool = True, width: int | None = None) -> str:
    """Columns of text, all to the right but, with `left`, the first.

    Columns that do not fit into `width` go below, after the first one again.
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    blocks = [[0]]
    for column in range(1, len(widths)):
        used = sum(2 + widths[other] for other in blocks[-1]) + widths[column]
        if width and used > width and len(blocks[-1]) > 1:
            blocks.append([0])
        blocks[-1].append(column)

    def line(row: Sequence[str], block: Sequence[int]) -> str:
        cells = [row[column].rjust(widths[column]) for column in block]
        if left:
            cells[0] = row[0].ljust(widths[0])
        return "  ".join(cells).rstrip()

    return "\n\n".join("\n".join(line(row, block) for row in rows) for block in blocks)


def _caption(summary: Summary, one: Configuration) -> str:
    """What the numbers of a table are."""
    n = len(one["seeds"])
    spread = f" ± half of the {confidence_name(summary)} interval" if n > 1 else ""
    line = f"{score_name(summary['metric'])}, mean{spread}, n = {count(n, 'seed')}, "
    line += CHECKPOINTS[one["primary_checkpoint"]]
    return f"{line}\ninterval: {one['variance']['words']}" if n > 1 else line


def score_name(metric: Mapping[str, Any]) -> str:
    """What a table shows."""
    name = f"test {plain(metric['name'])}"
    if metric["unit"] == "points":
        return f"{name} in %"
    return name if metric["higher_is_better"] else f"{name} (lower is better)"


def accuracy_rows(summary: Summary, one: Configuration) -> Rows:
    """Header, then dense, then one row per level: the same table everywhere."""
    found = scored(one)
    cells = {(cell["arm"], cell["target_sparsity"]): cell["score"] for cell in found["table"]}
    arms = [arm for arm in one["arms"] if arm != "dense"]
    dense = cells.get(("dense", 0.0))
    if not arms:
        return [["", summary["metric"]["name"]], ["dense", plus_minus(dense)]]
    header = ["sparsity", *arms]
    gaps: dict[float, Any] = {}
    comparison = against_headline(summary, found["comparisons"])
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


def overview_rows(summary: Summary) -> Rows:
    """Of a grid: header, then one row for each configuration."""
    ones = [(one["name"], scored(one)) for one in summary["configurations"]]
    arms = sorted({a for _, found in ones for a in found["breakdown"]["arms"]}, key=arm_order)
    kinds = [(arm, kind) for arm in arms for kind in ("breakdown", "crater")]
    controls = sorted({control for _, found in ones for control in found["comparisons"]})
    treatment = summary["options"]["treatment"]
    header = ["configuration", "dense", *(f"{arm}: {kind}" for arm, kind in kinds)]
    rows = [header + [f"{treatment} − {control}" for control in controls]]
    for name, found in ones:
        dense = next((c["score"] for c in found["table"] if c["arm"] == "dense"), None)
        row = [name, plus_minus(dense)]
        row += [crossing_text(found[kind]["arms"].get(arm)) for arm, kind in kinds]
        for control in controls:
            primary = found["comparisons"].get(control, {}).get("primary")
            row.append(plus_minus(primary and primary["gap"], sign="+"))
        rows.append(row)
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


def retraining_rows(configuration: Configuration) -> Rows:
    """Per level what retraining gains."""
    kinds = {
        "gain": "gain: retrained − pruned",
        "over_dense": "retrained − dense",
        "over_dense_retrained": "retrained − dense retrained",
        "gain_over_dense_gain": "gain − dense gain",
    }
    rows = [["sparsity", *kinds.values()]]
    for level in scored(configuration)["retraining"]:
        cells = [plus_minus(level[kind]["estimate"], sign="+") for kind in kinds]
        rows.append([level_name(level["target_sparsity"]), *cells])
    return rows


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


def confidence_name(summary: Summary) -> str:
    """ "95%", or what the summary was made with."""
    return f"{100 * summary['options']['confidence']:g}%"


def reach_sentence(draws: Mapping[str, int], seeds: int, alpha: float, tests: int = 1) -> str:
    """Which controls (with their draws) so few seeds cannot tell apart, and what would; or nothing.

    tests: how many p-values are adjusted together.

    >>> reach_sentence({"reinit": 1}, 5, 0.05).split(":")[0]
    'note: 5 seeds with 1 draw of reinit cannot reach p = 0.05, at best 0.062'
    """
    parts = []
    adjusted = f" adjusted for {tests} tests" * (tests > 1)
    for number, controls in grouped(draws, lambda control: draws[control]).items():
        found = reach(seeds, number, alpha / tests)
        if not found.enough:
            least = min(1, tests * found.smallest_p)
            ways = [f"{found.seeds} seeds"] if found.seeds else []
            more_draws = found.draws and controls == ["reinit"]  # of no other control
            ways += [f"{found.draws} draws each"] if more_draws else []
            parts.append(
                f"{count(seeds, 'seed')} with {count(number, 'draw')} of {', '.join(controls)} "
                f"cannot reach p = {alpha:g}{adjusted}, at best {least:.2g}: "
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
    return f"Diverged: {count(found['count'], 'network')} ({first}{more}); {found['treatment']}."
