"""The tables of the report page, as rows of text: pure functions of the summary.

Each table is a header and then its rows; numbers are rounded as the page shows them.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lth_flax.analysis.statistics import level_name
from lth_flax.analysis.terminal import CHECKPOINT_NAMES, accuracy_rows, crossing_text, plus_minus
from lth_flax.analysis.words import count, factor_values, plain

Summary = Mapping[str, Any]
Rows = list[list[str]]


def scored(one: Mapping[str, Any]) -> dict[str, Any]:
    return one["checkpoints"][one["primary_checkpoint"]]


def configuration_name(summary: Summary, one: Mapping[str, Any]) -> str:
    """The configuration in words, nothing where there is one only."""
    return factor_values(one["factors"], summary["factors"]) or one["name"]


def accuracy(summary: Summary, one: Mapping[str, Any]) -> dict[str, Any]:
    """The table; the dense network, which has no level, stands before it."""
    rows = accuracy_rows(summary, one)
    if len(rows) > 2 and rows[1][0] == "dense":
        return {"dense": rows[1][1], "accuracy": [rows[0], *rows[2:]]}
    return {"dense": "", "accuracy": rows}


def _comparisons(summary: Summary) -> list[tuple[str, Mapping[str, Any]]]:
    """Every comparison of the primary checkpoint with its place in words, the headline's first."""
    places = [
        (f"{own['name']}{', ' if own['name'] else ''}each arm at its own learning rate", own)
        for own in summary["own_rates"]
    ]
    found = [(place, c) for place, own in places for c in own["comparisons"].values()]
    for one in summary["configurations"]:
        name = configuration_name(summary, one)
        found += [(name, c) for c in scored(one)["comparisons"].values()]
    first = summary["options"]["headline_control"]
    return sorted(found, key=lambda pair: pair[1]["control"] != first)


def _against(place: str, comparison: Mapping[str, Any], treatment: str) -> str:
    text = f"{plain(treatment)} minus {plain(comparison['control'])}"
    return f"{place}: {text}" if place else text


def measures(summary: Summary) -> list[tuple[str, Rows]]:
    found = []
    treatment = summary["options"]["treatment"]
    for place, one in _comparisons(summary):
        if not one["primary"]:
            continue
        rows = [["levels", "gap (points)", "p"]]
        rows.append(
            ["all of them", plus_minus(one["primary"]["gap"], "+"), _p(one["primary"]["p"])]
        )
        for part in one["without"]:
            left = f"without {level_name(part['left_out'])}"
            rows.append([left, plus_minus(part["gap"], "+"), _p(part["p"])])
        found.append((_against(place, one, treatment), rows))
    return found


def gaps(summary: Summary) -> list[dict[str, Any]]:
    treatment = plain(summary["options"]["treatment"])
    return [
        {
            "title": f"{_against(place, one, treatment)} ({count(one['draws'], 'draw')} per seed)",
            "left_out": "; ".join(map(str, one["seeds_left_out"])),
            "rows": [
                ["sparsity", "gap (points)", f"{treatment} better: adjusted p",
                 f"{treatment} worse: adjusted p", "shown"],
                *(
                    [
                        level_name(level["target_sparsity"]),
                        plus_minus(level["gap"], sign="+"),
                        _p(level["p_treatment_better_adjusted"]),
                        _p(level["p_control_better_adjusted"]),
                        level["direction"] or "–",
                    ]
                    for level in one["levels"]
                ),
            ],
            "note": _gap_note(one),
        }
        for place, one in _comparisons(summary)
        if one["levels"]
    ]  # fmt: skip


def _gap_note(one: Mapping[str, Any]) -> str:
    test, close = one["primary"], one["equivalence"]
    if not test:
        return f"No test of the mean: {one['verdict']['reason']}."
    method = "exact" if test["exact"] else "Monte Carlo"
    text = f"{method.capitalize()} test over {test['relabellings']:,} exchanges of names, "
    text += f"smallest possible p {_p(test['smallest_p'])}."
    if close and close["p"] is not None:
        passes = "passes" if close["passes"] else "does not pass"
        margin = f"±{close['margin_points']:g} points"
        text += f" Equivalence within {margin} {passes} (p = {_p(close['p'])})."
    return text


