"""What `summary.json` holds: one schema, for a run of one configuration and for a grid of many.

Scores are in percent, gaps in percentage points; sparsities, densities and
p-values are shares. What does not exist is None, null in JSON; there is no NaN.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from lth_flax.analysis.pairing import PRIMARY_SPARSITY
from lth_flax.analysis.statistics import Equivalence, Estimate

FORMAT_VERSION = 2
UNITS = "scores in percent, gaps in points, sparsities, densities and p-values as shares"


@dataclass(frozen=True)
class Options:
    """What the statistics were asked; `margin_points` is that of equivalence."""

    margin_points: float = 0.5
    alpha: float = 0.05
    confidence: float = 0.95
    primary_sparsity: tuple[float, float] = PRIMARY_SPARSITY
    breakdown_points: float = 1.0
    treatment: str = "ticket"
    headline_control: str = "reinit"


@dataclass(frozen=True)
class Verdict:
    """One of five verdicts (`kind`), the sentence with its numbers, and the levels' story.

    kind: "depends", "treatment", "control", "equivalent" or "unknown".
    """

    verdict: str
    kind: str
    sentence: str
    story: str
    reason: str


@dataclass(frozen=True)
class Primary:
    """The mean gap over the range, and its permutation test; `p` is two-sided."""

    gap: Estimate
    p: float
    p_treatment_better: float
    p_control_better: float
    smallest_p: float
    relabellings: int
    exact: bool
    weights: list[tuple[float, float]]


@dataclass(frozen=True)
class Without:
    """The primary measure without one of its levels."""

    left_out: float
    range: tuple[float, float]
    gap: Estimate
    p: float


@dataclass(frozen=True)
class LevelGap:
    """A level's gap; adjusted p-values are max-T over all levels that prune anything.

    direction: "better" or "worse" where that is shown at alpha/2 for each direction.
    rates: learning rates of treatment and control, where each stands at its own.
    """

    target_sparsity: float
    in_range: bool
    gap: Estimate
    p_treatment_better: float | None
    p_treatment_better_adjusted: float | None
    p_control_better: float | None
    p_control_better_adjusted: float | None
    direction: str | None
    treatment_rate: float | None
    control_rate: float | None


@dataclass(frozen=True)
class Comparison:
    """Treatment against one control; `seeds_needed` to find a gap as large as the margin."""

    control: str
    seeds: list[int]
    draws: int
    seeds_left_out: list[str]
    range: tuple[float, float] | None
    primary: Primary | None
    without: list[Without]
    equivalence: Equivalence | None
    levels: list[LevelGap]
    seeds_needed: int | None
    verdict: Verdict | None = None  # it follows from all the others


@dataclass(frozen=True)
class Crossings:
    """Breakdown or crater sparsities of one arm: the mean only where every run has broken."""

    runs: list[dict[str, Any]]
    broke: int
    median: float
    sparsity: Estimate | None


@dataclass(frozen=True)
class CrossingGap:
    """Paired difference to a control; an estimate only where every curve of both has broken."""

    gap: Estimate | None
    by_seed: list[tuple[int, float]]
    censored_seeds: dict[str, int]


@dataclass(frozen=True)
class CrossingTable:
    """Of one kind of crossing, all arms and all differences."""

    arms: dict[str, Crossings]
    differences: dict[str, CrossingGap]


@dataclass(frozen=True)
class Classes:
    """Of a mean network: shares of texts by true and predicted class, and what follows, in %."""

    confusion: list[list[float]]
    recall: list[float | None]
    f1: list[float | None]
    macro_f1: float


@dataclass(frozen=True)
class Cell:
    """One arm at one level; draws are averaged within a seed first."""

    arm: str
    target_sparsity: float
    achieved_sparsity: float
    achieved_sparsity_all: float
    draws: int
    score: Estimate
    balanced_accuracy: float | None
    loss: float | None
    epoch: float
    best_epoch: float
    mask_steps: float
    one_class_share: float
    classes: Classes | None


@dataclass(frozen=True)
class Gain:
    """What retraining gains, and the two-sided p of flipping signs within seeds."""

    estimate: Estimate
    p_two_sided: float | None


@dataclass(frozen=True)
class Retraining:
    """At one level: retrained against pruned, dense, and the dense network trained on as long."""

    target_sparsity: float
    gain: Gain
    over_dense: Gain
    over_dense_retrained: Gain
    gain_over_dense_gain: Gain


@dataclass(frozen=True)
class Checkpoint:
    """Everything scored at one checkpoint."""

    table: list[Cell]
    comparisons: dict[str, Comparison]
    breakdown: CrossingTable
    crater: CrossingTable
    collapsed: dict[str, list[dict[str, Any]]]
    retraining: list[Retraining]


@dataclass(frozen=True)
class LearningCurve:
    """Means over runs after each epoch; accuracy in percent with its interval over runs."""

    arm: str
    target_sparsity: float
    n_runs: int
    epochs: list[int]
    steps: list[int] | None
    train_loss: list[float | None]
    validation_loss: list[float | None]
    validation_accuracy: list[float | None]
    validation_accuracy_low: list[float | None]
    validation_accuracy_high: list[float | None]


@dataclass(frozen=True)
class Configuration:
    """One setting of a run. `unfinished` says in words where dense networks still learned."""

    name: str
    factors: dict[str, float]
    experiment: str
    dataset: str
    data_fingerprint: str
    schedule: str
    scope: str
    criterion: str
    mask_from: str
    settings: dict[str, Any]
    seeds: list[int]
    arms: list[str]
    levels: list[float]
    examples: list[int]
    variance: dict[str, Any]
    majority_accuracy: float
    primary_checkpoint: str
    unfinished: str
    checkpoints: dict[str, Checkpoint]
    density: dict[str, Any]
    diagnostics: list[dict[str, Any]]
    diverged: dict[str, Any]
    learning_curves: list[LearningCurve]


@dataclass(frozen=True)
class OwnRates:
    """The comparison with each arm at its own learning rate, at each level."""

    name: str
    factors: dict[str, float]
    rates: list[float]
    comparisons: dict[str, Comparison]


@dataclass(frozen=True)
class FactorTest:
    """Does a factor move an outcome? `p_adjusted` is Holm's over the tests of an experiment."""

    factor: str
    outcome: str
    seeds: list[int]
    values: list[float]
    means: list[float]
    p: float
    p_adjusted: float
    relabellings: int
    exact: bool
    slope: Estimate | None
    per: str
    sentence: str


