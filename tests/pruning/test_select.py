"""Selection against a sorted list, over random trees with ties, and its laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from host_path import next_mask
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lth_flax.errors import UserError
from lth_flax.pruning.levels import Level, from_rate, from_sparsities
from lth_flax.pruning.masks import count_kept, count_prunable, full_mask, sparsity
from lth_flax.pruning.scores import magnitude
from lth_flax.pruning.select import prune

# Few distinct shapes, because each is compiled.
SHAPES = st.lists(st.sampled_from([(1, 1), (2, 3), (4, 2, 3)]), min_size=1, max_size=3)
# Few distinct values: ties everywhere. Infinity is a legal score.
VALUES = st.sampled_from([0.0, 0.5, 0.5, 1.0, 2.0, float("inf")])
AMOUNTS = st.one_of(
    st.sampled_from([0.0, 1.0, 0.5, 0.3, 0.1, 1 / 3, 0.95]),
    st.floats(0, 1, allow_nan=False),
)


@st.composite
def trees(draw):
    shapes = draw(SHAPES)
    leaves = {
        f"w{i}": draw(hnp.arrays(np.float32, s, elements=VALUES)) for i, s in enumerate(shapes)
    }
    return {"kernels": leaves, "bias": np.zeros(3, np.float32)}


def oracle(scores, mask, removals_of):
    """Removes from a sorted list of (score, leaf, index), in plain Python."""
    kept = [
        (float(value), leaf, index)
        for leaf, name in enumerate(sorted(scores))
        for index, value in enumerate(scores[name].ravel())
        if mask[name].ravel()[index]
    ]
    total = sum(scores[name].size for name in scores)
    gone = {(leaf, index) for _, leaf, index in sorted(kept)[: removals_of(len(kept), total)]}
    result = {}
    for leaf, name in enumerate(sorted(scores)):
        flat = mask[name].ravel().copy()
        for index in range(flat.size):
            flat[index] &= (leaf, index) not in gone
        result[name] = flat.reshape(mask[name].shape)
    return result


def by_fraction(amount):
    return lambda survivors, total: round(amount * survivors)


def by_sparsity(amount):
    return lambda survivors, total: max(0, survivors - (total - round(amount * total)))


@settings(max_examples=40, deadline=None)
@given(trees(), st.lists(AMOUNTS, min_size=1, max_size=3), st.booleans(), st.booleans())
def test_equals_the_sorted_list_over_repeated_rounds(tree, amounts, per_tensor, absolute):
    mask = full_mask(tree)
    expected = {name: np.ones(leaf.shape, bool) for name, leaf in tree["kernels"].items()}
    rule = by_sparsity if absolute else by_fraction
    for amount in amounts:
        keyword = {"sparsity" if absolute else "fraction": amount}
        mask = prune(tree, mask, scope="tensor" if per_tensor else "global", **keyword)
        if per_tensor:
            for name, leaf in tree["kernels"].items():
                expected |= oracle({name: leaf}, {name: expected[name]}, rule(amount))
        else:
            expected = oracle(tree["kernels"], expected, rule(amount))
        for name, leaf in expected.items():
            np.testing.assert_array_equal(mask["kernels"][name], leaf)
        assert mask["bias"].shape == ()


@settings(max_examples=10, deadline=None)
@given(trees(), AMOUNTS, st.sampled_from(["global", "tensor"]))
def test_same_on_the_host_under_jit_and_under_vmap(tree, amount, scope):
    mask = prune(tree, full_mask(tree), fraction=0.25)

    def one(scores, mask):
        return prune(scores, mask, fraction=amount, scope=scope)

    host = one(tree, mask)
    twice = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), (tree, mask))
    for other in (jax.jit(one)(tree, mask), jax.tree.map(lambda x: x[1], jax.vmap(one)(*twice))):
        jax.tree.map(np.testing.assert_array_equal, host, other)


@settings(max_examples=25, deadline=None)
@given(trees(), AMOUNTS, AMOUNTS)
def test_masks_nest_and_counts_are_exact(tree, first, second):
    before = prune(tree, full_mask(tree), sparsity=first)
    after = prune(jax.tree.map(lambda x: -x, tree), before, sparsity=second)
    total = count_prunable(before)
    assert count_kept(before) == total - round(first * total)
    assert count_kept(after) == min(count_kept(before), total - round(second * total))
    for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        assert not np.any(~np.asarray(a) & np.asarray(b))


def test_the_count_that_float32_gets_wrong():
    # 0.3 * 95 = 28.5, which Python rounds to 28; float32(0.3) * 95 is above 28.5.
    scores = {"w": jnp.arange(95.0).reshape(5, 19)}
    assert count_kept(prune(scores, full_mask(scores), fraction=0.3)) == 95 - 28


def by_sorting(scores, mask, removals):
    """What `prune` did before it counted: one stable sort of everything."""
    position = jnp.arange(mask.size)
    pruned_last = jnp.where(mask.ravel(), 0, 1)
    _, _, order = jax.lax.sort((pruned_last, scores.ravel(), position), num_keys=2, is_stable=True)
    removed = jnp.zeros(mask.size, bool).at[order].set(position < removals)
    return mask & ~removed.reshape(mask.shape)


SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, 2e-38, -2e-38, 3e38, -3e38, 1.0, -1.0]


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16, np.float16, np.int32, np.uint8])
def test_equals_the_sort_for_scores_of_all_kinds(dtype):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(40, 25)).astype(np.float32)
    if jnp.issubdtype(dtype, jnp.integer):
        values = rng.integers(0 if dtype == np.uint8 else -9, 9, values.shape)
    else:
        values.ravel()[:400] = rng.choice(SPECIAL, 400).astype(np.float32)
    scores = {"w": jnp.asarray(rng.permutation(values.ravel()).reshape(40, 25)).astype(dtype)}
    mask = {"w": jnp.asarray(rng.random((40, 25)) < 0.8)}
    survivors = count_kept(mask)
    for fraction in (0.0, 0.01, 0.3, 0.5, 0.77, 0.99, 1.0):
        expected = by_sorting(scores["w"], mask["w"], round(fraction * survivors))
        np.testing.assert_array_equal(prune(scores, mask, fraction=fraction)["w"], expected)


def test_the_smallest_floats_are_told_apart_where_the_processor_flushes_them():
    tiny = np.array([[3e-45, 1e-45, 0.0, -1e-45]], np.float32)
    mask = prune({"w": tiny}, {"w": np.ones((1, 4), bool)}, fraction=0.5)
    np.testing.assert_array_equal(mask["w"], [[True, True, False, False]])


def test_doubles_are_ranked_as_doubles():
    before = jax.config.jax_enable_x64
    try:
        jax.config.update("jax_enable_x64", True)
        scores = {"w": jnp.asarray([[1.0 + 2e-16, 1.0, 1.0 + 4e-16, -0.0]], jnp.float64)}
        mask = prune(scores, full_mask(scores), fraction=0.5)
    finally:
        jax.config.update("jax_enable_x64", before)
    np.testing.assert_array_equal(mask["w"], [[True, False, True, False]])


def test_scores_of_several_types_are_ranked_together():
    scores = {"a": jnp.array([[1.5, 3.5]], jnp.bfloat16), "b": np.array([[1, 2]], np.int32)}
    mask = prune(scores, full_mask(scores), fraction=0.5)
    assert [mask[name].tolist() for name in "ab"] == [[[False, True]], [[False, True]]]
    flags = {"a": np.array([[True, False, True]])}
    assert prune(flags, full_mask(flags), fraction=1 / 3)["a"].tolist() == [[True, False, True]]
    with pytest.raises(UserError, match="scores must be real numbers, found complex64"):
        prune({"a": jnp.ones((1, 2), jnp.complex64)}, {"a": jnp.ones((1, 2), bool)}, fraction=0.5)


@pytest.mark.parametrize("amount", [{"fraction": 0.3}, {"sparsity": 0.9}])
def test_the_program_holds_no_table(amount):
    params = {"w": jax.ShapeDtypeStruct((1000, 1000), jnp.float32)}
    mask = {"w": jax.ShapeDtypeStruct((1000, 1000), jnp.bool_)}
    program = jax.jit(lambda s, m: prune(s, m, **amount)).lower(params, mask)
    assert len(program.as_text()) < 100_000
    # Neither in the memory that it needs beside what goes in and comes out: a few copies.
    assert program.compile().memory_analysis().temp_size_in_bytes < 20e6


def test_threshold_is_on_the_score():
    params = {"w": jnp.array([[-0.3, 0.1], [0.2, -0.05]])}
    mask = prune(magnitude(params), full_mask(params), threshold=0.2)
    np.testing.assert_array_equal(mask["w"], [[True, False], [True, False]])


def test_pruned_weights_do_not_come_back_or_count_again():
    scores = {"w": jnp.array([[9.0, 1.0, 2.0, 3.0]])}
    mask = {"w": jnp.array([[False, True, True, True]])}
    after = prune(scores, mask, fraction=1 / 3)
    np.testing.assert_array_equal(after["w"], [[False, False, True, True]])


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"fraction": 1.5}, "fraction must be in"),
        ({"sparsity": -0.1}, "sparsity must be in"),
        ({}, "give one of"),
        ({"fraction": 0.1, "sparsity": 0.2}, "give one of"),
        ({"fraction": 0.1, "scope": "layer"}, "scope must be one of"),
        ({"threshold": float("nan")}, "threshold must be a number"),
    ],
)
def test_refuses_what_makes_no_sense(keywords, message):
    scores = {"w": jnp.ones((2, 2))}
    with pytest.raises(ValueError, match=message):
        prune(scores, full_mask(scores), **keywords)


def test_refuses_scores_of_another_shape():
    with pytest.raises(UserError, match=r"the mask of w has the shape \(2, 2\), expected that of"):
        prune({"w": jnp.ones((2, 3))}, {"w": jnp.ones((2, 2), bool)}, fraction=0.5)


@pytest.mark.usefixtures("strict_promotion")
def test_strict_promotion():
    scores = {"w": jnp.ones((3, 3)), "b": jnp.ones(3)}
    assert count_kept(prune(scores, full_mask(scores), fraction=0.5)) == 9 - 4


def test_rounds_at_a_rate_reach_the_published_sparsities():
    # Frankle & Carbin: 0.8^r of the weights are left after r rounds.
    levels = from_rate(0.2, 14)
    named = {level.index: level.target_sparsity for level in levels}
    assert (named[3], named[5], named[7]) == (0.488, 0.6723, 0.7903)
    params = {"w": jnp.asarray(np.random.default_rng(0).normal(size=(100, 50)), jnp.float32)}
    mask, kept = full_mask(params), 5000
    for level in levels:
        mask = next_mask(magnitude(params), mask, level, scope="global", schedule="iterative")
        kept -= round(0.2 * kept)
        assert count_kept(mask) == kept


def test_oneshot_goes_straight_to_the_target():
    params = {"w": jnp.arange(100.0).reshape(10, 10)}
    level = from_rate(0.2, 3)[-1]
    mask = next_mask(params, full_mask(params), level, scope="global", schedule="oneshot")
    assert sparsity(mask) == pytest.approx(0.49)  # round(0.488 * 100) = 49


@pytest.mark.parametrize("values", [[], [1.0], [-0.1], [0.5, 0.5], [0.8, 0.5], [float("nan")]])
def test_levels_are_checked(values):
    with pytest.raises(ValueError, match="levels must"):
        from_sparsities(values)


def test_level_zero_is_legal():
    assert from_sparsities([0, 0.5]) == (Level(1, 0.0, None), Level(2, 0.5, None))


@pytest.mark.parametrize(("rate", "rounds"), [(0.0, 3), (1.0, 3), (0.2, 0), (0.9, 40)])
def test_rates_are_checked(rate, rounds):
    with pytest.raises(ValueError, match="prune_rate|rounds"):
        from_rate(rate, rounds)
