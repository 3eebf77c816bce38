"""From flags to everything an experiment needs: data, model, trainer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np

from lth_flax.config import Config, settings_of
from lth_flax.data.account import count_vectors
from lth_flax.data.batches import batch_count, evaluation_batch_size
from lth_flax.data.dataset import Dataset, DatasetOptions, build_dataset
from lth_flax.data.embeddings import read_vectors
from lth_flax.data.sources import Source, SourceOptions, load_source
from lth_flax.data.text import Vocabulary
from lth_flax.errors import UserError
from lth_flax.experiments.arms import Seed
from lth_flax.experiments.devices import make_engine
from lth_flax.experiments.grid import Shape
from lth_flax.identity import WORD_VECTORS, file_digest
from lth_flax.models.classifier import BiLSTMClassifier
from lth_flax.numerics import pinned
from lth_flax.pruning.masks import PRUNABLE, full_mask
from lth_flax.randomness import key
from lth_flax.training.classification import make_loss, make_predict
from lth_flax.training.loop import Trainer
from lth_flax.training.optimizers import (
    Optimizer,
    make_optimizer,
    make_schedule,
    weight_decay_of,
)
from lth_flax.training.programs import Workload
from lth_flax.training.steps import Task
from lth_flax.types import Mask, Params

CSV_FLAGS = (
    "data_file",
    "validation_file",
    "test_file",
    "separator",
    "encoding",
    "text_column",
    "label_column",
)
TFDS_FLAGS = ("text_key", "label_key")

CSV_DATASETS = ("financial_tweets", "csv")
"""Datasets that are read from tables."""


@dataclass(frozen=True)
class Initializer:
    """Draws networks: theta_0 of a seed, or its `draw`-th reinitialization, as host arrays.

    vectors: per seed, word vectors from a file and which words have one.
    """

    model: BiLSTMClassifier
    vectors: Mapping[int, tuple[np.ndarray, np.ndarray]]

    @cached_property
    def _init(self) -> Callable[[jax.Array], Params]:
        def init(init_key: jax.Array) -> Params:
            tokens = np.zeros((1, 1), np.int32)
            return self.model.init(init_key, tokens, np.ones(1, np.int32))["params"]

        # On the CPU: orthogonal initialization is a decomposition, which Metal lacks,
        # and a seed means the same network on every backend.
        return jax.jit(init, device=jax.devices("cpu")[0])

    @pinned()
    def __call__(self, seed: int, draw: int | None = None) -> Params:
        if draw is None:
            init_key = key(seed, "initialization")
        else:
            init_key = key(seed, "reinitialization", draw)
        params = jax.tree_util.tree_map(np.array, self._init(init_key))
        if seed in self.vectors:
            vectors, found = self.vectors[seed]
            params["embedding"]["embedding"][: len(found)][found] = vectors[found]
        return params


@dataclass(frozen=True)
class Setup:
    """What an experiment works with; `files` are digests of what was read besides the data."""

    config: Config
    dataset: Dataset
    seeds: tuple[int, ...]
    model: BiLSTMClassifier
    trainer: Trainer
    settings: Mapping[str, Any]
    initialize: Initializer
    files: Mapping[str, str]

    @cached_property
    def word_vectors(self) -> dict[str, Any] | None:
        """How many words of the first seed have a vector from the file, if there is one."""
        seed = self.seeds[0]
        if seed not in self.initialize.vectors:
            return None
        _, found = self.initialize.vectors[seed]
        data = self.dataset
        train = data.members[seed]["train"]
        return count_vectors(data.vocabularies[seed], found, data.buckets, train)

    @property
    def steps_per_replicate(self) -> int:
        """Training steps of one replicate."""
        work = self.trainer.workload
        train = work.members[self.seeds[0]]["train"]
        return work.epochs * batch_count(train, work.batch_size)

    def seed(self, seed: int) -> Seed:
        """What the arms of a seed share."""
        return Seed(seed, self.initialize(seed), lambda draw: self.initialize(seed, draw))

    def full_mask(self, params: Params) -> Mask:
        """The mask of the dense network, of what `--prunable` names."""
        return full_mask(params, PRUNABLE[self.config.prunable])


def chosen_optimizer(config: Config) -> Optimizer:
    """The optimizer of the settings.

    Raises:
      UserError: it does not have one of the settings that were given.
    """
    default = settings_of()["momentum"].default
    given = config.optimizer == "sgd" or config.momentum != default
    try:
        return make_optimizer(
            config.optimizer,
            weight_decay=config.weight_decay,
            momentum=config.momentum if given else None,
            clip_norm=config.clip_norm or None,
            frozen=(lambda path: "embedding" in path) if config.freeze_embeddings else None,
        )
    except ValueError as error:
        raise UserError(f"{error}; see --optimizer, --weight_decay and --momentum") from None


def load(config: Config) -> Source:
    """The source that the flags name.

    Raises:
      UserError: a flag is given that this dataset does not read, it cannot be read, or the
        settings of training do not go together.
    """
    chosen_optimizer(config)  # what is wrong there is said before anything is read
    of_files = config.dataset in CSV_DATASETS
    of_tfds = not of_files and config.dataset != "synthetic"
    for names, read, wanted in (
        (CSV_FLAGS, of_files, " or ".join(f"--dataset={name}" for name in CSV_DATASETS)),
        (TFDS_FLAGS, of_tfds, "a TFDS set as --dataset"),
    ):
        for name in names:
            value = getattr(config, name)
            if not read and value != settings_of()[name].default:
                raise UserError(
                    f"--{name}={value} is not read by --dataset={config.dataset}: "
                    f"expected {wanted}; give one, or leave --{name} out"
                )
    return load_source(
        config.dataset,
        SourceOptions(
            data_file=config.data_file,
            validation_file=config.validation_file,
            test_file=config.test_file,
            separator=config.separator,
            encoding=config.encoding,
            data_dir=config.data_dir,
            text_key=config.text_key,
            label_key=config.label_key,
            text_column=config.text_column,
            label_column=config.label_column,
            synthetic_size=config.synthetic_size,
        ),
    )


def prepare_data(
    config: Config, source: Source, seeds: Sequence[int], vocabulary: Vocabulary | None = None
) -> Dataset:
    """Splits, vocabulary and length buckets from the flags.

    `vocabulary` is that of a ticket, in place of one from the training texts.
    """
    drawn = source.official_test is None and source.official_validation is None
    if drawn and config.validation_share + config.test_share >= 1:
        raise UserError(
            f"--validation_share={config.validation_share} and --test_share={config.test_share} "
            "leave nothing to train on: expected a sum below 1"
        )
    if config.readout == "last_position" and config.max_shapes != 1:
        raise UserError(
            f"--readout=last_position with --max_shapes={config.max_shapes}: what it reads depends "
            "on padding, so all texts need one length; expected --max_shapes=1"
        )
    return build_dataset(
        source,
        seeds,
        DatasetOptions(
            vocabulary_size=config.vocabulary_size,
            min_count=config.min_count,
            max_length=config.max_length or None,
            keep=config.keep,
            validation_share=config.validation_share,
            test_share=config.test_share,
            max_shapes=config.max_shapes,
            batch_size=config.batch_size,
            tokenizer=config.tokenizer,
            duplicates=config.duplicates,
        ),
        vocabulary=vocabulary,
    )


def build(
    config: Config,
    dataset: Dataset,
    seeds: Sequence[int],
    shape: Shape,
    *,
    rows: int,
    vocabulary_size: int | None = None,
    then_constant: bool = False,
) -> Setup:
    """Model and trainer of one shape from the flags.

    Args:
      rows: of the largest table.
      vocabulary_size: rows of a ticket's embedding, in place of the dataset's.
      then_constant: whether the learning rate is constant after the last epoch.
    """
    model = BiLSTMClassifier(
        vocabulary_size=vocabulary_size or dataset.vocabulary_size,
        embedding_size=config.embedding_size,
        hidden_size=config.hidden_size,
        num_layers=shape.num_layers,
        num_classes=len(dataset.class_names) + config.unused_classes,
        dropout=config.dropout,
        embedding_dropout=config.embedding_dropout,
        dropout_between_layers=config.dropout_between_layers,
        readout=config.readout,
    )
    workload = make_workload(config, dataset, seeds, shape.epochs)
    steps = workload.epochs * batch_count(workload.members[seeds[0]]["train"], config.batch_size)
    task = Task(
        loss_fn=make_loss(model),
        predict_fn=make_predict(model),
        optimizer=chosen_optimizer(config),
        schedule=make_schedule(
            config.lr_schedule,
            total_steps=steps,
            warmup_steps=round(config.warmup * steps),
            then_constant=then_constant,
        ),
    )
    files = files_that_are_read(config)
    vectors = {}
    if config.embeddings_file:
        read = {}
        for seed in seeds:
            words = dataset.vocabularies[seed]
            if id(words) not in read:
                read[id(words)] = read_vectors(
                    config.embeddings_file, words, size=config.embedding_size
                )
            vectors[seed] = read[id(words)]
    settings = {**config.of_role("training"), **shape._asdict()}
    settings["weight_decay"] = weight_decay_of(config.optimizer, config.weight_decay)
    # Which, so that records of two files never count as those of one run.
    settings["embeddings"] = files[WORD_VECTORS][:12] if files else False
    initializer = Initializer(model, vectors)
    engine = make_engine(config, rows, task, workload, lambda: initializer(seeds[0]))
    return Setup(
        config=config,
        dataset=dataset,
        seeds=tuple(seeds),
        model=model,
        trainer=Trainer(engine, task, workload),
        settings=settings,
        initialize=initializer,
        files=files,
    )


def files_that_are_read(config: Config) -> dict[str, str]:
    """Digests of the files that are read besides the data, by what they are.

    Raises:
      UserError: one cannot be read.
    """
    return {WORD_VECTORS: file_digest(config.embeddings_file)} if config.embeddings_file else {}


def make_workload(config: Config, dataset: Dataset, seeds: Sequence[int], epochs: int) -> Workload:
    """Who sees which examples; nothing here depends on the model."""
    per_bucket = [
        [len(dataset.members[seeds[0]][split][bucket]) for split in ("validation", "test")]
        for bucket in range(len(dataset.edges))
    ]
    return Workload(
        buckets=dataset.buckets,
        members=dataset.members,
        epochs=epochs,
        batch_size=config.batch_size,
        eval_batch_sizes=tuple(
            evaluation_batch_size(counts, most=4 * config.batch_size) for counts in per_bucket
        ),
    )
