"""Every setting once: its name, type, default, bounds, choices and help.

Flags and flagfiles (`cli`), the settings that stand in records and tickets, and
the checks of a value, from a command line or from Python, are derived from here.

A group of settings is a frozen dataclass; a command takes a `Config`, which is
all groups, or a subclass with a group of its own. Names of what is registered
elsewhere (a score, an optimizer) are looked up when a value is checked, so that
this module imports nothing of them.
"""

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from typing import Any

from lth_flax import settings
from lth_flax.errors import UserError
from lth_flax.settings import LARGEST, Role, Setting
from lth_flax.settings import described as _setting

MOST_SEEDS = 10_000

_machine, _source, _task, _training = (
    functools.partial(_setting, role=role) for role in ("machine", "source", "task", "training")
)


@dataclasses.dataclass(frozen=True)
class Machine:
    """Where and how it runs."""

    work_dir: str | None = _machine(
        None, "Directory of the run. Default: runs/<experiment>_<dataset>.", path=True
    )
    platform: str = _machine(
        "auto", "Which backend JAX uses.", choices=("auto", "cpu", "cuda", "metal", "mps")
    )
    replicates: str = _machine(
        "auto",
        "Rows of a table: one per core, or a batch axis.",
        choices="lth_flax.training.replicates:MODES",
    )
    rows_per_program: int = _machine(
        0,
        "Rows trained side by side; auto: one per core, or as many as an accelerator has room for.",
        low=0,
        zero="auto",
    )
    cache_dir: str = _machine(
        "~/.cache/lth_flax", "Compiled programs are kept here; empty: not kept."
    )
    checkpoint_minutes: float = _machine(5.0, "Between checkpoints within an epoch.", low=0)
    progress: bool = _machine(True, "Show a progress bar.")
    log: tuple[str, ...] = _machine(
        (),
        "Loss and validation score of every row after every epoch, in the work directory: "
        "log.csv, or folders for TensorBoard.",
        choices="lth_flax.runs.log:WRITERS",
    )
    report: bool = _machine(
        True, "Draw figures and page; `python -m lth_flax.analysis.report DIR` does it later."
    )
    plan: bool = _machine(
        False,
        "Say how many rows, steps and hours it would take, how much disk, and how small p can "
        "get; a few steps are timed, nothing is written.",
    )


@dataclasses.dataclass(frozen=True)
class Seeds:
    """The seeds: the unit of every test."""

    num_seeds: int = _setting(8, "Number of seeds.", role="seeds", low=1, high=MOST_SEEDS)
    seeds: str | None = _setting(
        None, "A block of seeds, START:STOP, in place of --num_seeds.", role="seeds"
    )


@dataclasses.dataclass(frozen=True)
class Data:
    """The texts."""

    dataset: str = _setting(
        "synthetic",
        "The texts: by name, also that of a TFDS set, or module:function of your own.",
        choices="lth_flax.data.sources:SOURCES",
        open=True,
        other="the name of a TFDS text classification set",
    )
    data_file: str | None = _machine(
        None,
        "Table of texts and labels, for --dataset=csv and financial_tweets; may be packed (gz, "
        "bz2, xz, zip).",
        path=True,
    )
    validation_file: str | None = _machine(
        None, "Texts for validation, in place of a share of --data_file.", path=True
    )
    test_file: str | None = _machine(
        None, "Texts for test, in place of a share of --data_file.", path=True
    )
    separator: str = _source(
        "auto", "Between columns: auto, comma, tab, semicolon, bar, or any other."
    )
    encoding: str | None = _source(
        None, "Of the files, such as latin-1. Default: UTF-8, or as they are marked."
    )
    data_dir: str | None = _machine(
        None, "TFDS directory. Default: ~/tensorflow_datasets.", path=True
    )
    text_key: str | None = _source(None, "Feature with the text, for other TFDS sets.")
    label_key: str | None = _source(None, "Feature with the label, for other TFDS sets.")
    text_column: str | None = _source(
        None, "Column with the text: its name, or its number from 0 in a file without names."
    )
    label_column: str | None = _source(None, "Column with the label: its name or its number.")
    synthetic_size: int = _source(4000, "Sentences of the synthetic corpus.", low=100)
    duplicates: str = _task(
        "keep",
        "Texts with the same tokens: kept, grouped in one split, or dropped but for the first. An "
        "official test split stays; its copies elsewhere go.",
        choices="lth_flax.data.duplicates:RULES",
    )
    tokenizer: str = _task(
        "words",
        "What a token is; characters is for scripts without blanks between words.",
        choices="lth_flax.data.tokenizer:TOKENIZERS",
    )
    vocabulary_size: int = _task(10_000, "Most words, with padding and unknown.", low=3)
    min_count: int = _task(2, "Words seen less often in training are unknown.", low=1)
    max_length: int = _task(0, "Most tokens of a text; 0: full length.", low=0)
    keep: str = _task(
        "end",
        "Which end a cut text keeps: reviews put their verdict last.",
        choices=("end", "start"),
    )
    validation_share: float = _task(0.1, "Held out for validation.", low=0.001, high=0.9)
    test_share: float = _task(
        0.2, "Held out for test, where a set has no test split.", low=0.001, high=0.9
    )
    max_shapes: int = _task(8, "Most length buckets: each is compiled.", low=1)


