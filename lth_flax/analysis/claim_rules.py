"""One rule for each sub-claim of the paper, as fixed before the second edition's records.

A rule takes one run for each name of its claim and returns a finding; `TooFew` is "cannot
tell". Intervals are 95% of the run's design. Where several learning rates were run,
each depth stands at the one that its dense networks' validation accuracy chose, and in C6 each
arm and level at its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import attrgetter

import numpy as np

from lth_flax.analysis.breakdown import balanced, breakdowns, by_seed, craters
from lth_flax.analysis.compare import compared, design_of, directions
from lth_flax.analysis.evidence import (
    Bound,
    Finding,
    Run,
    TooFew,
    need,
    said,
    same_but,
    scored,
)
from lth_flax.analysis.grid import slope
from lth_flax.analysis.pairing import Pairs, pair
from lth_flax.analysis.result import Options
from lth_flax.analysis.retraining import gains
from lth_flax.analysis.seed_scores import SeedScores, mean_of, named
from lth_flax.analysis.statistics import Estimate, equivalence
from lth_flax.analysis.tables import at_own_rates, cells_of, predicts_one_class
from lth_flax.analysis.words import level_name
from lth_flax.predictions import labels_name
from lth_flax.records import Record, grouped, where

HOLDS, FAILS, UNKNOWN, REPORTED = "holds", "does not hold", "cannot tell", "reported"
ALPHA = 0.05


def verdict_of(holds: bool, fails: bool) -> str:
    """What is shown; "holds" where both are."""
    return HOLDS if holds else FAILS if fails else UNKNOWN


# Pruning without retraining.


def craters_past(run: Run, *, level: float, networks: int, learned: float) -> Finding:
    """C1 and C4a: every depth craters at this level or later, in balanced accuracy.

    networks: needed per depth; those count whose dense balanced accuracy is `learned`% or more.
    """
    bounds, few = {}, []
    for depth, rows in run.at_best_rates().items():
        able = {r.seed for r in rows if r.arm == "dense" and balanced(r) >= learned}
        found = by_seed(craters(rows, balanced).get("pruned", {}))
        found = {seed: one for seed, one in found.items() if seed in able}
        if len(found) < networks:
            few.append(f"{len(found)} of {depth} layers")
        bounds[depth] = Bound.of(found, run.design)
    effect = "crater sparsity " + ", ".join(f"{one} with {d} layers" for d, one in bounds.items())
    if few:
        raise TooFew(
            f"{networks} networks that learned are needed per depth, each at the rate that its "
            f"validation accuracy chose, and {', '.join(few)} are here; {effect}"
        )
    return Finding(
        verdict_of(
            all(one.at_least(level) for one in bounds.values()),
            any(one.below(level) for one in bounds.values()),
        ),
        effect,
        min(one.estimate.n_seeds for one in bounds.values()),
    )


def one_class_floor(run: Run) -> Finding:
    """C2: nine in ten of the networks that fall below 45% predict one class there."""
    rows = [(number, row) for number, group in enumerate(run.groups) for row in scored(group)]
    fallen = ((number, row) for number, row in rows if row.score < 45)
    low = grouped(fallen, lambda one: (one[0], one[1].seed))
    need(len(low), 5, "networks below 45%")
    one_class = sum(all(predicts_one_class(row) for _, row in levels) for levels in low.values())
    holds = one_class >= 0.9 * len(low)
    effect = f"{one_class} of {len(low)} networks below 45% predict one class wherever they are"
    return Finding(verdict_of(holds, not holds), effect, len(low))


def six_over_two(run: Run) -> Finding:
    """C3a: six layers minus two, untouched, each depth at its own rate."""
    depths = run.at_best_rates()
    if not {2, 6} <= depths.keys():
        raise TooFew("networks of 2 and 6 layers are needed")
    two, six = (run.scores(where(depths[depth], arm="dense")) for depth in (2, 6))
    found = (six - two).estimate(design=run.design)
    need(found.n_seeds, 8, "seeds")
    verdict = verdict_of(found.above(0), found.below(0))
    return Finding(verdict, f"six minus two layers: {said(found)}", found.n_seeds)


def no_resistance(run: Run) -> Finding:
    """C3b: the slope of breakdown sparsity per doubling of depth."""
    depths = run.at_best_rates()
    need(len(depths), 3, "depths")
    found = {d: by_seed(breakdowns(rows).get("pruned", {})) for d, rows in depths.items()}
    seeds = sorted(set.intersection(*map(set, found.values())))
    need(len(seeds), 8, "seeds that learned at every depth")
    effect = "breakdown sparsity " + ", ".join(
        f"{Bound.of(one, run.design)} with {depth} layers" for depth, one in found.items()
    )
    if any(one.censored for depth in found.values() for one in depth.values()):
        raise TooFew(f"a slope needs every network to break; {effect}")
    points: dict[float, SeedScores] = {
        d: SeedScores({s: 100 * of[s].sparsity for s in seeds}) for d, of in found.items()
    }
    per = slope(points, "num_layers", 0.95, run.design)
    if per is None or per.interval is None:
        raise TooFew("no slope")
    verdict = verdict_of(per.interval[1] <= 1, per.interval[0] > 0)
    return Finding(verdict, f"{said(per, 'points per doubling of depth')}; {effect}", len(seeds))


def never_below_chance(run: Run) -> Finding:
    """C4b: the lowest test accuracy of any network at any level."""
    rows = [row for group in run.groups for row in scored(group)]
    low = min(rows, key=attrgetter("score"))
    holds = low.score >= 49
    effect = f"lowest test accuracy {low.score:.2f}%, at {level_name(low.target_sparsity)}"
    return Finding(verdict_of(holds, not holds), effect, len({row.seed for row in rows}))


# Tickets.


def holding_is_not_winning(pruned: Run, tickets: Run) -> Finding:
    """C5: where networks hold at 50%, is the ticket there equivalent to its control, or worse?"""
    level, shared = 0.5, ("num_layers", "prunable", "max_length", "keep")
    effects, fails, most = [], False, 0
    for depth, rows in pruned.at_best_rates().items():
        some = [
            group
            for group in tickets.groups
            if all(group[0].settings.get(n) == rows[0].settings.get(n) for n in shared)
        ]
        if not some:
            continue
        cells = cells_of(rows)
        dense, held_on = (
            pruned.scores(cells.get(c, [])) for c in (("dense", 0.0), ("pruned", level))
        )
        held = (dense - held_on).estimate(design=pruned.design)
        pairs = pair([row for group in some for row in group])
        n = min(held.n_seeds, len(pairs.seeds))
        most = max(most, n)
        if n < 8 or level not in pairs.levels:
            continue
        gap, p_worse = _at_level(pairs, level, tickets)
        tested = sum(one > 0 for one in pairs.levels)
        close = equivalence([gap], 0.5, ALPHA / tested)
        alike = close is not None and close.passes
        fails |= held.below(1) and (alike or p_worse <= ALPHA / 2)
        within = ", equivalent within 0.5 points" if alike else ""
        effects.append(
            f"{depth} layers at 50%: pruned alone {said(held)} below dense; trained again (in "
            f"`{tickets.name}`), ticket minus reinit {said(gap)}{within}"
        )
    if not effects:
        if most:
            need(most, 8, "seeds")
        raise TooFew("no setting has both pruned networks and tickets at 50%")
    return Finding(verdict_of(False, fails), "; ".join(effects), most)


def _at_level(pairs: Pairs, level: float, run: Run) -> tuple[Estimate, float]:
    """The gap there, and the p that the control is better, adjusted over levels."""
    number = pairs.levels.index(level)
    tested = np.array([one > 0 for one in pairs.levels])
    unit = np.eye(len(pairs.levels))[number]
    gap = pairs.gap(unit, 0.95, run.design, run.predictions)
    return gap, float(directions(pairs.relabelled, tested)["worse"][1][number])


def alike_at_first(run: Run) -> Finding:
    """C6a: equivalent within 1 point at every level up to 45%, each arm at its own rate."""
    pairs = pair(run.one_depth())
    low = [n for n, level in enumerate(pairs.levels) if 0 < level <= 0.45]
    names = {level_name(pairs.levels[n]) for n in low}
    if not {"20%", "40%"} <= names:
        raise TooFew("levels 20% and 40% are needed")
    need(len(pairs.seeds), 8, "seeds")
    units = np.eye(len(pairs.levels))
    gaps = [pairs.gap(units[n], 0.95, run.design, run.predictions) for n in low]
    tested = np.isin(np.arange(len(pairs.levels)), low)
    tests = directions(pairs.relabelled, tested)
    different = min(adjusted[low].min() for _, adjusted in tests.values()) <= ALPHA / 2
    close = equivalence(gaps, 1.0, ALPHA)
    return Finding(
        verdict_of(close is not None and close.passes, different),
        "ticket minus reinit "
        + ", ".join(
            f"{said(gap)} at {level_name(pairs.levels[n])}"
            for n, gap in zip(low, gaps, strict=True)
        ),
        len(pairs.seeds),
    )


def _breaks(run: Run, arm: str) -> Bound:
    """Breakdown sparsity of an arm, arms and dense networks at their own rates."""
    found = by_seed(breakdowns(at_own_rates(run.one_depth())).get(arm, {}))
    need(len(found), 8, "seeds that learned")
    return Bound.of(found, run.design)


def reinit_breaks_early(run: Run) -> Finding:
    """C6b: the random initialization breaks below 60%."""
    found = _breaks(run, "reinit")
    verdict = verdict_of(found.below(0.6), found.estimate.above(0.6))
    return Finding(verdict, f"reinit breaks at {found}", found.estimate.n_seeds)


def ticket_holds(run: Run) -> Finding:
    """C6c: the ticket holds to 80% or further."""
    found = _breaks(run, "ticket")
    verdict = verdict_of(found.at_least(0.8), found.below(0.8))
    return Finding(verdict, f"the ticket breaks at {found}", found.estimate.n_seeds)


def ticket_is_better(run: Run) -> Finding:
    """C6d: the primary test, each arm at its own best rate."""
    rows = run.one_depth()
    found = compared(rows, "reinit", Options(), predictions=run.predictions)
    need(len(found.seeds), 8, "seeds")
    levels = [level.target_sparsity for level in found.levels if level.target_sparsity > 0]
    for bound in (0.5, 0.95):
        if not (min(levels) < bound < max(levels)):
            raise TooFew(f"levels on both sides of {level_name(bound)} are needed")
    assert found.verdict is not None
    kinds = {"treatment": HOLDS, "control": FAILS, "equivalent": FAILS}
    kinds["depends"] = found.verdict.verdict
    verdict = kinds.get(found.verdict.kind, UNKNOWN)
    return Finding(verdict, f"{found.verdict.sentence} {found.verdict.story}", len(found.seeds))


def iterative_over_oneshot(iterative: Run, oneshot: Run) -> Finding:
    """Q1: the primary measure and every level, tickets of one schedule against the other's."""
    same_but(iterative, oneshot, "schedule")
    rows: list[Record] = []
    predictions = {}
    for name, run in (("iterative", iterative), ("oneshot", oneshot)):
        known = run.predictions or {}
        for row in where(run.one_depth(), arm="ticket"):
            own = replace(row, arm=name, row_id=f"{name}/{row.row_id}")
            rows.append(own)
            if named(row) in known:
                predictions[named(own)] = known[named(row)]
            labels = labels_name(row.dataset, row.seed)
            if labels in known:
                predictions[labels] = known[labels]
    options = Options(treatment="iterative")
    found = compared(rows, "oneshot", options, predictions=predictions)
    need(len(found.seeds), 8, "seeds")
    assert found.verdict is not None
    rates = {row.settings["learning_rate"] for row in rows}
    alone = f"At learning rate {rates.pop():g} alone. " if len(rates) == 1 else ""
    said_of = f"{alone}{found.verdict.sentence} {found.verdict.story}"
    return Finding(REPORTED, said_of, len(found.seeds))


