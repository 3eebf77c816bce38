"""Buckets against brute force, and the laws of splits and of epoch plans."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lth_flax.data.batches import (
    NOTHING,
    batch_count,
    bucket_of,
    choose_edges,
    evaluation_batch_size,
    evaluation_calls,
    padding_share,
    stratified_split,
    training_calls,
)

LENGTHS = st.lists(st.integers(0, 9), min_size=1, max_size=14)


def positions(lengths, edges):
    """Padded positions when each text goes under the first edge that it fits."""
    return sum(min(edge for edge in edges if edge >= length) for length in lengths)


def held(lengths, edges):
    """Texts per bucket."""
    owners = [min(edge for edge in edges if edge >= length) for length in lengths]
    return [owners.count(edge) for edge in edges]


@settings(max_examples=200, deadline=None)
@given(LENGTHS, st.integers(1, 5), st.integers(1, 6))
def test_edges_are_the_best_of_all_edge_sets(lengths, max_shapes, min_texts):
    real = [max(length, 1) for length in lengths]  # an empty text takes a position
    longest = max(real)
    shorter = sorted(set(real) - {longest})
    least = {}  # number of edges -> the fewest padded positions
    for number in range(1, max_shapes + 1):
        for inner in combinations(shorter, number - 1):
            edges = (*inner, longest)
            if min(held(real, edges)) >= min_texts:
                cost = positions(real, edges)
                least[number] = min(least.get(number, cost), cost)

    edges = choose_edges(np.array(lengths), max_shapes=max_shapes, min_texts=min_texts)
    assert edges == tuple(sorted(set(edges)))
    assert edges[-1] == longest
    if not least:  # fewer texts than one bucket should hold
        assert edges == (longest,)
        return
    # At most a tenth of the positions is padding, with as few edges as that takes;
    # where that cannot be had, the least padding, with as few edges as *that* takes.
    good = [number for number, cost in least.items() if 10 * (cost - sum(real)) <= cost]
    best = min(good) if good else min(least, key=lambda number: (least[number], number))
    assert len(edges) == best
    assert positions(real, edges) == least[best]
    assert min(held(real, edges)) >= min_texts


def test_edges_by_hand():
    lengths = np.array([2, 2, 2, 2, 10, 10, 10, 10])
    assert choose_edges(lengths, max_shapes=1, min_texts=1) == (10,)
    assert choose_edges(lengths, max_shapes=8, min_texts=1) == (2, 10)
    assert choose_edges(lengths, max_shapes=8, min_texts=5) == (10,)
    assert choose_edges(np.array([0, 0]), max_shapes=8, min_texts=1) == (1,)
    # 9 of 10 positions are real: within the goal, one edge will do.
    assert choose_edges(np.array([8, 10, 9]), max_shapes=8, min_texts=1) == (10,)


def test_bucket_and_padding_by_hand():
    assert bucket_of(np.array([0, 3, 4, 7, 5]), (3, 5, 7)).tolist() == [0, 0, 1, 2, 1]
    # 3 + 5 positions hold 2 + 5 tokens.
    assert padding_share(np.array([2, 5]), (3, 5)) == pytest.approx(1 / 8)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=80),
    st.floats(0.01, 0.49),
    st.floats(0.01, 0.49),
    st.lists(st.integers(0, 2**31 - 1), min_size=2, max_size=3, unique=True),
)
def test_a_split_is_fair_and_has_the_same_counts_for_all_seeds(strata, first, second, seeds):
    strata = np.array(strata)
    sizes = {"validation": first, "test": second}
    counts = []
    for seed in seeds:
        parts = stratified_split(strata, sizes, seed=seed)
        assert sorted(parts) == ["test", "train", "validation"]
        # Disjoint, and nothing is lost.
        assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(len(strata)))
        assert all((np.diff(part) > 0).all() for part in parts.values())
        for name, share in sizes.items():
            for stratum in np.unique(strata):
                here = int((strata[parts[name]] == stratum).sum())
                assert abs(here - share * int((strata == stratum).sum())) <= 1 + 1e-9
        counts.append(
            {name: np.bincount(strata[part], minlength=5).tolist() for name, part in parts.items()}
        )
    assert all(count == counts[0] for count in counts)


def test_a_split_is_drawn_from_its_seed():
    strata = np.arange(200) % 2
    draws = [stratified_split(strata, {"test": 0.2}, seed=seed)["test"] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).any()
    assert [np.bincount(strata[draw]).tolist() for draw in draws] == [[20, 20]] * 3


SIZES = st.lists(st.integers(0, 23), min_size=1, max_size=3)


def make_members(sizes, rows):
    """Each row's members are others: row r has those of rest r modulo the number of rows."""
    return [tuple(np.arange(size) * rows + row for size in sizes) for row in range(rows)]


