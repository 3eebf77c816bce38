"""Several configurations side by side: what depth, learning rate and epochs do.

The unit is the seed, as everywhere. Accuracies and gaps are in percentage
points, sparsities are shares. No NaN and no infinity: what does not exist is null.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lth_flax.analysis import breakdown
from lth_flax.analysis.factor_test import factor_test, sign_flip_p
from lth_flax.analysis.merge import differing_keys, merge_records, split_groups
from lth_flax.analysis.statistics import PRIMARY_SPARSITY, t_interval
from lth_flax.analysis.tables import interval_json
from lth_flax.errors import UserError
from lth_flax.records import Record, arm_order, run_key, sort_records

FACTORS = ("num_layers", "learning_rate", "epochs")
FORMAT_VERSION = 1

BySeed = dict[int, float]
Values = tuple[float, ...]
"""A configuration: the values of `FACTORS`."""

WORDS = {"num_layers": "depth", "learning_rate": "learning rate", "epochs": "epochs"}


def comparable(records: Iterable[Record]) -> bool:
    """Whether the records hold several configurations that differ in `FACTORS` alone."""
    groups = split_groups(records)
    if len(groups) < 2:
        return False
    first = groups[0][0]
    different = {name.partition(" ")[0] for g in groups for name in differing_keys(first, g[0])}
    return different <= set(FACTORS) and all(_values(g[0]) is not None for g in groups)


def group_blocks(blocks: Sequence[Sequence[Record]]) -> list[list[int]]:
    """Numbers of the blocks of the same settings; blocks without a record are in the first."""
    groups: dict[frozenset[tuple[str, ...]], list[int]] = {}
    empty = []
    for number, block in enumerate(blocks):
        if block:
            groups.setdefault(frozenset(map(run_key, block)), []).append(number)
        else:
            empty.append(number)
    first, *rest = list(groups.values()) or [[]]
    return [empty + first, *rest]


def join_records(
    blocks: Sequence[Sequence[Record]], names: Sequence[str] | None = None
) -> list[Record]:
    """Blocks of seeds of one run, or runs of different configurations, or both, as one.

    Raises:
      UserError: they are neither, as `merge_records` says it.
    """
    groups = group_blocks(blocks)
    together = [record for block in blocks for record in block]
    apart = [{run_key(record) for number in group for record in blocks[number]} for group in groups]
    disjoint = sum(map(len, apart)) == len(set().union(*apart))
    one_set = len({record.data_fingerprint for record in together}) == 1
    if not (len(groups) > 1 and disjoint and one_set and comparable(together)):
        return merge_records(blocks, names)
    names = names or [str(number) for number in range(1, len(blocks) + 1)]
    for group in groups:
        merge_records([blocks[n] for n in group], [names[n] for n in group])  # seeds, once each
    return sort_records(together)


def compare_configurations(
    records: Iterable[Record], *, confidence: float = 0.95, alpha: float = 0.05
) -> dict[str, Any]:
    """What `comparison.json` holds; test accuracy at the last epoch, whatever the order of records.

    Raises:
      UserError: the records differ in more than depth, learning rate and epochs.
    """
    groups = split_groups(records)
    if not groups or not (len(groups) == 1 or comparable(r for g in groups for r in g)):
        raise UserError(
            "these records are no grid of configurations: expected rows that differ in "
            f"{', '.join(FACTORS)} alone"
        )
    cells = {_values(group[0]): group for group in groups}
    found = {values: _configuration(cells[values], confidence) for values in sorted(cells)}
    factors = {
        name: sorted({values[index] for values in found}) for index, name in enumerate(FACTORS)
    }
    varying = {name: values for name, values in factors.items() if len(values) > 1}
    first = groups[0][0]
    test = [r for g in groups for r in g if r.split == "test" and r.checkpoint == "last"]
    return {
        "format_version": FORMAT_VERSION,
        "units": "accuracy in percent, gaps in percentage points, sparsity as shares",
        "experiment": first.experiment,
        "dataset": first.dataset,
        "schedule": first.schedule,
        "checkpoint": "last",
        "seeds": sorted({r.seed for r in test}),
        "majority_accuracy": 100 * float(np.mean(sorted(r.majority_accuracy for r in test))),
        "options": {"confidence": confidence, "alpha": alpha},
        "factors": varying,
        "complete": len(found) == int(np.prod([len(v) for v in factors.values()])),
        "configurations": [
            {
                "name": _name(values, varying),
                **dict(zip(FACTORS, values, strict=True)),
                **one,
            }
            for values, one in found.items()
        ],
        "average": _average(list(found.values())),
        "tests": _tests(found, varying, confidence),
        "chosen_rates": _chosen_rates(cells, varying, confidence),
    }


def _values(record: Record) -> Any:
    try:
        return tuple(float(record.settings[name]) for name in FACTORS)
    except (KeyError, TypeError, ValueError):
        return None


def _name(values: Values, varying: Mapping[str, Any]) -> str:
    parts = [f"{n} {v:g}" for n, v in zip(FACTORS, values, strict=True) if n in varying]
    return ", ".join(parts).replace("num_layers", "layers").replace("learning_rate", "rate")


# One configuration.


def _configuration(rows: Sequence[Record], confidence: float) -> dict[str, Any]:
    scored = [row for row in rows if row.split == "test" and row.checkpoint == "last"]
    arms = sorted({row.arm for row in scored} - {"dense"}, key=arm_order)
    levels = {arm: sorted({r.target_sparsity for r in scored if r.arm == arm}) for arm in arms}
    pruned = [arm for arm in arms if levels[arm][-1] > 0]
    curves = {
        arm: [
            {
                "target_sparsity": level,
                **_cell([r for r in scored if (r.arm, r.target_sparsity) == (arm, level)]),
            }
            for level in levels[arm]
        ]
        for arm in arms
    }
    kinds = {"breakdown": breakdown.breakdowns(scored), "crater": breakdown.craters(scored)}
    crossings = {
        kind: {arm: _crossing(found.get(arm, {}), confidence) for arm in pruned}
        for kind, found in kinds.items()
    }
    dense = [row for row in scored if row.arm == "dense"]
    result: dict[str, Any] = {"dense": _cell(dense, confidence), "arms": curves, **crossings}
    if {"ticket", "reinit"} <= set(arms):
        result["gap"] = _over_seeds(_gap(scored), confidence)
    if "retrained" in arms:
        result["retraining"] = _retraining(scored, levels["retrained"], confidence)
    return result


def _accuracies(rows: Iterable[Record]) -> BySeed:
    """Percent by seed, draws averaged."""
    found: dict[int, list[float]] = {}
    for row in sorted(rows, key=lambda row: (row.seed, row.draw)):
        found.setdefault(row.seed, []).append(100 * row.accuracy)
    return {seed: float(np.mean(values)) for seed, values in sorted(found.items())}


def _over_seeds(values: BySeed, confidence: float) -> dict[str, Any]:
    if not values:
        return {"mean": None, "sd": None, "interval": None, "n_seeds": 0, "by_seed": []}
    return {
        **interval_json(t_interval(list(values.values()), confidence)),
        "by_seed": [[seed, value] for seed, value in values.items()],
    }


def _cell(rows: Sequence[Record], confidence: float = 0.95) -> dict[str, Any]:
    one_class = [max(row.predicted_shares, default=0) >= 0.999 for row in rows]
    return {
        **_over_seeds(_accuracies(rows), confidence),
        "balanced_accuracy": 100 * float(np.mean(sorted(r.balanced_accuracy for r in rows)))
        if rows
        else None,
        "one_class_share": float(np.mean(one_class)) if rows else None,
    }


def _crossing(
    runs: Mapping[tuple[int, int], breakdown.Crossing], confidence: float
) -> dict[str, Any]:
    by_seed: dict[int, list[float]] = {}
    for (seed, _), one in sorted(runs.items()):
        by_seed.setdefault(seed, []).append(one.sparsity)
    means = {seed: float(np.mean(values)) for seed, values in by_seed.items()}
    censored = sum(one.censored for one in runs.values())
    return {**_over_seeds(means, confidence), "censored": censored, "runs": len(runs)}


def _gap(rows: Sequence[Record]) -> BySeed:
    """Ticket minus reinit by seed, over the levels of the primary test."""
    low, high = PRIMARY_SPARSITY
    inside = [row for row in rows if low <= row.target_sparsity <= high]
    levels = sorted({row.target_sparsity for row in inside if row.arm == "ticket"})
    parts = [
        _minus(
            _accuracies(r for r in inside if (r.arm, r.target_sparsity) == ("ticket", level)),
            _accuracies(r for r in inside if (r.arm, r.target_sparsity) == ("reinit", level)),
        )
        for level in levels
    ]
    seeds = sorted(set.intersection(*map(set, parts))) if parts else []
    return {seed: float(np.mean([part[seed] for part in parts])) for seed in seeds}


def _minus(one: BySeed, other: BySeed) -> BySeed:
    return {seed: one[seed] - other[seed] for seed in sorted(one.keys() & other.keys())}


def _retraining(
    rows: Sequence[Record], levels: Sequence[float], confidence: float
) -> list[dict[str, Any]]:
    """Per level, the gain of retraining and the same less that of the dense network."""
    cells: dict[tuple[str, float], list[Record]] = {}
    for row in rows:
        cells.setdefault((row.arm, row.target_sparsity), []).append(row)

    def of(arm: str, level: float) -> BySeed:
        return _accuracies(cells.get((arm, level), []))

    dense_gain = _minus(of("dense_retrained", 0.0), of("dense", 0.0))
    result = []
    for level in levels:
        gain = _minus(of("retrained", level), of("pruned", level))
        kinds = {
            "gain": gain,
            "over_dense": _minus(of("retrained", level), of("dense", 0.0)),
            "over_dense_retrained": _minus(of("retrained", level), of("dense_retrained", 0.0)),
            "gain_over_dense_gain": _minus(gain, dense_gain),
        }
        result.append(
            {
                "target_sparsity": level,
                **{
                    name: {
                        **_over_seeds(values, confidence),
                        "p_two_sided": sign_flip_p(list(values.values())),
                    }
                    for name, values in kinds.items()
                },
            }
        )
    return result


# All of them.


def _average(found: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, float]]]:
    """Mean accuracy over configurations, at the levels that all have: the paper's "average"."""
    result = {}
    for arm in sorted(set.intersection(*(set(one["arms"]) for one in found)), key=arm_order):
        tables = [{e["target_sparsity"]: e["mean"] for e in one["arms"][arm]} for one in found]
        levels = sorted(set.intersection(*map(set, tables)))
        result[arm] = [
            {"target_sparsity": x, "mean": float(np.mean([t[x] for t in tables]))} for x in levels
        ]
    return result