# Retraining.

BANDS: dict[str, Callable[[float], bool]] = {
    "below 40%": lambda level: 0 < level < 0.4,
    "from 40 to 60%": lambda level: 0.4 <= level <= 0.6,
    "above 60%": lambda level: level > 0.6,
}


def _band(run: Run, band: str, kind: str) -> dict[float, SeedScores]:
    """Gains by level, in a band of levels."""
    (rows, *_) = run.at_best_rates().values()
    by_level = gains(rows, run.predictions)
    found = {level: kinds[kind] for level, kinds in by_level.items() if BANDS[band](level)}
    need(len(found), 3, f"levels {band}")
    for gain in found.values():
        need(len(gain.by_seed), 5, "seeds")
    return found


def helps(run: Run, *, band: str) -> Finding:
    """C8a and C8b: retraining gains more than the dense network does, over a band of levels."""
    found = _band(run, band, "gain_over_dense_gain")
    gain = mean_of(list(found.values())).estimate(design=run.design)
    need(gain.n_seeds, 5, "seeds")
    close = equivalence([gain], 0.5, ALPHA)
    fails = gain.below(0) or (close is not None and close.passes)
    effect = f"gain less the dense network's, {band}: {said(gain)} over {len(found)} levels"
    return Finding(verdict_of(gain.above(0), fails), effect, gain.n_seeds)


