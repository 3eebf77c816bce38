"""Masks of one seed nest over the levels, and each arm keeps of a ticket what it says."""

import itertools

import jax
import numpy as np
import pytest
from host_path import pruned

from lth_flax.arms import ARMS, Family
from lth_flax.config import Config
from lth_flax.errors import UserError
from lth_flax.matching import SignedPermutation, permute_units
from lth_flax.models.classifier import BiLSTMClassifier
from lth_flax.models.units import units
from lth_flax.pruning.levels import from_rate, from_sparsities
from lth_flax.pruning.masks import full_mask
from lth_flax.tasks import ModelInfo

LEVELS = from_sparsities([0.0, 0.2, 0.5, 0.9])
WEIGHTS = 4 * 10 + 10 * 3


def make_params(seed):
    rng = np.random.default_rng(seed)
    return {
        "one": {
            "kernel": rng.normal(size=(4, 10)).astype(np.float32),
            "bias": rng.normal(size=10).astype(np.float32),
        },
        "two": {"kernel": rng.normal(size=(10, 3)).astype(np.float32)},
    }


FAMILIES = [
    Family(seed, make_params(seed), lambda draw: make_params(100 + draw)) for seed in (3, 4)
]


def kept(mask):
    """The prunable weights, kept or not, as one array."""
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(mask) if np.ndim(leaf)])


def assert_nested(masks, amounts):
    flat = [kept(mask) for mask in masks]
    assert [int(mask.sum()) for mask in flat] == amounts
    for before, after in itertools.pairwise(flat):
        assert not (after & ~before).any()


@pytest.mark.parametrize("criterion", ["magnitude", "magnitude_increase", "random"])
@pytest.mark.parametrize("schedule", ["oneshot", "iterative"])
@pytest.mark.parametrize("levels", [LEVELS, from_rate(0.2, 3)], ids=["levels", "rounds"])
def test_masks_of_every_score_nest(criterion, schedule, levels):
    config = Config(criterion=criterion, schedule=schedule)
    last = []
    for family in FAMILIES:
        mask, masks = full_mask(family.initial_params), []
        for level in levels:
            found = pruned(config, family, make_params(50 + family.seed), mask, level)
            masks.append(found)
            mask = found if schedule == "iterative" else mask
        amounts = [WEIGHTS - round(level.target_sparsity * WEIGHTS) for level in levels]
        assert_nested(masks, amounts)
        last.append(kept(masks[-1]))
    assert (last[0] != last[1]).any()


@pytest.mark.parametrize("arm", ["ticket", "shuffled", "random"])
def test_masks_of_every_arm_nest(arm):
    found = []
    for family in FAMILIES:
        dense = full_mask(family.initial_params)
        tickets = [
            pruned(Config(), family, family.initial_params, dense, level) for level in LEVELS
        ]
        masks = [
            ARMS[arm](family, mask, level.index, 0)[1]
            for mask, level in zip(tickets, LEVELS, strict=True)
        ]
        assert_nested(masks, [70, 56, 35, 7])
        found.append(kept(masks[2]))
        assert (kept(masks[2]) != kept(tickets[2])).any() == (arm != "ticket")
    assert (found[0] != found[1]).any()


def half_mask(family):
    dense = full_mask(family.initial_params)
    return pruned(Config(), family, family.initial_params, dense, LEVELS[2])


VALUES = ["signs", "constant", "reshuffled", "trained_signs"]


@pytest.mark.parametrize("arm", VALUES)
def test_arms_of_values_change_what_a_mask_may_prune_alone(arm):
    family = FAMILIES[0]._replace(trained=lambda: make_params(50))
    mask = half_mask(family)
    found, same = ARMS[arm](family, mask, 3, 0)
    assert same is mask
    original = family.initial_params
    np.testing.assert_array_equal(found["one"]["bias"], original["one"]["bias"])
    for name in ("one", "two"):
        ours, theirs = found[name]["kernel"], original[name]["kernel"]
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        assert (ours != theirs).any()
    again, _ = ARMS[arm](family, mask, 3, 0)
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(again), strict=True)
    assert all((a == b).all() for a, b in pairs)
    # The tree that was given is as it was.
    np.testing.assert_array_equal(original["two"]["kernel"], make_params(3)["two"]["kernel"])


@pytest.mark.parametrize(("arm", "of"), [("signs", 3), ("trained_signs", 50)])
def test_signs_are_of_one_network_and_magnitudes_of_another(arm, of):
    family = FAMILIES[0]._replace(trained=lambda: make_params(50))
    found, _ = ARMS[arm](family, half_mask(family), 3, 1)
    for name in ("one", "two"):
        ours = found[name]["kernel"]
        np.testing.assert_array_equal(np.abs(ours), np.abs(make_params(101)[name]["kernel"]))
        np.testing.assert_array_equal(np.sign(ours), np.sign(make_params(of)[name]["kernel"]))


def test_constant_is_the_standard_deviation_with_a_sign():
    family = FAMILIES[0]
    found, _ = ARMS["constant"](family, half_mask(family), 3, 0)
    for name in ("one", "two"):
        original = family.initial_params[name]["kernel"]
        size = np.sqrt(np.mean((original - original.mean()) ** 2))
        np.testing.assert_allclose(found[name]["kernel"], np.sign(original) * size, rtol=1e-6)


def test_reshuffled_values_are_those_of_kept_weights_in_kept_places():
    family = FAMILIES[0]
    mask = half_mask(family)
    found, _ = ARMS["reshuffled"](family, mask, 3, 0)
    moved = 0
    for name in ("one", "two"):
        kept = np.asarray(mask[name]["kernel"])
        ours, original = found[name]["kernel"], family.initial_params[name]["kernel"]
        np.testing.assert_array_equal(np.sort(ours[kept]), np.sort(original[kept]))
        moved += int((ours[kept] != original[kept]).sum())
    assert moved > 20  # of 35


def test_a_permuted_mask_follows_units_to_their_places_in_another_network():
    model = BiLSTMClassifier(9, 4, 5, 2, 2)
    one = np.zeros((1, 1), np.int32), np.ones(1, np.int32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), *one)["params"]
    rng = np.random.default_rng(0)
    trained = jax.tree.map(lambda s: rng.normal(size=s.shape).astype(np.float32), shapes)
    groups = units(trained)
    by = {
        group.name: SignedPermutation(
            rng.permutation(group.size), rng.choice([-1.0, 1.0], group.size)
        )
        for group in groups
    }
    fresh = jax.tree.map(np.zeros_like, trained)
    dense = {None: trained, 2: permute_units(trained, groups, by)}
    info = ModelInfo(settings={}, words="", units=units)
    family = Family(0, trained, {2: fresh}.__getitem__, dense=dense.__getitem__, model=info)
    mask = pruned(Config(), family, trained, full_mask(trained), LEVELS[3])
    params, found = ARMS["permuted_mask"](family, mask, 3, 2)
    assert params is fresh
    # The same weights are kept: pruning the permuted network would have found it.
    expected = pruned(Config(), family, dense[2], full_mask(trained), LEVELS[3])
    assert (kept(found) == kept(expected)).all()
    assert (kept(found) != kept(mask)).any()
    with pytest.raises(UserError, match="permuted_mask needs to know the units"):
        ARMS["permuted_mask"](family._replace(model=None), mask, 3, 2)


def test_arms_that_need_trained_networks_say_so():
    family = FAMILIES[0]
    with pytest.raises(UserError, match="needs trained networks"):
        ARMS["trained_signs"](family, half_mask(family), 3, 0)
