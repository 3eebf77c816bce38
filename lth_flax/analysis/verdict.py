"""One of five verdicts on a treatment against a control, computed from the statistics."""

from collections.abc import Sequence

from lth_flax.analysis.pairing import Pairs
from lth_flax.analysis.result import Comparison, LevelGap, Options, Primary, Verdict
from lth_flax.analysis.statistics import Design, reach
from lth_flax.analysis.words import count, in_points, level_name
from lth_flax.records import Metric


def decide(
    pairs: Pairs,
    comparison: Comparison,
    design: Design,
    options: Options,
    nothing_learned: str = "",
    notes: Sequence[str] = (),
) -> Verdict:
    """The verdict on treatment against control from all else of the `comparison`, in this order:

    0. "cannot tell with n seeds" where `nothing_learned` says why no difference
       could be seen: networks that all predict one class are equal, and no evidence;

    1. "depends on sparsity" where step-down max-T at alpha/2 for each direction
       finds levels in both;
    2. "ticket better" or "control better" where the primary test, two-sided, has p <= alpha;
    3. "equivalent within ±m points" where both one-sided t tests pass at alpha at every
       level of the range, its interpolated ends included;
    4. "cannot tell with n seeds".

    A gap can be real and small at once: then 2 stands, and the sentence says so.
    """
    name, other = pairs.treatment, pairs.control
    seeds = count(len(pairs.seeds), "seed")
    unknown = f"cannot tell with {seeds}"
    primary, close, levels = comparison.primary, comparison.equivalence, comparison.levels
    story = _story(name, levels)
    better = [level for level in levels if level.direction == "better"]
    worse = [level for level in levels if level.direction == "worse"]
    if primary is None or comparison.range is None:
        low, high = map(level_name, options.primary_sparsity)
        reason = (
            f"no level has a target sparsity from {low} to {high}"
            if pairs.seeds
            else "no seed has both arms at every level"
        )
        said = ". ".join([f"{unknown.capitalize()}: {reason}", *notes])
        return Verdict(unknown, "unknown", f"{said}.", story, reason)

    metric = pairs.metric
    if primary.gap.mean is None:
        reason = (
            f"the {metric.name.replace('_', ' ')} of a network that is compared is no finite "
            "number; look for NaN in the data, or train with a smaller learning rate"
        )
        return Verdict(unknown, "unknown", f"{unknown.capitalize()}: {reason}.", "", reason)
    within = f"within ±{options.margin_points:g} {metric.unit}"
    minus = f"{name} minus {other}" if metric.higher_is_better else f"{other} minus {name}"
    if nothing_learned:
        kind, verdict, reason = "unknown", unknown, nothing_learned
    elif better and worse:
        kind, verdict = "depends", "depends on sparsity"
        reason = (
            f"better at {_names(better)} and worse at {_names(worse)}, each direction adjusted "
            f"over levels at {options.alpha / 2:g}"
        )
    elif primary.p <= options.alpha:
        kind = "treatment" if primary.gap.mean is not None and primary.gap.mean > 0 else "control"
        verdict = f"{name} better" if kind == "treatment" else "control better"
        reason = f"significant at {options.alpha:g}"
        if close is not None and close.passes:
            reason += f"; small all the same, every level also tests as {within} of zero"
    elif close is not None and close.passes:
        kind, verdict = "equivalent", f"equivalent {within}"
        reason = (
            f"both one-sided t tests of equivalence pass at {options.alpha:g} at every level of "
            "the range"
        )
    else:
        kind, verdict = "unknown", unknown
        reason = _why_unknown(pairs, primary, comparison, options)
    if kind in ("treatment", "control", "unknown") and (better or worse):
        word = "better" if better else "worse"
        subject = "the ticket" if name == "ticket" else name
        reason += f"; adjusted over levels, {subject} is {word} at {_names(better or worse)}"
    inside = _names([level for level in levels if level.in_range])
    low, high = map(level_name, comparison.range)
    over = f"over {low} to {high} sparsity (measured at {inside})"
    sentence = (
        f"{verdict[0].upper()}{verdict[1:]}: {minus} is "
        f"{_numbers(primary, design, options, metric)} "
        f"{over if low != high else f'at {low} sparsity'}, with {seeds} and "
        f"{count(pairs.draws, 'control draw')} each{_own_rates(pairs)}; {reason}"
    )
    return Verdict(verdict, kind, ". ".join([sentence, *notes]) + ".", story, reason)


