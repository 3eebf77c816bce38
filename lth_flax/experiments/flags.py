"""All flags of all experiments, in one place: defining one twice raises.

Those of `sweep` alone are in `sweep_flags`: no experiment takes them.
"""

import math

from absl import flags

from lth_flax.pruning.levels import SCHEDULES
from lth_flax.pruning.masks import PRUNABLE
from lth_flax.pruning.scores import SCORES
from lth_flax.pruning.select import SCOPES
from lth_flax.training.optimizers import OPTIMIZERS
from lth_flax.training.optimizers import SCHEDULES as LR_SCHEDULES
from lth_flax.training.replicates import MODES
from lth_flax.types import READOUTS

FLAGS = flags.FLAGS

Number = int | float


class _Numbers(flags.ArgumentParser):
    """One number, or several with commas between them: a grid. A tuple where there are several."""

    def __init__(self, kind: type[Number], lower_bound: float, upper_bound: float) -> None:
        self._kind, self._lower, self._upper = kind, lower_bound, upper_bound
        name = "whole numbers" if kind is int else "numbers"
        bounds = f"{lower_bound:g} to {upper_bound:g}"
        self.syntactic_help = f"one or more {name} from {bounds}, such as 1,2"

    def parse(self, argument: object) -> Number | tuple[Number, ...]:
        parts = argument.split(",") if isinstance(argument, str) else argument
        values = tuple(parts) if isinstance(parts, list | tuple) else (parts,)
        numbers = tuple(self._number(value) for value in values)
        if not numbers or len(set(numbers)) < len(numbers):
            raise ValueError(f"expected {self.syntactic_help}, each once")
        return numbers if len(numbers) > 1 else numbers[0]

    def _number(self, value: object) -> Number:
        try:
            if isinstance(value, bool) or not isinstance(value, str | int | float):
                raise ValueError
            if self._kind is int and isinstance(value, float):
                raise ValueError
            number = self._kind(value)
            if not self._lower <= number <= self._upper:
                raise ValueError
        except (ValueError, OverflowError):
            raise ValueError(f"expected {self.syntactic_help}") from None
        return number

    def flag_type(self) -> str:
        return "numbers"


class _Finite(flags.FloatParser):
    """A number within bounds. NaN passes every comparison of bounds, and infinity has no JSON."""

    def convert(self, argument: str | float) -> float:
        value = super().convert(argument)
        if not math.isfinite(value):
            raise ValueError("expected a finite number")
        return value


class _Rows(flags.ArgumentParser):
    """A whole number from 1, or `auto`, which is 0."""

    syntactic_help = "auto, or a whole number from 1"

    def parse(self, argument: object) -> int:
        if argument in ("auto", 0):
            return 0
        try:
            number = int(str(argument))
        except ValueError:
            number = -1
        if number < 0:
            raise ValueError(f"expected {self.syntactic_help}")
        return number

    def flag_type(self) -> str:
        return "rows"


class _NumbersSerializer(flags.ArgumentSerializer):
    def serialize(self, value: Number | tuple[Number, ...]) -> str:
        return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def values_of(name: str) -> tuple[Number, ...]:
    """All values of a flag that may name several."""
    value = FLAGS[name].value
    return value if isinstance(value, tuple) else (value,)


RETRAINING = ("finetune", "rewind_lr", "rewind_weights")

LARGEST = 2**31 - 2
"""Of whole numbers: they and the next one fit 32 bits."""

MOST_SEEDS = 10_000

_BY_COMMAND: dict[str, list[str]] = {}


