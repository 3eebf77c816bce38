"""The answer in a browser: one self-contained HTML page. A pure function of the summary.

Style and pictures are inside, there is no script, and nothing is fetched. All
text that comes from data or flags goes through `html.escape`. Accuracies are
in percent, gaps in percentage points.
"""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from lth_flax.analysis.page_style import CSS, METHOD_NOTES
from lth_flax.analysis.statistics import level_name
from lth_flax.analysis.terminal import (
    CHECKPOINT_NAMES,
    accuracy_rows,
    confidence_name,
    plus_minus,
    terminal_table,
    verdict_sentence,
)

__all__ = ["report_html", "terminal_table", "verdict_sentence"]

_CAPTIONS = {
    "accuracy": "Test accuracy against sparsity.",
    "gap": "Paired gap, ticket minus control of the same seed, at each level.",
    "density": "Share of weights that the masks keep, per matrix and gate.",
}


def report_html(
    summary: Mapping[str, Any],
    figures: Mapping[str, bytes],
    settings: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> str:
    """The report page; `figures` maps "accuracy", "gap", "density" and any others to PNG bytes."""
    primary = summary["primary_checkpoint"]
    found = summary["checkpoints"][primary]
    title = f"{summary['experiment']} on {summary['dataset']}"
    n = len(summary["seeds"])
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p class=question>{escape(_question(summary))}</p>",
        f"<p class=verdict>{escape(verdict_sentence(summary))}</p>",
        *_other_verdicts(summary),
        _figure("accuracy", figures),
        "<h2>Accuracy</h2>",
        f"<p>Test accuracy in percent at the {escape(CHECKPOINT_NAMES[primary])}: mean ± half of "
        f"the {confidence_name(summary)} t interval over {n} seed{'s' * (n != 1)}.</p>",
        table_html(accuracy_rows(summary)),
        *_gaps(found, summary, figures),
        *_crossings(found),
        *_failures(found, summary),
    ]
    if "density" in figures:
        parts += ["<h2>Density per matrix and gate</h2>", _figure("density", figures)]
    parts += [_figure(name, figures) for name in figures if name not in _CAPTIONS]
    parts += [
        "<h2>Settings</h2>",
        table_html([["name", "value"], *pairs(settings)], kind="pairs"),
        "<h2>Provenance</h2>",
        table_html([["name", "value"], *pairs(provenance)], kind="pairs"),
        "<h2>How to read this</h2>",
        METHOD_NOTES,
    ]
    return html_page(title, parts)


def html_page(title: str, parts: Iterable[str]) -> str:
    """A whole document of the parts that are not empty."""
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n"
        f"<body><main>\n{body}\n</main></body>\n</html>\n"
    )


def _question(summary: Mapping[str, Any]) -> str:
    if not summary["headline"]:
        return "How accurate is the network?"
    return (
        f"Does the {summary['options']['treatment']}, pruned and set back to its own initial "
        f"weights, learn better than its control, {summary['headline']['control']}?"
    )


def _other_verdicts(summary: Mapping[str, Any]) -> Iterable[str]:
    """The other controls, and the same questions at the other checkpoint."""
    items = []
    for checkpoint, found in summary["checkpoints"].items():
        for control, one in found["comparisons"].items():
            where = (checkpoint, control)
            if where != (summary["primary_checkpoint"], (summary["headline"] or {}).get("control")):
                label = f"{control}, {CHECKPOINT_NAMES[checkpoint]}"
                sentence = escape(one["verdict"]["sentence"])
                items.append(f"<li><b>{escape(label)}.</b> {sentence}</li>")
    if items:
        yield "<details><summary>Other controls and checkpoints</summary><ul>"
        yield from items
        yield "</ul></details>"


def _gaps(
    found: Mapping[str, Any], summary: Mapping[str, Any], figures: Mapping[str, bytes]
) -> Iterable[str]:
    if not found["comparisons"]:
        return
    yield "<h2>Paired gaps and tests</h2>"
    yield _figure("gap", figures)
    treatment = summary["options"]["treatment"]
    for control, one in found["comparisons"].items():
        draws = f"{one['draws']} draw{'s' * (one['draws'] != 1)} per seed"
        yield f"<h3>{escape(treatment)} minus {escape(control)} ({draws})</h3>"
        if one["seeds_left_out"]:
            left_out = escape("; ".join(one["seeds_left_out"]))
            yield f"<p class=note>Incomplete seeds, left out: {left_out}.</p>"
        yield table_html(
            [
                [
                    "sparsity",
                    "gap (points)",
                    "p, ticket better",
                    "adjusted",
                    "p, control better",
                    "adjusted",
                ],
                *(
                    [
                        level_name(entry["target_sparsity"]) + "*" * entry["in_primary"],
                        plus_minus(entry, sign="+"),
                        *(
                            _p(entry[f"p_{side}_better{kind}"])
                            for side in ("treatment", "control")
                            for kind in ("", "_adjusted")
                        ),
                    ]
                    for entry in one["levels"]
                ),
            ]
        )
        yield _primary(one, summary)