@dataclasses.dataclass(frozen=True)
class Model:
    """The network."""

    embedding_size: int = _task(64, "Numbers per word.", low=1, high=65_536)
    hidden_size: int = _task(32, "LSTM units per direction.", low=1, high=65_536)
    num_layers: tuple[int, ...] = _task(
        (2,), "Stacked bidirectional LSTM layers; several make a grid.", low=1, high=1000, grid=True
    )
    dropout: float = _task(0.5, "Between layers and before the head.", low=0, high=0.99)
    share_layers: bool = _setting(
        False,
        "All layers above the first have the same weights, with a mask each: of a supermask, which "
        "trains none.",
    )
    embedding_dropout: float = _task(0.0, "Of features of the word vectors.", low=0, high=0.99)
    embeddings_file: str | None = _machine(None, "Word vectors in GloVe's text format.", path=True)
    freeze_embeddings: bool = _task(False, "Never update the embedding.")


@dataclasses.dataclass(frozen=True)
class Language:
    """Language models, in place of classifiers."""

    task: str = _setting(
        "text_classification",
        "What is learned: the label of a text, or which word comes next. Of a language model "
        "--data_file alone is a plain text; --validation_file and --test_file are its other parts.",
        choices=("text_classification", "language_model"),
    )
    bptt: int = _setting(
        35, "Tokens of a stretch: how far back gradients flow; the state goes on.", low=1
    )
    max_tokens: int = _setting(
        0,
        "Most tokens to train on, the first; of validation and test as many times their shares. "
        "0: all.",
        low=0,
    )
    tied: bool = _setting(False, "The output has the word vectors of the input.")


@dataclasses.dataclass(frozen=True)
class Training:
    """How a row is trained."""

    matmul_precision: str = _training(
        "highest",
        "Precision of matrix products; highest is full float32.",
        choices=("default", "high", "highest"),
    )
    epochs: tuple[int, ...] = _training(
        (5,),
        "Passes over the training texts, never fewer; several make a grid.",
        low=1,
        high=10**5,
        grid=True,
    )
    batch_size: int = _training(64, "Texts per training step.", low=1, high=65_536)
    optimizer: str = _training(
        "adam", "Update rule.", choices="lth_flax.training.optimizers:OPTIMIZERS", open=True
    )
    learning_rate: tuple[float, ...] = _training(
        (3e-3,), "Peak learning rate; several make a grid.", above=0, high=1e30, grid=True
    )
    lr_schedule: str = _training(
        "cosine",
        "Shape of the learning rate over steps.",
        choices="lth_flax.training.optimizers:SCHEDULES",
    )
    warmup: float = _training(0.0, "Share of steps that warm up.", low=0, high=1)
    weight_decay: float | None = _training(
        None,
        "Decoupled, of kernels; of adamw and sgd. Default: 0.01 for adamw, 0 for sgd.",
        low=0,
    )
    momentum: float = _training(0.9, "Of sgd.", low=0, high=1)
    clip_norm: float = _training(1.0, "Largest global gradient norm; 0: no clipping.", low=0)