def _define() -> None:
    string, choice, boolean = flags.DEFINE_string, flags.DEFINE_enum, flags.DEFINE_boolean

    def integer(
        name: str,
        default: int | None,
        text: str,
        lower_bound: int | None = None,
        upper_bound: int = LARGEST,
    ) -> None:
        flags.DEFINE_integer(name, default, text, lower_bound, upper_bound)

    def number(
        name: str,
        default: float | None,
        text: str,
        lower_bound: float | None = None,
        upper_bound: float | None = None,
    ) -> None:
        parser = _Finite(lower_bound, upper_bound)
        flags.DEFINE(parser, name, default, text, serializer=flags.ArgumentSerializer())

    def numbers(
        name: str, default: Number, text: str, lower_bound: float, upper_bound: float
    ) -> None:
        parser = _Numbers(type(default), lower_bound, upper_bound)
        flags.DEFINE(parser, name, default, text, serializer=_NumbersSerializer())

    # Where and how.
    string("work_dir", None, "Directory of the run. Default: runs/<experiment>_<dataset>.")
    choice("platform", "auto", ["auto", "cpu", "cuda", "metal", "mps"], "Which backend JAX uses.")
    choice("replicates", "auto", list(MODES), "Rows of a table: one per core, or a batch axis.")
    flags.DEFINE(
        _Rows(),
        "rows_per_program",
        "auto",
        "Rows trained side by side; auto: one per core, or as many as an accelerator has room for.",
        serializer=flags.ArgumentSerializer(),
    )
    string("cache_dir", "~/.cache/lth_flax", "Compiled programs are kept here; empty: not kept.")
    number("checkpoint_minutes", 5.0, "Between checkpoints within an epoch.", 0.0)
    boolean("progress", True, "Show a progress bar.")
    choice(
        "matmul_precision",
        "highest",
        ["default", "high", "highest"],
        "Precision of matrix products; highest is full float32.",
    )

    # Seeds.
    integer("num_seeds", 8, "Number of seeds: the unit of every test.", 1, MOST_SEEDS)
    string("seeds", None, "A block of seeds, START:STOP, in place of --num_seeds.")

    # Data.
    string(
        "dataset",
        "synthetic",
        "synthetic, financial_tweets, imdb_reviews, csv, or any text classification set of TFDS.",
    )
    string("data_file", None, "CSV file, for --dataset=financial_tweets and csv.")
    string("data_dir", None, "TFDS directory. Default: ~/tensorflow_datasets.")
    string("text_key", None, "Feature with the text, for other TFDS sets.")
    string("label_key", None, "Feature with the label, for other TFDS sets.")
    string("text_column", None, "Column with the text, for --dataset=csv.")
    string("label_column", None, "Column with the label, for --dataset=csv.")
    integer("synthetic_size", 4000, "Sentences of the synthetic corpus.", lower_bound=100)
    integer("vocabulary_size", 10_000, "Most words, with padding and unknown.", lower_bound=3)
    integer("min_count", 2, "Words seen less often in training are unknown.", lower_bound=1)
    integer("max_length", 0, "Most tokens of a text; 0: full length.", lower_bound=0)
    choice(
        "keep",
        "end",
        ["end", "start"],
        "Which end a cut text keeps: reviews put their verdict last.",
    )
    number("validation_share", 0.1, "Held out for validation.", 0.001, 0.9)
    number("test_share", 0.2, "Held out for test, where a set has no test split.", 0.001, 0.9)
    integer("max_shapes", 8, "Most length buckets: each is compiled.", lower_bound=1)

    # Model.
    integer("embedding_size", 64, "Numbers per word.", 1, 65_536)
    integer("hidden_size", 32, "LSTM units per direction.", 1, 65_536)
    numbers("num_layers", 2, "Stacked bidirectional LSTM layers; several make a grid.", 1, 1000)
    number("dropout", 0.5, "Between layers and before the head.", 0.0, 0.99)
    number("embedding_dropout", 0.0, "Of features of the word vectors.", 0.0, 0.99)
    string("embeddings_file", None, "Word vectors in GloVe's text format.")
    boolean("freeze_embeddings", False, "Never update the embedding.")

    # Training.
    numbers(
        "epochs", 5, "Passes over the training texts, never fewer; several make a grid.", 1, 10**5
    )
    integer("batch_size", 64, "Texts per training step.", 1, 65_536)
    choice("optimizer", "adam", list(OPTIMIZERS), "Update rule.")
    numbers("learning_rate", 3e-3, "Peak learning rate; several make a grid.", 0.0, 1e30)
    choice("lr_schedule", "cosine", list(LR_SCHEDULES), "Shape of the learning rate over steps.")
    number("warmup", 0.0, "Share of steps that warm up.", 0.0, 1.0)
    number(
        "weight_decay",
        None,
        "Decoupled, of kernels; of adamw and sgd. Default: 0.01 for adamw, 0 for sgd.",
        lower_bound=0.0,
    )
    number("momentum", 0.9, "Of sgd.", 0.0, 1.0)
    number("clip_norm", 1.0, "Largest global gradient norm; 0: no clipping.", lower_bound=0.0)

    # Pruning.
    flags.DEFINE_list("levels", None, "Target sparsities, increasing, each in [0, 1).")
    number("prune_rate", 0.2, "Share of surviving weights removed per round.")
    integer("rounds", None, "Number of rounds at --prune_rate, in place of --levels.")
    choice("schedule", "iterative", list(SCHEDULES), "One-shot from dense, or level after level.")
    choice("scope", "global", list(SCOPES), "Rank all weights together, or tensor by tensor.")
    choice("criterion", "magnitude", list(SCORES), "Score of a weight; the lowest go first.")
    flags.DEFINE_list("arms", "ticket,reinit", "ticket, reinit, shuffled, random; dense always.")
    integer("reinit_draws", 1, "Fresh initializations per seed and level.", 1, 1000)

    boolean("dense_only", False, "Train the dense networks and stop there.")
    string(
        "rewind_epoch",
        "0",
        "Late rewinding: tickets start from the dense network after so many epochs (0.5), or a "
        "share of training (5%); optimizer, learning rate and order of data go on from there.",
    )

    # Retraining, for post_prune_training.
    choice(
        "retraining",
        "finetune",
        list(RETRAINING),
        "finetune: final weights, constant learning rate; rewind_lr: final weights, the last "
        "--retrain_epochs again; rewind_weights: the same from the weights of then.",
    )
    integer("retrain_epochs", 2, "Epochs of retraining.", 1, 100_000)
    number("retrain_lr_factor", 1.0, "Learning rate of retraining, as a multiple.", 0.0)

    # What the code behind the paper did; for configs/paper_figure*.flags.
    choice(
        "prunable",
        "kernels",
        list(PRUNABLE),
        "Which weights may be pruned. head is for the paper's protocol: its figures 1, 2 and 4 "
        "pruned the last linear layer alone.",
    )
    choice(
        "readout",
        "final",
        list(READOUTS),
        "What the head reads. last_position is for the paper's protocol: the output at the last "
        "padded position, where the backward direction has seen one token. Needs --max_shapes=1.",
    )
    boolean(
        "keep_mask",
        True,
        "Masks stay during training. Off is for the paper's protocol: its figure 3 masked the "
        "weights once and let them grow back.",
    )
    boolean(
        "dropout_between_layers",
        True,
        "Dropout between LSTM layers. Off is for the paper's protocol: before the head alone.",
    )
    integer(
        "unused_classes",
        0,
        "Outputs that no label uses. 1 is for the paper's protocol: it had a neutral class and no "
        "neutral text.",
        lower_bound=0,
        upper_bound=100,
    )

    # Answers.
    number("margin", 0.5, "Equivalence margin, in points of accuracy.", lower_bound=0.0)
    number("alpha", 0.05, "Level of the tests.", 1e-6, 0.5)

    # Tickets.
    string("ticket", None, "Directory of a saved ticket.")


_define()
