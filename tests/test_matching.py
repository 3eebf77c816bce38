"""Signed permutations of units: equal outputs, and exact recovery."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lth_flax.errors import UserError
from lth_flax.matching import SignedPermutation, match_units, permute_mask, permute_units
from lth_flax.models.classifier import BiLSTMClassifier
from lth_flax.models.units import units
from lth_flax.pruning.masks import apply_mask, full_mask
from lth_flax.pruning.scores import magnitude
from lth_flax.pruning.select import prune

MODEL = BiLSTMClassifier(13, 5, 6, 3, 3)
TOKENS = np.random.default_rng(0).integers(1, 13, (4, 7)).astype(np.int32)
LENGTHS = np.array([7, 4, 1, 0], np.int32)


def network(seed=0):
    one = jnp.zeros((1, 1), jnp.int32), jnp.ones(1, jnp.int32)
    shapes = jax.eval_shape(MODEL.init, jax.random.key(0), *one)["params"]
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda s: rng.normal(0, 0.6, s.shape).astype(s.dtype), shapes)


@jax.jit
def logits(params):
    return MODEL.apply({"params": params}, TOKENS, LENGTHS)


def drawn(params, seed=1):
    """A signed permutation of every group."""
    rng = np.random.default_rng(seed)
    return {
        group.name: SignedPermutation(
            rng.permutation(group.size), rng.choice([-1.0, 1.0], group.size)
        )
        for group in units(params)
    }


def leaves(tree):
    return jax.tree.leaves(tree)


def test_a_signed_permuted_network_has_equal_outputs():
    params = network()
    moved = permute_units(params, units(params), drawn(params))
    assert any((a != b).any() for a, b in zip(leaves(params), leaves(moved), strict=True))
    np.testing.assert_allclose(logits(moved), logits(params), rtol=2e-5, atol=2e-6)
    # Not so if one sign is forgotten.
    wrong = drawn(params)
    first = next(name for name in wrong if name != "embedding")
    half = units(params)
    half = [g._replace(drive=()) if g.name == first else g for g in half]
    broken = permute_units(params, half, wrong)
    assert np.abs(logits(broken) - logits(params)).max() > 1e-3


def test_a_network_matched_with_its_signed_permuted_copy_gives_it_back_exactly():
    params = network()
    groups, expected = units(params), drawn(params)
    copy = permute_units(params, groups, expected)
    found = match_units(params, copy, groups)
    for name, one in expected.items():
        np.testing.assert_array_equal(found[name].order, one.order)
        np.testing.assert_array_equal(found[name].sign, one.sign)
    pairs = zip(leaves(permute_units(params, groups, found)), leaves(copy), strict=True)
    assert all((ours == theirs).all() for ours, theirs in pairs)


def test_matching_undoes_a_permutation_under_noise_and_never_makes_it_worse():
    params = network()
    groups, by = units(params), drawn(params)
    rng = np.random.default_rng(5)
    noisy = jax.tree.map(
        lambda leaf: leaf + rng.normal(0, 0.05, leaf.shape).astype(leaf.dtype),
        permute_units(params, groups, by),
    )
    found = match_units(params, noisy, groups)
    for name, one in by.items():
        np.testing.assert_array_equal(found[name].order, one.order)
    other = network(7)

    def agreement(tree):
        return sum(np.vdot(a, b) for a, b in zip(leaves(tree), leaves(other), strict=True))

    matched = permute_units(params, groups, match_units(params, other, groups))
    assert agreement(matched) > agreement(params)
    np.testing.assert_allclose(logits(matched), logits(params), rtol=2e-5, atol=2e-6)


def test_a_mask_follows_the_weights():
    params = network()
    groups, by = units(params), drawn(params)
    mask = prune(magnitude(params), full_mask(params), sparsity=0.7)
    moved = permute_mask(mask, groups, by)
    assert all(leaf.dtype == bool for leaf in leaves(moved))
    assert moved["lstm_0"]["forward"]["bias"].shape == ()
    one = apply_mask(permute_units(params, groups, by), moved)
    other = permute_units(jax.tree.map(np.asarray, apply_mask(params, mask)), groups, by)
    assert all((a == b).all() for a, b in zip(leaves(one), leaves(other), strict=True))


def test_other_shapes_are_refused():
    params = network()
    other = {**params, "head": {"kernel": np.zeros((12, 2)), "bias": np.zeros(2)}}
    with pytest.raises(UserError, match="same shapes"):
        match_units(params, other, units(params))