@dataclasses.dataclass(frozen=True)
class Pruning:
    """Levels of sparsity, masks, and what a ticket is compared with."""

    levels: tuple[float, ...] | None = _setting(
        None, "Target sparsities, increasing, each in [0, 1). Default: 0.5,0.8,0.9,0.95."
    )
    prune_rate: float = _setting(0.2, "Share of surviving weights removed per round.")
    rounds: int | None = _setting(None, "Number of rounds at --prune_rate, in place of --levels.")
    schedule: str = _setting(
        "iterative",
        "One-shot from dense, or level after level.",
        choices="lth_flax.pruning.levels:SCHEDULES",
    )
    scope: str = _setting(
        "global",
        "Rank all weights together, or tensor by tensor.",
        choices="lth_flax.pruning.select:SCOPES",
    )
    criterion: str = _setting(
        "magnitude",
        "Score of a weight; the lowest go first. Also --score.",
        choices="lth_flax.pruning.scores:SCORES",
        open=True,
    )
    structure: tuple[str, ...] = _training(
        (),
        "Prune as a whole: units of the layers, features of the word vectors, or units,features; "
        "levels are shares of these. Default: single weights.",
        choices="lth_flax.pruning.units:KINDS",
    )
    unit_norm: float = _training(
        1.0,
        "Score of a unit: the p-norm of the scores of its weights; 1 is their sum. --score=random "
        "draws one number per unit.",
        low=0.1,
        high=1000,
    )
    arms: tuple[str, ...] = _setting(
        ("ticket", "reinit"),
        "What the mask of a level is put on, or compared with; dense is always there.",
        choices="lth_flax.arms:ARMS",
        open=True,
    )
    reinit_draws: int = _setting(1, "Fresh initializations per seed and level.", low=1, high=1000)
    dense_only: bool = _setting(False, "Train the dense networks and stop there.")
    rewind_epoch: str = _setting(
        "0",
        "Late rewinding: tickets start from the dense network after so many epochs (0.5), or a "
        "share of training (5%); optimizer, learning rate and order of data go on from there.",
    )


@dataclasses.dataclass(frozen=True)
class MaskSearch:
    """Masks from elsewhere than the end of training."""

    mask_from: str = _setting(
        "end",
        "Which weights are scored for a mask: initialization, those of the end of training, or of "
        "a point of it: after so many epochs (0.5), or a share of training (5%).",
    )
    score_examples: int = _setting(
        256,
        "Training examples for scores that read data, classes in equal numbers.",
        low=1,
        high=LARGEST,
    )
    method: str | None = _setting(
        None,
        "Finds the mask during training: early_bird in the dense network's first epochs; gradual, "
        "set and rigl change it all through the training of the ticket itself; supermask trains "
        "the mask alone. In place of --mask_from and --schedule.",
        choices="lth_flax.runs.methods:METHODS",
        open=True,
    )
    mask_every: int = _setting(
        20, "Training steps between changes of the mask.", low=1, high=LARGEST
    )
    mask_start: float = _setting(
        0.0, "Share of training before gradual pruning begins.", low=0, high=1
    )
    mask_end: float = _setting(0.75, "Share of training after which the mask stays.", low=0, high=1)
    initial_sparsity: float = _setting(0.0, "That gradual pruning begins with.", low=0, high=1)
    drop: float = _setting(
        0.3, "Share of a tensor's weights that set and rigl exchange at a change.", low=0, high=1
    )
    distribution: str = _setting(
        "erdos_renyi",
        "How set and rigl share the weights among the tensors.",
        choices="lth_flax.pruning.densities:DISTRIBUTIONS",
    )
    early_bird_distance: float = _setting(
        0.1,
        "Early-Bird has found a ticket when its mask is this close to the four before it; 1: as "
        "far apart as random masks.",
        low=0,
        high=1,
    )
    early_bird_draws: int = _setting(
        4, "Masks that Early-Bird draws in an epoch.", low=1, high=LARGEST
    )
    early_bird_start: str = _setting(
        "initialization",
        "Where an Early-Bird ticket starts: initialization, or emergence, on from its step.",
        choices=("initialization", "emergence"),
    )


@dataclasses.dataclass(frozen=True)
class Retraining:
    """Training on after pruning, for post_prune_training."""

    retraining: str = _setting(
        "finetune",
        "finetune: final weights, constant learning rate; rewind_lr: final weights, the last "
        "--retrain_epochs again; rewind_weights: the same from the weights of then.",
        choices=("finetune", "rewind_lr", "rewind_weights"),
    )
    retrain_epochs: int = _setting(2, "Epochs of retraining.", low=1, high=100_000)
    retrain_lr_factor: float = _setting(1.0, "Learning rate of retraining, as a multiple.", above=0)


