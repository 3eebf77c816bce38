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
            labels, weight = labels_name(draws[0].dataset, seed), 1 / len(draws)
            parts[seed] = [Part(weight, named(row), labels, predictions) for row in draws]
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
        extra = self.text_variance(design) or 0.0
        return estimate(self.by_seed, confidence, design, text_variance=extra, jackknife=jackknife)

    def text_variance(self, design: Design) -> float | None:
        """Variance over shared texts of the mean over seeds, by their number; None if not known.

        With two classes labels are not needed where weights sum to 0: a text's difference is, up
        to its sign, that of the predicted classes, and the mean over texts is known. With more,
        without labels, it is not known, nor where seeds share no texts. A run orders texts by their
        length as it cuts them: two runs that order them differently cannot be paired by text, so
        their variances are added.
        """
        if design.kind != "shared test set" or not self.parts:
            return None
        parts = [part for seed in self.by_seed for part in self.parts[seed]]
        labels_of: dict[int, np.ndarray | None] = {}  # the texts are shared: one seed's serve all
        for part in parts:
            if labels_of.get(id(part.predictions)) is None:
                labels_of[id(part.predictions)] = part.predictions.get(part.labels)
        totals: dict[bytes, np.ndarray] = {}
        for part in parts:
            classes, labels = part.predictions.get(part.name), labels_of[id(part.predictions)]
            if classes is None or len(classes) != design.texts:
                return None
            if labels is not None and len(labels) == design.texts:
                classes = classes == labels
            elif len(labels_of) > 1 or classes.max() > 1:
                return None
            order = b"" if labels is None else labels.tobytes()
            totals.setdefault(order, np.zeros(design.texts))
            totals[order] += part.weight * classes
        if b"" in totals and abs(sum(part.weight for part in parts)) > 1e-9:
            return None
        sums = [100 * total / len(self.by_seed) for total in totals.values()]
        alone = len(sums) == 1  # then the mean is known without labels, too
        means = [np.mean(list(self.by_seed.values()))] if alone else [one.mean() for one in sums]
        pairs = zip(sums, means, strict=True)
        variance = sum(max(float(np.mean(one**2) - mean**2), 0.0) for one, mean in pairs)
        return variance / design.texts


def named(row: Record) -> str:
    """What the predictions of a row are called."""
    return f"{row.row_id}/{row.checkpoint}"


def weighted(terms: Sequence[tuple[float, SeedScores]]) -> SeedScores:
    """The weighted sum of one or more scores, over the seeds that all of them have."""
    seeds = sorted(set.intersection(*(set(scores.by_seed) for _, scores in terms)))
    known = all(scores.parts for _, scores in terms)
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
    """The mean of one or more, over the seeds that all of them have."""
    return weighted([(1 / len(many), scores) for scores in many])


def scores_by_seed(rows: Iterable[Record]) -> BySeed:
    """Percent by seed, draws averaged."""
    return SeedScores.of(rows).by_seed
