"""One rule for each claim of the paper: evidence in, a verdict and its numbers out.

A verdict is one of "holds", "does not hold", "cannot tell" and "artefact of ...".
Every rule is stated in its docstring, which the page shows.
"""

import numpy as np

from lth_flax.analysis.evidence import (
    BySeed,
    Evidence,
    Finding,
    Missing,
    Summary,
    above,
    accuracies,
    averaged,
    below,
    crossings,
    interval,
    levels_of,
    minus,
    primary,
    said,
)
from lth_flax.analysis.statistics import Interval

HOLDS, FAILS, UNKNOWN = "holds", "does not hold", "cannot tell"


def c1(evidence: Evidence) -> Finding:
    """Holds if every configuration with the whole network pruned craters past 90% on average.

    An artefact of pruning the head alone if that is so only where nothing else is pruned.
    """
    whole = evidence.configurations("tweets_prune_after")
    found = [(s, *crossings(s, "crater", "pruned")) for s in whole]
    pooled = interval(averaged([values for _, values, _ in found if values]))
    lowest = min(float(np.mean(list(v.values()))) for _, v, _ in found if v)
    effect = (
        f"whole network pruned: crater sparsity {said(pooled, '%')}, mean of {len(found)} "
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
            for entry in primary(summary)["table"]:
                low += sum(value < 45 for _, value in entry["by_seed"])
            rows = primary(summary)["collapsed"]["one_class"]
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
        f"six minus two layers: {said(gain)}; best depth {best}; breakdown sparsity of "
        f"{max(by_depth)} minus {min(by_depth)} layers: {100 * shift.mean:+.1f} points of sparsity"
    )
    if shift.low is not None and shift.high is not None:
        effect += f" ({100 * shift.low:+.1f} to {100 * shift.high:+.1f})"
    if above(gain, 0) and best == 6 and not below(shift, 0):
        return Finding(HOLDS, effect)
    if below(gain, 0) or below(shift, 0) or best != 6:
        return Finding(FAILS, effect)
    return Finding(UNKNOWN, effect)


def c4(evidence: Evidence) -> Finding:
    """Holds if the mean breakdown sparsity of every depth is 60% or more, and none falls
    below 49.5%."""
    parts, lowest = [], 100.0
    for summary in evidence.configurations("imdb_prune_after"):
        values, _ = crossings(summary, "breakdown", "pruned")
        parts.append((summary["settings"]["num_layers"], interval(values)))
        for level in levels_of(summary, "pruned"):
            lowest = min(lowest, *accuracies(summary, "pruned", level).values())
    effect = "breakdown sparsity " + ", ".join(
        f"{said(found, '%')} with {layers} layers" for layers, found in parts
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
        f"at 50% pruned, with no training after: {said(drop)} below dense; there, trained again, "
        f"ticket minus reinit is {said(gap)}"
    )
    if above(gap, 0):
        return Finding(UNKNOWN, effect)
    return Finding(FAILS, effect)


def c6(evidence: Evidence) -> Finding:
    """Holds if, on reviews and on tweets, the random initialization breaks below 60% and the
    ticket at 80% or later. An artefact of the paper's protocol if that is so there alone."""

    def breaks(summary: Summary) -> tuple[bool, str]:
        ticket, held = crossings(summary, "breakdown", "ticket")
        fresh, also = crossings(summary, "breakdown", "reinit")
        as_claimed = interval(fresh).mean < 0.6 and interval(ticket).mean >= 0.8
        more, other = ("at least " if censored else "" for censored in (held, also))
        return as_claimed, (
            f"the ticket breaks at {more}{said(interval(ticket), '%')}, "
            f"reinit at {other}{said(interval(fresh), '%')}"
        )

    parts, verdicts = [], []
    for run in ("imdb_winning_ticket_short", "tweets_winning_ticket"):
        summary = evidence.one(run)
        verdict, text = breaks(summary)
        verdicts.append(verdict)
        sentence = summary["headline"]["sentence"].rstrip(".")
        parts.append(f"{summary['dataset']}: {text}; {sentence}")
    if all(verdicts):
        return Finding(HOLDS, "; ".join(parts))
    try:
        paper = evidence.one("paper_figure3")
    except Missing:
        return Finding(FAILS, "; ".join(parts))
    there, text = breaks(paper)
    dense = interval(accuracies(paper, "dense"))
    parts.append(f"the paper's own protocol, dense networks at {_percent(dense)}: {text}")
    alone = there and not any(verdicts)
    return Finding("artefact of the paper's protocol" if alone else FAILS, "; ".join(parts))


