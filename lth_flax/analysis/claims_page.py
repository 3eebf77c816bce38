"""The claims page: Markdown, made from verdicts and from the summary of each run."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lth_flax.analysis.claims import FIXED, NOT_RECORDED, Claim, Judged
from lth_flax.analysis.evidence import FIRST_SEED
from lth_flax.analysis.first_edition import FIRST_EDITION, first_edition
from lth_flax.errors import UserError

MOST_BYTES = 2**26

COLUMNS = (
    "",
    "sub-claim",
    "protocol",
    "n",
    "effect",
    "verdict",
    "rule fixed",
    "changed since",
    "verdict of the first edition",
)

HEAD = f"""# Records, and the paper's claims put to the test

Made by `python -m lth_flax.analysis.claims experiments`; verdicts follow from the records in the
folders by rules that were fixed before them, and none is typed by hand. Only seeds from
{FIRST_SEED} up count: nobody had seen them when the rules were fixed. Each sub-claim is judged
under the careful protocol and, where that is recorded, under the paper's own. Rules were fixed on
{FIXED}: after the first edition's records were seen, before those that they judge.
"""

FIRST = """
## What was wrong with the first edition's verdicts

Its rules were partly written after its data. Its verdicts stay here, and count no longer.

| | claim | verdict then | what was wrong |
|---|---|---|---|"""

RECORDS = """
## The records

Each folder is what one command left: `flags.txt` (replays with `--flagfile`; add the path of the
data), `provenance.json`, `records.csv`, `curves.csv`, `predictions.npz`, `summary.json` and
`report/`. Tickets are too large to keep here; the command makes them again.
`python -m lth_flax.analysis.report DIR` makes summary, figures and page from the records alone.
`benchmarks` holds what `lth_flax/benchmarks/` measured, one JSON each (`train_step_huge_pages` with
`GLIBC_TUNABLES=glibc.malloc.hugetlb=1`).

| folder | what ran | main finding |
|---|---|---|"""


def claims_page(directory: Path, judged: Sequence[Judged]) -> str:
    """The page: a table of verdicts, the rule and the evidence of each, and the runs."""
    lines = [HEAD, _row(COLUMNS), _row(["---"] * len(COLUMNS))]
    for one in judged:
        claim, finding, first = one.claim, one.finding, first_edition(one.claim.number)
        cells = [
            claim.number,
            claim.text,
            one.protocol,
            "–" if finding.n is None else str(finding.n),
            finding.effect,
            f"**{finding.verdict}**",
            claim.fixed,
            claim.changed or "no",
            "–" if first is None else first.verdict,
        ]
        lines.append(_row(cells))
    for claim in dict.fromkeys(one.claim for one in judged):
        lines += ["", f"## {claim.number}: {claim.text}", "", _rule(claim), ""]
        for one in judged:
            if one.claim is claim:
                links = " ".join(_links(directory, names) for names in one.runs)
                seen = f"(Seeds below {FIRST_SEED} alone, which do not count.) "
                old = one.finding.verdict == NOT_RECORDED and "records.csv" in links
                verdict = f"**{one.finding.verdict}**. {seen if old else ''}"
                lines.append(f"- {one.protocol}: {verdict}{links}")
    lines.append(FIRST)
    lines += [_row([n, one.text, one.verdict, one.wrong]) for n, one in FIRST_EDITION.items()]
    lines.append(RECORDS)
    for folder in sorted(path.parent for path in directory.glob("*/summary.json")):
        summary = _read(folder / "summary.json")
        name = f"[`{folder.name}`]({folder.name})"
        lines.append(_row([name, _what_ran(summary), _finding(summary)]))
    return "\n".join(lines) + "\n"


def _rule(claim: Claim) -> str:
    parts = [f"Holds if: {claim.holds}." if claim.fails else f"{_sentence(claim.holds)}"]
    parts += [f"Does not hold if: {claim.fails}."] if claim.fails else []
    parts += [f"Needs {claim.needs}."] if claim.needs else []
    parts += [f"Changed since: {claim.changed}."] if claim.changed else []
    return " ".join(parts)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _links(directory: Path, names: Sequence[str]) -> str:
    """Links to the records and the page of a run, or that it is not there."""
    run = next((name for name in names if (directory / name / "records.csv").exists()), None)
    if run is None:
        return f"`{names[0]}`: not recorded yet."
    links = [f"[records]({run}/records.csv)", f"[flags]({run}/flags.txt)"]
    if (directory / run / "report" / "report.html").exists():
        links.append(f"[page]({run}/report/report.html)")
    return f"`{run}`: {', '.join(links)}."


def _read(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > MOST_BYTES:
            raise UserError(f"{file} is larger than {MOST_BYTES} bytes: expected a summary")
        found = json.loads(file.read_text(encoding="utf-8"))
        if not found["configurations"]:
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise UserError(
            f"{file} is no summary: make it again with python -m lth_flax.analysis.report"
        ) from None
    return found


def _what_ran(summary: dict[str, Any]) -> str:
    """Experiment, data, seeds, levels, arms and configurations."""
    first = summary["configurations"][0]
    settings, levels, seeds = first["settings"], first["levels"], first["seeds"]
    parts = [
        f"{summary['experiment']}, {summary['dataset']}",
        f"{len(seeds)} seed{'s' * (len(seeds) != 1)} from {seeds[0]}",
        f"{len(levels)} levels" if levels else "dense",
        ", ".join(first["arms"]),
        first["schedule"] if levels else "",
        *(f"{n} {', '.join(f'{v:g}' for v in some)}" for n, some in summary["factors"].items()),
        f"{settings['keep']} {settings['max_length']} tokens"
        if settings.get("max_length")
        else "full length",
        f"{settings.get('epochs')} epochs",
    ]
    return "; ".join(part for part in parts if part)


def _finding(summary: dict[str, Any]) -> str:
    headline = summary["headline"]
    if headline is None:
        return "–"
    where = f"{headline['where']}: " if headline["where"] else ""
    return f"{where}{headline['verdict']}"


def _row(cells: Sequence[str]) -> str:
    escaped = (cell.replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"