@dataclasses.dataclass(frozen=True)
class Protocol:
    """What the code behind the paper did; for configs/paper_figure*.flags."""

    prunable: str = _training(
        "kernels",
        "Which weights may be pruned; all: word vectors too. head is for the paper's protocol: its "
        "figures 1, 2 and 4 pruned the last linear layer alone.",
        choices="lth_flax.pruning.masks:PRUNABLE",
        open=True,
    )
    readout: str = _task(
        "final",
        "What the head reads. last_position is for the paper's protocol: the output at the last "
        "padded position, where the backward direction has seen one token. Needs --max_shapes=1.",
        choices="lth_flax.types:READOUTS",
    )
    keep_mask: bool = _setting(
        True,
        "Masks stay during training. Off is for the paper's protocol: its figure 3 masked the "
        "weights once and let them grow back.",
    )
    dropout_between_layers: bool = _task(
        True,
        "Dropout between LSTM layers. Off is for the paper's protocol: before the head alone.",
    )
    unused_classes: int = _task(
        0,
        "Outputs that no label uses. 1 is for the paper's protocol: it had a neutral class and no "
        "neutral text.",
        low=0,
        high=100,
    )


@dataclasses.dataclass(frozen=True)
class Answers:
    """How it is decided."""

    margin: float = _setting(0.5, "Equivalence margin, in points of accuracy.", low=0)
    alpha: float = _setting(0.05, "Level of the tests.", low=1e-6, high=0.5)


@dataclasses.dataclass(frozen=True)
class SavedTicket:
    """A ticket of an earlier run."""

    ticket: str | None = _setting(None, "Directory of a saved ticket.", path=True)


@dataclasses.dataclass(frozen=True)
class Config(
    Machine,
    Seeds,
    Data,
    Model,
    Language,
    Training,
    Pruning,
    MaskSearch,
    Retraining,
    Protocol,
    Answers,
    SavedTicket,
):
    """All settings of an experiment, checked one by one when it is made.

    `given` names those that a command line or flagfile set: what is not given
    may be taken from a ticket.

    Raises:
      UserError: a value is none of its setting.
    """

    given: frozenset[str] = dataclasses.field(default=frozenset(), compare=False)

    def __post_init__(self) -> None:
        for name, setting in settings_of(type(self)).items():
            value = getattr(self, name)
            try:
                object.__setattr__(self, name, setting.read(value))
            except ValueError as error:
                raise UserError(f"{name}={value!r}: {error}") from None

    def lines(self) -> dict[str, str]:
        """The line of a flagfile for every setting that has a value, by name."""
        return {
            name: setting.line(getattr(self, name))
            for name, setting in settings_of(type(self)).items()
            if getattr(self, name) is not None
            and not (setting.repeated and not getattr(self, name))
        }

    def shown(self) -> dict[str, str]:
        """Every setting as a flag says it, for a page."""
        return {name: self.text(name) for name in settings_of(type(self))}

    def text(self, name: str) -> str:
        """A setting as a flag says it."""
        value = getattr(self, name)
        return "" if value is None else settings_of(type(self))[name].text(value)

    def function(self, name: str) -> Any:
        """What a setting stands for: a function, or what its table has under its name."""
        return settings_of(type(self))[name].function(getattr(self, name))

    def changed(self, names: Iterable[str]) -> list[str]:
        """Which of the settings are not at their default."""
        known = settings_of(type(self))
        return [name for name in names if getattr(self, name) != known[name].default]

    def of_role(self, role: Role) -> dict[str, Any]:
        """The settings of a role, as records have them."""
        return self.recorded(names_of(role))

    def recorded(self, names: Iterable[str]) -> dict[str, Any]:
        """The values of settings, as records have them: a function by its name."""
        values = {name: getattr(self, name) for name in names}
        return {n: self.text(n) if callable(value) else value for n, value in values.items()}

    def one(self, name: str) -> Any:
        """The value of a setting that may have several.

        Raises:
          UserError: it has.
        """
        values = getattr(self, name)
        if len(values) > 1:
            raise UserError(
                f"--{name}={','.join(map(str, values))} names {len(values)} values: expected one, "
                "this command trains one configuration"
            )
        return values[0]


