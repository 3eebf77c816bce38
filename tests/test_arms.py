"""Masks of one seed nest over the levels, whatever drew them."""

import itertools

import jax
import numpy as np
import pytest

from lth_flax.arms import ARMS, Seed
from lth_flax.config import Config
from lth_flax.pruning.levels import from_rate, from_sparsities
from lth_flax.pruning.masks import full_mask
from lth_flax.runs.choices import pruned

LEVELS = from_sparsities([0.0, 0.2, 0.5, 0.9])
WEIGHTS = 4 * 10 + 10 * 3


def make_params(seed):
    rng = np.random.default_rng(seed)
    return {
        "one": {"kernel": rng.normal(size=(4, 10)), "bias": rng.normal(size=10)},
        "two": {"kernel": rng.normal(size=(10, 3))},
    }


FAMILIES = [Seed(seed, make_params(seed), lambda draw: make_params(100 + draw)) for seed in (3, 4)]


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
