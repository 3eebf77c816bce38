"""Buckets against brute force, and the laws of splits and of epoch plans."""

from collections import Counter
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
    training_epoch,
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


SEEDS = (5, 0, 9)


def make_members(sizes, seeds=SEEDS):
    """Each seed's members are others: a rest of their own modulo the number of seeds."""
    return {
        seed: tuple(np.arange(size) * len(seeds) + number for size in sizes)
        for number, seed in enumerate(seeds)
    }


def steps_of(epoch, row):
    """(bucket, examples) of every step, read the slow way: each bucket is a queue."""
    queues = [iter(batches[row]) for batches in epoch.indices]
    steps = []
    for bucket in epoch.order.tolist():
        batch = next(queues[bucket])
        steps.append((bucket, batch[batch != NOTHING].tolist()))
    assert all(next(queue, None) is None for queue in queues)  # nothing is left over
    return steps


def plan(members, seeds, epoch, batch_size=4):
    return training_epoch(members, seeds, epoch, batch_size=batch_size)


@settings(max_examples=60, deadline=None)
@given(SIZES, st.integers(1, 7), st.integers(1, 5), st.permutations([*SEEDS, 5]))
def test_an_epoch_has_every_example_of_every_row_once(sizes, batch_size, number, seeds):
    members = make_members(sizes)
    epoch = plan(members, seeds, number, batch_size)
    assert len(epoch.order) == batch_count(members[0], batch_size)
    for row, seed in enumerate(seeds):
        steps = steps_of(epoch, row)
        for bucket, part in enumerate(members[seed]):
            batches = [batch for owner, batch in steps if owner == bucket]
            assert sorted(sum(batches, [])) == part.tolist()
            assert len(batches) == -(-len(part) // batch_size)
            amounts = [len(batch) for batch in batches]
            assert not amounts or max(amounts) - min(amounts) <= 1
        # Rows in lockstep: the same number of examples in every step.
        assert [len(batch) for _, batch in steps] == [len(b) for _, b in steps_of(epoch, 0)]
        for start in range(len(steps) + 1):
            assert epoch.examples(start) == sum(len(batch) for _, batch in steps[start:])
    # Rows of one seed see the same.
    first, second = (row for row, seed in enumerate(seeds) if seed == 5)
    assert steps_of(epoch, first) == steps_of(epoch, second)


def test_110_examples_in_batches_of_50_are_37_37_36():
    epoch = plan({0: (np.arange(110),)}, [0], 1, 50)
    assert sorted(len(batch) for _, batch in steps_of(epoch, 0)) == [36, 37, 37]


def test_what_is_in_a_batch_depends_on_seed_and_epoch():
    members = {seed: (np.arange(40), np.arange(24)) for seed in (0, 1)}
    steps = {
        (seed, epoch): steps_of(plan(members, [seed], epoch), 0)
        for seed in (0, 1)
        for epoch in (1, 2)
    }
    assert steps[0, 1] == steps_of(plan(members, [0], 1), 0)
    for one, other in combinations(steps, 2):
        # Not merely the order of the batches: what is in a batch changes.
        assert sorted(map(sorted, (batch for _, batch in steps[one]))) != sorted(
            map(sorted, (batch for _, batch in steps[other]))
        )
    for epoch in (1, 2):  # the order of lengths is common to all seeds
        assert [b for b, _ in steps[0, epoch]] == [b for b, _ in steps[1, epoch]]
    assert [b for b, _ in steps[0, 1]] != [b for b, _ in steps[0, 2]]


def test_a_row_does_not_depend_on_its_neighbours():
    members = make_members([40, 24, 16])
    together = plan(members, SEEDS, 3)
    for row, seed in enumerate(SEEDS):
        assert steps_of(plan({seed: members[seed]}, [seed], 3), 0) == steps_of(together, row)


def test_every_order_of_the_batches_is_as_likely_as_every_other():
    # Three examples of each bucket in batches of two: four batches that are told apart by
    # bucket and size, 24 orders. 2,400 epochs, so 100 of each are expected.
    members = {0: (np.arange(3), np.arange(3))}
    seen = Counter()
    for number in range(1, 2401):
        steps = steps_of(plan(members, [0], number, batch_size=2), 0)
        seen[tuple((bucket, len(batch)) for bucket, batch in steps)] += 1
    assert len(seen) == 24
    # The 99.9% point of chi-square with 23 degrees of freedom is 49.7.
    assert sum((count - 100) ** 2 / 100 for count in seen.values()) < 49.7


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 2), max_size=20),
    st.integers(0, 20),
    st.lists(st.integers(-3, 25), max_size=3),
    st.integers(1, 9),
)
def test_calls_are_the_steps_in_order_however_they_are_cut(order, start, ends, most):
    order, start = np.array(order, np.int32), min(start, len(order))
    calls = list(training_calls(order, start=start, ends=ends, most=most))
    # Step by step: the bucket, and which of its batches.
    expected = [(b, order[:step].tolist().count(b)) for step, b in enumerate(order.tolist())]
    found = [(call.bucket, call.first + n) for call in calls for n in range(call.steps)]
    assert found == expected[start:]
    stops = start + np.cumsum([call.steps for call in calls])
    assert {end for end in ends if start < end < len(order)} <= set(stops.tolist())
    assert all(1 <= call.steps <= most for call in calls)
    # No shorter than need be.
    for before, after, stop in zip(calls, calls[1:], stops, strict=False):
        assert before.bucket != after.bucket or before.steps == most or stop in ends


@settings(max_examples=60, deadline=None)
@given(SIZES, st.integers(1, 7), st.integers(1, 4))
def test_evaluation_goes_through_the_members_in_order(sizes, batch_size, most):
    members = list(make_members(sizes).values())
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
    size = evaluation_batch_size(counts, largest=most)
    assert 1 <= size <= max(most, 1)
    padded = sum(-(-n // size) * size for n in counts)
    # Never more than batches as large as they may be; nothing at all for one part that fits.
    assert padded <= sum(-(-n // most) * most for n in counts)
    if len(counts) == 1 and 0 < counts[0] <= most:
        assert size == counts[0]