@dataclasses.dataclass(frozen=True)
class ExportConfig(Config):
    """What is written for other programs."""

    format: str = _setting("torch", "Of the files.", choices="lth_flax.tickets.export:FORMATS")
    out: str | None = _machine(None, "Directory to write to; it is made if need be.")
    weights: str = _setting(
        "trained",
        "As trained, or where the ticket's training starts.",
        choices="lth_flax.tickets.export:WEIGHTS",
    )
    compact: bool = _setting(False, "Without units and features that nothing reads.")


@dataclasses.dataclass(frozen=True)
class PredictConfig(Config):
    """Texts in, labels out; of a language model perplexities, or the texts continued."""

    texts: tuple[str, ...] = _setting((), "A text; also as arguments.", repeated=True)
    output: str = _setting("text", "Lines for people, or a table.", choices=("text", "csv"))
    continue_tokens: int = _setting(
        0, "Tokens that a language model goes on with; 0: it scores the text.", low=0
    )
    temperature: float = _setting(
        1.0,
        "Of what it goes on with: below 1 likelier tokens, at 0 the likeliest.",
        low=0,
        high=100,
    )


EXPERIMENTS = ("winning_ticket", "prune_after_training", "post_prune_training")


@dataclasses.dataclass(frozen=True)
class SweepConfig(Config):
    """The sweep: what its tasks are, and where they run."""

    experiment: str = _setting(EXPERIMENTS[0], "Which command the tasks run.", choices=EXPERIMENTS)
    grid: tuple[str, ...] = _setting(
        (),
        "NAME=VALUE,VALUE,...: every value of a flag; of several --grid, every combination.",
        repeated=True,
    )
    seeds_per_task: int = _setting(1, "Seeds of a task: a block.", low=1, high=MOST_SEEDS)
    ray_address: str | None = _machine(
        None,
        "HOST:PORT of a Ray cluster, or auto for the one that this machine is part of. "
        "Default: a Ray of this machine alone, for as long as the sweep runs.",
    )
    cpus_per_task: int = _machine(1, "Cores that a task has to itself.", low=1)
    gpus_per_task: float = _machine(0.0, "GPUs of a task; 0.5: two tasks share one.", low=0)
    max_retries: int = _machine(3, "How often a task whose process or machine died goes on.", low=0)


@dataclasses.dataclass(frozen=True)
class CompareConfig(Config):
    """Which ways to a mask are compared."""

    methods: tuple[str, ...] = _setting(
        ("ticket", "random", "magnitude_init", "snip", "grasp", "synflow", "jacobian",
         "early_bird", "gradual", "set", "rigl"),
        "Compared with each other; tests are of the first against each of the others.",
        choices="lth_flax.runs.methods:WAYS",
    )  # fmt: skip
    equal_cost: bool = _setting(
        True,
        "Train dense and random networks too for as many steps as the whole search of a ticket.",
    )


@dataclasses.dataclass(frozen=True)
class TransferConfig(Config):
    """Whose tickets are tried elsewhere."""

    tickets: tuple[str, ...] = _setting(
        (),
        "A work directory of winning_ticket, or a folder of one configuration in it: every ticket "
        "there, each with its own seed. Once for each.",
        repeated=True,
        path=True,
    )


@dataclasses.dataclass(frozen=True)
class StabilityConfig(Config):
    """How stable training is to its noise, for connectivity."""

    rewind_points: tuple[str, ...] = _setting(
        ("0", "1%", "5%", "20%", "50%"),
        "Where the copies part: each so many epochs (0.5), or a share of training (5%).",
    )
    mask: tuple[float, ...] = _setting(
        (0.0,),
        "Sparsities of the copies: 0 is dense; tickets have the mask of the largest weights at the "
        "end of dense training, at once.",
        low=0,
        high=0.9999,
        grid=True,
    )
    line_points: int = _setting(
        11, "Networks on the line between two, ends included.", low=3, high=1000
    )


ALIASES = {"score": "criterion"}
"""Other spellings of a setting."""


def settings_of(config: type = Config) -> Mapping[str, Setting]:
    """Name -> setting, group after group."""
    return settings.settings_of(config)


def names_of(role: Role) -> tuple[str, ...]:
    """The names of the settings of a role, those of a sweep included."""
    return tuple(n for n, setting in settings_of(SweepConfig).items() if setting.role == role)
