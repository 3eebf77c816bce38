"""Tickets of whole units: exact, nested, the same units in every arm, for any network that says
what its units are."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from host_path import pruned

import lth_flax as lth
from lth_flax.arms import ARMS, Family
from lth_flax.config import Config
from lth_flax.errors import UserError
from lth_flax.models.units import units as bilstm_units
from lth_flax.pruning.levels import from_rate, from_sparsities
from lth_flax.pruning.masks import full_mask
from lth_flax.pruning.units import chosen_groups, expanded, units_of
from lth_flax.tasks import ModelInfo
from lth_flax.types import UnitGroup, UnitPart

RNG = np.random.default_rng(0)
X = RNG.normal(size=(160, 6)).astype(np.float32)
LABELS = (X[:, 0] * X[:, 1] > 0).astype(np.int32)
HIDDEN = 10


def init(key):
    first, second = jax.random.split(key)
    return {
        "hidden": {"kernel": jax.random.normal(first, (6, HIDDEN)), "bias": jnp.zeros(HIDDEN)},
        "out": {"kernel": jax.random.normal(second, (HIDDEN, 2)), "bias": jnp.zeros(2)},
    }


def losses(params, batch):
    hidden = jnp.tanh(batch["x"] @ params["hidden"]["kernel"] + params["hidden"]["bias"])
    logits = hidden @ params["out"]["kernel"] + params["out"]["bias"]
    return logits, optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"])


def loss(params, batch, key):
    del key
    return jnp.sum(losses(params, batch)[1] * batch["weight"]) / jnp.sum(batch["weight"])


def evaluate(params, batch):
    logits, each = losses(params, batch)
    return {"correct": (logits.argmax(-1) == batch["labels"]).astype(jnp.float32), "loss": each}


def mlp_units(params):
    """A user's own statement: a unit has a column and a bias, and the output reads its row."""
    size = np.shape(params["hidden"]["bias"])[0]
    owned = (UnitPart(("hidden", "kernel"), 1), UnitPart(("hidden", "bias"), 0))
    return (
        UnitGroup("hidden", "units", size, owned, (UnitPart(("out", "kernel"), 0),), drive=owned),
    )


TASK = lth.Task(init, loss, evaluate, model=ModelInfo({}, "an MLP", units=mlp_units))


def search(task=TASK, **options):
    given = {
        "seeds": 2, "levels": [0.3, 0.7], "training": lth.Training(epochs=1, batch_size=32),
        "structure": "units", "arms": ("ticket", "reinit", "shuffled", "random"), **options,
    }  # fmt: skip
    examples = lth.Examples.split({"x": X, "labels": LABELS}, stratify="labels")
    return lth.find_tickets(task, examples, **given)


def kept_units(mask):
    """Which units a mask of the MLP keeps, read off its matrices; nothing is half pruned."""
    kernel, out = np.asarray(mask["hidden"]["kernel"]), np.asarray(mask["out"]["kernel"])
    assert np.array_equal(kernel.all(0), kernel.any(0))
    assert np.array_equal(out.all(1), out.any(1))
    assert np.array_equal(kernel.all(0), out.all(1))
    return kernel.all(0)


@pytest.mark.parametrize("schedule", ["iterative", "oneshot"])
def test_tickets_of_units_are_whole_exact_and_nested(schedule):
    found = search(schedule=schedule)
    for seed in range(2):
        some, fewer = (kept_units(found.tickets[seed, level].mask) for level in (0.3, 0.7))
        assert (some.sum(), fewer.sum()) == (HIDDEN - 3, HIDDEN - 7)
        assert not (fewer & ~some).any()
        weights = found.tickets[seed, 0.7].trained_params
        assert not np.asarray(weights["hidden"]["kernel"])[:, ~fewer].any()
    # All arms of a level are equally sparse, and records say what was pruned.
    for level, share in ((0.3, 0.3), (0.7, 0.7)):
        rows = [r for r in found.records if r.target_sparsity == level]
        assert {r.arm for r in rows} == {"ticket", "reinit", "shuffled", "random"}
        assert {round(r.achieved_sparsity, 9) for r in rows} == {share}
    assert {tuple(r.settings["structure"]) for r in found.records} == {("units",)}


def test_a_unit_of_small_norm_goes_first():
    scale = np.linspace(1, 2, HIDDEN)[::-1]

    def ordered(key):
        params = init(key)
        kernel = jnp.ones((6, HIDDEN)) * scale
        return {**params, "hidden": {**params["hidden"], "kernel": kernel}}

    task = dataclasses.replace(TASK, init=ordered)
    training = lth.Training(epochs=1, batch_size=32, learning_rate=1e-30)
    found = search(task, seeds=1, levels=[0.3], training=training, arms=("ticket",), unit_norm=100)
    kept = kept_units(found.tickets[0, 0.3].mask)
    np.testing.assert_array_equal(kept, [True] * 7 + [False] * 3)