def _outcomes(one: Mapping[str, Any]) -> dict[str, BySeed]:
    """What a factor may move, by seed; sparsities in points, so that all read alike."""

    def seeds(cell: Mapping[str, Any], scale: float = 1.0) -> BySeed:
        return {int(seed): scale * value for seed, value in cell["by_seed"]}

    outcomes = {"dense accuracy": seeds(one["dense"])}
    for kind in ("breakdown", "crater"):
        for arm, cell in one[kind].items():
            outcomes[f"{kind} sparsity of {arm}"] = seeds(cell, 100)
    if "gap" in one:
        outcomes["gap of ticket over reinit"] = seeds(one["gap"])
    return outcomes


def _tests(
    found: Mapping[Values, Mapping[str, Any]], varying: Mapping[str, Any], confidence: float
) -> list[dict[str, Any]]:
    tables = {values: _outcomes(one) for values, one in found.items()}
    names = [n for n in next(iter(tables.values())) if all(n in t for t in tables.values())]
    result = []
    for factor in varying:
        for outcome in names:
            matrix, seeds = _matrix(tables, factor, varying[factor], outcome)
            if matrix is not None:
                test = factor_test(matrix, varying[factor], factor, confidence)
                result.append(
                    {
                        "factor": factor,
                        "outcome": outcome,
                        "seeds": seeds,
                        **test,
                        "sentence": _sentence(factor, outcome, test, len(seeds), confidence),
                    }
                )
    return result


