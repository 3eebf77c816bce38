"""The paper's ten claims, each with a verdict that follows from summaries of recorded runs.

python -m lth_flax.analysis.claims experiments            writes experiments/README.md

The rules are in `claim_rules`; where a run that a rule needs is not there, the
verdict is "cannot tell".
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lth_flax.analysis.claim_rules import UNKNOWN, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10
from lth_flax.analysis.evidence import Evidence, Finding, Missing
from lth_flax.errors import UserError


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, the runs that speak of it, and the rule of its verdict."""

    number: str
    text: str
    runs: tuple[str, ...]
    rule: Callable[[Evidence], Finding]


CLAIMS = (
    Claim(
        "C1",
        "Tweets: every model craters after 90% pruning, most only after 95%",
        ("tweets_prune_after", "paper_figure1"),
        c1,
    ),
    Claim(
        "C2",
        "The tweet floor in the low 30s is a quirk",
        ("tweets_prune_after", "paper_figure1"),
        c2,
    ),
    Claim(
        "C3",
        "Six layers score best, two worst; depth does not make a model harder to break",
        ("tweets_prune_after",),
        c3,
    ),
    Claim(
        "C4",
        "IMDB models break between 60% and 70% or later, and never fall below 50%",
        ("imdb_prune_after",),
        c4,
    ),
    Claim(
        "C5",
        "Holding past 50% pruned shows that tickets exist",
        ("imdb_prune_after", "imdb_winning_ticket_short"),
        c5,
    ),
    Claim(
        "C6",
        "Ticket and random initialization are alike to 45%; then the random one falls at once and "
        "the ticket holds past 80%",
        ("imdb_winning_ticket_short", "tweets_winning_ticket", "paper_figure3"),
        c6,
    ),
    Claim(
        "C7",
        '"Iteratively for pruning rates from 10% to 95%": does the schedule matter?',
        ("tweets_winning_ticket", "tweets_oneshot"),
        c7,
    ),
    Claim(
        "C8",
        "A short retraining after pruning helps below about 40% and above 60%, and often hurts in "
        "between",
        ("imdb_post_prune",),
        c8,
    ),
    Claim(
        "C9",
        "The model with the lowest learning rate gains 5 to 10 points",
        ("imdb_post_prune",),
        c9,
    ),
    Claim(
        "C10",
        "50,000 reviews, tags stripped, up to about 2,500 tokens",
        ("imdb_first_32", "imdb_reference", "paper_figure3"),
        c10,
    ),
)


def judge(evidence: Evidence) -> list[tuple[Claim, Finding]]:
    """Every claim with what the recorded runs say of it."""
    result = []
    for claim in CLAIMS:
        try:
            finding = claim.rule(evidence)
        except Missing as missing:
            finding = Finding(UNKNOWN, f"not recorded: {missing}")
        result.append((claim, finding))
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns the exit status."""
    from lth_flax.analysis.claims_page import claims_page
    from lth_flax.files import write_text_atomic

    parser = argparse.ArgumentParser(description="Writes DIR/README.md from the records in DIR.")
    parser.add_argument("directory", metavar="DIR", help="holds one directory for each run")
    options = parser.parse_args(arguments)
    directory = Path(options.directory)
    try:
        if not directory.is_dir():
            raise UserError(f"{directory} is no directory: expected one with a folder for each run")
        judged = judge(Evidence(directory))
        write_text_atomic(directory / "README.md", claims_page(directory, judged))
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    for claim, finding in judged:
        print(f"{claim.number:>3}  {finding.verdict}: {finding.effect}")
    print(f"\nPage: {directory / 'README.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
