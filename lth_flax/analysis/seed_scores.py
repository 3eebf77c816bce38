"""Weighted sums of networks' scores by seed, and what the texts that seeds share add to them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from lth_flax.analysis.statistics import SEEDS_ALONE, Design, Estimate, estimate, mean_by_seed
from lth_flax.predictions import Predictions, labels_name
from lth_flax.records import Record, grouped

BySeed = Mapping[int, float]


class Part(NamedTuple):
    """One network of a sum; `name` and `labels` are keys of `predictions`."""

    weight: float
    name: str
    labels: str
    predictions: Predictions


@dataclass(frozen=True)
class SeedScores:
    """A number per seed, in percent or the metric's unit: a weighted sum of networks' scores.

    parts: by seed its networks. Empty where the number is no such sum (a breakdown sparsity), or
      where predictions are not known.
    """

    by_seed: BySeed
    parts: Mapping[int, Sequence[Part]] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Iterable[Record], predictions: Predictions | None = None) -> "SeedScores":
        """The scores of rows of one arm, level and split, draws averaged."""
        ordered = sorted(rows, key=lambda row: (row.seed, row.draw))
        by_seed = mean_by_seed((row.seed, row.score) for row in ordered)
        if not predictions:
            return cls(by_seed)
        parts = {}
        for seed, draws in grouped(ordered, lambda row: row.seed).items():
            names = [(f"{r.row_id}/{r.checkpoint}", labels_name(r.dataset, seed)) for r in draws]
            parts[seed] = [Part(1 / len(draws), *of_draw, predictions) for of_draw in names]
        return cls(by_seed, parts)

    def __sub__(self, other: "SeedScores") -> "SeedScores":
        return weighted([(1.0, self), (-1.0, other)])

    def estimate(
        self,
        confidence: float = 0.95,
        design: Design = SEEDS_ALONE,
        jackknife: Sequence[float] | None = None,
    ) -> Estimate:
        """The mean over seeds with the interval of the design."""
        extra = self.text_variance(design)
        return estimate(self.by_seed, confidence, design, text_variance=extra, jackknife=jackknife)

    def text_variance(self, design: Design) -> float:
        """Variance over shared texts of the mean over seeds, by their number; 0 where unknown.

        With two classes labels are not needed where weights sum to 0: a text's difference is, up
        to its sign, that of the predicted classes, and the mean over texts is known. With more,
        without labels, it is 0. A run orders texts by their length as it cuts them: what comes in
        several orders cannot be paired by text, so their variances are added.
        """
        if design.kind != "shared test set" or not self.parts:
            return 0.0
        known: dict[tuple[int, str], tuple[np.ndarray | None, bytes]] = {}  # read once for a seed
        totals: dict[bytes, np.ndarray] = {}
        for part in (part for seed in self.by_seed for part in self.parts[seed]):
            classes = part.predictions.get(part.name)
            if classes is None or len(classes) != design.texts:
                return 0.0
            key = (id(part.predictions), part.labels)
            if key not in known:
                found = part.predictions.get(part.labels)
                known[key] = (found, b"" if found is None else found.tobytes())
            labels, order = known[key]
            if labels is not None and len(labels) == design.texts:
                classes = classes == labels
            elif classes.max() > 1:
                return 0.0
            totals.setdefault(order, np.zeros(design.texts))
            totals[order] += part.weight * classes
        sums = [100 * total / len(self.by_seed) for total in totals.values()]
        alone = len(sums) == 1  # then the mean is known without labels, too
        means = [np.mean(list(self.by_seed.values()))] if alone else [one.mean() for one in sums]
        pairs = zip(sums, means, strict=True)
        variance = sum(max(float(np.mean(one**2) - mean**2), 0.0) for one, mean in pairs)
        return variance / design.texts


def weighted(terms: Sequence[tuple[float, SeedScores]]) -> SeedScores:
    """The weighted sum of scores, over the seeds that all of them have."""
    seeds = sorted(set.intersection(*(set(scores.by_seed) for _, scores in terms)))
    known = all(scores.parts or not scores.by_seed for _, scores in terms)
    return SeedScores(
        {seed: sum(weight * scores.by_seed[seed] for weight, scores in terms) for seed in seeds},
        {
            seed: [
                part._replace(weight=weight * part.weight)
                for weight, scores in terms
                for part in scores.parts[seed]
            ]
            for seed in seeds
        }
        if known
        else {},
    )


def mean_of(many: Sequence[SeedScores]) -> SeedScores:
    """Their mean, over the seeds that all of them have."""
    return weighted([(1 / len(many), scores) for scores in many])


def scores_by_seed(rows: Iterable[Record]) -> BySeed:
    """Percent by seed, draws averaged."""
    return SeedScores.of(rows).by_seed