def other_verdicts(summary: Summary) -> list[tuple[str, str]]:
    shown = (summary["headline"] or {}).get("sentence")
    found = [
        (_against(place, one, summary["options"]["treatment"]), one["verdict"])
        for place, one in _comparisons(summary)
    ]
    for one in summary["configurations"]:
        for checkpoint, at in one["checkpoints"].items():
            if checkpoint != one["primary_checkpoint"]:
                for comparison in at["comparisons"].values():
                    place = ", ".join(
                        p
                        for p in (configuration_name(summary, one), CHECKPOINT_NAMES[checkpoint])
                        if p
                    )
                    label = _against(place, comparison, summary["options"]["treatment"])
                    found.append((label, comparison["verdict"]))
    return [(label, v["sentence"]) for label, v in found if v["sentence"] != shown]


def crossings(summary: Summary) -> list[tuple[str, Rows]]:
    found = []
    for one in summary["configurations"]:
        here = scored(one)
        rows = [["arm", "breakdown", "crater", "breakdown: ticket minus this (points)"]]
        for arm, crossings in here["breakdown"]["arms"].items():
            gap = here["breakdown"]["differences"].get(arm, {}).get("gap")
            points = gap and {
                "mean": None if gap["mean"] is None else 100 * gap["mean"],
                "interval": gap["interval"] and [100 * end for end in gap["interval"]],
            }
            crater = crossing_text(here["crater"]["arms"].get(arm))
            rows.append([plain(arm), crossing_text(crossings), crater, plus_minus(points, "+")])
        if one["levels"] and len(rows) > 1:
            found.append((configuration_name(summary, one), rows))
    return found


def classes(summary: Summary, names: Sequence[str]) -> list[tuple[str, Rows]]:
    found = []
    for one in summary["configurations"]:
        cells = [cell for cell in scored(one)["table"] if cell["classes"]]
        if not cells:
            continue
        labels = _labels(names, len(cells[0]["classes"]["recall"]))
        head = ["arm", "sparsity", "macro-F1", "balanced accuracy"]
        head += [f"{kind} {label}" for kind in ("recall", "F1") for label in labels]
        rows = [head]
        for cell in cells:
            scores = cell["classes"]
            numbers = [
                scores["macro_f1"],
                cell["balanced_accuracy"],
                *scores["recall"],
                *scores["f1"],
            ]
            level = level_name(cell["target_sparsity"])
            rows.append([plain(cell["arm"]), level, *map(_one_digit, numbers)])
        few = len(rows) <= 4 and len(summary["configurations"]) == 1
        found.append(
            ("" if few else configuration_name(summary, one) or "Every arm and level", rows)
        )
    return found


def confusions(summary: Summary, names: Sequence[str]) -> list[tuple[str, Rows]]:
    """Of the first configuration: dense, and the others at the sparsest level of the range."""
    one = summary["configurations"][0]
    inside = [x for x in one["levels"] if x <= summary["options"]["primary_sparsity"][1]]
    level = max(inside or one["levels"], default=0.0)
    found = []
    for cell in scored(one)["table"]:
        if cell["classes"] and cell["target_sparsity"] in (0.0, level):
            matrix = cell["classes"]["confusion"]
            labels = _labels(names, len(matrix))
            rows = [["", *(f"predicted {label}" for label in labels)]]
            rows += [
                [f"true {label}", *(_one_digit(100 * share) for share in row)]
                for label, row in zip(labels, matrix, strict=True)
            ]
            place = f" at {level_name(level)} sparsity" if cell["target_sparsity"] else ""
            name = f"{plain(cell['arm'])}{place}"
            found.append(
                (", ".join(p for p in (configuration_name(summary, one), name) if p), rows)
            )
    return found


def class_names(data: Mapping[str, Any]) -> list[str]:
    """As the account of the data has them: a list, or counts by name."""
    classes = data.get("classes")
    return list(map(str, classes)) if isinstance(classes, list | Mapping) else []


def _labels(names: Sequence[str], number: int) -> list[str]:
    return list(names) if len(names) == number else [f"class {index}" for index in range(number)]


def failures(ones: Iterable[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    found = [(scored(one)["collapsed"], one["diverged"]) for one in ones]
    kinds = [
        ("No path from input to output is left in the mask", "disconnected"),
        ("At least 99.9% of predictions are one class", "one_class"),
    ]
    named = [
        (label, [row["row_id"] for collapsed, _ in found for row in collapsed[kind]])
        for label, kind in kinds
    ]
    rows = [row["row_id"] for _, diverged in found for row in diverged["rows"]]
    return [*named, (f"Diverged ({found[0][1]['treatment']})", rows)]


def _one_digit(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _p(value: float | None) -> str:
    return "–" if value is None else f"{value:.2g}"
