"""The arms that ask what of a ticket matters, trained by a search."""

import numpy as np
import pytest

import lth_flax as lth
from lth_flax.config import Config
from lth_flax.errors import UserError
from lth_flax.runs.choices import chosen_arms

ARMS = ("ticket", "frozen", "trained_signs", "permuted_mask")


@pytest.fixture(scope="module")
def run():
    task, examples = lth.text_classification(
        dataset="synthetic", synthetic_size=150, embedding_size=4, hidden_size=4, num_layers=1,
        dropout=0.1, batch_size=32, max_shapes=1, num_seeds=1,
    )  # fmt: skip
    training = lth.Training(epochs=2, batch_size=32, learning_rate=0.02)
    options = {"seeds": 1, "levels": [0.0, 0.5], "arms": ARMS, "schedule": "oneshot"}
    return lth.find_tickets(task, examples, training=training, **options)


def rows_of(run):
    return {
        (r.arm, r.target_sparsity): r
        for r in run.records
        if (r.split, r.checkpoint) == ("test", "last")
    }


@pytest.mark.slow
def test_every_arm_is_trained_at_every_level_and_nothing_else_is_recorded(run):
    rows = rows_of(run)
    assert set(rows) == {("dense", 0.0), *((arm, level) for arm in ARMS for level in (0.0, 0.5))}
    for arm in ARMS:
        assert rows[arm, 0.5].achieved_sparsity == pytest.approx(0.5, abs=0.01)


@pytest.mark.slow
def test_a_ticket_and_frozen_weights_at_level_0_are_the_dense_network(run):
    rows = rows_of(run)
    dense = rows["dense", 0.0]
    for arm in ("ticket", "frozen"):
        assert (rows[arm, 0.0].loss, rows[arm, 0.0].accuracy) == (dense.loss, dense.accuracy)
    # Below, what is frozen is seen.
    assert rows["frozen", 0.5].loss != rows["ticket", 0.5].loss
    assert np.isfinite(rows["frozen", 0.5].loss)


@pytest.mark.slow
def test_a_permuted_mask_costs_the_dense_network_that_it_was_matched_to(run):
    rows = rows_of(run)
    steps = rows["ticket", 0.5].mask_steps
    assert steps > 0
    assert rows["trained_signs", 0.5].mask_steps == steps
    assert rows["permuted_mask", 0.5].mask_steps == 2 * steps


def test_frozen_weights_go_with_masks_that_are_kept():
    config = Config(arms=("ticket", "frozen"), keep_mask=False)
    with pytest.raises(UserError, match="--nokeep_mask .* frozen freezes them"):
        chosen_arms(config)


def test_a_permuted_mask_needs_the_units_of_the_network():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3)).astype(np.float32)

    def init(key):
        import jax

        return {"w": jax.random.normal(key, (3, 2))}

    def evaluate(params, batch):
        import jax.numpy as jnp

        loss = jnp.sum((batch["x"] @ params["w"]) ** 2, axis=1)
        return {"correct": (loss < 1).astype(jnp.float32), "loss": loss}

    def loss(params, batch, key):
        outputs = evaluate(params, batch)
        return (outputs["loss"] * batch["weight"]).mean()

    with pytest.raises(UserError, match="permuted_mask needs to know the units"):
        lth.find_tickets(
            lth.Task(init, loss, evaluate),
            lth.Examples.split({"x": x}),
            seeds=1, levels=[0.5], arms=("ticket", "permuted_mask"),
            training=lth.Training(epochs=1, batch_size=16),
        )  # fmt: skip
