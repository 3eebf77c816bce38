"""Where tickets win: every configuration at every level as one word and one number, for docs.

python -m lth_flax.analysis.where experiments/where_tickets_win_tweets
"""

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lth_flax.analysis.terminal import Summary, scored
from lth_flax.analysis.words import factor_values, in_points, level_name, plain
from lth_flax.errors import UserError

WORDS = ("better", "worse", "equal")


def verdict_at(level: Mapping[str, Any], margin_points: float) -> str:
    """ "better" or "worse" where that is shown, adjusted over levels; "equal" where the whole
    interval lies within the margin; else "not shown".
    """
    if level["direction"]:
        return str(level["direction"])
    low, high = level["gap"]["interval"] or (float("-inf"), float("inf"))
    return "equal" if -margin_points <= low and high <= margin_points else "not shown"


def rows_of(summary: Summary) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """(a configuration in words, its comparison with the headline's control), own rates last."""
    control = summary["headline"]["control"]
    for one in summary["configurations"]:
        yield (
            factor_values(one["factors"], summary["factors"]) or "all",
            scored(one)["comparisons"][control],
        )
    for one in summary["own_rates"]:
        if control in one["comparisons"]:
            name = factor_values(one["factors"], summary["factors"])
            yield (
                ", ".join(filter(None, [name, "each arm at its own rate"])),
                one["comparisons"][control],
            )


def where_lines(summary: Summary) -> list[str]:
    """Markdown: the verdict, where the ticket is better, worse and equal, and a table of all.

    Raises:
      UserError: nothing was compared.
    """
    headline, options = summary["headline"], summary["options"]
    if not headline or not headline["control"]:
        raise UserError("nothing was compared in these records: expected an arm beside the ticket")
    margin, name = options["margin_points"], plain(options["treatment"])
    compared = list(rows_of(summary))
    levels = sorted({at["target_sparsity"] for _, one in compared for at in one["levels"]})
    table = [["", *map(level_name, levels)], ["---"] * (len(levels) + 1)]
    places: dict[str, list[str]] = {word: [] for word in WORDS}
    for where, one in compared:
        cells: dict[float, str] = {}
        found: dict[str, list[str]] = {word: [] for word in WORDS}
        for at in one["levels"]:
            word = verdict_at(at, margin)
            cells[at["target_sparsity"]] = f"{word}, {at['gap']['mean']:+.1f}"
            if word in found:
                found[word].append(level_name(at["target_sparsity"]))
        for word, at_levels in found.items():
            if at_levels:
                places[word].append(", ".join(at_levels) + f" ({where})" * (len(compared) > 1))
        table.append([where, *(cells.get(level, "–") for level in levels)])
    shown = [
        f"The {name} is {word}{f' within {in_points(margin)}' if word == 'equal' else ''}: "
        f"{'; '.join(places[word]) or 'nowhere'}."
        for word in WORDS
    ]
    rows = [f"| {' | '.join(row)} |" for row in table]
    return [f"*{headline['sentence']}*", "", *(f"- {line}" for line in shown), "", *rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path, help="with a summary.json")
    directory = parser.parse_args().directory
    try:
        summary = json.loads((directory / "summary.json").read_text(encoding="utf-8"))
    except OSError as error:
        parser.error(f"{directory} has no summary.json that can be read ({error.strerror})")
    print("\n".join(where_lines(summary)))


if __name__ == "__main__":
    main()
