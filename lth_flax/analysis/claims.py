"""The paper's ten claims, each with a verdict that follows from summaries of recorded runs.

python -m lth_flax.analysis.claims experiments            writes experiments/README.md

A verdict is one of "holds", "does not hold", "cannot tell" and "artefact of ...".
Every rule is stated in its docstring, and shown on the page; where a run that a
rule needs is not there, the verdict is "cannot tell". Accuracies and gains are in
points, sparsities are shares of the prunable weights.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lth_flax.analysis.statistics import Interval, t_interval
from lth_flax.errors import UserError

HOLDS, FAILS, UNKNOWN = "holds", "does not hold", "cannot tell"
MOST_BYTES = 2**26

Summary = dict[str, Any]
BySeed = dict[int, float]


@dataclass(frozen=True)
class Finding:
    """What a rule found: a verdict and the numbers behind it, in words."""

    verdict: str
    effect: str


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, the runs that speak of it, and the rule of its verdict."""

    number: str
    text: str
    runs: tuple[str, ...]
    rule: Callable[["Evidence"], Finding]


class Missing(Exception):
    """A run that a rule needs has not been recorded."""


class Evidence:
    """The summaries of recorded runs, by the name of their directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def configurations(self, run: str) -> list[Summary]:
        """One summary for each configuration of a run.

        Raises:
          Missing: there is no such run.
          UserError: a summary cannot be read.
        """
        files = sorted(
            (self.directory / run).glob("summary*.json"),
            key=lambda file: (len(file.name), file.name),
        )
        if not files:
            raise Missing(run)
        return [_read(file) for file in files]

    def one(self, run: str) -> Summary:
        """The summary of a run of one configuration."""
        return self.configurations(run)[0]


def _read(file: Path) -> Summary:
    try:
        if file.stat().st_size > MOST_BYTES:
            raise UserError(f"{file} is larger than {MOST_BYTES} bytes: expected a summary")
        found = json.loads(file.read_text(encoding="utf-8"))
        found["checkpoints"][found["primary_checkpoint"]]["table"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise UserError(
            f"{file} is no summary: make it again with python -m lth_flax.analysis.report"
        ) from None
    return found


# Reading a summary.


def _primary(summary: Summary) -> dict[str, Any]:
    return summary["checkpoints"][summary["primary_checkpoint"]]


def accuracies(summary: Summary, arm: str, level: float = 0.0) -> BySeed:
    """Test accuracy by seed, draws averaged; empty where the arm is not there."""
    for entry in _primary(summary)["table"]:
        if entry["arm"] == arm and abs(entry["target_sparsity"] - level) < 1e-9:
            return {int(seed): float(value) for seed, value in entry["by_seed"]}
    return {}


def crossings(summary: Summary, kind: str, arm: str) -> tuple[BySeed, int]:
    """Breakdown or crater sparsity by seed, draws averaged, and how many curves never crossed."""
    values: dict[int, list[float]] = {}
    runs = _primary(summary)[kind]["arms"].get(arm, [])
    for run in runs:
        values.setdefault(int(run["seed"]), []).append(float(run["sparsity"]))
    means = {seed: float(np.mean(some)) for seed, some in values.items()}
    return means, sum(run["censored"] for run in runs)


def minus(one: BySeed, other: BySeed) -> BySeed:
    """Paired differences over the seeds that both have."""
    return {seed: one[seed] - other[seed] for seed in sorted(one.keys() & other.keys())}


def averaged(parts: Sequence[BySeed]) -> BySeed:
    """By seed, the mean over parts, of the seeds that all have."""
    common = set.intersection(*(set(part) for part in parts)) if parts else set()
    return {seed: float(np.mean([part[seed] for part in parts])) for seed in sorted(common)}


def interval(values: BySeed) -> Interval:
    """Student's t over seeds.

    Raises:
      Missing: there is no value.
    """
    if not values:
        raise Missing("rows")
    return t_interval(list(values.values()))


def _said(found: Interval, unit: str = "points") -> str:
    scale, digits = (100, 0) if unit == "%" else (1, 2)
    sign = "" if unit == "%" else "+"
    text = f"{scale * found.mean:{sign}.{digits}f}{'%' if unit == '%' else ' points'}"
    if found.low is None or found.high is None:
        return f"{text} (n = {found.n})"
    low, high = scale * found.low, scale * found.high
    return f"{text} ({low:{sign}.{digits}f} to {high:{sign}.{digits}f}, n = {found.n})"


def _above(found: Interval, bound: float) -> bool:
    return found.low is not None and found.low > bound


def _below(found: Interval, bound: float) -> bool:
    return found.high is not None and found.high < bound


def _levels(summary: Summary, arm: str) -> list[float]:
    return sorted({e["target_sparsity"] for e in _primary(summary)["table"] if e["arm"] == arm})


# The rules.


def c1(evidence: Evidence) -> Finding:
    """Holds if every configuration with the whole network pruned craters past 90% on average.

    An artefact of pruning the head alone if that is so only where nothing else is pruned.
    """
    whole = evidence.configurations("tweets_prune_after")
    found = [(s, *crossings(s, "crater", "pruned")) for s in whole]
    pooled = interval(averaged([values for _, values, _ in found if values]))
    lowest = min(float(np.mean(list(v.values()))) for _, v, _ in found if v)
    effect = (
        f"whole network pruned: crater sparsity {_said(pooled, '%')}, mean of {len(found)} "
        f"configurations, the lowest {100 * lowest:.0f}%"
    )
    if lowest >= 0.9:
        return Finding(HOLDS, effect)
    try:
        head = evidence.configurations("paper_figure1")
    except Missing:
        return Finding(FAILS, effect)
    parts = [crossings(s, "crater", "pruned") for s in head]
    kept = sum(censored for _, censored in parts)
    values = [value for part, _ in parts for value in part.values()]
    if not values:
        return Finding(FAILS, effect + "; head alone pruned: no network beats the majority class")
    effect += (
        f"; head alone pruned, as in the paper: {100 * float(np.mean(values)):.0f}% on average, "
        f"{kept} of {len(values)} networks never crater"
    )
    artefact = float(np.mean(values)) >= 0.9
    return Finding("artefact of pruning the head alone" if artefact else FAILS, effect)


def c2(evidence: Evidence) -> Finding:
    """An artefact of predicting one class if nine in ten networks below 45% predict one class."""
    low, one_class = 0, 0
    for run in ("tweets_prune_after", "paper_figure1"):
        for summary in evidence.configurations(run):
            for entry in _primary(summary)["table"]:
                low += sum(value < 45 for _, value in entry["by_seed"])
            rows = _primary(summary)["collapsed"]["one_class"]
            one_class += sum(row["accuracy"] < 45 for row in rows)
    effect = f"{one_class} of {low} networks below 45% accuracy predict one class for every tweet"
    if not low:
        return Finding(UNKNOWN, "no network fell below 45% accuracy")
    artefact = one_class >= 0.9 * low
    return Finding("artefact of predicting one class" if artefact else FAILS, effect)


def c3(evidence: Evidence) -> Finding:
    """Holds if six layers beat two, and depth does not move the breakdown sparsity.

    Both as paired differences over seeds whose 95% interval is read against zero, learning
    rates averaged.
    """
    by_depth: dict[int, list[Summary]] = {}
    for summary in evidence.configurations("tweets_prune_after"):
        by_depth.setdefault(int(summary["settings"]["num_layers"]), []).append(summary)
    if not {2, 6} <= by_depth.keys():
        raise Missing("depths 2 and 6 in tweets_prune_after")
    dense = {d: averaged([accuracies(s, "dense") for s in some]) for d, some in by_depth.items()}
    breaks = {
        d: averaged([crossings(s, "breakdown", "pruned")[0] for s in some])
        for d, some in by_depth.items()
    }
    gain = interval(minus(dense[6], dense[2]))
    shift = interval(minus(breaks[max(by_depth)], breaks[min(by_depth)]))
    best = max(dense, key=lambda d: float(np.mean(list(dense[d].values()))))
    effect = (
        f"six minus two layers: {_said(gain)}; best depth {best}; breakdown sparsity of "
        f"{max(by_depth)} minus {min(by_depth)} layers: {100 * shift.mean:+.1f} points of sparsity"
    )
    if shift.low is not None and shift.high is not None:
        effect += f" ({100 * shift.low:+.1f} to {100 * shift.high:+.1f})"
    if _above(gain, 0) and best == 6 and not _below(shift, 0):
        return Finding(HOLDS, effect)
    if _below(gain, 0) or _below(shift, 0) or best != 6:
        return Finding(FAILS, effect)
    return Finding(UNKNOWN, effect)


def c4(evidence: Evidence) -> Finding:
    """Holds if the mean breakdown sparsity of every depth is 60% or more, and none falls
    below 49.5%."""
    parts, lowest = [], 100.0
    for summary in evidence.configurations("imdb_prune_after"):
        values, _ = crossings(summary, "breakdown", "pruned")
        parts.append((summary["settings"]["num_layers"], interval(values)))
        for level in _levels(summary, "pruned"):
            lowest = min(lowest, *accuracies(summary, "pruned", level).values())
    effect = "breakdown sparsity " + ", ".join(
        f"{_said(found, '%')} with {layers} layers" for layers, found in parts
    )
    effect += f"; lowest accuracy {lowest:.1f}%"
    holds = all(found.mean >= 0.6 for _, found in parts) and lowest >= 49.5
    return Finding(HOLDS if holds else FAILS, effect)


def c5(evidence: Evidence) -> Finding:
    """Does not hold if networks hold at 50% (within a point of dense) where the ticket is not
    better than its control."""
    drops = averaged(
        [
            minus(accuracies(s, "dense"), accuracies(s, "pruned", 0.5))
            for s in evidence.configurations("imdb_prune_after")
        ]
    )
    drop = interval(drops)
    ticket = evidence.one("imdb_winning_ticket_short")
    gap = interval(minus(accuracies(ticket, "ticket", 0.5), accuracies(ticket, "reinit", 0.5)))
    effect = (
        f"at 50% pruned, with no training after: {_said(drop)} below dense; there, trained again, "
        f"ticket minus reinit is {_said(gap)}"
    )
    if _above(gap, 0):
        return Finding(UNKNOWN, effect)
    return Finding(FAILS, effect)


def c6(evidence: Evidence) -> Finding:
    """Holds if, on reviews and on tweets, the random initialization breaks below 60% and the
    ticket at 80% or later."""
    parts, verdicts = [], []
    for run in ("imdb_winning_ticket_short", "tweets_winning_ticket"):
        summary = evidence.one(run)
        ticket, held = crossings(summary, "breakdown", "ticket")
        fresh, also = crossings(summary, "breakdown", "reinit")
        verdicts.append(interval(fresh).mean < 0.6 and interval(ticket).mean >= 0.8)
        more = "at least " if held else ""
        other = "at least " if also else ""
        parts.append(
            f"{summary['dataset']}: the ticket breaks at {more}{_said(interval(ticket), '%')}, "
            f"reinit at {other}{_said(interval(fresh), '%')}; "
            f"{summary['headline']['sentence'].rstrip('.')}"
        )
    return Finding(HOLDS if all(verdicts) else FAILS, "; ".join(parts))


def c7(evidence: Evidence) -> Finding:
    """Whether the schedule matters: holds if iterative tickets beat one-shot ones over the levels
    from 50% to 96% that both have, does not hold if they are within half a point."""
    iterative, oneshot = (evidence.one(n) for n in ("tweets_winning_ticket", "tweets_oneshot"))
    common = set(_levels(iterative, "ticket")) & set(_levels(oneshot, "ticket"))
    levels = [level for level in sorted(common) if 0.5 <= level <= 0.96]
    found = interval(
        averaged(
            [
                minus(accuracies(iterative, "ticket", x), accuracies(oneshot, "ticket", x))
                for x in levels
            ]
        )
    )
    effect = f"iterative minus one-shot tickets: {_said(found)} over {len(levels)} levels of tweets"
    if _above(found, 0):
        return Finding(HOLDS, effect)
    if _below(found, 0) or (_above(found, -0.5) and _below(found, 0.5)):
        return Finding(FAILS, effect)
    return Finding(UNKNOWN, effect)


def _gains(summary: Summary, low: float, high: float, before: str = "pruned") -> BySeed:
    """Retrained minus `before`, by seed, averaged over levels from `low` to `high`."""
    levels = [level for level in _levels(summary, "retrained") if low <= level <= high]
    dense = accuracies(summary, before) if before == "dense_retrained" else None
    return averaged(
        [
            minus(
                accuracies(summary, "retrained", x),
                accuracies(summary, before, x) if dense is None else dense,
            )
            for x in levels
        ]
    )


def c8(evidence: Evidence) -> Finding:
    """Holds if retraining gains below 45% and above 60%, and loses in between.

    An artefact of unfinished training if below 45% the dense network gains as much.
    """
    runs = evidence.configurations("imdb_post_prune")
    low, middle, high = (
        interval(averaged([_gains(s, *bounds) for s in runs]))
        for bounds in ((0.0, 0.45), (0.45, 0.6), (0.6, 1.0))
    )
    dense = interval(
        averaged([minus(accuracies(s, "dense_retrained"), accuracies(s, "dense")) for s in runs])
    )
    effect = (
        f"gain from retraining: {_said(low)} below 45% sparsity, {_said(middle)} at 45 to 60%, "
        f"{_said(high)} above; the dense network, trained on just as long: {_said(dense)}"
    )
    if _above(low, 0) and _above(high, 0) and _below(middle, 0):
        return Finding(HOLDS, effect)
    if _above(low, 0) and _above(dense, 0) and dense.mean >= low.mean - 0.5:
        return Finding("artefact of unfinished training", effect)
    if _below(low, 0) or _above(middle, 0) or _below(high, 0):
        return Finding(FAILS, effect)
    return Finding(UNKNOWN, effect)


def c9(evidence: Evidence) -> Finding:
    """Holds if the lowest learning rate gains 5 points or more below 60% sparsity, and most of it
    is left when the gain of the dense network, trained on just as long, is taken off; an artefact
    of unfinished training if most of it is not."""
    runs = evidence.configurations("imdb_post_prune")
    slowest = min(runs, key=lambda s: s["settings"]["learning_rate"])
    gains = _gains(slowest, 0.0, 0.6)
    dense_gains = minus(accuracies(slowest, "dense_retrained"), accuracies(slowest, "dense"))
    gain, left = interval(gains), interval(minus(gains, dense_gains))
    effect = (
        f"learning rate {slowest['settings']['learning_rate']:g}: {_said(gain)} below 60% "
        f"sparsity; less the gain of its dense network, trained on just as long: {_said(left)}"
    )
    if gain.mean < 5 or not _above(gain, 0):
        return Finding(FAILS, effect)
    if left.mean < gain.mean / 2:
        return Finding("artefact of unfinished training", effect)
    return Finding(HOLDS, effect)


def c10(evidence: Evidence) -> Finding:
    """An artefact of cutting reviews if the 32 tokens of the paper's code cost 5 points or more."""
    cut, long = evidence.one("paper_figure3"), evidence.one("imdb_reference")
    short = interval(accuracies(cut, "dense"))
    reached = interval(accuracies(long, "dense"))
    effect = (
        f"first {cut['settings']['max_length']} tokens, the paper's protocol: {short.mean:.1f}% "
        f"(n = {short.n}); last {long['settings']['max_length']} tokens, a trained embedding: "
        f"{reached.mean:.1f}% (n = {reached.n})"
    )
    lost = reached.mean - short.mean >= 5
    return Finding("artefact of cutting reviews to 32 tokens" if lost else UNKNOWN, effect)


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
        ("imdb_winning_ticket_short", "tweets_winning_ticket"),
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
        ("paper_figure3", "imdb_reference"),
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
    from lth_flax.records import write_text_atomic

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
