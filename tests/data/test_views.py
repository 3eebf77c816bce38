"""Texts are held once for all vocabularies, and read as if there were a copy for each."""

import jax
import numpy as np
import pytest
from test_dataset import OPTIONS, make_source

from lth_flax.data.dataset import build_dataset
from lth_flax.data.text import build_vocabulary, common_ids, encode, ids_of, intern
from lth_flax.data.views import Views

VALUES = np.array([[3, 1, 0], [2, 2, 4], [0, 0, 0], [4, 3, 1]], np.int32)
TABLE = np.array([[0, 1, 2, 3, 4], [0, 1, 1, 9, 7]], np.int32)
FULL = np.concatenate([VALUES, TABLE[1][VALUES]])
"""The copies themselves."""


@pytest.mark.parametrize("rows", [np.array([7, 0, 3]), np.array([[1, 5], [4, 2]]), 6, np.int32(6)])
def test_rows_are_those_of_the_copies_on_the_host_and_compiled(rows):
    views = Views(VALUES, 2, TABLE)
    np.testing.assert_array_equal(views[rows], FULL[rows])
    compiled = jax.jit(lambda views, rows: views[rows])(jax.device_put(views), np.asarray(rows))
    np.testing.assert_array_equal(compiled, FULL[rows])
    assert compiled.dtype == views.dtype == np.int32
    assert (views.shape, views.ndim, len(views)) == (FULL.shape, 2, 8)
    np.testing.assert_array_equal(np.asarray(views), FULL)


def test_without_a_table_all_have_the_same():
    views = Views(np.array([5, 6, 7]), 3)
    assert views[7] == 6
    np.testing.assert_array_equal(views[np.array([0, 4, 8])], [5, 6, 7])
    np.testing.assert_array_equal(np.asarray(views), [5, 6, 7] * 3)


def test_every_seed_reads_what_its_own_encoding_has():
    source, seeds = make_source(), (0, 1, 2)
    dataset = build_dataset(source, seeds, OPTIONS)
    tokenized = intern(source.texts)
    lengths = tokenized.lengths
    below = 0
    for bucket, edge in zip(dataset.buckets, dataset.edges, strict=True):
        texts = np.flatnonzero((lengths > below) & (lengths <= edge))
        own = [encode(tokenized, dataset.vocabularies[s], texts, length=edge) for s in seeds]
        assert len({one.tobytes() for one in own}) == 3
        np.testing.assert_array_equal(np.asarray(bucket["tokens"]), np.concatenate(own))
        np.testing.assert_array_equal(bucket["lengths"], np.tile(lengths[texts], 3))
        np.testing.assert_array_equal(bucket["labels"], np.tile(source.labels[texts], 3))
        below = edge


def test_more_seeds_take_tables_and_no_more_texts():
    source = make_source(number=600)

    def size(seeds):
        dataset = build_dataset(source, range(seeds), OPTIONS)
        leaves = jax.tree.leaves([dict(bucket) for bucket in dataset.buckets])
        tables = len(dataset.buckets) * seeds * 4 * len(intern(source.texts).words)
        return sum(leaf.nbytes for leaf in leaves), tables

    alone, _ = size(1)
    together, tables = size(6)
    assert alone < together <= alone + tables


def test_words_that_no_vocabulary_has_are_one():
    tokenized = intern(["a b", "c d", "a e"])
    first, second = (build_vocabulary(tokenized, np.array(rows), size=9, min_count=1)
                     for rows in ([0], [0, 2]))  # fmt: skip
    common, table = common_ids(tokenized, [first, second])
    assert table.shape == (2, 2 + 3)  # padding, unknown, a, b, e
    for row, vocabulary in zip(table, (first, second), strict=True):
        np.testing.assert_array_equal(row[common], ids_of(tokenized, vocabulary))
        assert row[0] == 0
