"""A source, encoded, split and bucketed: everything that training reads, built once."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Int

from lth_flax.data.account import (
    Account,
    copies_across,
    count_classes,
    count_copies,
    count_lengths,
    count_unknown,
)
from lth_flax.data.batches import (
    SPLITS,
    Members,
    bucket_of,
    choose_edges,
    padding_share,
    stratified_split,
)
from lth_flax.data.duplicates import (
    RULES,
    Units,
    first_copies,
    grouped_units,
    left_out,
    single_units,
)
from lth_flax.data.source import Source
from lth_flax.data.split_classes import check_classes
from lth_flax.data.text import TokenizedTexts, Vocabulary, build_vocabulary, encode, intern, pad
from lth_flax.errors import UserError

REFERENCE_SEEDS = range(8)
"""Where each seed has a vocabulary of its own, the largest of these seeds is the size of all."""


@dataclass(frozen=True)
class DatasetOptions:
    """How a source becomes a dataset.

    Shares are of the texts that no official split has; the share of a split that the
    source has itself is not used.
    `max_length` keeps that many tokens from the end ("end") or the beginning.
    `tokenizer` is one of `TOKENIZERS`. `duplicates`, one of `RULES`, is what happens
    to texts with the same tokens.
    """

    vocabulary_size: int
    min_count: int
    max_length: int | None
    keep: str
    validation_share: float
    test_share: float
    max_shapes: int
    batch_size: int
    tokenizer: str = "words"
    duplicates: str = "keep"


@dataclass(frozen=True)
class Dataset:
    """Resident arrays per length bucket, and who reads what.

    buckets: per bucket, tokens [M, edge], lengths [M], labels [M], all int32.
    members: per seed and split, positions in each bucket.
    vocabularies: per seed; one object for all where the source has its own test split.
    vocabulary_size: rows of the embedding table; it does not depend on which seeds are here.
    account: what there is of classes, copies and unknown words, in splits of the first seed.
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
    account: Account
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
    texts that no official split has; otherwise each seed draws its own test
    split, and its vocabulary comes from its own training texts alone. A given
    `vocabulary` (that of a ticket) is used for all: words match by spelling, and
    what it does not have is the unknown word.

    Bits of training depend on the number of rows of the embedding table. So
    that a seed has the same bits in any block of seeds, that number is always
    the size of the largest vocabulary of `REFERENCE_SEEDS`; a seed with more
    words leaves out its rarest.

    Raises:
      UserError: a split would lack one of the classes, or an option is none.
    """
    source, tokenized, copies, counted = _with_rule(source, options)
    limit = options.max_length
    lengths = tokenized.lengths if limit is None else np.minimum(tokenized.lengths, limit)
    official = source.official_test
    held_out = np.zeros(len(lengths), bool)
    for given in (official, source.official_validation):
        if given is not None:
            held_out |= given
    pool = np.flatnonzero(~held_out)
    if not len(pool):
        raise UserError(
            f"{source.name} has no text to train on that is in no other split: give more texts, "
            "or --duplicates=keep"
        )
    edges = choose_edges(
        lengths[pool], max_shapes=options.max_shapes, min_texts=2 * options.batch_size
    )
    # A test text may be longer than all texts of the train split.
    edges = (*edges[:-1], max(edges[-1], int(lengths.max()), 1))
    bucket = bucket_of(lengths, edges)
    if options.duplicates == "group":
        units = grouped_units(copies[pool], source.labels[pool], bucket[pool])
    else:
        units = single_units(source.labels[pool], bucket[pool], num_classes=len(source.class_names))
    splits = {seed: _split(source, pool, units, seed, options) for seed in seeds}
    check_classes(
        source,
        splits[seeds[0]],
        {"validation": options.validation_share, "test": options.test_share},
    )

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
            parts = splits.get(seed) or _split(source, pool, units, seed, options)
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
    final = {
        seed: {split: tuple(parts) for split, parts in by_split.items()}
        for seed, by_split in members.items()
    }
    return Dataset(
        name=source.name,
        class_names=source.class_names,
        fingerprint=source.fingerprint,
        num_empty=source.num_empty,
        edges=edges,
        padding=padding_share(lengths, edges),
        buckets=tuple(buckets),
        members=final,
        vocabularies=views,
        vocabulary_size=rows,
        test_drawn=source.official_test is None,
        account={
            "tokenizer": options.tokenizer,
            "sizes": {split: len(splits[seeds[0]][split]) for split in SPLITS},
            **count_classes(source),
            **count_unknown(buckets, final[seeds[0]], rows),
            **count_lengths(lengths),
            "duplicates": {**counted, "across_splits": copies_across(copies, splits[seeds[0]])},
            "notes": list(source.notes),
        },
    )


def _with_rule(
    source: Source, options: DatasetOptions
) -> tuple[Source, TokenizedTexts, np.ndarray, dict[str, Any]]:
    """What the rule for duplicates leaves: texts, their tokens, first copies, and the counts."""
    if options.duplicates not in RULES:
        raise UserError(f"duplicates is {options.duplicates!r}: expected {', '.join(RULES)}")
    tokenized = intern(source.texts, options.tokenizer)
    copies = first_copies(tokenized)
    out = left_out(
        copies, source.official_validation, source.official_test, rule=options.duplicates
    )
    counted = {
        "rule": options.duplicates,
        **count_copies(copies, source.labels),
        "left_out": int(out.sum()),
    }
    if not out.any():
        return source, tokenized, copies, counted
    rest = np.flatnonzero(~out)
    tokenized = tokenized.take(rest)
    return _without_some(source, rest), tokenized, first_copies(tokenized), counted


def _without_some(source: Source, rows: np.ndarray) -> Source:
    """The source with some of its texts; the fingerprint stays that of all."""

    def taken(official: np.ndarray | None) -> np.ndarray | None:
        return None if official is None else official[rows]

    return replace(
        source,
        texts=tuple(source.texts[row] for row in rows),
        labels=source.labels[rows],
        official_test=taken(source.official_test),
        official_validation=taken(source.official_validation),
    )


def _split(
    source: Source, pool: np.ndarray, units: Units, seed: int, options: DatasetOptions
) -> dict[str, np.ndarray]:
    sizes = {}
    if source.official_validation is None:
        sizes["validation"] = options.validation_share
    if source.official_test is None:
        sizes["test"] = options.test_share
    parts = {}
    for part, drawn in stratified_split(units.strata, sizes, seed=seed).items():
        chosen = np.zeros(len(units.strata), bool)
        chosen[drawn] = True
        parts[part] = pool[chosen[units.of_text]]
    if source.official_validation is not None:
        parts["validation"] = np.flatnonzero(source.official_validation)
    if source.official_test is not None:
        parts["test"] = np.flatnonzero(source.official_test)
    return parts


def _vocabulary(tokenized: TokenizedTexts, rows: np.ndarray, options: DatasetOptions) -> Vocabulary:
    return build_vocabulary(
        tokenized, rows, size=options.vocabulary_size, min_count=options.min_count
    )
