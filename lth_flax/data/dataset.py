"""A source, encoded, split and bucketed: everything that training reads, built once."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int

from lth_flax.data.batches import (
    SPLITS,
    Members,
    bucket_of,
    choose_edges,
    padding_share,
    stratified_split,
)
from lth_flax.data.sources import Source
from lth_flax.data.text import TokenizedTexts, Vocabulary, build_vocabulary, encode, intern, pad
from lth_flax.errors import UserError

REFERENCE_SEEDS = range(8)
"""Where each seed has a vocabulary of its own, the largest of these seeds is the size of all."""


@dataclass(frozen=True)
class DatasetOptions:
    """How a source becomes a dataset.

    Shares are of all texts for a source without a test split of its own; with
    one, `validation_share` is of its train split and `test_share` is not used.
    `max_length` keeps that many tokens from the end ("end") or the beginning.
    """

    vocabulary_size: int
    min_count: int
    max_length: int | None
    keep: str
    validation_share: float
    test_share: float
    max_shapes: int
    batch_size: int


@dataclass(frozen=True)
class Dataset:
    """Resident arrays per length bucket, and who reads what.

    buckets: per bucket, tokens [M, edge], lengths [M], labels [M], all int32.
    members: per seed and split, positions in each bucket.
    vocabularies: per seed; one object for all where the source has its own test split.
    vocabulary_size: rows of the embedding table; it does not depend on which seeds are here.
    labels: per seed and split, labels in the order of the members.
    test_drawn: whether every seed draws its own test split.
    """

    name: str
    class_names: tuple[str, ...]
    fingerprint: str
    num_empty: int
    edges: tuple[int, ...]
    padding: float
    buckets: tuple[Mapping[str, np.ndarray], ...]
    members: Mapping[int, Mapping[str, Members]]
    vocabularies: Mapping[int, Vocabulary]
    vocabulary_size: int
    test_drawn: bool

    def labels(self, seed: int, split: str) -> Int[np.ndarray, " examples"]:
        """Labels in the order of the members, bucket after bucket."""
        parts = zip(self.buckets, self.members[seed][split], strict=True)
        return np.concatenate([bucket["labels"][members] for bucket, members in parts])

    def size(self, seed: int, split: str) -> int:
        """The number of examples in a split."""
        return sum(len(members) for members in self.members[seed][split])

    def split_fingerprint(self, seed: int) -> str:
        """Which examples are in which split of this seed: sha256, hex."""
        digest = hashlib.sha256(self.fingerprint.encode())
        # A bucket holds every text once per vocabulary; which copy is read does not count.
        copies = len({id(vocabulary) for vocabulary in self.vocabularies.values()})
        for split in SPLITS:
            for bucket, members in zip(self.buckets, self.members[seed][split], strict=True):
                texts = np.asarray(members, np.int64) % max(len(bucket["labels"]) // copies, 1)
                digest.update(split.encode() + texts.tobytes())
        return digest.hexdigest()


def build_dataset(
    source: Source,
    seeds: Sequence[int],
    options: DatasetOptions,
    *,
    vocabulary: Vocabulary | None = None,
) -> Dataset:
    """Encodes, splits and buckets a source for all seeds.

    Where the source has an official test split, one vocabulary comes from all
    of the rest; otherwise each seed draws its own test split, and its
    vocabulary comes from its own training texts alone. A given `vocabulary`
    (that of a ticket) is used for all: words match by spelling, and what it
    does not have is the unknown word.

    Bits of training depend on the number of rows of the embedding table. So
    that a seed has the same bits in any block of seeds, that number is always
    the size of the largest vocabulary of `REFERENCE_SEEDS`; a seed with more
    words leaves out its rarest.

    Raises:
      UserError: a split would lack one of the classes.
    """
    tokenized = intern(source.texts)
    limit = options.max_length
    lengths = tokenized.lengths if limit is None else np.minimum(tokenized.lengths, limit)
    official = source.official_test
    pool = np.arange(len(lengths)) if official is None else np.flatnonzero(~official)
    edges = choose_edges(
        lengths[pool], max_shapes=options.max_shapes, min_texts=2 * options.batch_size
    )
    # A test text may be longer than all texts of the train split.
    edges = (*edges[:-1], max(edges[-1], int(lengths.max()), 1))
    bucket = bucket_of(lengths, edges)
    splits = {seed: _split(source, pool, bucket, seed, options) for seed in seeds}
    _check_classes(source, splits[seeds[0]], options)

    if vocabulary is not None:
        views = dict.fromkeys(seeds, vocabulary)
        rows = len(vocabulary)
    elif official is not None:
        shared = _vocabulary(tokenized, pool, options)
        views = dict.fromkeys(seeds, shared)
        rows = len(shared)
    else:
        rows = 3  # the fewest that a vocabulary may have
        for seed in REFERENCE_SEEDS:
            parts = splits.get(seed) or _split(source, pool, bucket, seed, options)
            rows = max(rows, len(_vocabulary(tokenized, parts["train"], options)))
            if rows == options.vocabulary_size:  # no seed has more
                break
        cut = replace(options, vocabulary_size=rows)
        views = {seed: _vocabulary(tokenized, splits[seed]["train"], cut) for seed in seeds}
    distinct = list(dict.fromkeys(id(view) for view in views.values()))
    by_id = {id(view): view for view in views.values()}

    members: dict[int, dict[str, list[np.ndarray]]] = {
        seed: {split: [] for split in SPLITS} for seed in seeds
    }
    buckets = []
    encoded = [
        encode(tokenized, by_id[i], np.arange(len(lengths)), max_length=limit, keep=options.keep)
        for i in distinct
    ]
    for number, edge in enumerate(edges):
        texts = np.flatnonzero(bucket == number)
        buckets.append(
            {
                "tokens": np.concatenate([pad(view, texts, edge) for view in encoded]),
                "lengths": np.tile(lengths[texts].astype(np.int32), len(distinct)),
                "labels": np.tile(source.labels[texts].astype(np.int32), len(distinct)),
            }
        )
        for seed in seeds:
            start = distinct.index(id(views[seed])) * len(texts)
            for split in SPLITS:
                inside = np.isin(texts, splits[seed][split], assume_unique=True)
                members[seed][split].append((start + np.flatnonzero(inside)).astype(np.int32))
    return Dataset(
        name=source.name,
        class_names=source.class_names,
        fingerprint=source.fingerprint,
        num_empty=source.num_empty,
        edges=edges,
        padding=padding_share(lengths, edges),
        buckets=tuple(buckets),
        members={
            seed: {split: tuple(parts) for split, parts in by_split.items()}
            for seed, by_split in members.items()
        },
        vocabularies=views,
        vocabulary_size=rows,
        test_drawn=official is None,
    )


def _split(
    source: Source, pool: np.ndarray, bucket: np.ndarray, seed: int, options: DatasetOptions
) -> dict[str, np.ndarray]:
    strata = bucket[pool].astype(np.int64) * len(source.class_names) + source.labels[pool]
    sizes = {"validation": options.validation_share}
    if source.official_test is None:
        sizes["test"] = options.test_share
    parts = {part: pool[rows] for part, rows in stratified_split(strata, sizes, seed=seed).items()}
    if source.official_test is not None:
        parts["test"] = np.flatnonzero(source.official_test)
    return parts


def _vocabulary(tokenized: TokenizedTexts, rows: np.ndarray, options: DatasetOptions) -> Vocabulary:
    return build_vocabulary(
        tokenized, rows, size=options.vocabulary_size, min_count=options.min_count
    )


def _check_classes(
    source: Source, parts: Mapping[str, np.ndarray], options: DatasetOptions
) -> None:
    for split in SPLITS:
        present = np.unique(source.labels[parts[split]])
        if len(present) < len(source.class_names):
            missing = [n for k, n in enumerate(source.class_names) if k not in present]
            raise UserError(
                f"the {split} split of {source.name} would have no text of class "
                f"{', '.join(missing)}: it has {len(source.texts)} texts in all; give more data, "
                "or a larger --validation_share or --test_share"
            )
