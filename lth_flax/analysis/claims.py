"""The paper's claims, each with the verdicts that follow from recorded runs.

python -m lth_flax.analysis.claims experiments            writes experiments/README.md

The rules are in `claim_rules`, fixed before the records that they judge; only seeds from
`evidence.FIRST_SEED` up count. With --seeds_from=0 older records are judged too, and nothing
is written: that is how the first edition's records read under these rules.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lth_flax.analysis import claim_rules as rules
from lth_flax.analysis.evidence import FIRST_SEED, Evidence, Finding, Missing, TooFew
from lth_flax.errors import UserError
from lth_flax.streams import unfailing

NOT_RECORDED = "not recorded yet"
FIXED = "2026-11-26"
"""After the first edition's records were seen, before the second's."""

CAREFUL, PAPER = "careful", "the paper's own"

Runs = tuple[tuple[str, ...], ...]
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
    fails: str
    needs: str
    rule: Callable[..., Finding]
    runs: Mapping[str, Runs]
    changed: str = ""
    fixed: str = FIXED


@dataclass(frozen=True)
class Judged:
    """A claim under one protocol, and what its records say."""

    claim: Claim
    protocol: str
    runs: Runs
    finding: Finding


_TWEETS_PRUNED = {CAREFUL: (("tweets_prune_after",),), PAPER: (("paper_figure1",),)}
_IMDB_PRUNED = {CAREFUL: (("imdb_prune_after",),), PAPER: (("paper_figure2",),)}
_ON_IMDB = ("where_tickets_win_imdb", "imdb_winning_ticket_short")
_ON_TWEETS = ("where_tickets_win_tweets", "tweets_winning_ticket")
_TICKETS = {
    f"{CAREFUL}, reviews": (_ON_IMDB,),
    f"{CAREFUL}, tweets": (_ON_TWEETS,),
    PAPER: (("paper_figure3",),),
}
_RETRAINED = {CAREFUL: (("imdb_post_prune",),), PAPER: (("paper_figure4",),)}

CLAIMS = (
    Claim(
        "C1",
        "tweets, no retraining: every model craters only past 90%",
        "for every depth the lower bound of the mean crater sparsity (half of dense minus chance "
        "lost, in balanced accuracy) is at least 90%",
        "for some depth the upper bound is below 90%",
        "8 networks per depth that learned (dense balanced accuracy at least 55%)",
        rules.craters_past(0.9, networks=8, learned=55),
        _TWEETS_PRUNED,
    ),
    Claim(
        "C2",
        "accuracies in the low 30s come from the imbalance of the classes",
        "at least nine in ten of the networks that fall below 45% at some level predict one class "
        "there; each network counts once",
        "fewer",
        "5 such networks",
        rules.one_class_floor,
        _TWEETS_PRUNED,
    ),
    Claim(
        "C3a",
        "six layers are better than two, untouched",
        "lower bound of the paired difference above 0, each depth at the learning rate that its "
        "validation accuracy chose",
        "upper bound below 0",
        "8 seeds",
        rules.six_over_two,
        _TWEETS_PRUNED,
    ),
    Claim(
        "C3b",
        "depth adds no resistance to pruning",
        "upper bound of the slope of breakdown sparsity per doubling of depth at most +1 point of "
        "sparsity",
        "lower bound above 0",
        "8 seeds, 3 depths",
        rules.no_resistance,
        _TWEETS_PRUNED,
    ),
    Claim(
        "C4a",
        "IMDB, no retraining: every depth craters at 60% or later",
        "lower bound of the mean crater sparsity at least 60% for every depth",
        "upper bound below 60% for some",
        "5 seeds",
        rules.craters_past(0.6, networks=5, learned=0),
        _IMDB_PRUNED,
    ),
    Claim(
        "C4b",
        "none falls below chance",
        "lowest test accuracy at least 49% (three standard errors of 25,000 texts below 50%)",
        "lower",
        "",
        rules.never_below_chance,
        _IMDB_PRUNED,
    ),
    Claim(
        "C5",
        "holding past 50% pruned shows that tickets exist",
        "cannot be shown by data",
        "at some setting networks hold at 50% (within a point) and the ticket there is equivalent "
        "to its control, or worse, adjusted over levels",
        "8 seeds",
        rules.holding_is_not_winning,
        {
            f"{CAREFUL}, reviews": (("imdb_prune_after",), _ON_IMDB),
            f"{CAREFUL}, tweets": (("tweets_prune_after",), _ON_TWEETS),
            PAPER: (("paper_figure2",), ("paper_figure3",)),
        },
    ),
    Claim(
        "C6a",
        "ticket and random initialization are alike up to 45%",
        "equivalent within 1 point at every level up to 45%",
        "at some such level different, adjusted",
        "8 seeds, levels 20 and 40%",
        rules.alike_at_first,
        _TICKETS,
    ),
    Claim(
        "C6b",
        "the random one breaks right after",
        "upper bound of its breakdown sparsity below 60%",
        "lower bound above 60%",
        "8 seeds",
        rules.reinit_breaks_early,
        _TICKETS,
    ),
    Claim(
        "C6c",
        "the ticket holds past 80%",
        "lower bound of its breakdown sparsity at least 80%",
        "upper bound below 80%",
        "8 seeds",
        rules.ticket_holds,
        _TICKETS,
    ),
    Claim(
        "C6d",
        "the ticket is better",
        "the primary test for the ticket, each arm at its own best rate, measured on both sides of "
        "50% and of 95%",
        'for the control, or equivalent; "depends on sparsity" is its own verdict',
        "8 seeds",
        rules.ticket_is_better,
        _TICKETS,
    ),
    Claim(
        "C8a",
        "a short retraining helps below 40%",
        "lower bound of (gain minus the gain of the dense network trained on just as long) above 0",
        "upper bound below 0, or equivalent within half a point",
        "5 seeds, 3 levels",
        rules.helps("below 40%"),
        _RETRAINED,
    ),
    Claim(
        "C8b",
        "it helps above 60%",
        "the same there",
        "the same",
        "5 seeds, 3 levels",
        rules.helps("above 60%"),
        _RETRAINED,
    ),
    Claim(
        "C8c",
        "it often hurts in between",
        "upper bound of the gain below 0 at half of the levels from 40 to 60%, or more",
        "lower bound above 0 at most of them",
        "5 seeds, 3 levels",
        rules.often_hurts,
        _RETRAINED,
    ),
    Claim(
        "C9",
        "the lowest learning rate gains 5 to 10 points at every level",
        "the gain's interval lies within 4 and 11 at every level below the crater, and so does "
        "what is left without the dense network's gain",
        "at most of these levels one of the two intervals misses [5, 10] entirely",
        "5 seeds",
        rules.slowest_gains,
        _RETRAINED,
    ),
    Claim(
        "C10",
        "(a description of the data, not a claim) what 32 of up to 2,500 tokens cost",
        "reported: the same network on the first 32 and the first 400, and on the last 32 and the "
        "last 400",
        "",
        "3 seeds",
        rules.cost_of_cutting,
        {
            f"{CAREFUL}, first tokens": (("imdb_first_32",), ("imdb_first_400",)),
            f"{CAREFUL}, last tokens": (("imdb_last_32",), ("imdb_reference",)),
        },
    ),
    Claim(
        "Q1",
        "(a question) does iterative pruning find better tickets than one-shot?",
        "reported with the primary measure and per level",
        "",
        "8 seeds",
        rules.iterative_over_oneshot,
        {
            f"{CAREFUL}, reviews": (_ON_IMDB, ("where_tickets_win_imdb_oneshot",)),
            f"{CAREFUL}, tweets": (("tweets_winning_ticket",), ("tweets_oneshot",)),
        },
    ),
)


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


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns the exit status."""
    from lth_flax.analysis.claims_page import claims_page
    from lth_flax.files import write_text_atomic

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