@dataclass(frozen=True)
class ChosenRates:
    """Per depth the configuration of the best dense validation accuracy, and depth tested there."""

    chosen: list[dict[str, Any]]
    test: FactorTest


@dataclass(frozen=True)
class Headline:
    """The main finding, and of what it is."""

    where: str
    control: str | None
    verdict: str
    kind: str
    sentence: str
    story: str


@dataclass(frozen=True)
class Result:
    """All that the records of a directory say."""

    experiment: str
    dataset: str
    options: Options
    headline: Headline | None
    factors: dict[str, list[float]]
    complete: bool
    configurations: list[Configuration]
    own_rates: list[OwnRates] = field(default_factory=list)
    factor_tests: list[FactorTest] = field(default_factory=list)
    chosen_rates: ChosenRates | None = None
    average: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    metric: dict[str, Any] = field(default_factory=dict)
    units: str = UNITS
    format_version: int = FORMAT_VERSION


def to_json(result: Result) -> dict[str, Any]:
    """The plain dict of `summary.json`, lists in place of tuples."""
    found: dict[str, Any] = _nulls(json.loads(json.dumps(asdict(result))))
    for one in found["configurations"]:
        if not one["diagnostics"]:  # of older records: their summaries are without
            del one["diagnostics"]
    return found


def _nulls(value: Any) -> Any:
    """The value with null for what is no number: the score of a network that diverged."""
    if isinstance(value, dict):
        return {name: _nulls(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_nulls(one) for one in value]
    return finite(value) if isinstance(value, float) else value


def summary_text(summary: Mapping[str, Any]) -> str:
    """The bytes of `summary.json`: floats unrounded, and an error rather than a NaN."""
    return json.dumps(dict(summary), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def finite(value: float) -> float | None:
    """The value, or None where JSON has no word for it."""
    return float(value) if math.isfinite(value) else None
