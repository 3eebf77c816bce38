"""A source, encoded, split and bucketed: everything that training reads, built once."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Int

from lth_flax.config import Config, settings_of
from lth_flax.data import account, batches, text
from lth_flax.data.account import Account
from lth_flax.data.batches import SPLITS, Members
from lth_flax.data.duplicates import first_copies, grouped_units, left_out
from lth_flax.data.source import Source, drawn_shares
from lth_flax.data.split_classes import check_classes
from lth_flax.data.text import TokenizedTexts, Vocabulary
from lth_flax.data.views import Views
from lth_flax.errors import UserError
from lth_flax.settings import LARGEST

REFERENCE_SEEDS = range(8)
"""Where each seed has a vocabulary of its own, the largest of these seeds is the size of all."""


@dataclass(frozen=True)
class Dataset:
    """Resident arrays per length bucket, and who reads what.

    buckets: per bucket, tokens [M, edge], lengths [M], labels [M], all int32; `Views` where
      seeds have vocabularies of their own.
    members: per seed and split, positions in each bucket.
    vocabularies: per seed; one object for all where the source has its own test split.
    vocabulary_size: rows of the embedding table; it does not depend on which seeds are here.
    account: what there is of classes, copies and unknown words, in splits of the first seed.
    test_drawn: whether every seed draws its own test split.
    """

    name: str
    class_names: tuple[str, ...]
    fingerprint: str
    num_empty: int
    edges: tuple[int, ...]
    padding: float
    buckets: tuple[Mapping[str, Any], ...]
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
    config: Config,
    *,
    vocabulary: Vocabulary | Mapping[int, Vocabulary] | None = None,
) -> Dataset:
    """Encodes, splits and buckets a source for all seeds.

    Where the source has an official test split, one vocabulary comes from all
    texts that no official split has; otherwise each seed draws its own test
    split, and its vocabulary comes from its own training texts alone. A given
    `vocabulary` (that of a ticket, or by seed) is used instead: words match by spelling, and
    what it does not have is the unknown word.

    Bits of training depend on the number of rows of the embedding table. So
    that a seed has the same bits in any block of seeds, that number is always
    the size of the largest vocabulary of `REFERENCE_SEEDS`; a seed with more
    words leaves out its rarest.

    Raises:
      UserError: a split would lack one of the classes, or have nothing.
    """
    for part in source.official:
        name = f"{part}_share"
        if name in config.given and getattr(config, name) != settings_of()[name].default:
            raise UserError(
                f"--{name}={config.text(name)} means nothing here: {source.name} has a {part} "
                "split of its own; leave it out"
            )
    shares = drawn_shares(config, source.official)
    source, tokenized, copies, counted = _with_rule(source, config)
    lengths = np.minimum(tokenized.lengths, config.max_length or LARGEST)
    pool = source.pool
    if not len(pool):
        raise UserError(
            f"{source.name} has no text to train on that is in no other split: give more texts, "
            "or --duplicates=keep"
        )
    edges = batches.choose_edges(
        lengths[pool], max_shapes=config.max_shapes, min_texts=2 * config.batch_size
    )
    # A test text may be longer than all texts of the train split.
    edges = (*edges[:-1], max(edges[-1], int(lengths.max()), 1))
    bucket = batches.bucket_of(lengths, edges)
    # What is drawn as a whole: a text, or all copies of it. Of a stratum every split has its share.
    unit, strata = np.arange(len(pool)), bucket.astype(np.int64) * len(source.class_names)
    strata = (strata + source.labels)[pool]
    if config.duplicates == "group":
        unit, strata = grouped_units(copies[pool], source.labels[pool], bucket[pool])

    def split(seed: int) -> dict[str, np.ndarray]:
        drawn = batches.stratified_split(strata, shares, seed=seed)
        parts = {part: pool[np.isin(unit, rows)] for part, rows in drawn.items()}
        return parts | {part: np.flatnonzero(own) for part, own in source.official.items()}

    def words(rows: np.ndarray, size: int = config.vocabulary_size) -> Vocabulary:
        return text.build_vocabulary(tokenized, rows, size=size, min_count=config.min_count)

    splits = {seed: split(seed) for seed in seeds}
    first = splits[seeds[0]]
    check_classes(source, first, shares)
    if isinstance(vocabulary, Mapping):
        views, size = {seed: vocabulary[seed] for seed in seeds}, max(map(len, vocabulary.values()))
    elif vocabulary is not None or "test" in source.official:
        shared = vocabulary or words(pool)
        views, size = dict.fromkeys(seeds, shared), len(shared)
    else:
        size = 3  # the fewest that a vocabulary may have
        for seed in REFERENCE_SEEDS:
            if size < config.vocabulary_size:  # else no seed has more
                size = max(size, len(words((splits.get(seed) or split(seed))["train"])))
        views = {seed: words(splits[seed]["train"], size) for seed in seeds}

    # A bucket has its texts once for every vocabulary, and holds them once.
    distinct = {id(view): view for view in views.values()}
    version = {view: number for number, view in enumerate(distinct)}
    if len(distinct) == 1:
        ids, table = text.ids_of(tokenized, views[seeds[0]]), None
    else:
        ids, table = text.common_ids(tokenized, list(distinct.values()))
    in_buckets = [np.flatnonzero(bucket == number) for number in range(len(edges))]
    buckets = []
    for texts, edge in zip(in_buckets, edges, strict=True):
        arrays = {
            "tokens": text.padded(tokenized, ids, texts, length=edge, keep=config.keep),
            "lengths": lengths[texts].astype(np.int32),
            "labels": source.labels[texts],
        }
        if table is not None:
            tables = {"tokens": table}
            arrays = {n: Views(a, len(distinct), tables.get(n)) for n, a in arrays.items()}
        buckets.append(arrays)

    def members_of(seed: int, part: str) -> Members:
        inside = np.zeros(len(lengths), bool)
        inside[splits[seed][part]] = True
        number = version[id(views[seed])]
        return tuple(
            (number * len(texts) + np.flatnonzero(inside[texts])).astype(np.int32)
            for texts in in_buckets
        )

    members = {seed: {part: members_of(seed, part) for part in SPLITS} for seed in seeds}
    return Dataset(
        name=source.name,
        class_names=tuple(source.class_names),
        fingerprint=source.fingerprint,
        num_empty=source.num_empty,
        edges=edges,
        padding=batches.padding_share(lengths, edges),
        buckets=tuple(buckets),
        members=members,
        vocabularies=views,
        vocabulary_size=size,
        test_drawn="test" not in source.official,
        account={
            "tokenizer": config.tokenizer,
            "sizes": {part: len(first[part]) for part in SPLITS},
            **account.count_classes(source),
            **account.count_unknown(buckets, members[seeds[0]], size),
            **account.count_lengths(lengths),
            "duplicates": {**counted, "across_splits": account.copies_across(copies, first)},
            "notes": list(source.notes),
        },
    )


def _with_rule(
    source: Source, config: Config
) -> tuple[Source, TokenizedTexts, np.ndarray, dict[str, Any]]:
    """What the rule for duplicates leaves: texts, their tokens, first copies, and the counts.

    The fingerprint stays that of all texts.
    """
    tokenized = text.intern(source.texts, config.tokenizer)
    copies = first_copies(tokenized)
    out = left_out(copies, source.official, rule=config.duplicates)
    counted = {
        "rule": config.duplicates,
        **account.count_copies(copies, source.labels),
        "left_out": int(out.sum()),
    }
    if not out.any():
        return source, tokenized, copies, counted
    rest = np.flatnonzero(~out)
    tokenized = tokenized.take(rest)
    source = replace(
        source,
        texts=[source.texts[row] for row in rest.tolist()],
        labels=source.labels[rest],
        official={split: inside[rest] for split, inside in source.official.items()},
    )
    return source, tokenized, first_copies(tokenized), counted
