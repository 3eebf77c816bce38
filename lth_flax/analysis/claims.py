"""The paper's claims, each with the verdicts that follow from recorded runs.

python -m lth_flax.analysis.claims experiments            writes experiments/README.md

The claims are in `claims.toml`, their rules in `claim_rules`, fixed before the records that they
judge; only seeds from `evidence.FIRST_SEED` up count. With --seeds_from=0 older records are judged
too, and nothing is written: that is how the first edition's records read under these rules.
"""

import argparse
import functools
import json
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from lth_flax.analysis import claim_rules as rules
from lth_flax.analysis.evidence import FIRST_SEED, Evidence, Finding, Missing, TooFew
from lth_flax.analysis.page import templates
from lth_flax.errors import UserError
from lth_flax.files import write_text_atomic
from lth_flax.parts import records_file
from lth_flax.streams import unfailing

NOT_RECORDED = "not recorded yet"
MOST_BYTES = 2**26

Runs = Sequence[Sequence[str]]
"""For each run that a rule takes, the names of directories it may be in, the first one first."""


@dataclass(frozen=True, eq=False)
class Claim:
    """A sub-claim of the paper, its rule in words and as a function, and the runs that speak of it.

    runs: by protocol. changed: what the rule said before, the verdict it gives, and why it was
    changed, where it was changed after it was fixed.
    """

    number: str
    text: str
    holds: str
    rule: Callable[..., Finding]
    runs: Mapping[str, Runs]
    fixed: str
    fails: str = ""
    needs: str = ""
    changed: str = ""


@dataclass(frozen=True)
class Judged:
    """A claim under one protocol, and what its records say."""

    claim: Claim
    protocol: str
    runs: Runs
    finding: Finding


def _claim(said: dict[str, Any], shared: Mapping[str, Any]) -> Claim:
    """As `claims.toml` says it; several claims share their day, and their runs by name."""
    rule, runs, bounds = (said.pop(name, {}) for name in ("rule", "runs", "bounds"))
    function = functools.partial(getattr(rules, rule), **bounds)
    runs = shared["runs"][runs] if isinstance(runs, str) else runs
    return Claim(rule=function, runs=runs, **{"fixed": shared["fixed"], **said})


_TEXT = resources.files("lth_flax.analysis").joinpath("claims.toml").read_text(encoding="utf-8")
_SAID = tomllib.loads(_TEXT)
CLAIMS = [_claim(one, _SAID) for one in _SAID["claims"]]
FIRST_EDITION: Mapping[str, Mapping[str, str]] = _SAID["first_edition"]
"""By number: a claim as the first edition had it, its verdict, and what was wrong with that."""


def first_edition(number: str) -> Mapping[str, str] | None:
    """What the first edition said of the claim that a sub-claim is a part of."""
    return FIRST_EDITION.get({"Q1": "C7"}.get(number, number.rstrip("abcd")))


def judge(evidence: Evidence) -> list[Judged]:
    """Every sub-claim under every protocol, with what the recorded runs say of it."""
    return [
        Judged(claim, protocol, runs, _finding(claim, runs, evidence))
        for claim in CLAIMS
        for protocol, runs in claim.runs.items()
    ]


def _finding(claim: Claim, runs: Runs, evidence: Evidence) -> Finding:
    try:
        return claim.rule(*(evidence.run(*names) for names in runs))
    except Missing as missing:
        return Finding(NOT_RECORDED, f"needs `{missing}`")
    except TooFew as few:
        return Finding(rules.UNKNOWN, str(few))


def claims_page(directory: Path, judged: Sequence[Judged]) -> str:
    """The page, in Markdown: a table of verdicts, the rule and the evidence of each, and the runs.

    Raises:
      UserError: the summary of a run cannot be read.
    """
    page = templates().get_template("claims.md")
    runs = [(file.parent.name, _read(file)) for file in sorted(directory.glob("*/summary.json"))]
    try:
        return page.render(
            judged=[(one, [_found(directory, names) for names in one.runs]) for one in judged],
            claims=CLAIMS,
            first_edition=first_edition,
            firsts=FIRST_EDITION,
            first_seed=FIRST_SEED,
            not_recorded=NOT_RECORDED,
            runs=runs,
            unfinished={name: _unfinished(summary) for name, summary in runs},
        )
    except (jinja2.UndefinedError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"a summary.json below {directory} does not say what the page needs ({error}): make it "
            "again with python -m lth_flax.analysis.report"
        ) from None


def _unfinished(summary: dict[str, Any]) -> list[str]:
    """What is said of dense networks that had not finished training, once each."""
    said = (one.get("unfinished") for one in summary["configurations"])
    return list(dict.fromkeys(filter(None, said)))


def _found(directory: Path, names: Sequence[str]) -> tuple[str, str | None, bool]:
    """The first of these runs that is recorded, else of all; its file of records; whether it has
    its page.
    """
    files = {name: file for name in names if (file := records_file(directory / name))}
    run = next(iter(files), names[0])
    page = directory / run / "report" / "report.html"
    return run, files[run].name if run in files else None, page.exists()


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


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns the exit status."""
    parser = argparse.ArgumentParser(description="Writes DIR/README.md from the records in DIR.")
    parser.add_argument("directory", metavar="DIR", help="holds one directory for each run")
    parser.add_argument(
        "--seeds_from",
        type=int,
        default=FIRST_SEED,
        metavar="N",
        help=f"judge seeds from N on; other than {FIRST_SEED} the page is not written",
    )
    options = parser.parse_args(arguments)
    directory = Path(options.directory)
    try:
        if not directory.is_dir():
            raise UserError(f"{directory} is no directory: expected one with a folder for each run")
        judged = judge(Evidence(directory, options.seeds_from))
        if options.seeds_from == FIRST_SEED:
            write_text_atomic(directory / "README.md", claims_page(directory, judged))
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    for one in judged:
        finding = one.finding
        print(f"{one.claim.number:>3}, {one.protocol}: {finding.verdict}: {finding.effect}")
    if options.seeds_from == FIRST_SEED:
        print(f"\nPage: {directory / 'README.md'}")
    return 0


if __name__ == "__main__":
    with unfailing():
        sys.exit(main())
