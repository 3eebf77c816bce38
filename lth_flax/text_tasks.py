"""Text classification as a task: from settings to a stacked bidirectional LSTM and its texts."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from lth_flax.config import Config
from lth_flax.data import account
from lth_flax.data.cleaning import cleaning_of
from lth_flax.data.dataset import Dataset, build_dataset
from lth_flax.data.embeddings import read_vectors_of_all
from lth_flax.data.source import Source
from lth_flax.data.sources import load_source
from lth_flax.data.text import Vocabulary
from lth_flax.errors import UserError
from lth_flax.identity import WORD_VECTORS, file_digest
from lth_flax.ignored import refuse_ignored
from lth_flax.models import knowledge
from lth_flax.models.classifier import BiLSTMClassifier
from lth_flax.models.depth import with_depth
from lth_flax.models.units import units
from lth_flax.pruning.connectivity import is_connected
from lth_flax.pruning.diagnostics import diagnostics
from lth_flax.runs.choices import seed_block
from lth_flax.runs.grid import shapes
from lth_flax.runs.setup import Setup, build
from lth_flax.tasks import Arrays, Examples, ModelInfo, Task
from lth_flax.training.classification import make_loss, make_predict
from lth_flax.types import Array, Params


def prepare_data(
    config: Config,
    source: Source,
    seeds: Sequence[int],
    vocabulary: Vocabulary | Mapping[int, Vocabulary] | None = None,
) -> Dataset:
    """Splits, vocabulary and length buckets from the flags.

    `vocabulary` is that of a ticket, or by seed, in place of one from the training texts.
    """
    if config.readout == "last_position" and config.max_shapes != 1:
        raise UserError(
            f"--readout=last_position with --max_shapes={config.max_shapes}: what it reads depends "
            "on padding, so all texts need one length; expected --max_shapes=1"
        )
    return build_dataset(source, seeds, config, vocabulary=vocabulary)


def text_tasks(
    config: Config, dataset: Dataset, seeds: Sequence[int], *, vocabulary_size: int | None = None
) -> Callable[[int], Task]:
    """Number of layers -> the classifier of the settings. Files are read once for all depths.

    `vocabulary_size` is the number of rows of a ticket's embedding, in place of the dataset's.
    """
    files = files_that_are_read(config)
    vectors = word_vectors(config, dataset, seeds)
    counted = None
    if vectors:
        words, train = dataset.vocabularies[seeds[0]], dataset.members[seeds[0]]["train"]
        counted = account.count_vectors(words, vectors[seeds[0]][1], dataset.buckets, train)

    def start(params: Params, seed: int) -> Params:
        found, has = vectors[seed]
        table = params["embedding"]["embedding"].copy()
        table[: len(has)][has] = found[has]
        return {**params, "embedding": {"embedding": table}}

    def of_depth(num_layers: int) -> Task:
        model = BiLSTMClassifier(
            vocabulary_size=vocabulary_size or dataset.vocabulary_size,
            embedding_size=config.embedding_size,
            hidden_size=config.hidden_size,
            num_layers=num_layers,
            num_classes=len(dataset.class_names) + config.unused_classes,
            dropout=config.dropout,
            embedding_dropout=config.embedding_dropout,
            dropout_between_layers=config.dropout_between_layers,
            readout=config.readout,
        )

        def init(key: Array) -> Params:
            params = model.init(key, jnp.zeros((1, 1), jnp.int32), jnp.ones(1, jnp.int32))["params"]
            return with_depth(with_depth(params, 2), num_layers) if config.share_layers else params

        return Task(
            init,
            make_loss(model),
            make_predict(model),
            metrics=accuracy_metrics,
            model=ModelInfo(
                settings=model.settings,
                words=f"{num_layers}-layer bidirectional LSTM, {model.hidden_size} units per "
                "direction",
                num_classes=model.num_classes,
                is_connected=is_connected,
                units=units,
                gates=knowledge.gates,
                tempered=knowledge.tempered,
                linearized=knowledge.linearized,
                jacobian=partial(knowledge.squared_jacobian, readout=config.readout),
                diagnostics=diagnostics,
                with_depth=with_depth,
            ),
            name="text_classification",
            start=start if vectors else None,
            settings={
                **config.of_role("task"),
                "num_layers": num_layers,
                **({"share_layers": True} if config.share_layers else {}),
                # Which, so that records of two files never count as those of one run.
                "embeddings": files[WORD_VECTORS][:12] if files else False,
            },
            files=files,
            about={"word_vectors": counted},
            sentences=(account.vector_line(counted),) if counted else (),
        )

    return of_depth


def text_setups(
    config: Config,
    dataset: Dataset,
    seeds: Sequence[int],
    *,
    rows: int,
    then_constant: bool = False,
    vocabulary_size: int | None = None,
) -> Iterator[Setup]:
    """One after the other, for every depth and number of epochs.

    Arguments as those of `build` and `text_tasks`.
    """
    examples = text_examples(config, dataset)
    task_of = text_tasks(config, dataset, seeds, vocabulary_size=vocabulary_size)
    for shape in shapes(config):
        yield build(
            config, task_of(shape.num_layers), examples, seeds, epochs=shape.epochs, rows=rows,
            then_constant=then_constant,
        )  # fmt: skip


def text_classification(**settings: Any) -> tuple[Task, Examples]:
    """A text classifier and its texts, for `find_tickets`: what `winning_ticket` trains.

    Args:
      settings: of data and model, and seeds, by the names of their flags:
        `text_classification(dataset="csv", data_file="a.csv", text_column="text",
        label_column="label", hidden_size=32, num_seeds=8)`. Batch size and
        seeds should be those of the search: texts are bucketed, and split, for them.

    Raises:
      UserError: a value is none of its setting, or the data cannot be read.
    """
    config = Config(**settings)
    refuse_ignored(config)
    seeds = seed_block(config)
    dataset = prepare_data(config, load_source(config), seeds)
    task = text_tasks(config, dataset, seeds)(config.one("num_layers"))
    return task, text_examples(config, dataset)


def accuracy_metrics(outputs: Arrays, examples: Arrays) -> dict[str, float]:
    """Accuracy, balanced accuracy (mean recall of the classes present), loss in nats."""
    predicted, labels = outputs["predicted"], examples["labels"]
    counts = np.bincount(labels)
    hits = np.bincount(labels[predicted == labels], minlength=len(counts))
    present = counts > 0
    return {
        "accuracy": int(hits.sum()) / len(labels),
        "balanced_accuracy": float(np.mean(hits[present] / counts[present])),
        "loss": float(np.mean(outputs["loss"], dtype=np.float64)),
    }


def text_examples(config: Config, dataset: Dataset) -> Examples:
    """The texts of a dataset, with what is said of them."""
    seed = next(iter(dataset.members))
    unused = [f"unused_{number}" for number in range(config.unused_classes)]
    sizes = dataset.account["sizes"]
    sentences = [
        f"{dataset.name}: {' + '.join(f'{n:,} {split}' for split, n in sizes.items())} texts, "
        f"{len(dataset.class_names)} classes, {len(dataset.vocabularies[seed]):,} words, "
        f"{len(dataset.edges)} length buckets up to {dataset.edges[-1]} tokens "
        f"({dataset.padding:.0%} padding)"
    ]
    if dataset.num_empty:
        sentences.append(
            f"{dataset.num_empty} texts are empty after cleaning: kept, read as zero length"
        )

    def of_ticket(seed: int) -> Mapping[str, Any]:
        return {
            "vocabulary": list(dataset.vocabularies[seed].words),
            "class_names": [*dataset.class_names, *unused],
            "split_fingerprint": dataset.split_fingerprint(seed),
            "padded_length": dataset.edges[-1],
            "cleaning": cleaning_of(config.dataset),
            "source": config.of_role("source"),
        }

    return Examples(
        buckets=dataset.buckets,
        draw=lambda seed: dataset.members[seed],
        fingerprint=dataset.fingerprint,
        name=dataset.name,
        test_drawn=dataset.test_drawn,
        about={
            "classes": list(dataset.class_names),
            "empty_texts": dataset.num_empty,
            "bucket_edges": list(dataset.edges),
            "padding_share": dataset.padding,
            **dataset.account,
        },
        sentences=(*sentences, *account.lines(dataset.account)),
        warnings=tuple(account.warnings(dataset.account)),
        of_ticket=of_ticket,
    )


def word_vectors(
    config: Config, dataset: Dataset, seeds: Sequence[int]
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Per seed, word vectors from a file and which words have one; nothing without a file."""
    if not config.embeddings_file:
        return {}
    own = [dataset.vocabularies[seed] for seed in seeds]
    read = read_vectors_of_all(config.embeddings_file, own, size=config.embedding_size)
    return dict(zip(seeds, read, strict=True))


def files_that_are_read(config: Config) -> dict[str, str]:
    """Digests of the files that are read besides the data, by what they are.

    Raises:
      UserError: one cannot be read.
    """
    return {WORD_VECTORS: file_digest(config.embeddings_file)} if config.embeddings_file else {}
