"""A dataset by name: its cleaned texts and its labels.

To add one: a function from `SourceOptions` to `Source`, and its name in `SOURCES`.
"""

from collections.abc import Callable

from lth_flax.data import csv_source, synthetic, tfds_source
from lth_flax.data.source import Source, SourceOptions, make_source

__all__ = ["SOURCES", "Source", "SourceOptions", "load_source"]


def load_source(name: str, options: SourceOptions) -> Source:
    """The dataset called `name`: one of `SOURCES`, or a TFDS text classification set.

    Raises:
      UserError: it is unknown, or anything about it is not as expected.
    """
    if name in SOURCES:
        return SOURCES[name](options)
    return tfds_source.read_tfds(name, options, known=tuple(SOURCES))


def _synthetic(options: SourceOptions) -> Source:
    texts, labels = synthetic.generate(options.synthetic_size, options.synthetic_seed)
    return make_source("synthetic", texts, labels, synthetic.CLASS_NAMES)


SOURCES: dict[str, Callable[[SourceOptions], Source]] = {
    "synthetic": _synthetic,
    "financial_tweets": csv_source.financial_tweets,
    "imdb_reviews": tfds_source.imdb_reviews,
    "csv": csv_source.csv,
}
