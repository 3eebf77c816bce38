"""A dataset by name: its cleaned texts and its labels.

To add one: a function from the settings (`Config`) to a `Source`. It is given as it is, as
--dataset=module:function, or gets a name in `SOURCES`.
"""

from collections.abc import Callable

from lth_flax.config import Config, settings_of
from lth_flax.data import csv_source, synthetic, tfds_source
from lth_flax.data.source import Source
from lth_flax.errors import UserError

_OF_TABLES = (
    "data_file", "validation_file", "test_file", "separator", "encoding", "text_column",
    "label_column",
)  # fmt: skip
_OF_TFDS = ("data_dir", "text_key", "label_key")


def load_source(config: Config) -> Source:
    """The dataset of the settings: one of `SOURCES`, a function, or a set of TFDS.

    Raises:
      UserError: it is unknown, anything about it is not as expected, or a flag
        is given that it does not read.
    """
    read = reader(config)
    of_tables = read in (csv_source.financial_tweets, csv_source.csv)
    of_tfds = read in (tfds_source.read_tfds, tfds_source.imdb_reviews)
    for names, is_read, wanted in (
        (_OF_TABLES, of_tables, "--dataset=financial_tweets or --dataset=csv"),
        (_OF_TFDS, of_tfds, "a TFDS set as --dataset"),
    ):
        for name in names:
            value = getattr(config, name)
            if read in _OWN and not is_read and value != settings_of()[name].default:
                raise UserError(
                    f"--{name}={value} is not read by --dataset={config.dataset}: "
                    f"expected {wanted}; give one, or leave --{name} out"
                )
    found = read(config)
    if not isinstance(found, Source):
        raise UserError(
            f"--dataset={config.text('dataset')} gave {type(found).__name__}: expected a "
            "lth_flax.data.source.Source; return one"
        )
    return found


def reader(config: Config) -> Callable[[Config], Source]:
    """The function that reads the dataset."""
    setting = settings_of()["dataset"]
    if setting.is_other(config.dataset):
        return tfds_source.read_tfds
    found: Callable[[Config], Source] = setting.function(config.dataset)
    return found


def _synthetic(config: Config) -> Source:
    texts, labels = synthetic.generate(config.synthetic_size, 0)
    return Source("synthetic", texts, labels, synthetic.CLASS_NAMES)


SOURCES: dict[str, Callable[[Config], Source]] = {
    "synthetic": _synthetic,
    "financial_tweets": csv_source.financial_tweets,
    "imdb_reviews": tfds_source.imdb_reviews,
    "csv": csv_source.csv,
}
_OWN = (*SOURCES.values(), tfds_source.read_tfds)
