"""Several configurations side by side: what depth, learning rate and epochs do.

A learning rate is a regime: where several were run, arms are compared at each
of them and, here, each arm at its own.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from lth_flax.analysis.compare import compared, design_of
from lth_flax.analysis.learning import unfinished
from lth_flax.analysis.merge import FACTORS, Values, values_of
from lth_flax.analysis.pairing import pair, rate_of
from lth_flax.analysis.permutation import factor_permutation
from lth_flax.analysis.result import (
    ChosenRates,
    Configuration,
    FactorTest,
    Options,
    OwnRates,
)
from lth_flax.analysis.seed_scores import BySeed, SeedScores, mean_of, scores_by_seed, weighted
from lth_flax.analysis.statistics import Design, Estimate, holm, mean_by_seed
from lth_flax.predictions import Predictions
from lth_flax.records import CurvePoint, Record, arm_order, grouped, where

Group = Sequence[Record]
"""The records of one configuration."""

Outcomes = dict[str, tuple[SeedScores, bool]]
"""By name, an outcome by seed, and whether some of its values are only bounds."""

WORDS = {"num_layers": "depth", "learning_rate": "learning rate", "epochs": "epochs"}
_PER = {"num_layers": "per doubling", "epochs": "per doubling", "learning_rate": "per tenfold"}


def name_of(values: Values, varying: Mapping[str, Sequence[float]]) -> str:
    """A configuration in words: "layers 2, rate 0.001"."""
    parts = [f"{n} {v:g}" for n, v in zip(FACTORS, values, strict=True) if n in varying]
    return ", ".join(parts).replace("num_layers", "layers").replace("learning_rate", "rate")


def best_rates(groups: Sequence[Group]) -> dict[float, Group]:
    """Per depth the configuration whose dense networks have the best validation score.

    The choice is by the mean over seeds; of equal ones the first in order of `FACTORS`.
    Depths without a validation score are left out.
    """
    found: dict[float, tuple[float, Group]] = {}
    for group in sorted(groups, key=_values):
        scores = scores_by_seed(_dense(group, "validation")).values()
        sign = 1 if group[0].higher_is_better else -1
        mean = sign * round(float(np.mean(list(scores))), 9) if scores else -np.inf
        depth = _values(group)[0]
        if scores and (depth not in found or mean > found[depth][0]):
            found[depth] = (mean, group)
    return {depth: found[depth][1] for depth in sorted(found)}


def _values(group: Group) -> Values:
    return values_of(group[0]) or (0.0,)


def _dense(group: Group, split: str, checkpoint: str = "last") -> list[Record]:
    return where(group, arm="dense", split=split, checkpoint=checkpoint)


def own_rates(
    groups: Sequence[Group],
    varying: Mapping[str, Sequence[float]],
    options: Options,
    curves: Sequence[CurvePoint] = (),
    predictions: Predictions | None = None,
) -> list[OwnRates]:
    """Arms compared each at its own learning rate, for every combination of the other factors.

    Nothing where one rate was run (`varying` has none), or where no rate can be chosen by
    validation scores at the last epoch. A seed that lacks one of them is left out and named.
    """
    if "learning_rate" not in varying:
        return []
    at = FACTORS.index("learning_rate")
    others = {name: values for name, values in varying.items() if name != "learning_rate"}
    families = grouped(groups, lambda group: _values(group)[:at] + _values(group)[at + 1 :])
    result = []
    for _, family in sorted(families.items()):
        rows = [row for group in family for row in group]
        rates = sorted({rate_of(row) for row in rows})
        arms = {row.arm for row in rows}
        controls = sorted(arms - {"dense", options.treatment}, key=arm_order)
        chooses = where(rows, split="validation", checkpoint="last")
        if len(rates) < 2 or options.treatment not in arms or not controls or not chooses:
            continue
        values = _values(family[0])
        note = unfinished(where(rows, split="test"), curves, options.margin_points)
        result.append(
            OwnRates(
                name=name_of(values, others),
                factors={n: v for n, v in zip(FACTORS, values, strict=True) if n in others},
                rates=rates,
                comparisons={
                    control: compared(rows, control, options, predictions=predictions, note=note)
                    for control in controls
                },
            )
        )
    return result


def average(configurations: Sequence[Configuration]) -> dict[str, list[dict[str, float]]]:
    """Mean score over configurations, at the levels that all have: the paper's "average"."""
    tables = [
        {(cell.arm, cell.target_sparsity): cell.score.mean for cell in one.table}
        for one in (c.checkpoints[c.primary_checkpoint] for c in configurations)
    ]
    result: dict[str, list[dict[str, float]]] = {}
    for arm, level in sorted(
        set.intersection(*map(set, tables)), key=lambda cell: (arm_order(cell[0]), cell[1])
    ):
        means = [table[arm, level] for table in tables]
        if arm != "dense" and None not in means:
            mean = float(np.mean(np.array(means, float)))
            result.setdefault(arm, []).append({"target_sparsity": level, "mean": mean})
    return result


# Factor tests.


