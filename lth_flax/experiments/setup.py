"""From flags to everything an experiment needs: data, model, trainer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np

from lth_flax.data.batches import batch_count, evaluation_batch_size
from lth_flax.data.dataset import Dataset, DatasetOptions, build_dataset
from lth_flax.data.embeddings import read_vectors
from lth_flax.data.sources import Source, SourceOptions, load_source
from lth_flax.data.text import Vocabulary
from lth_flax.errors import UserError
from lth_flax.experiments.arms import Seed
from lth_flax.experiments.devices import make_engine
from lth_flax.experiments.flags import FLAGS
from lth_flax.experiments.grid import Shape
from lth_flax.models.classifier import BiLSTMClassifier
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

SETTING_FLAGS = (
    "matmul_precision",
    "vocabulary_size",
    "min_count",
    "max_length",
    "keep",
    "validation_share",
    "test_share",
    "max_shapes",
    "embedding_size",
    "hidden_size",
    "num_layers",
    "dropout",
    "dropout_between_layers",
    "embedding_dropout",
    "readout",
    "unused_classes",
    "prunable",
    "freeze_embeddings",
    "epochs",
    "batch_size",
    "optimizer",
    "learning_rate",
    "lr_schedule",
    "warmup",
    "weight_decay",
    "momentum",
    "clip_norm",
)

SOURCE_FLAGS = ("text_key", "label_key", "text_column", "label_column", "synthetic_size")
"""Flags that say which texts of a dataset are read, but not where on this machine it is."""

CSV_DATASETS = ("financial_tweets", "csv")
"""Datasets that `--data_file` names a file for."""


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
    """What an experiment works with."""

    dataset: Dataset
    seeds: tuple[int, ...]
    model: BiLSTMClassifier
    trainer: Trainer
    settings: Mapping[str, Any]
    initialize: Initializer

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
        return full_mask(params, PRUNABLE[FLAGS.prunable])


def chosen_optimizer() -> Optimizer:
    """The optimizer of the flags.

    Raises:
      UserError: it does not have one of the settings that were given.
    """
    momentum = FLAGS["momentum"]
    given = FLAGS.optimizer == "sgd" or (momentum.present and momentum.value != momentum.default)
    try:
        return make_optimizer(
            FLAGS.optimizer,
            weight_decay=FLAGS.weight_decay,
            momentum=FLAGS.momentum if given else None,
            clip_norm=FLAGS.clip_norm or None,
            frozen=(lambda path: "embedding" in path) if FLAGS.freeze_embeddings else None,
        )
    except ValueError as error:
        raise UserError(f"{error}; see --optimizer, --weight_decay and --momentum") from None


def load() -> Source:
    """The source that the flags name.

    Raises:
      UserError: a file is given to a dataset that reads none, it cannot be read, or the flags
        of training do not go together.
    """
    chosen_optimizer()  # what is wrong there is said before anything is read
    if FLAGS.data_file and FLAGS.dataset not in CSV_DATASETS:
        raise UserError(
            f"--data_file={FLAGS.data_file} is not read by --dataset={FLAGS.dataset}: expected "
            f"--dataset={' or --dataset='.join(CSV_DATASETS)}; give one, or leave the file out"
        )
    return load_source(
        FLAGS.dataset,
        SourceOptions(
            data_file=FLAGS.data_file,
            data_dir=FLAGS.data_dir,
            text_key=FLAGS.text_key,
            label_key=FLAGS.label_key,
            text_column=FLAGS.text_column,
            label_column=FLAGS.label_column,
            synthetic_size=FLAGS.synthetic_size,
        ),
    )


def prepare_data(
    source: Source, seeds: Sequence[int], vocabulary: Vocabulary | None = None
) -> Dataset:
    """Splits, vocabulary and length buckets from the flags.

    `vocabulary` is that of a ticket, in place of one from the training texts.
    """
    if FLAGS.validation_share + FLAGS.test_share >= 1 and source.official_test is None:
        raise UserError(
            f"--validation_share={FLAGS.validation_share} and --test_share={FLAGS.test_share} "
            "leave nothing to train on: expected a sum below 1"
        )
    if FLAGS.readout == "last_position" and FLAGS.max_shapes != 1:
        raise UserError(
            f"--readout=last_position with --max_shapes={FLAGS.max_shapes}: what it reads depends "
            "on padding, so all texts need one length; expected --max_shapes=1"
        )
    return build_dataset(
        source,
        seeds,
        DatasetOptions(
            vocabulary_size=FLAGS.vocabulary_size,
            min_count=FLAGS.min_count,
            max_length=FLAGS.max_length or None,
            keep=FLAGS.keep,
            validation_share=FLAGS.validation_share,
            test_share=FLAGS.test_share,
            max_shapes=FLAGS.max_shapes,
            batch_size=FLAGS.batch_size,
        ),
        vocabulary=vocabulary,
    )


def build(
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
        embedding_size=FLAGS.embedding_size,
        hidden_size=FLAGS.hidden_size,
        num_layers=shape.num_layers,
        num_classes=len(dataset.class_names) + FLAGS.unused_classes,
        dropout=FLAGS.dropout,
        embedding_dropout=FLAGS.embedding_dropout,
        dropout_between_layers=FLAGS.dropout_between_layers,
        readout=FLAGS.readout,
    )
    workload = make_workload(dataset, seeds, shape.epochs)
    steps = workload.epochs * batch_count(workload.members[seeds[0]]["train"], FLAGS.batch_size)
    task = Task(
        loss_fn=make_loss(model),
        predict_fn=make_predict(model),
        optimizer=chosen_optimizer(),
        schedule=make_schedule(
            FLAGS.lr_schedule,
            total_steps=steps,
            warmup_steps=round(FLAGS.warmup * steps),
            then_constant=then_constant,
        ),
    )
    vectors = {}
    if FLAGS.embeddings_file:
        read = {}
        for seed in seeds:
            words = dataset.vocabularies[seed]
            if id(words) not in read:
                read[id(words)] = read_vectors(
                    FLAGS.embeddings_file, words, size=FLAGS.embedding_size
                )
            vectors[seed] = read[id(words)]
    settings = {name: getattr(FLAGS, name) for name in SETTING_FLAGS}
    settings |= shape._asdict()
    settings["weight_decay"] = weight_decay_of(FLAGS.optimizer, FLAGS.weight_decay)
    settings["embeddings"] = bool(FLAGS.embeddings_file)
    initializer = Initializer(model, vectors)
    engine = make_engine(rows, task, workload, lambda: initializer(seeds[0]))
    return Setup(
        dataset=dataset,
        seeds=tuple(seeds),
        model=model,
        trainer=Trainer(engine, task, workload),
        settings=settings,
        initialize=initializer,
    )


def make_workload(dataset: Dataset, seeds: Sequence[int], epochs: int) -> Workload:
    """Who sees which examples; nothing here depends on the model."""
    per_bucket = [
        [len(dataset.members[seeds[0]][split][bucket]) for split in ("validation", "test")]
        for bucket in range(len(dataset.edges))
    ]
    return Workload(
        buckets=dataset.buckets,
        members=dataset.members,
        epochs=epochs,
        batch_size=FLAGS.batch_size,
        eval_batch_sizes=tuple(
            evaluation_batch_size(counts, most=4 * FLAGS.batch_size) for counts in per_bucket
        ),
    )
