"""From records to `summary.json`: every configuration, and what tells them apart.

The same records give the same bytes, in whatever order they come.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from lth_flax.analysis import breakdown, grid
from lth_flax.analysis.compare import compared, design_of
from lth_flax.analysis.learning import curves_of, unfinished
from lth_flax.analysis.merge import FACTORS, comparable, differing, factors, split_groups, values_of
from lth_flax.analysis.result import (
    Checkpoint,
    Configuration,
    Headline,
    Options,
    Result,
    to_json,
)
from lth_flax.analysis.retraining import retraining
from lth_flax.analysis.tables import (
    arm_table,
    collapsed,
    density_table,
    diagnostics_table,
    diverged,
)
from lth_flax.analysis.words import factor_value, plain
from lth_flax.errors import UserError
from lth_flax.predictions import Predictions
from lth_flax.records import CHECKPOINTS, RUN_COLUMNS, CurvePoint, Record, arm_order, where


def summarize(
    records: Iterable[Record],
    *,
    options: Options | None = None,
    curves: Sequence[CurvePoint] = (),
    predictions: Predictions | None = None,
) -> dict[str, Any]:
    """What `summary.json` holds, as `result.Result` describes it.

    Arms may be missing: then so is what would compare them.

    Args:
      curves: for learning curves, and whether training had finished.
      predictions: for the variance over shared test texts, and confusion matrices.

    Raises:
      UserError: there is no row of the test split, or a row is there twice.
    """
    options = options or Options()
    groups = [group for group in split_groups(records) if where(group, split="test")]
    if not groups:
        raise UserError("no record of the test split; nothing to analyze")
    metric = groups[0][0].metric
    one_grid = comparable(row for group in groups for row in group)
    groups = sorted(groups, key=lambda group: values_of(group[0]) or ()) if one_grid else groups
    varying = factors(groups) if one_grid else {}
    names = _names(groups, varying)
    configurations = [
        _configuration(group, name, options, curves, predictions)
        for group, name in zip(groups, names, strict=True)
    ]
    own_rates = grid.own_rates(groups, varying, options, curves, predictions)
    tests, chosen = grid.factor_tests(groups, configurations, varying, options, predictions)
    sizes = [len(values) for values in varying.values()]
    return to_json(
        Result(
            experiment=configurations[0].experiment,
            dataset=configurations[0].dataset,
            options=options,
            headline=_headline(configurations, own_rates, tests, options),
            factors=varying,
            complete=not one_grid or len(groups) == int(np.prod(sizes)),
            configurations=configurations,
            own_rates=own_rates,
            factor_tests=tests,
            chosen_rates=chosen,
            average=grid.average(configurations) if one_grid else {},
            metric={**asdict(metric), "unit": metric.unit},
        )
    )


def _configuration(
    records: Sequence[Record],
    name: str,
    options: Options,
    curves: Sequence[CurvePoint],
    predictions: Predictions | None,
) -> Configuration:
    """Tables, tests and verdicts of one setting."""
    design, treatment = design_of(records), options.treatment
    test = where(records, split="test")
    primary, *others = (one for one in CHECKPOINTS if where(test, checkpoint=one))
    scored = where(test, checkpoint=primary)
    present = {row.arm for row in test}
    note = unfinished(scored, curves, options.margin_points)
    controls = sorted(present - {"dense", treatment}, key=arm_order) * (treatment in present)

    def at(checkpoint: str) -> Checkpoint:
        rows = where(test, checkpoint=checkpoint)
        broken = breakdown.breakdowns(rows, options.breakdown_points)
        return Checkpoint(
            table=arm_table(rows, options.confidence, design, predictions),
            comparisons={
                control: compared(
                    where(records, checkpoint=checkpoint),
                    control,
                    options,
                    checkpoint=checkpoint,
                    predictions=predictions,
                    note=note,
                )
                for control in controls
                if where(rows, arm=control)
            },
            breakdown=breakdown.crossing_table(broken, controls, options, design),
            crater=breakdown.crossing_table(breakdown.craters(rows), controls, options, design),
            collapsed=collapsed(rows),
            retraining=retraining(rows, options.confidence, design, predictions),
        )

    values = values_of(records[0])
    return Configuration(
        name=name,
        factors=dict(zip(FACTORS, values, strict=True)) if values else {},
        **{name: getattr(records[0], name) for name in RUN_COLUMNS},
        settings=dict(records[0].settings),
        seeds=sorted({row.seed for row in test}),
        arms=sorted(present, key=arm_order),
        levels=sorted({round(row.target_sparsity, 9) for row in test if row.arm != "dense"}),
        examples=sorted({row.examples for row in scored}),
        variance={
            "kind": design.kind,
            "test_over_train": design.test_over_train or None,
            "words": design.words,
        },
        majority_accuracy=_majority(scored),
        primary_checkpoint=primary,
        unfinished=note,
        checkpoints={one: at(one) for one in (primary, *others)},
        density=density_table(scored),
        diagnostics=diagnostics_table(scored),
        diverged=diverged(scored),
        learning_curves=curves_of(scored, curves),
    )


def _majority(rows: Sequence[Record]) -> float:
    """Percent, mean over seeds (splits may be drawn per seed)."""
    by_seed = {row.seed: row.majority_accuracy or 0.0 for row in rows}
    return 100 * sum(by_seed[seed] for seed in sorted(by_seed)) / len(by_seed)


def _names(groups: Sequence[Sequence[Record]], varying: Mapping[str, Any]) -> list[str]:
    """What tells each configuration from the others; nothing where there is one."""
    if varying:
        return [grid.name_of(values_of(group[0]) or (), varying) for group in groups]
    if len(groups) == 1:
        return [""]
    first = groups[0][0]
    keys = sorted({name for group in groups for name in differing(first, group[0])})
    for whole in (False, True):
        names = [_name(group[0], keys, whole) for group in groups]
        if len(set(names)) == len(names):
            break
    return names


def _name(record: Record, keys: Sequence[str], whole: bool) -> str:
    found = {key: _setting(record, key, whole) for key in keys}
    source = found.pop("mask_from", "") if record.mask_from.startswith("tickets of") else ""
    rest = ", ".join(found.values())
    return f"{source}, on {rest}" if source and rest else source or rest


def _setting(record: Record, key: str, whole: bool) -> str:
    setting = record.settings.get(key, "absent")
    value = str(getattr(record, key, None) or setting)
    if key == "mask_from" and not whole:  # without the digests of where the ticket was found
        return value.partition(" (")[0]
    if key in FACTORS and isinstance(setting, int | float):
        return factor_value(key, setting)
    return f"{plain(key)} {value if key == 'mask_from' else value[:60]}"


def _headline(
    configurations: Sequence[Configuration],
    own_rates: Sequence[Any],
    tests: Sequence[Any],
    options: Options,
) -> Headline | None:
    """The main finding: tickets at their own rates, or in each configuration, or a factor."""
    places = [(f"{one.name} at its own learning rate", one.comparisons) for one in own_rates] or [
        (one.name, one.checkpoints[one.primary_checkpoint].comparisons) for one in configurations
    ]
    verdicts = [
        (name.strip(), one.control, one.verdict)
        for name, found in places
        for one in [found.get(options.headline_control) or next(iter(found.values()), None)]
        if one is not None
    ]
    if verdicts:
        (place, control, verdict), *others = verdicts
        story = verdict.story
        if others:  # what it is elsewhere belongs to the main finding
            also = "; ".join(f"{where}: {one.verdict}" for where, _, one in others)
            story = f"{story} {also[0].upper()}{also[1:]}."
        return Headline(place, control, verdict.verdict, verdict.kind, verdict.sentence, story)
    if not tests:
        return None
    test = min(tests, key=lambda test: test.p_adjusted)
    shown = test.p_adjusted <= options.alpha
    text = f"{grid.WORDS[test.factor]} moves {test.outcome}" if shown else "no effect shown"
    return Headline("", None, text, "factor" if shown else "unknown", test.sentence, "")