def test_a_task_that_does_not_say_its_units_is_one_error():
    with pytest.raises(UserError, match="structure=units needs a network that says"):
        search(dataclasses.replace(TASK, model=None))
    with pytest.raises(UserError, match="no such units with prunable weights"):
        search(structure="features")
    with pytest.raises(UserError, match="method=gradual prunes single weights"):
        search(method="gradual")
    with pytest.raises(
        UserError, match="structure='columns': expected one or more of units, features"
    ):
        search(structure="columns")


# The whole of a stacked bidirectional LSTM ---------------------------------------------------


def bilstm(seed, widths=((5, 4), (3, 6)), features=4):
    rng = np.random.default_rng(seed)
    params = {"embedding": {"embedding": rng.normal(size=(9, features))}}
    for layer, pair in enumerate(widths):
        params[f"lstm_{layer}"] = {
            name: {
                "input_kernel": rng.normal(size=(features, 4 * n)),
                "recurrent_kernel": rng.normal(size=(n, 4 * n)),
                "bias": rng.normal(size=4 * n),
            }
            for name, n in zip(("forward", "backward"), pair, strict=True)
        }
        features = sum(pair)
    head = {"kernel": rng.normal(size=(features, 2)), "bias": np.zeros(2)}
    return jax.tree_util.tree_map(np.float32, {**params, "head": head})


def family(kinds, seed=3):
    params = bilstm(seed)
    groups = chosen_groups(bilstm_units(params), kinds, full_mask(params))
    return Family(seed, params, lambda draw: bilstm(100 + draw), groups=groups)


SCORED = [
    (kinds, criterion, scope)
    for kinds in (("units",), ("features",), ("units", "features"))
    for criterion in ("magnitude", "magnitude_increase", "random")
    for scope in ("global", "tensor")
]


@pytest.mark.parametrize(("kinds", "criterion", "scope"), SCORED)
@pytest.mark.slow
def test_masks_of_units_nest_and_are_exact_for_every_score_and_arm(kinds, criterion, scope):
    seed = family(kinds)
    full = full_mask(seed.initial_params)
    sizes = {group.name: group.size for group in seed.groups}
    for schedule, levels in itertools.product(
        ("oneshot", "iterative"), (from_sparsities([0.0, 0.25, 0.5]), from_rate(0.2, 3))
    ):
        config = Config(
            structure=kinds, criterion=criterion, scope=scope, schedule=schedule, unit_norm=2
        )
        mask, before, survivors = full, None, sum(sizes.values())
        for level in levels:
            found = pruned(config, seed, bilstm(7), mask, level)
            kept = {name: np.asarray(u) for name, u in units_of(found, seed.groups).items()}
            again = expanded(kept, seed.groups, full)
            jax.tree_util.tree_map(np.testing.assert_array_equal, found, again)
            share = level.target_sparsity
            if scope == "tensor" and level.fraction is None:
                assert all(kept[n].sum() == s - round(share * s) for n, s in sizes.items())
            elif level.fraction is not None and schedule == "iterative" and scope == "global":
                survivors -= round(level.fraction * survivors)
                assert sum(k.sum() for k in kept.values()) == survivors
            elif scope == "global":
                total = sum(sizes.values())
                assert sum(k.sum() for k in kept.values()) == total - round(share * total)
            if before is not None:
                assert not any((kept[n] & ~before[n]).any() for n in kept)
            before = kept
            mask = found if schedule == "iterative" else mask
            for arm in ("ticket", "reinit", "shuffled", "random"):
                _, worn = ARMS[arm](seed, found, level.index, 0)
                of_arm = {n: np.asarray(u) for n, u in units_of(worn, seed.groups).items()}
                assert sum(u.sum() for u in of_arm.values()) == sum(k.sum() for k in kept.values())
                if arm != "random":
                    assert all(of_arm[n].sum() == kept[n].sum() for n in kept)


@pytest.mark.slow
def test_random_scores_of_units_do_not_know_how_many_weights_a_unit_has():
    """A sum over weights would keep the wide layer and empty the narrow one, every time."""
    counts = []
    for seed in range(6):
        params = bilstm(seed, widths=((12, 12), (2, 2)), features=2)
        groups = chosen_groups(bilstm_units(params), ("units",), full_mask(params))
        one = Family(seed, params, bilstm, groups=groups)
        (level,) = from_sparsities([0.5])
        config = Config(structure=("units",), criterion="random")
        found = units_of(pruned(config, one, params, full_mask(params), level), groups)
        counts.append(sum(int(found[f"lstm_1/{d}"].sum()) for d in ("forward", "backward")))
    assert 1 <= np.mean(counts) <= 3
