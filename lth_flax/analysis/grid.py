"""Several configurations side by side: what depth, learning rate and epochs do.

A learning rate is a regime: where several were run, arms are compared at each
of them and, here, each arm at its own.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from lth_flax.analysis.compare import compared, design_of
from lth_flax.analysis.learning import unfinished
from lth_flax.analysis.merge import FACTORS, Values, values_of
from lth_flax.analysis.pairing import rate_of
from lth_flax.analysis.permutation import factor_permutation
from lth_flax.analysis.result import (
    ChosenRates,
    Configuration,
    FactorTest,
    Options,
    OwnRates,
)
from lth_flax.analysis.statistics import Design, Estimate, estimate, holm, mean_by_seed
from lth_flax.analysis.tables import scores_by_seed
from lth_flax.predictions import Predictions
from lth_flax.records import CurvePoint, Record, arm_order, grouped, where

Group = Sequence[Record]
"""The records of one configuration."""

BySeed = dict[int, float]
Outcomes = dict[str, tuple[BySeed, bool]]
"""By name, an outcome by seed, and whether some of its values are only bounds."""

WORDS = {"num_layers": "depth", "learning_rate": "learning rate", "epochs": "epochs"}
_PER = {"num_layers": "per doubling", "epochs": "per doubling", "learning_rate": "per tenfold"}


def name_of(values: Values, varying: Mapping[str, Sequence[float]]) -> str:
    """A configuration in words: "layers 2, rate 0.001"."""
    parts = [f"{n} {v:g}" for n, v in zip(FACTORS, values, strict=True) if n in varying]
    return ", ".join(parts).replace("num_layers", "layers").replace("learning_rate", "rate")


def best_rates(groups: Sequence[Group]) -> dict[float, Group]:
    """Per depth the configuration whose dense networks have the best validation accuracy.

    The choice is by the mean over seeds; of equal ones the first in order of `FACTORS`.
    Depths without a validation score are left out.
    """
    found: dict[float, tuple[float, Group]] = {}
    for group in sorted(groups, key=_values):
        scores = _dense(group, "validation").values()
        mean = round(float(np.mean(list(scores))), 9) if scores else -1.0
        depth = _values(group)[0]
        if scores and (depth not in found or mean > found[depth][0]):
            found[depth] = (mean, group)
    return {depth: found[depth][1] for depth in sorted(found)}


def _values(group: Group) -> Values:
    return values_of(group[0]) or (0.0,)


def _dense(group: Group, split: str) -> BySeed:
    return scores_by_seed(where(group, arm="dense", split=split, checkpoint="last"))


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
) -> tuple[list[FactorTest], ChosenRates | None]:
    """Every factor on every outcome, and depth at the rate that validation chose.

    Together they are one family: p-values are Holm's over all of them. No test where nothing
    varies.
    """
    if not varying:
        return [], None
    design = design_of(groups[0])
    tables = {
        tuple(one.factors[name] for name in FACTORS): _outcomes(one, options.treatment)
        for one in configurations
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
        by_depth = {depth: _dense(group, "test") for depth, group in at_best.items()}
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


def _outcomes(one: Configuration, treatment: str) -> Outcomes:
    """What a factor may move, by seed; sparsities in points, so that all read alike."""
    found = one.checkpoints[one.primary_checkpoint]
    outcomes: Outcomes = {}
    dense = next((cell for cell in found.table if cell.arm == "dense"), None)
    if dense is not None:
        outcomes["dense accuracy"] = (dict(dense.score.by_seed), False)
    for kind, table in (("breakdown", found.breakdown), ("crater", found.crater)):
        for arm, crossings in table.arms.items():
            points = mean_by_seed((run["seed"], 100 * run["sparsity"]) for run in crossings.runs)
            outcomes[f"{kind} sparsity of {arm}"] = (points, crossings.sparsity is None)
    for control, comparison in found.comparisons.items():
        if comparison.primary is not None:
            gap = dict(comparison.primary.gap.by_seed)
            outcomes[f"gap of {treatment} over {control}"] = (gap, False)
    return outcomes


def _by_value(
    tables: Mapping[Values, Outcomes], factor: str, levels: Sequence[float], outcome: str
) -> dict[float, BySeed]:
    """The outcome by value of the factor and by seed, averaged over the other factors.

    Only those combinations of the others count that have every value of the
    factor, and only seeds that have an outcome in all of them.
    """
    index = FACTORS.index(factor)
    blocks: dict[Values, dict[float, BySeed]] = {}
    for values, table in sorted(tables.items()):
        rest = values[:index] + values[index + 1 :]
        blocks.setdefault(rest, {})[values[index]] = table[outcome][0]
    whole = [block for block in blocks.values() if len(block) == len(levels)]
    seeds = _shared([part for block in whole for part in block.values()])
    return {
        level: {seed: float(np.mean([block[level][seed] for block in whole])) for seed in seeds}
        for level in levels
    }


def _shared(parts: Sequence[BySeed]) -> list[int]:
    """The seeds that all have."""
    return sorted(set.intersection(*map(set, parts))) if parts else []


def slope(
    outcomes: Float[np.ndarray, "seeds values"],
    seeds: Sequence[int],
    values: Sequence[float],
    factor: str,
    confidence: float,
    design: Design,
) -> Estimate | None:
    """Least squares per seed on the logarithm of the factor: per doubling, per tenfold for rates.

    None where a value has no logarithm.
    """
    if min(values) <= 0:
        return None
    x = np.log(values) / np.log(10 if factor == "learning_rate" else 2)
    x = x - x.mean()
    found = map(float, outcomes @ x / (x @ x))
    return estimate(dict(zip(seeds, found, strict=True)), confidence, design)


def _test(
    by_value: Mapping[float, BySeed],
    factor: str,
    outcome: str,
    options: Options,
    design: Design,
    censored: bool = False,
) -> FactorTest | None:
    """One test, not adjusted yet; none without a seed that has all values.

    censored: some are only bounds, so that there is no slope.
    """
    seeds, values = _shared(list(by_value.values())), list(by_value)
    if not seeds:
        return None
    matrix = np.array([[by_value[value][seed] for value in values] for seed in seeds])
    p, relabellings, exact = factor_permutation(matrix)
    steepness = slope(matrix, seeds, values, factor, options.confidence, design)
    return FactorTest(
        factor=factor,
        outcome=outcome,
        seeds=seeds,
        values=[float(value) for value in values],
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