def often_hurts(run: Run) -> Finding:
    """C8c: the gain is below 0 at half of the levels from 40 to 60%, or more."""
    found = _band(run, "from 40 to 60%", "gain")
    some = {level: gain.estimate(design=run.design) for level, gain in found.items()}
    hurts = sum(one.below(0) for one in some.values())
    helped = sum(one.above(0) for one in some.values())
    return Finding(
        verdict_of(2 * hurts >= len(some), 2 * helped > len(some)),
        "gain " + ", ".join(f"{said(one)} at {level_name(v)}" for v, one in some.items()),
        min(one.n_seeds for one in some.values()),
    )


def slowest_gains(run: Run) -> Finding:
    """C9: the lowest learning rate gains 5 to 10 points at every level below the crater."""
    group = min(run.groups, key=lambda group: float(group[0].settings["learning_rate"]))
    rows, design = scored(group), design_of(group)
    crossed = by_seed(craters(rows).get("pruned", {}))
    if not crossed:
        raise TooFew("no network of the lowest learning rate learned")
    crater = float(np.median([one.sparsity for one in crossed.values()]))
    unbroken = sum(one.censored for one in crossed.values())
    pairs: list[tuple[float, Sequence[Estimate]]] = [
        (level, [kinds[k].estimate(design=design) for k in ("gain", "gain_over_dense_gain")])
        for level, kinds in gains(rows, run.predictions).items()
        if 0 < level < crater or (unbroken and 0 < level <= crater)
    ]
    need(len(pairs), 1, "levels below the crater")
    least = min(one.n_seeds for _, both in pairs for one in both)
    need(least, 5, "seeds")
    at = f"crater at {level_name(crater)}"
    if unbroken:
        at += f" (median; {unbroken} of {len(crossed)} never cratered)"
    misses = sum(any(one.above(10) or one.below(5) for one in both) for _, both in pairs)
    return Finding(
        verdict_of(
            all(one.within(4, 11) for _, both in pairs for one in both), 2 * misses > len(pairs)
        ),
        f"rate {float(group[0].settings['learning_rate']):g}, {at}: gain "
        + ", ".join(
            f"{said(gain)} at {level_name(level)}, {said(left)} without the dense network's"
            for level, (gain, left) in pairs
        ),
        least,
    )


# A description of the data.


def cost_of_cutting(short: Run, long: Run) -> Finding:
    """C10: the same network on the first (or last) 32 and the first (or last) 400 tokens."""
    same_but(short, long, "max_length")
    scores = [
        run.scores(row for group in run.groups for row in where(scored(group), arm="dense"))
        for run in (short, long)
    ]
    lost = (scores[1] - scores[0]).estimate(design=long.design)
    need(lost.n_seeds, 3, "seeds")
    settings = [run.groups[0][0].settings for run in (short, long)]
    means = [float(np.mean(list(one.by_seed.values()))) for one in scores]
    effect = ", ".join(
        f"{mean:.1f}% on the {'first' if one['keep'] == 'start' else 'last'} {one['max_length']}"
        for mean, one in zip(means, settings, strict=True)
    )
    return Finding(REPORTED, f"{effect} tokens: {said(lost)} between them", lost.n_seeds)