def factor_tests(
    groups: Sequence[Group],
    configurations: Sequence[Configuration],
    varying: Mapping[str, Sequence[float]],
    options: Options,
    predictions: Predictions | None = None,
) -> tuple[list[FactorTest], ChosenRates | None]:
    """Every factor on every outcome, and depth at the rate that validation chose.

    Together they are one family: p-values are Holm's over all of them. No test where nothing
    varies.
    """
    if not varying:
        return [], None
    design = design_of(groups[0])
    tables = {
        tuple(one.factors[name] for name in FACTORS): _outcomes(one, group, options, predictions)
        for one, group in zip(configurations, groups, strict=True)
    }
    first, *others = tables.values()
    tests = [
        _test(_by_value(tables, factor, levels, outcome), factor, outcome, options, design,
              censored=any(table[outcome][1] for table in tables.values()))
        for factor, levels in varying.items()
        for outcome in (name for name in first if all(name in table for table in others))
    ]  # fmt: skip
    at_best = best_rates(groups)
    if "num_layers" in varying and len(varying) > 1 and len(at_best) > 1:
        by_depth = {
            depth: SeedScores.of(_dense(group, "test"), predictions)
            for depth, group in at_best.items()
        }
        name = "dense accuracy at the rate chosen on validation"
        last = _test(by_depth, "num_layers", name, options, design)
    else:
        last = None
    made = [test for test in (*tests, last) if test is not None]
    adjusted = [
        replace(test, p_adjusted=p, sentence=_sentence(test, p, options))
        for test, p in zip(made, holm([test.p for test in made]), strict=True)
    ]
    if last is None:
        return adjusted, None
    chosen = [dict(zip(FACTORS, _values(group), strict=True)) for group in at_best.values()]
    return adjusted[:-1], ChosenRates(chosen, adjusted[-1])


def _outcomes(
    one: Configuration, group: Group, options: Options, predictions: Predictions | None
) -> Outcomes:
    """What a factor may move, by seed; sparsities in points, so that all read alike."""
    checkpoint, treatment = one.primary_checkpoint, options.treatment
    found = one.checkpoints[checkpoint]
    outcomes: Outcomes = {}
    if dense := _dense(group, "test", checkpoint):
        outcomes["dense accuracy"] = (SeedScores.of(dense, predictions), False)
    for kind, table in (("breakdown", found.breakdown), ("crater", found.crater)):
        for arm, crossings in table.arms.items():
            points = mean_by_seed((run["seed"], 100 * run["sparsity"]) for run in crossings.runs)
            censored = crossings.sparsity is None
            outcomes[f"{kind} sparsity of {arm}"] = (SeedScores(points), censored)
    for control, comparison in found.comparisons.items():
        if comparison.primary is not None:
            pairs = pair(group, treatment, control, checkpoint=checkpoint)
            counted = dict(comparison.primary.weights)
            weights = np.array([counted.get(level, 0.0) for level in pairs.levels])
            gap = pairs.scores(weights, predictions)
            outcomes[f"gap of {treatment} over {control}"] = (gap, False)
    return outcomes


def _by_value(
    tables: Mapping[Values, Outcomes], factor: str, levels: Sequence[float], outcome: str
) -> dict[float, SeedScores]:
    """The outcome by value of the factor and by seed, averaged over the other factors.

    Only those combinations of the others count that have every value of the
    factor, and only seeds that have an outcome in all of them.
    """
    index = FACTORS.index(factor)
    blocks: dict[Values, dict[float, SeedScores]] = {}
    for values, table in sorted(tables.items()):
        rest = values[:index] + values[index + 1 :]
        blocks.setdefault(rest, {})[values[index]] = table[outcome][0]
    whole = [block for block in blocks.values() if len(block) == len(levels)]
    return {level: mean_of([block[level] for block in whole]) for level in levels if whole}


def slope(
    by_value: Mapping[float, SeedScores], factor: str, confidence: float, design: Design
) -> Estimate | None:
    """Least squares per seed on the logarithm of the factor: per doubling, per tenfold for rates.

    None where a value has no logarithm.
    """
    if min(by_value) <= 0:
        return None
    x = np.log(list(by_value)) / np.log(10 if factor == "learning_rate" else 2)
    x = x - x.mean()
    steepness = weighted(list(zip(map(float, x / (x @ x)), by_value.values(), strict=True)))
    return steepness.estimate(confidence, design)


def _test(
    by_value: Mapping[float, SeedScores],
    factor: str,
    outcome: str,
    options: Options,
    design: Design,
    censored: bool = False,
) -> FactorTest | None:
    """One test, not adjusted yet; none without a seed that has all values.

    censored: some are only bounds, so that there is no slope.
    """
    outcomes: list[BySeed] = [scores.by_seed for scores in by_value.values()]
    seeds = sorted(set.intersection(*map(set, outcomes))) if outcomes else []
    if not seeds:
        return None
    matrix = np.array([[of_value[seed] for of_value in outcomes] for seed in seeds])
    p, relabellings, exact = factor_permutation(matrix)
    steepness = slope(by_value, factor, options.confidence, design)
    return FactorTest(
        factor=factor,
        outcome=outcome,
        seeds=seeds,
        values=[float(value) for value in by_value],
        means=[float(mean) for mean in matrix.mean(axis=0)],
        p=p,
        p_adjusted=math.nan,
        relabellings=relabellings,
        exact=exact,
        slope=None if censored else steepness,
        per=_PER[factor],
        sentence="",
    )


def _sentence(test: FactorTest, p_adjusted: float, options: Options) -> str:
    word, shown = WORDS[test.factor], p_adjusted <= options.alpha
    means = ", ".join(f"{v:g}: {m:.1f}" for v, m in zip(test.values, test.means, strict=True))
    start = f"{word.capitalize()} moves" if shown else f"No sign that {word} moves"
    text = f"{start} {test.outcome} ({means}"
    if test.slope is not None and test.slope.mean is not None:
        text += f"; {test.slope.mean:+.2f} points {test.per}"
        if test.slope.interval:
            low, high = test.slope.interval
            text += f", {100 * options.confidence:g}% interval {low:+.2f} to {high:+.2f}"
    method = "exact" if test.exact else "Monte Carlo"
    return (
        f"{text}); {method} within-seed permutation test p = {test.p:.2g}, "
        f"{p_adjusted:.2g} adjusted for all factor tests, n = {len(test.seeds)} seeds."
    )
