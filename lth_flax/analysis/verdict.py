"""One of four verdicts on a treatment against a control, computed from the statistics."""

from dataclasses import dataclass

from lth_flax.analysis.permutation import PermutationTest
from lth_flax.analysis.statistics import (
    PRIMARY_SPARSITY,
    Equivalence,
    Interval,
    PairedGaps,
    equivalence,
    level_name,
    primary_test,
    t_interval,
)


@dataclass(frozen=True)
class Verdict:
    """One of four verdicts, a sentence with the numbers, and why."""

    verdict: str
    sentence: str
    reason: str


def decide(
    gaps: PairedGaps,
    *,
    margin: float = 0.5,
    alpha: float = 0.05,
    confidence: float = 0.95,
    bounds: tuple[float, float] = PRIMARY_SPARSITY,
    nothing_learned: str = "",
) -> Verdict:
    """The verdict on treatment against control, in this order:

    0. "cannot tell with n seeds" where `nothing_learned` says why no difference
       could be seen: networks that all predict one class are equal, and no evidence;

    1. "ticket better" where the primary test, one-sided, has p <= alpha;
    2. "control better" where the same test of the other tail has p <= alpha;
    3. "equivalent within ±m points" where both one-sided t tests pass at alpha;
    4. "cannot tell with n seeds".

    Each direction has level alpha, as the primary test was stated one-sided.
    A gap can be real and small at once: then 1 or 2 stands, and the sentence
    says that it also lies within the margin.
    """
    name, other, n = gaps.treatment, gaps.control, len(gaps.seeds)
    seeds = f"{n} seed{'s' * (n != 1)}"
    unknown = f"cannot tell with {seeds}"
    inside = gaps.primary(bounds)
    test = primary_test(gaps, bounds)
    if test is None:
        low, high = map(level_name, bounds)
        reason = (
            f"no level has a target sparsity from {low} to {high}"
            if not inside.levels
            else "no seed has both arms at every level"
        )
        return Verdict(unknown, f"{unknown.capitalize()}: {reason}.", reason)

    pooled = inside.gaps.mean(axis=1)
    interval = t_interval(pooled, confidence)
    close = equivalence(pooled, margin, alpha)
    within = f"within ±{margin:g} points"
    if nothing_learned:
        verdict, reason = unknown, nothing_learned
    elif test.p_greater <= alpha:
        verdict, reason = f"{name} better", f"significant at {alpha:g}"
    elif test.p_less <= alpha:
        verdict, reason = "control better", f"significant at {alpha:g}"
    elif close.passes:
        verdict, reason = (
            f"equivalent {within}",
            f"both one-sided t tests of equivalence pass at {alpha:g}",
        )
    else:
        verdict, reason = unknown, _why_unknown(test, close, alpha)
    if close.passes and "better" in verdict:
        reason += f"; small all the same, it also tests as {within} of zero"
    sentence = (
        f"{verdict[0].upper()}{verdict[1:]}: {name} minus {other} is "
        f"{_numbers(test, interval, confidence, name, other)} over "
        f"{_levels_in_words(inside.levels)}, with {seeds} and "
        f"{gaps.draws} control draw{'s' * (gaps.draws != 1)} each; {reason}."
    )
    return Verdict(verdict, sentence, reason)


def _numbers(
    test: PermutationTest, interval: Interval, confidence: float, name: str, other: str
) -> str:
    """The gap with its interval and the p-value of the side it lies on."""
    if interval.low is None or interval.high is None:
        spread = "no interval from one seed"
    else:
        spread = f"{100 * confidence:g}% interval {interval.low:+.2f} to {interval.high:+.2f}"
    method = "exact" if test.exact else "Monte Carlo"
    p, better = (test.p_greater, name) if test.gap >= 0 else (test.p_less, other)
    return (
        f"{test.gap:+.2f} points of test accuracy ({spread}; {method} one-sided permutation "
        f"test that {better} is better: p = {p:.2g})"
    )


def _why_unknown(test: PermutationTest, close: Equivalence, alpha: float) -> str:
    if test.smallest_p > alpha:
        return (
            f"so few seeds and draws cannot reach p = {alpha:g} "
            f"(their smallest p is {test.smallest_p:.2g})"
        )
    reason = f"neither direction reaches p = {alpha:g}"
    if close.smallest_margin is None:
        return reason
    return (
        f"{reason}, nor does equivalence within ±{close.margin:g} points "
        f"(the smallest margin that would pass is ±{close.smallest_margin:.2f})"
    )


def _levels_in_words(levels: tuple[float, ...]) -> str:
    if len(levels) == 1:
        return f"one level, {level_name(levels[0])} sparsity"
    return f"{len(levels)} levels from {level_name(levels[0])} to {level_name(levels[-1])} sparsity"