def _primary(one: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    test, close = one["primary"], one["equivalence"]
    if test is None:
        return f"<p class=note>No primary test: {escape(one['verdict']['reason'])}.</p>"
    method = "exact" if test["exact"] else "Monte Carlo"
    text = (
        f"* Levels of the primary test. Their mean gap is {plus_minus(test, sign='+')} points; "
        f"{method} permutation test over {test['relabellings']} relabellings, "
        f"p = {_p(test['p_treatment_better'])} that the {summary['options']['treatment']} is "
        f"better, {_p(test['p_control_better'])} that the control is "
        f"(smallest possible {_p(test['smallest_p'])}). "
    )
    if close["p"] is None:
        text += "Equivalence cannot be tested with one seed."
    else:
        text += (
            f"Equivalence within ±{close['margin_points']:g} points: p = {_p(close['p'])}, "
            f"{'passes' if close['passes'] else 'does not pass'}; smallest margin that passes "
            f"±{close['smallest_margin_points']:.2f}."
        )
    return f"<p class=note>{escape(text)}</p>"


def _crossings(found: Mapping[str, Any]) -> Iterable[str]:
    kinds = [("breakdown", "Breakdown sparsity"), ("crater", "Crater sparsity")]
    for name, heading in kinds:
        arms, differences = found[name]["arms"], found[name]["differences"]
        if not arms:
            continue
        yield f"<h2>{heading}</h2>"
        rows = [
            ["arm", "mean over runs", "never reached", "ticket minus this (points of sparsity)"]
        ]
        for arm, runs in arms.items():
            censored = sum(run["censored"] for run in runs)
            mean = sum(run["sparsity"] for run in runs) / len(runs)
            one = differences.get(arm, {})
            points = {
                "mean": None if one.get("mean") is None else 100 * one["mean"],
                "interval": one.get("interval") and [100 * bound for bound in one["interval"]],
            }
            rows.append(
                [
                    arm,
                    ("≥ " if censored else "") + f"{100 * mean:.1f}%",
                    f"{censored} of {len(runs)} runs",
                    plus_minus(points, sign="+")
                    + " (bound)" * any(one.get("censored_seeds", {}).values()),
                ]
            )
        yield table_html(rows)


def _failures(found: Mapping[str, Any], summary: Mapping[str, Any]) -> Iterable[str]:
    yield "<h2>Collapsed and diverged networks</h2>"
    kinds = [
        ("No path from input to output is left in the mask", found["collapsed"]["disconnected"]),
        ("At least 99.9% of predictions are one class", found["collapsed"]["one_class"]),
        (f"Diverged ({summary['diverged']['treatment']})", summary["diverged"]["rows"]),
    ]
    for label, rows in kinds:
        names = ", ".join(f"<code>{escape(row['row_id'])}</code>" for row in rows)
        yield f"<p>{escape(label)}: {len(rows) or 'none'}.</p>"
        if names:
            yield f"<details><summary>Which</summary><p>{names}</p></details>"


def _figure(name: str, figures: Mapping[str, bytes]) -> str:
    if name not in figures:
        return ""
    return figure_html(figures[name], _CAPTIONS.get(name, name))


def figure_html(png: bytes, text: str) -> str:
    """A picture inside the page, with its caption."""
    caption = escape(text)
    data = base64.b64encode(png).decode("ascii")
    return (
        f'<figure><img alt="{caption}" src="data:image/png;base64,{data}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def table_html(rows: Sequence[Sequence[str]], kind: str = "numbers") -> str:
    """An HTML table of plain text, the first row its head."""
    head, *body = (
        [f"<{tag}>{escape(cell)}</{tag}>" for cell in row]
        for tag, row in zip(["th", *["td"] * (len(rows) - 1)], rows, strict=True)
    )
    lines = "\n".join(f"<tr>{''.join(cells)}</tr>" for cells in body)
    return (
        f"<div class=scroll><table class={kind}><thead><tr>{''.join(head)}</tr></thead>\n"
        f"<tbody>{lines}</tbody></table></div>"
    )


def pairs(values: Mapping[str, Any]) -> list[list[str]]:
    return [
        [str(name), value if isinstance(value, str) else json.dumps(value, default=str)]
        for name, value in values.items()
    ]


def _p(value: float | None) -> str:
    return "–" if value is None else f"{value:.2g}"
