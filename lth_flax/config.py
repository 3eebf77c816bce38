"""Every setting once: its name, type, default, bounds, choices and help.

Flags and flagfiles (`cli`), the settings that stand in records and tickets, and
the checks of a value, from a command line or from Python, are derived from here.

A group of settings is a frozen dataclass; a command takes a `Config`, which is
all groups. Names of what is registered elsewhere (a score, an optimizer) are
looked up when a value is checked, so that this module imports nothing of them.
"""

import dataclasses
import functools
import importlib
import math
import operator
import os
import re
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal, cast

from lth_flax.errors import UserError

Role = Literal["machine", "seeds", "source", "task", "training"]
"""What a setting is to a run.

machine: where and how it works, not what it finds; may differ when a run is continued.
seeds: which seeds; blocks of them merge.
source: which texts of a dataset are read, but not where on this machine it is.
task: what is trained on what; training: how. Both stand in records and tickets.
"""

LARGEST = 2**31 - 2
"""Of whole numbers: they and the next one fit 32 bits."""

MOST_SEEDS = 10_000

DECIMAL_COMMA = re.compile(r"(^|,)\s*-?\d*,\d")
DECIMAL_POINT = "decimals have a point: 0.5, not 0,5"


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is known of one setting, and how its values are read and written.

    kind: of one value; `many`: the value is a tuple of them.
    low, high: bounds, inclusive; `above` is a low one that is none of the values.
    choices: names, or "module:TABLE" whose keys they are.
    grid: several values make a grid of configurations; each stands once.
    zero: the word for 0, where it has one.
    repeated: the flag is given once per value, which may hold commas.
    open: a function, or the text "module:function", stands for one that is not in the table.
    other: what other names stand for, if any may be given.
    path: of a file or directory; `~` is the home directory.
    """

    name: str
    group: type
    kind: type
    many: bool
    optional: bool
    default: Any
    help: str
    low: float | None = None
    high: float | None = None
    above: float | None = None
    choices: str | tuple[str, ...] | None = None
    grid: bool = False
    zero: str | None = None
    repeated: bool = False
    open: bool = False
    other: str | None = None
    path: bool = False
    role: Role | None = None

    def read(self, value: Any) -> Any:
        """A value of this setting, from the text of a flag or from Python.

        Raises:
          ValueError: it is none; says what was expected.
        """
        if value is None and self.optional:
            return None
        try:
            return self._read(value)
        except ValueError as error:
            if self.kind is float and isinstance(value, str) and DECIMAL_COMMA.search(value):
                raise ValueError(f"{error}; {DECIMAL_POINT}") from None
            raise

    def _read(self, value: Any) -> Any:
        if not self.many:
            return self._one(value)
        if isinstance(value, str):
            value = (value,) if self.repeated else value.split(",") if value else ()
        elif not isinstance(value, Iterable):
            value = (value,)
        values = tuple(self._one(one) for one in value)
        if self.grid and (not values or len(set(values)) < len(values)):
            raise ValueError(f"expected {self.expected}, each once")
        return values

    def text(self, value: Any) -> str:
        """How a flag says this value."""
        if self.many:
            return ",".join(map(_name, value))
        if callable(value):
            return _name(value)
        if isinstance(value, bool):
            return str(value).lower()
        return self.zero if self.zero and value == 0 else str(value)

    def line(self, value: Any) -> str:
        """The line of a flagfile; one per value where it is repeated."""
        if isinstance(value, bool):
            return f"--{self.name}" if value else f"--no{self.name}"
        if self.repeated:
            return "\n".join(f"--{self.name}={one}" for one in value)
        return f"--{self.name}={self.text(value)}"

    def function(self, value: Any) -> Any:
        """What a name of the table, "module:function" or a function itself stands for."""
        if callable(value):
            return value
        is_reference = _REFERENCE.fullmatch(value)
        module, _, name = str(value if is_reference else self.choices).partition(":")
        found = getattr(importlib.import_module(module), name)
        return found if is_reference else found[value]

    def is_other(self, value: Any) -> bool:
        """Whether it is none of the choices, nor a function or the name of one."""
        is_text = not callable(value) and not _REFERENCE.fullmatch(value)
        return is_text and value not in (self.names or ())

    @property
    def names(self) -> tuple[str, ...] | None:
        """The choices, if there are any."""
        if not isinstance(self.choices, str):
            return self.choices
        module, _, table = self.choices.partition(":")
        return tuple(getattr(importlib.import_module(module), table))

    @property
    def of(self) -> str:
        """How many of the choices a value has."""
        return "one or more of" if self.many else "one of"

    @property
    def expected(self) -> str:
        """What a value has to be, in words."""
        if self.names:
            more = ", or module:function" if self.open else ""
            more += f", or {self.other}" if self.other else ""
            return f"{self.of} {', '.join(self.names)}{more}"
        if self.kind is bool:
            return "true or false"
        if self.kind is str:
            return "one line of UTF-8 text"
        noun = "whole number" if self.kind is int else "finite number"
        noun = f"one or more {noun}s" if self.grid else f"a list of {noun}s" if self.many else noun
        bounds = ""
        if self.low is not None and self.high is not None:
            bounds = f" from {self.low:g} to {self.high:g}"
        elif self.low is not None:
            bounds = f" from {self.low:g}"
        elif self.above is not None:
            bounds = f" above {self.above:g}"
            bounds += "" if self.high is None else f" and up to {self.high:g}"
        word = f"{self.zero}, or " if self.zero else ""
        example = f", such as {'1,2' if self.kind is int else '0.001,0.003'}" if self.grid else ""
        article = "" if self.many else "a "
        return f"{word}{article}{noun}{bounds}{example}"

    def _one(self, value: Any) -> Any:
        if self.open and callable(value):
            return value
        reader = {bool: _bool, int: _int, float: _float, str: _str}[self.kind]
        try:
            value = 0 if self.zero and value == self.zero else reader(value)
            low = -math.inf if self.low is None else self.low
            if self.kind in (int, float) and not low <= value <= (self.high or math.inf):
                raise ValueError
            if self.above is not None and not value > self.above:
                raise ValueError
        except (ValueError, TypeError, OverflowError):
            raise ValueError(f"expected {self.expected}") from None
        if self.path:
            return home_expanded(value)
        if self.open and _REFERENCE.fullmatch(value):
            return self._imported(value)
        if self.names and value not in self.names and not self.other:
            raise ValueError(f"expected {self.expected}")
        return value

    def _imported(self, value: str) -> str:
        try:
            found = self.function(value)
        except (ImportError, AttributeError, ValueError) as error:
            raise ValueError(f"cannot import {value} ({error}); expected {self.expected}") from None
        if not callable(found):
            raise ValueError(f"{value} is no function; expected {self.expected}")
        return value


def home_expanded(path: str) -> str:
    """The path with `~` as the home directory.

    Raises:
      UserError: there is none; a folder called `~` would be made.
    """
    found = os.path.expanduser(path)
    if found.startswith("~"):
        raise UserError(f"{path}: no home directory is known here; give the path without ~")
    return found


_REFERENCE = re.compile(r"[\w.]+:[^\W\d]\w*")
"""Module and function; versions of TFDS sets follow a colon too, and begin with a digit."""


def _name(value: Any) -> str:
    return f"{value.__module__}:{value.__qualname__}" if callable(value) else str(value)


def _bool(value: Any) -> bool:
    if isinstance(value, str):
        value = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}.get(
            value.lower()
        )
    if not isinstance(value, bool):
        raise ValueError
    return value


def _int(value: Any) -> int:
    if isinstance(value, bool):
        raise ValueError
    return int(value) if isinstance(value, str) else operator.index(value)


def _float(value: Any) -> float:
    if isinstance(value, bool) or not math.isfinite(float(value)):
        raise ValueError
    return float(value)


def _str(value: Any) -> str:
    text = os.fspath(value)
    text.encode("utf-8")  # raises for bytes of a command line that are not UTF-8
    if "\0" in text or text.splitlines() not in ([text], []):
        raise ValueError
    return text


def _setting(default: Any, help: str, *, role: Role | None = None, **details: Any) -> Any:
    metadata = {"help": help, "role": role, **details}
    return dataclasses.field(default=default, metadata=metadata)


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
        "set and rigl change it all through the training of the ticket itself. In place of "
        "--mask_from and --schedule.",
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
    """A ticket of an earlier run, for retrain_ticket."""

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

    def texts(self) -> dict[str, str]:
        """Every setting as a flag says it, for a page."""
        return {name: self.text(name) for name in settings_of(type(self))}

    def text(self, name: str) -> str:
        """A setting as a flag says it."""
        value = getattr(self, name)
        return "" if value is None else settings_of(type(self))[name].text(value)

    def of_role(self, role: Role) -> dict[str, Any]:
        """The settings of a role and their values."""
        return {name: getattr(self, name) for name in names_of(role)}

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
class Export:
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
class ExportConfig(Config, Export):
    """The settings of the command that exports a ticket."""


@dataclasses.dataclass(frozen=True)
class Prediction:
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


@dataclasses.dataclass(frozen=True)
class PredictConfig(Config, Prediction):
    """The settings of the command that classifies texts with a ticket."""


EXPERIMENTS = ("winning_ticket", "prune_after_training", "post_prune_training")


@dataclasses.dataclass(frozen=True)
class Sweep:
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
class SweepConfig(Config, Sweep):
    """The settings of an experiment, and those of a sweep over it."""


@dataclasses.dataclass(frozen=True)
class Comparison:
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
class CompareConfig(Config, Comparison):
    """The settings of an experiment, and which methods it compares."""


@dataclasses.dataclass(frozen=True)
class Stability:
    """How stable training is to its noise, for connectivity."""

    rewind_points: tuple[str, ...] = _setting(
        ("0", "1%", "5%", "20%", "50%"),
        "Where the copies part: each so many epochs (0.5), or a share of training (5%).",
    )
    line_points: int = _setting(
        11, "Networks on the line between two, ends included.", low=3, high=1000
    )


@dataclasses.dataclass(frozen=True)
class StabilityConfig(Config, Stability):
    """The settings of an experiment, and those of `connectivity`."""


ALIASES = {"score": "criterion"}
"""Other spellings of a setting."""


def settings_of(config: type[Any] = Config) -> Mapping[str, Setting]:
    """Name -> setting, group after group."""
    if config not in _known:
        found = {}
        for group in config.__mro__[1:]:
            if not dataclasses.is_dataclass(group):
                continue
            hints = typing.get_type_hints(group)
            for field in dataclasses.fields(group):
                if field.name in group.__annotations__ and field.metadata:
                    kind, many, optional = _kind(hints[field.name])
                    details = {"high": LARGEST if kind is int else None, **field.metadata}
                    found[field.name] = Setting(
                        field.name, cast(type, group), kind, many, optional, field.default,
                        **details,
                    )  # fmt: skip
        _known[config] = types.MappingProxyType(found)
    return _known[config]


_known: dict[type, Mapping[str, Setting]] = {}


def names_of(role: Role) -> tuple[str, ...]:
    """The names of the settings of a role, those of a sweep included."""
    return tuple(n for n, setting in settings_of(SweepConfig).items() if setting.role == role)


def _kind(hint: Any) -> tuple[type, bool, bool]:
    """`tuple[int, ...] | None` -> (int, True, True)."""
    optional = isinstance(hint, types.UnionType)
    if optional:
        hint = typing.get_args(hint)[0]
    many = typing.get_origin(hint) is tuple
    return (typing.get_args(hint)[0] if many else hint), many, optional
