"""The answer to a grid: a table and sentences for the terminal, and a page. Pure functions."""

from collections.abc import Mapping
from html import escape
from typing import Any

from lth_flax.analysis.page import figure_html, html_page, pairs, table_html
from lth_flax.analysis.statistics import level_name
from lth_flax.analysis.terminal import plus_minus

_CAPTIONS = {
    "comparison_accuracy": "Test accuracy against sparsity, a line for each configuration.",
    "comparison_breakdown": "Breakdown sparsity of each configuration.",
    "comparison_retraining": "What training on after pruning gains.",
}


def comparison_rows(comparison: Mapping[str, Any]) -> list[list[str]]:
    """Header, then one row for each configuration."""
    ones = comparison["configurations"]
    arms = sorted({arm for one in ones for arm in one["breakdown"]})
    header = ["configuration", "dense"]
    header += [f"{arm}: {kind}" for arm in arms for kind in ("breakdown", "crater")]
    gap = any("gap" in one for one in ones)
    if gap:
        header.append("ticket − reinit")
    rows = [header]
    for one in ones:
        row = [one["name"] or comparison["experiment"], plus_minus(one["dense"])]
        row += [_share(one[kind].get(arm)) for arm in arms for kind in ("breakdown", "crater")]
        if gap:
            row.append(plus_minus(one.get("gap"), sign="+"))
        rows.append(row)
    return rows


def _share(cell: Mapping[str, Any] | None) -> str:
    if cell is None or cell["mean"] is None:
        return "–"
    bound = "≥ " if cell["censored"] else ""
    half = f" ± {50 * (cell['interval'][1] - cell['interval'][0]):.1f}" if cell["interval"] else ""
    return f"{bound}{100 * cell['mean']:.1f}%{half}"


def retraining_rows(one: Mapping[str, Any]) -> list[list[str]]:
    """Per level what retraining gains."""
    kinds = {
        "gain": "retrained − pruned",
        "over_dense": "retrained − dense",
        "over_dense_retrained": "retrained − dense retrained",
    }
    rows = [["sparsity", *kinds.values()]]
    for level in one.get("retraining", []):
        cells = [plus_minus(level[kind], sign="+") for kind in kinds]
        rows.append([level_name(level["target_sparsity"]), *cells])
    return rows


def sentences(comparison: Mapping[str, Any]) -> list[str]:
    """What the factors do, one sentence each."""
    found = [test["sentence"] for test in comparison["tests"]]
    if comparison["chosen_rates"]:
        found.append(comparison["chosen_rates"]["sentence"])
    return found


def comparison_text(comparison: Mapping[str, Any]) -> str:
    """The terminal's answer."""
    parts = [_aligned(comparison_rows(comparison))]
    n = len(comparison["seeds"])
    parts.append(
        f"test accuracy in % at the last epoch and sparsities, mean ± half of the 95% t interval, "
        f"n = {n} seed{'s' * (n != 1)}"
    )
    for one in comparison["configurations"]:
        if one.get("retraining"):
            parts.append(f"{one['name'] or 'points'}:\n" + _aligned(retraining_rows(one)))
    return "\n\n".join([*parts, *sentences(comparison)])


def _aligned(rows: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def comparison_html(
    comparison: Mapping[str, Any],
    figures: Mapping[str, bytes],
    settings: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> str:
    """The page: self-contained, no script; everything from data is escaped."""
    title = f"{comparison['experiment']} on {comparison['dataset']}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        "<p class=question>What do depth, learning rate and epochs do?</p>"
        if comparison["factors"]
        else "",
        *(f"<p class=verdict>{escape(sentence)}</p>" for sentence in sentences(comparison)),
        *(figure_html(data, _CAPTIONS.get(name, name)) for name, data in figures.items()),
        "<h2>Configurations</h2>",
        "<p>Test accuracy in percent at the last epoch; breakdown: the last level within 1 point "
        "of dense; crater: half of what dense has over the majority class is lost. Mean ± half of "
        f"the 95% t interval over {len(comparison['seeds'])} seeds. A network that does not beat "
        "the majority class has neither (–); ≥ where a curve never crosses.</p>",
        table_html(comparison_rows(comparison)),
    ]
    for one in comparison["configurations"]:
        if one.get("retraining"):
            parts.append(f"<h3>{escape(one['name'] or 'Gain of retraining')} (points)</h3>")
            parts.append(table_html(retraining_rows(one)))
    parts += [
        "<h2>Settings</h2>",
        table_html([["name", "value"], *pairs(settings)], kind="pairs"),
        "<h2>Provenance</h2>",
        table_html([["name", "value"], *pairs(provenance)], kind="pairs"),
        "<h2>How to read this</h2>",
        "<p>Under the null hypothesis a factor does nothing, and the outcomes of a seed at its "
        "values may be exchanged: the test permutes them within each seed. Slopes are fitted per "
        "seed on the logarithm of the factor; their interval is Student's t over seeds.</p>",
    ]
    return html_page(title, parts)