def c7(evidence: Evidence) -> Finding:
    """Whether the schedule matters: holds if iterative tickets beat one-shot ones over the levels
    from 50% to 96% that both have, does not hold if they are within half a point."""
    iterative, oneshot = (evidence.one(n) for n in ("tweets_winning_ticket", "tweets_oneshot"))
    common = set(levels_of(iterative, "ticket")) & set(levels_of(oneshot, "ticket"))
    levels = [level for level in sorted(common) if 0.5 <= level <= 0.96]
    found = interval(
        averaged(
            [
                minus(accuracies(iterative, "ticket", x), accuracies(oneshot, "ticket", x))
                for x in levels
            ]
        )
    )
    effect = f"iterative minus one-shot tickets: {said(found)} over {len(levels)} levels of tweets"
    if above(found, 0):
        return Finding(HOLDS, effect)
    if below(found, 0) or (above(found, -0.5) and below(found, 0.5)):
        return Finding(FAILS, effect)
    return Finding(UNKNOWN, effect)


def _gains(summary: Summary, low: float, high: float, before: str = "pruned") -> BySeed:
    """Retrained minus `before`, by seed, averaged over levels from `low` to `high`."""
    levels = [level for level in levels_of(summary, "retrained") if low <= level <= high]
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
        f"gain from retraining: {said(low)} below 45% sparsity, {said(middle)} at 45 to 60%, "
        f"{said(high)} above; the dense network, trained on just as long: {said(dense)}"
    )
    if above(low, 0) and above(high, 0) and below(middle, 0):
        return Finding(HOLDS, effect)
    if above(low, 0) and above(dense, 0) and dense.mean >= low.mean - 0.5:
        return Finding("artefact of unfinished training", effect)
    if below(low, 0) or above(middle, 0) or below(high, 0):
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
        f"learning rate {slowest['settings']['learning_rate']:g}: {said(gain)} below 60% "
        f"sparsity; less the gain of its dense network, trained on just as long: {said(left)}"
    )
    if gain.mean < 5 or not above(gain, 0):
        return Finding(FAILS, effect)
    if left.mean < gain.mean / 2:
        return Finding("artefact of unfinished training", effect)
    return Finding(HOLDS, effect)


def c10(evidence: Evidence) -> Finding:
    """An artefact of cutting reviews if the first 32 tokens alone cost 5 points or more.

    The same network and training on both; where there is an interval, its upper end counts.
    """
    cut, long = evidence.one("imdb_first_32"), evidence.one("imdb_reference")
    short = interval(accuracies(cut, "dense"))
    reached = interval(accuracies(long, "dense"))
    effect = (
        f"one network and training: {_percent(short)} on the first "
        f"{cut['settings']['max_length']} tokens, {_percent(reached)} on the last "
        f"{long['settings']['max_length']}"
    )
    try:
        paper = interval(accuracies(evidence.one("paper_figure3"), "dense"))
        effect += f"; the paper's own protocol, 32 tokens: {_percent(paper)}"
    except Missing:
        pass
    upper = short.mean if short.high is None else short.high
    lost = reached.mean - upper >= 5
    return Finding("artefact of cutting reviews to 32 tokens" if lost else UNKNOWN, effect)


def _percent(found: Interval) -> str:
    """An accuracy, which is in % already."""
    between = "" if found.low is None else f"{found.low:.1f} to {found.high:.1f}, "
    return f"{found.mean:.1f}% ({between}n = {found.n})"