def _numbers(primary: Primary, design: Design, options: Options, metric: Metric) -> str:
    """The gap with its interval and its p-value."""
    if primary.gap.interval is None:
        spread = "no interval from one seed"
    else:
        low, high = primary.gap.interval
        corrected = " corrected for re-splits" if design.kind == "resplits" else ""
        ends = " to ".join(metric.gap(end).split()[0] for end in (low, high))
        spread = f"{100 * options.confidence:g}% interval{corrected} {ends}"
    method = "exact" if primary.exact else "Monte Carlo"
    return (
        f"{metric.gap(primary.gap.mean or 0.0)} {_of_test(metric)} ({spread}; {method} two-sided "
        f"permutation test p = {primary.p:.2g})"
    )


def _of_test(metric: Metric) -> str:
    if metric.unit == "points":
        return f"of test {metric.name.replace('_', ' ')}"
    return f"on test, where {'higher' if metric.higher_is_better else 'lower'} is better"


def _why_unknown(pairs: Pairs, primary: Primary, comparison: Comparison, options: Options) -> str:
    close, needed, unit = comparison.equivalence, comparison.seeds_needed, pairs.metric.unit
    if primary.smallest_p > options.alpha:
        possible = reach(len(pairs.seeds), pairs.draws, options.alpha)
        ways = [
            f"{possible.seeds} seeds" if possible.seeds else "",
            f"{count(possible.draws, 'control draw')} each" if possible.draws else "",
        ]
        reason = (
            f"so few seeds and draws cannot reach p = {options.alpha:g} (their smallest p is "
            f"{primary.smallest_p:.2g}; {' or '.join(filter(None, ways))} would)"
        )
    else:
        reason = f"no difference shown at p = {options.alpha:g}"
        if close is not None and close.smallest_margin_points is not None:
            reason += (
                f", nor equivalence within ±{close.margin_points:g} {unit} at every level (the "
                f"smallest margin that would pass is ±{close.smallest_margin_points:.3g})"
            )
    if needed and needed > len(pairs.seeds):
        margin = options.margin_points
        gap = in_points(margin) if unit == "points" else f"{margin:g} {unit}"
        reason += (
            f"; with the spread seen here, a gap of {gap} needs about {needed} seeds (80% power)"
        )
    return reason


def _story(name: str, levels: Sequence[LevelGap]) -> str:
    """What the levels say, in one sentence."""
    tested = [level for level in levels if level.p_treatment_better is not None]
    if not tested:
        return ""
    groups = [
        (f"{name} better at {{}}", [one for one in tested if one.direction == "better"]),
        ("worse at {}", [one for one in tested if one.direction == "worse"]),
        ("no difference shown at {}", [one for one in tested if one.direction is None]),
    ]
    parts = [text.format(_names(some)) for text, some in groups if some]
    if not groups[0][1] and groups[1][1]:
        parts[0] = f"{name} {parts[0]}"
    said = ", ".join(parts)
    return f"{said[0].upper()}{said[1:]} (adjusted over {count(len(tested), 'level')})."


def _names(levels: Sequence[LevelGap]) -> str:
    names = [level_name(level.target_sparsity) for level in levels]
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else names[0]


def _own_rates(pairs: Pairs) -> str:
    if len(pairs.rates) < 2:
        return ""
    apart = (pairs.chosen[0] != pairs.chosen[1]).any()
    masks = ", so their masks may come from different rates" if apart else ""
    return (
        f", each arm at the learning rate that its validation score chose per level, chosen "
        f"again in every relabelling{masks}"
    )