def batches_of(calls, row, bucket):
    return [
        batch[batch != NOTHING].tolist()
        for call in calls
        if call.bucket == bucket
        for batch in call.indices[row, : call.steps]
    ]


@settings(max_examples=60, deadline=None)
@given(SIZES, st.integers(1, 7), st.integers(1, 4), st.integers(1, 5))
def test_an_epoch_has_every_example_of_every_row_once(sizes, batch_size, most, epoch):
    members, seeds = make_members(sizes, 3), [5, 0, 9]
    steps_per_call = [most + bucket for bucket in range(len(sizes))]
    calls = training_calls(
        members, seeds, epoch, batch_size=batch_size, steps_per_call=steps_per_call
    )
    for call in calls:
        assert call.indices.shape == (3, steps_per_call[call.bucket], batch_size)
        assert 1 <= call.steps <= steps_per_call[call.bucket]
        assert (call.indices[:, call.steps :] == NOTHING).all()
        # All rows of a call have the same number of examples in each batch.
        real = (call.indices != NOTHING).sum(axis=2)
        assert (real == real[0]).all()
    for row, parts in enumerate(members):
        for bucket, part in enumerate(parts):
            batches = batches_of(calls, row, bucket)
            assert sorted(sum(batches, [])) == part.tolist()
            assert len(batches) == -(-len(part) // batch_size)
            amounts = [len(batch) for batch in batches]
            assert not amounts or max(amounts) - min(amounts) <= 1
    assert sum(call.steps for call in calls) == batch_count(members[0], batch_size)


def test_110_examples_in_batches_of_50_are_37_37_36():
    (call,) = training_calls([(np.arange(110),)], [0], 1, batch_size=50, steps_per_call=[8])
    assert sorted((call.indices[0, : call.steps] != NOTHING).sum(axis=1).tolist()) == [36, 37, 37]


def plan(members, seeds, epoch):
    return training_calls(members, seeds, epoch, batch_size=4, steps_per_call=[2] * len(members[0]))


def test_the_order_depends_on_seed_and_epoch():
    members = [(np.arange(40), np.arange(24))] * 2
    order = {
        (seed, epoch): [
            sum(batches_of(plan(members, [seed, 3], epoch), 0, bucket), []) for bucket in (0, 1)
        ]
        for seed in (0, 1)
        for epoch in (1, 2)
    }
    assert (
        plan(members, [0, 3], 1)[0].indices.tolist() == plan(members, [0, 3], 1)[0].indices.tolist()
    )
    first, *others = order.values()
    assert all(other[bucket] != first[bucket] for other in others for bucket in (0, 1))
    # Not merely the order of the batches: what is in a batch changes.
    assert sorted(map(sorted, batches_of(plan(members, [0, 3], 1), 0, 0))) != sorted(
        map(sorted, batches_of(plan(members, [0, 3], 2), 0, 0))
    )


def test_a_row_does_not_depend_on_its_neighbours_and_the_bucket_order_is_common():
    sizes = [40, 24, 16]
    members = make_members(sizes, 3)
    together = plan(members, [7, 0, 2], 3)
    for row, seed in enumerate([7, 0, 2]):
        alone = plan([members[row]], [seed], 3)
        assert [call.bucket for call in alone] == [call.bucket for call in together]
        for one, all_ in zip(alone, together, strict=True):
            np.testing.assert_array_equal(one.indices[0], all_.indices[row])
    orders = {tuple(call.bucket for call in plan(members, [7, 0, 2], epoch)) for epoch in range(8)}
    assert len(orders) > 1


@settings(max_examples=60, deadline=None)
@given(SIZES, st.integers(1, 7), st.integers(1, 4))
def test_evaluation_goes_through_the_members_in_order(sizes, batch_size, most):
    members = make_members(sizes, 2)
    batch_sizes = [batch_size + bucket for bucket in range(len(sizes))]
    calls = evaluation_calls(members, batch_sizes=batch_sizes, steps_per_call=[most] * len(sizes))
    assert all(call.indices.shape[2] == batch_sizes[call.bucket] for call in calls)
    for row, parts in enumerate(members):
        read = [
            index
            for call in calls
            for index in call.indices[row].ravel().tolist()
            if index != NOTHING
        ]
        assert read == np.concatenate(parts).tolist()
    assert [call.bucket for call in calls] == sorted(call.bucket for call in calls)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 300), min_size=1, max_size=3), st.integers(1, 128))
def test_an_evaluation_batch_wastes_little(counts, most):
    size = evaluation_batch_size(counts, most=most)
    assert 1 <= size <= max(most, 1)
    padded = sum(-(-n // size) * size for n in counts)
    # Never more than batches as large as they may be; nothing at all for one part that fits.
    assert padded <= sum(-(-n // most) * most for n in counts)
    if len(counts) == 1 and 0 < counts[0] <= most:
        assert size == counts[0]
