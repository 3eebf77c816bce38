"""Treatment against one control: the primary test, every level, equivalence, and the verdict."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from lth_flax.analysis.pairing import Measure, Pairs, measure, pair
from lth_flax.analysis.permutation import Relabelled, permutation_test, step_down_max_t
from lth_flax.analysis.result import Comparison, LevelGap, Options, Primary, Without
from lth_flax.analysis.statistics import Design, Estimate, equivalence, seeds_needed
from lth_flax.analysis.tables import idle_arms, nothing_learned
from lth_flax.analysis.verdict import decide
from lth_flax.predictions import Predictions
from lth_flax.records import Record, where


def design_of(records: Sequence[Record]) -> Design:
    """How the seeds of one configuration depend on each other.

    Records of the first edition do not say whether splits were drawn: they were where test and
    validation have the sizes that their shares of one corpus give.
    """
    test = next(row for row in records if row.split == "test")
    drawn, train = test.test_drawn, test.train_examples
    if drawn is None:
        validation, share = (float(test.settings.get(f"{n}_share", 0)) for n in _SHARES)
        sizes = [row.examples for row in records if row.split == "validation"]
        if not sizes or not validation or not share:
            return Design()
        corpus = sizes[0] / validation
        drawn = abs(corpus * share - test.examples) <= 0.01 * test.examples + 2
        train = round(corpus * (1 - validation - share))
    if not drawn:
        # What single examples add to the mean of another metric than accuracy is not recorded.
        of_accuracy = test.metric.name == "accuracy"
        return Design("shared test set", texts=test.examples) if of_accuracy else Design()
    return Design("resplits", test.examples / train) if train else Design()


_SHARES = ("validation", "test")


def compared(
    rows: Sequence[Record],
    control: str,
    options: Options,
    *,
    checkpoint: str = "last",
    predictions: Predictions | None = None,
    note: str = "",
) -> Comparison:
    """Treatment against one control, from rows that differ in learning rate at most."""
    arms = (options.treatment, control)
    pairs = pair(rows, *arms, checkpoint=checkpoint)
    scored = where(rows, checkpoint=checkpoint, split="test")
    measured = measure(pairs.levels, options.primary_sparsity)
    inside = [] if measured is None else [v for v in pairs.levels if measured.range[0] <= v]
    notes = [text for text in (idle_arms(scored, arms), note) if text]
    return compare(
        pairs,
        design_of(rows),
        options,
        predictions=predictions,
        nothing_learned=nothing_learned(scored, arms, inside),
        notes=tuple(notes),
    )


def compare(
    pairs: Pairs,
    design: Design,
    options: Options,
    *,
    predictions: Predictions | None = None,
    nothing_learned: str = "",
    notes: tuple[str, ...] = (),
) -> Comparison:
    """All that two arms say.

    Args:
      predictions: for the variance over texts, where seeds share a test set.
      nothing_learned: why no difference could be seen, or nothing.
      notes: what else the sentence has to say of these networks.
    """

    def gap(weights: np.ndarray) -> Estimate:
        return pairs.gap(weights, options.confidence, design, predictions)

    measured = measure(pairs.levels, options.primary_sparsity) if pairs.seeds else None
    levels = _levels(pairs, measured, options, [gap(unit) for unit in np.eye(len(pairs.levels))])
    primary, close, without, needed = None, None, [], None
    if measured is not None:
        test = permutation_test(pairs.relabelled, measured.weights)
        primary = Primary(
            gap(measured.weights),
            test.p,
            test.p_greater,
            test.p_less,
            pairs.relabelled.smallest_p,
            len(pairs.relabelled.gaps),
            pairs.relabelled.exact,
            [(v, float(w)) for v, w in zip(pairs.levels, measured.weights, strict=True) if w],
        )
        # Between levels the gap is a mean of its neighbours: to test those and the ends is enough.
        inside = [level.gap for level in levels if level.in_range]
        ends = [gap(end) for end in measured.ends if np.count_nonzero(end) > 1]
        close = equivalence([*inside, *ends], options.margin_points, options.alpha)
        without = _without(pairs, measured, options, gap)
        if primary.gap.sd is not None:
            needed = seeds_needed(
                primary.gap.sd, options.margin_points, options.alpha, draws=pairs.draws
            )
    result = Comparison(
        control=pairs.control,
        seeds=list(pairs.seeds),
        draws=pairs.draws,
        seeds_left_out=list(pairs.dropped),
        range=measured.range if measured else None,
        primary=primary,
        without=without,
        equivalence=close,
        levels=levels,
        seeds_needed=needed,
    )
    verdict = decide(pairs, result, design, options, nothing_learned, notes)
    return replace(result, verdict=verdict)


def directions(
    relabelled: Relabelled, tested: np.ndarray
) -> Mapping[str, tuple[np.ndarray, np.ndarray]]:
    """(p, adjusted p) of the columns `tested`, for "better" and "worse"; 1 elsewhere."""
    some = replace(relabelled, gaps=relabelled.gaps[:, tested])
    tests = {}
    for name in ("better", "worse"):
        p, adjusted = np.ones((2, relabelled.gaps.shape[1]))
        test = step_down_max_t(some, worse=name == "worse")
        p[tested], adjusted[tested] = test.p, test.p_adjusted
        tests[name] = (p, adjusted)
    return tests


def _levels(
    pairs: Pairs, measured: Measure | None, options: Options, gaps: list[Estimate]
) -> list[LevelGap]:
    """Per level: the gap, and max-T over the levels that prune anything.

    At sparsity 0 a ticket is the dense network and its control another one:
    there is nothing to test, and testing it would cost the others power.
    """
    if not pairs.seeds:
        return []
    tested = np.array([level > 0 for level in pairs.levels], bool)
    tests = directions(pairs.relabelled, tested)
    several = len(pairs.rates) > 1
    low, high = measured.range if measured else (1.0, 0.0)
    result = []
    for n, level in enumerate(pairs.levels):
        shown = (name for name, (_, adjusted) in tests.items() if adjusted[n] <= options.alpha / 2)
        direction = next(shown, None)
        p = [float(values[n]) if tested[n] else None for test in tests.values() for values in test]
        rates = [pairs.rates[chosen[n]] if several else None for chosen in pairs.chosen]
        inside = bool(low - 1e-9 <= level <= high + 1e-9)
        result.append(LevelGap(level, inside, gaps[n], p[0], p[1], p[2], p[3], direction, *rates))
    return result


def _without(
    pairs: Pairs, measured: Measure, options: Options, gap: Callable[[np.ndarray], Estimate]
) -> list[Without]:
    """The measure again without each of the levels that count in it."""
    result = []
    for left_out in np.flatnonzero(measured.weights):
        keep = [n for n in range(len(pairs.levels)) if n != left_out]
        rest = measure([pairs.levels[n] for n in keep], options.primary_sparsity)
        if rest is not None:
            weights = np.zeros(len(pairs.levels))
            weights[keep] = rest.weights
            p = permutation_test(pairs.relabelled, weights).p
            result.append(Without(pairs.levels[left_out], rest.range, gap(weights), p))
    return result