def _matrix(
    tables: Mapping[Values, Mapping[str, BySeed]],
    factor: str,
    levels: Sequence[float],
    outcome: str,
) -> tuple[np.ndarray | None, list[int]]:
    """[seeds, values of the factor], averaged over the other factors.

    Only those combinations of the others count that have every value of the
    factor, and only seeds that have an outcome in all of them.
    """
    index = FACTORS.index(factor)
    blocks: dict[Values, dict[float, BySeed]] = {}
    for values, table in tables.items():
        rest = values[:index] + values[index + 1 :]
        blocks.setdefault(rest, {})[values[index]] = table[outcome]
    whole = [block for _, block in sorted(blocks.items()) if len(block) == len(levels)]
    parts = [part for block in whole for part in block.values()]
    seeds = sorted(set.intersection(*map(set, parts))) if parts else []
    if not seeds:
        return None, []
    return np.array(
        [
            [float(np.mean([block[level][seed] for block in whole])) for level in levels]
            for seed in seeds
        ]
    ), seeds


def _sentence(
    factor: str, outcome: str, test: Mapping[str, Any], seeds: int, confidence: float
) -> str:
    word = WORDS[factor]
    means = ", ".join(f"{v:g}: {m:.1f}" for v, m in zip(test["values"], test["means"], strict=True))
    text = f"{word.capitalize()} and {outcome}: {means}"
    if test["slope"] and test["slope"]["mean"] is not None:
        slope = test["slope"]
        spread = (
            ""
            if not slope["interval"]
            else f" ({100 * confidence:g}% interval {slope['interval'][0]:+.2f} to "
            f"{slope['interval'][1]:+.2f})"
        )
        text += f"; {slope['mean']:+.2f} points {test['per']}{spread}"
    method = "exact" if test["exact"] else "Monte Carlo"
    return f"{text}; {method} within-seed permutation test p = {test['p']:.2g}, n = {seeds} seeds."


