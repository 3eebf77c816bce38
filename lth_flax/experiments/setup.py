"""From flags to everything an experiment needs: data, model, trainer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np

from lth_flax.data.account import count_vectors
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
from lth_flax.training.optimizers import make_optimizer, make_schedule
from lth_flax.training.programs import Workload
from lth_flax.training.steps import Task
from lth_flax.types import Mask, Params

SETTING_FLAGS = (
    "matmul_precision",
    "tokenizer",
    "duplicates",
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

SOURCE_FLAGS = (
    *TFDS_FLAGS,
    "separator",
    "encoding",
    "text_column",
    "label_column",
    "synthetic_size",
)
"""Flags that say which texts of a dataset are read, but not where on this machine it is."""

CSV_DATASETS = ("financial_tweets", "csv")
"""Datasets that are read from tables."""

CALL_FLOPS = 6e9
"""Work of one call and row: well under two seconds on one core."""

MOST_STEPS_PER_CALL = 64


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
        return full_mask(params, PRUNABLE[FLAGS.prunable])


def load() -> Source:
    """The source that the flags name.

    Raises:
      UserError: a flag is given that this dataset does not read, or it cannot be read.
    """
    of_files = FLAGS.dataset in CSV_DATASETS
    of_tfds = not of_files and FLAGS.dataset != "synthetic"
    for names, read, wanted in (
        (CSV_FLAGS, of_files, " or ".join(f"--dataset={name}" for name in CSV_DATASETS)),
        (TFDS_FLAGS, of_tfds, "a TFDS set as --dataset"),
    ):
        for name in names:
            if not read and FLAGS[name].value != FLAGS[name].default:
                raise UserError(
                    f"--{name}={FLAGS[name].value} is not read by --dataset={FLAGS.dataset}: "
                    f"expected {wanted}; give one, or leave --{name} out"
                )
    return load_source(
        FLAGS.dataset,
        SourceOptions(
            data_file=FLAGS.data_file,
            validation_file=FLAGS.validation_file,
            test_file=FLAGS.test_file,
            separator=FLAGS.separator,
            encoding=FLAGS.encoding,
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
    drawn = source.official_test is None and source.official_validation is None
    if drawn and FLAGS.validation_share + FLAGS.test_share >= 1:
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
            tokenizer=FLAGS.tokenizer,
            duplicates=FLAGS.duplicates,
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
    workload = make_workload(dataset, model, seeds, shape.epochs)
    steps = workload.epochs * batch_count(workload.members[seeds[0]]["train"], FLAGS.batch_size)
    task = Task(
        loss_fn=make_loss(model),
        predict_fn=make_predict(model),
        optimizer=make_optimizer(
            FLAGS.optimizer,
            weight_decay=FLAGS.weight_decay,
            momentum=FLAGS.momentum,
            clip_norm=FLAGS.clip_norm or None,
            frozen=(lambda path: "embedding" in path) if FLAGS.freeze_embeddings else None,
        ),
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


def make_workload(
    dataset: Dataset, model: BiLSTMClassifier, seeds: Sequence[int], epochs: int
) -> Workload:
    """Batches per call from the model's work per position."""
    hidden = model.hidden_size
    features = model.embedding_size + 2 * hidden * (model.num_layers - 1)
    weights = 2 * 4 * hidden * (features + hidden * model.num_layers)
    per_bucket = [
        [len(dataset.members[seeds[0]][split][bucket]) for split in ("validation", "test")]
        for bucket in range(len(dataset.edges))
    ]
    eval_batches = tuple(
        evaluation_batch_size(counts, most=4 * FLAGS.batch_size) for counts in per_bucket
    )

    def calls(batches: Sequence[int], flops: int, splits: Sequence[str]) -> tuple[int, ...]:
        result = []
        for bucket, (edge, batch) in enumerate(zip(dataset.edges, batches, strict=True)):
            steps = round(CALL_FLOPS / (flops * weights * batch * edge))
            most = max(
                -(-len(dataset.members[seed][split][bucket]) // batch)
                for seed in seeds
                for split in splits
            )
            result.append(max(1, min(steps, MOST_STEPS_PER_CALL, most)))
        return tuple(result)

    train_batches = [FLAGS.batch_size] * len(dataset.edges)
    return Workload(
        buckets=dataset.buckets,
        members=dataset.members,
        epochs=epochs,
        batch_size=FLAGS.batch_size,
        eval_batch_sizes=eval_batches,
        train_steps_per_call=calls(train_batches, 6, ["train"]),
        eval_steps_per_call=calls(eval_batches, 2, ["validation", "test"]),
    )
