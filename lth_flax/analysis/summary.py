"""Everything the records say, as one dict: what `summary.json` holds and the report shows.

The same records give the same bytes, in whatever order they come. Accuracies
are percentages and gaps percentage points; sparsities, densities and p-values
are fractions. No NaN and no infinity: what does not exist is null.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from lth_flax.analysis import breakdown
from lth_flax.analysis.merge import check_one_run
from lth_flax.analysis.statistics import (
    PRIMARY_SPARSITY,
    PairedGaps,
    equivalence,
    paired_gaps,
    primary_test,
    step_down_max_t,
    t_interval,
)
from lth_flax.analysis.tables import (
    arm_table,
    collapsed,
    density_table,
    diverged,
    interval_json,
    nothing_learned,
)
from lth_flax.analysis.verdict import decide
from lth_flax.errors import UserError
from lth_flax.records import CHECKPOINTS, Record, arm_order, sort_records

FORMAT_VERSION = 1


def summarize(
    records: Iterable[Record],
    *,
    margin: float = 0.5,
    alpha: float = 0.05,
    confidence: float = 0.95,
    primary_sparsity: tuple[float, float] = PRIMARY_SPARSITY,
    treatment: str = "ticket",
    headline_control: str = "reinit",
    split: str = "test",
) -> dict[str, Any]:
    """Tables, tests and verdicts of one setting's records.

    `margin` is in percentage points. Arms may be missing: then so is what
    would compare them. Raises `UserError` where there is no row of `split`,
    where rows belong to different settings, or where a row is there twice.
    """
    rows = [record for record in sort_records(records) if record.split == split]
    if not rows:
        raise UserError(f"no record of the {split} split; nothing to analyze")
    check_one_run(rows)
    present = {row.arm for row in rows}
    controls = sorted(present - {"dense", treatment}, key=arm_order) if treatment in present else []
    options = {
        "margin_points": margin,
        "alpha": alpha,
        "confidence": confidence,
        "primary_sparsity": list(primary_sparsity),
        "breakdown_points": breakdown.BREAKDOWN_POINTS,
        "treatment": treatment,
        "split": split,
    }
    checkpoints = {
        name: _checkpoint([row for row in rows if row.checkpoint == name], controls, options)
        for name in CHECKPOINTS
        if any(row.checkpoint == name for row in rows)
    }
    primary = next(iter(checkpoints))
    scored = [row for row in rows if row.checkpoint == primary]
    control = headline_control if headline_control in controls else next(iter(controls), None)
    return {
        "format_version": FORMAT_VERSION,
        "units": "accuracy in percent, gaps in percentage points, sparsity and density as shares",
        **{name: getattr(rows[0], name) for name in _SETTING},
        "settings": dict(rows[0].settings),
        "options": options,
        "seeds": sorted({row.seed for row in rows}),
        "arms": sorted(present, key=arm_order),
        "levels": sorted({round(row.target_sparsity, 9) for row in rows if row.arm != "dense"}),
        "examples": sorted({row.examples for row in scored}),
        "majority_accuracy": _majority(scored),
        "primary_checkpoint": primary,
        "headline": control
        and {"control": control, **checkpoints[primary]["comparisons"][control]["verdict"]},
        "checkpoints": checkpoints,
        "density": density_table(scored),
        "diverged": diverged(scored),
    }


_SETTING = (
    "experiment",
    "dataset",
    "data_fingerprint",
    "schedule",
    "scope",
    "criterion",
    "mask_from",
)


def summary_text(summary: dict[str, Any]) -> str:
    """The bytes of `summary.json`: floats unrounded, and an error rather than a NaN."""
    return json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _majority(rows: Sequence[Record]) -> float:
    """Percent, mean over seeds (splits may be drawn per seed)."""
    by_seed = {row.seed: row.majority_accuracy for row in rows}
    return 100 * sum(by_seed[seed] for seed in sorted(by_seed)) / len(by_seed)


def _checkpoint(
    rows: Sequence[Record], controls: Sequence[str], options: dict[str, Any]
) -> dict[str, Any]:
    return {
        "table": arm_table(rows, options["confidence"]),
        "comparisons": {
            control: comparison(rows, control, options)
            for control in controls
            if any(row.arm == control for row in rows)
        },
        "breakdown": _crossings(breakdown.breakdowns(rows), controls, options),
        "crater": _crossings(breakdown.craters(rows), controls, options),
        "collapsed": collapsed(rows),
    }


def comparison(rows: Sequence[Record], control: str, options: dict[str, Any]) -> dict[str, Any]:
    """Treatment against one control, from rows of one checkpoint and split."""
    bounds = tuple(options["primary_sparsity"])
    margin, alpha, confidence = (options[k] for k in ("margin_points", "alpha", "confidence"))
    gaps = paired_gaps(
        rows,
        options["treatment"],
        control,
        checkpoint=rows[0].checkpoint,
        split=rows[0].split,
        incomplete="drop",
    )
    test, inside = primary_test(gaps, bounds), gaps.primary(bounds)
    verdict = decide(
        gaps,
        margin=margin,
        alpha=alpha,
        confidence=confidence,
        bounds=bounds,
        nothing_learned=nothing_learned(rows, (options["treatment"], control), inside.levels),
    )
    found: dict[str, Any] = {
        "seeds": list(gaps.seeds),
        "draws": gaps.draws,
        "seeds_left_out": list(gaps.dropped),
        "primary": None,
        "equivalence": None,
        "levels": _levels(gaps, inside.levels, confidence),
        "verdict": {
            "verdict": verdict.verdict,
            "sentence": verdict.sentence,
            "reason": verdict.reason,
        },
    }
    if test is not None:
        pooled = inside.gaps.mean(axis=1)
        close = equivalence(pooled, margin, alpha)
        found["primary"] = {
            "levels": list(inside.levels),
            **interval_json(t_interval(pooled, confidence)),
            "by_seed": _pairs(gaps.seeds, pooled),
            "p_treatment_better": test.p_greater,
            "p_control_better": test.p_less,
            "smallest_p": test.smallest_p,
            "relabellings": test.relabellings,
            "exact": test.exact,
        }
        found["equivalence"] = {
            "margin_points": close.margin,
            "p": close.p,
            "passes": close.passes,
            "smallest_margin_points": close.smallest_margin,
        }
    return found


def _levels(gaps: PairedGaps, primary: Sequence[float], confidence: float) -> list[dict[str, Any]]:
    """Per level: the gap, and max-T over the levels that prune anything.

    At sparsity 0 a ticket is the dense network and its control another one:
    there is nothing to test, and testing it would cost the others power.
    """
    if not gaps.seeds:
        return []
    tested = [index for index, level in enumerate(gaps.levels) if level > 0]
    runs = gaps.runs[:, :, tested]
    better, worse = step_down_max_t(runs), step_down_max_t(-runs)
    place = {index: number for number, index in enumerate(tested)}
    return [
        {
            "target_sparsity": level,
            "in_primary": level in primary,
            **interval_json(t_interval(gaps.gaps[:, index], confidence)),
            "by_seed": _pairs(gaps.seeds, gaps.gaps[:, index]),
            **{
                name: float(values[place[index]]) if index in place else None
                for name, values in (
                    ("p_treatment_better", better.p),
                    ("p_treatment_better_adjusted", better.p_adjusted),
                    ("p_control_better", worse.p),
                    ("p_control_better_adjusted", worse.p_adjusted),
                )
            },
        }
        for index, level in enumerate(gaps.levels)
    ]


def _pairs(seeds: Sequence[int], values: Iterable[float]) -> list[list[float]]:
    return [[seed, float(value)] for seed, value in zip(seeds, values, strict=True)]


def _crossings(
    crossings: breakdown.Crossings, controls: Sequence[str], options: dict[str, Any]
) -> dict[str, Any]:
    arms = {
        arm: [
            {"seed": seed, "draw": draw, "sparsity": one.sparsity, "censored": one.censored}
            for (seed, draw), one in sorted(runs.items())
        ]
        for arm, runs in sorted(crossings.items(), key=lambda item: arm_order(item[0]))
    }
    differences = {}
    for control in controls:
        one = breakdown.compare(crossings, options["treatment"], control, options["confidence"])
        differences[control] = {
            **({} if one.interval is None else interval_json(one.interval)),
            "by_seed": [list(pair) for pair in one.by_seed],
            "censored_seeds": {
                "treatment": one.censored_treatment,
                "control": one.censored_control,
            },
        }
    return {
        "arms": arms,
        "differences": differences,
        "censoring": (
            "a curve that never crosses has censored true, and its sparsity is the last level "
            'tested (read ">="); a difference with one such curve is a bound, pulled towards 0'
        ),
    }
