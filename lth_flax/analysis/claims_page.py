"""The claims page: Markdown, made from verdicts and from what each run says of itself."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lth_flax.analysis.claims import Claim
    from lth_flax.analysis.evidence import Finding

HEAD = """# Records, and the paper's claims put to the test

Made by `python -m lth_flax.analysis.claims experiments`; verdicts follow from the summaries in the
folders, and none is typed by hand.
"""

RECORDS = """
## The records

Each folder is what one command left: `flags.txt` (replays with `--flagfile`; add the path of the
data), `provenance.json`, `records.csv`, `curves.csv`, `predictions.npz`, `summary.json` (one for
each configuration) and `report/`. Tickets are too large to keep here; the command makes them again.
`python -m lth_flax.analysis.report DIR` makes summary, figures and page from the records alone.
`benchmarks` holds what `lth_flax/benchmarks/` measured, one JSON each (`train_step_huge_pages` with
`GLIBC_TUNABLES=glibc.malloc.hugetlb=1`).
"""


def claims_page(directory: Path, judged: Sequence[tuple["Claim", "Finding"]]) -> str:
    """The page: a table of verdicts, what lies behind each, and the runs."""
    lines = [HEAD, "| | claim | verdict |", "|---|---|---|"]
    lines += [f"| {c.number} | {_cell(c.text)} | **{_cell(f.verdict)}** |" for c, f in judged]
    for claim, finding in judged:
        rule = " ".join((claim.rule.__doc__ or "").split())
        lines += [
            "",
            f"## {claim.number}: {finding.verdict}",
            "",
            f"*{claim.text}.*" if claim.text[-1] not in "?." else f"*{claim.text}*",
            "",
            f"{_sentence(finding.effect)} Rule: {rule}",
            "",
            " ".join(_links(directory, run) for run in claim.runs),
        ]
    lines += [RECORDS, "| folder | what ran |", "|---|---|"]
    for folder in sorted(path.parent for path in directory.glob("*/summary.json")):
        lines.append(f"| [`{folder.name}`]({folder.name}) | {_cell(_what_ran(folder))} |")
    return "\n".join(lines) + "\n"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _links(directory: Path, run: str) -> str:
    """Links to the records and figures of a run, or that it is not there."""
    if not (directory / run / "summary.json").exists():
        return f"`{run}`: not recorded yet."
    names = ("comparison_accuracy.png", "comparison.png", "accuracy.png")
    figure = next((n for n in names if (directory / run / "report" / n).exists()), None)
    links = [f"[records]({run}/records.csv)", f"[flags]({run}/flags.txt)"]
    if figure:
        links.append(f"[figure]({run}/report/{figure})")
    return f"`{run}`: {', '.join(links)}."


def _what_ran(folder: Path) -> str:
    """Experiment, data, seeds, levels, arms and configurations, from the summaries."""
    summaries: list[dict[str, Any]] = []
    for file in sorted(folder.glob("summary*.json")):
        summaries.append(json.loads(file.read_text(encoding="utf-8")))
    first = summaries[0]
    varying = {
        name: sorted({s["settings"][name] for s in summaries})
        for name in ("num_layers", "learning_rate", "epochs")
    }
    grid = "; ".join(
        f"{name} {', '.join(f'{v:g}' for v in values)}"
        for name, values in varying.items()
        if len(values) > 1
    )
    levels = first["levels"]
    parts = [
        f"{first['experiment']}, {first['dataset']}",
        f"{len(first['seeds'])} seeds",
        f"{len(levels)} levels" if levels else "dense",
        ", ".join(first["arms"]),
        first["schedule"] if levels else "",
        grid,
        _length(first),
    ]
    return "; ".join(part for part in parts if part)


def _length(summary: dict[str, Any]) -> str:
    settings = summary["settings"]
    cut = settings["max_length"]
    text = f"{settings['keep']} {cut} tokens" if cut else "full length"
    return f"{text}, {settings['epochs']} epochs"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