Chosen = dict[str, Any]


def _chosen_rates(
    cells: Mapping[Values, Sequence[Record]], varying: Mapping[str, Any], confidence: float
) -> Chosen | None:
    """Per depth the rate and epochs of the best validation accuracy, and a test of depth there."""
    if "num_layers" not in varying or len(varying) < 2:
        return None
    best: dict[float, tuple[float, Values]] = {}
    for values, rows in sorted(cells.items()):
        scores = [
            row.accuracy
            for row in sorted(rows, key=lambda row: row.seed)
            if (row.arm, row.split, row.checkpoint) == ("dense", "validation", "last")
        ]
        if scores:
            mean = float(np.mean(scores))
            if values[0] not in best or mean > best[values[0]][0]:
                best[values[0]] = (mean, values)
    dense: Callable[[Values], BySeed] = lambda values: _accuracies(  # noqa: E731
        row
        for row in cells[values]
        if (row.arm, row.split, row.checkpoint) == ("dense", "test", "last")
    )
    by_depth = {depth: dense(values) for depth, (_, values) in best.items()}
    seeds = sorted(set.intersection(*map(set, by_depth.values()))) if by_depth else []
    if len(by_depth) < 2 or not seeds:
        return None
    depths = sorted(by_depth)
    matrix = np.array([[by_depth[depth][seed] for depth in depths] for seed in seeds])
    test = factor_test(matrix, depths, "num_layers", confidence)
    return {
        "chosen": [
            {
                **dict(zip(FACTORS, best[depth][1], strict=True)),
                "validation_accuracy": 100 * best[depth][0],
                "dense": _over_seeds(by_depth[depth], confidence),
            }
            for depth in depths
        ],
        **test,
        "sentence": _sentence(
            "num_layers", "dense accuracy at the rate chosen on validation", test, len(seeds),
            confidence,
        ),
    }  # fmt: skip
