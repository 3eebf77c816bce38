"""The order of the data belongs to the science: nothing that is there for speed changes it.

A task whose parameters are a tape: at every step the ids of its batch are written down, so what
a network has seen, and when, is read off the trained parameters.
"""

import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from counting import BUCKETS, MEMBERS, SIZES
from tables import Given, outcomes_of
from test_replicates import TASK, make_work

from lth_flax.models.classifier import BiLSTMClassifier
from lth_flax.training import loop
from lth_flax.training.classification import make_loss, make_predict
from lth_flax.training.loop import Hooks, Trainer
from lth_flax.training.optimizers import make_optimizer, make_schedule
from lth_flax.training.programs import Programs, Workload
from lth_flax.training.replicates import Engine
from lth_flax.training.steps import Recipe

EPOCHS, BATCH = 3, 2
SMALL, LARGE = (-(-sizes[0] // BATCH) for sizes in SIZES)
STEPS = EPOCHS * (SMALL + LARGE)


def loss(params, batch, dropout_key):
    """Its gradient is -1 for the count of steps, and minus the ids in the row of this step."""
    del dropout_key
    now = jnp.round(jax.lax.stop_gradient(params["count"]))
    row = (jnp.arange(STEPS) == now).astype(jnp.float32)
    ids = batch["id"].astype(jnp.float32) * batch["weight"]
    return -params["count"] - jnp.sum(row[:, None] * ids[None, :] * params["tape"])


def predict(params, batch):
    del params
    return {"correct": jnp.ones_like(batch["x"]), "loss": batch["x"]}


TAPE = Recipe(
    loss,
    predict,
    make_optimizer("sgd", momentum=0.0),
    make_schedule("constant", total_steps=STEPS),
)


@cache
def trainer(mode, devices, rows):
    work = Workload(BUCKETS, MEMBERS, EPOCHS, BATCH, (4, 4))
    return Trainer(Engine(mode, tuple(jax.devices()[:devices]), rows), TAPE, work)


def replicate(seed):
    params = {"count": np.float32(0), "tape": np.zeros((STEPS, BATCH), np.float32)}
    return Given(params, jax.tree.map(lambda _: np.array(True), params), seed, 1.0)


def tapes(seeds, mode="map", devices=2, rows=2):
    """Per seed, the ids of every step, [epochs, steps, batch]; 0 is no example."""
    outcomes = outcomes_of(trainer(mode, devices, rows), [replicate(seed) for seed in seeds])
    for outcome in outcomes:
        assert outcome.params["count"] == STEPS
    return {
        seed: outcome.params["tape"].astype(int).reshape(EPOCHS, -1, BATCH)
        for seed, outcome in zip(seeds, outcomes, strict=True)
    }


def bucket_of(batch):
    (bucket,) = {number // 100 for number in batch if number}  # ids of a bucket are 100 to 199, ...
    return bucket


def test_every_epoch_sees_every_training_text_once_and_seeds_share_the_order_of_lengths():
    orders = []
    for seed, epochs in tapes([0, 1, 2]).items():
        train = [
            bucket["id"][part] for bucket, part in zip(BUCKETS, MEMBERS[seed]["train"], strict=True)
        ]
        for steps in epochs:
            assert sorted(steps[steps > 0].tolist()) == sorted(np.concatenate(train).tolist())
        orders.append([[bucket_of(batch) for batch in steps] for steps in epochs])
    assert orders[0] == orders[1] == orders[2]
    assert len({tuple(order) for order in orders[0]}) == EPOCHS  # drawn anew


@pytest.mark.parametrize("most", [1, 2, 100])
def test_the_length_of_a_call_changes_no_bit(monkeypatch, most):
    table = [replicate(seed) for seed in range(3)]
    whole = outcomes_of(trainer("map", 2, 2), table)
    calls = []
    monkeypatch.setattr(loop, "MOST_STEPS", most)
    cut = outcomes_of(trainer("map", 2, 2), table, hooks=Hooks(on_steps=calls.append))
    jax.tree.map(
        np.testing.assert_array_equal,
        [dataclasses.asdict(one) for one in cut],
        [dataclasses.asdict(one) for one in whole],
    )
    # It was another length: two slices, the first of two rows.
    assert max(calls) <= 2 * most
    assert (len(calls) == 2 * STEPS) == (most == 1)


@pytest.mark.parametrize(
    ("mode", "devices", "rows"),
    [
        ("map", 1, 1),
        ("vmap", 1, 3),
        pytest.param("map", 1, 3, marks=pytest.mark.slow),
        pytest.param("vmap", 2, 4, marks=pytest.mark.slow),
    ],
)
def test_mode_devices_and_rows_change_nothing(mode, devices, rows):
    here = tapes([0, 1, 2], mode, devices, rows)
    jax.tree.map(np.testing.assert_array_equal, here, tapes([0, 1, 2]))


def test_which_seeds_share_a_table_changes_nothing():
    alone = {**tapes([2]), **tapes([0]), **tapes([1])}
    jax.tree.map(np.testing.assert_array_equal, alone, tapes([0, 1, 2]))


@pytest.mark.parametrize("mode", ["map", pytest.param("vmap", marks=pytest.mark.slow)])
def test_depth_and_width_change_nothing(monkeypatch, mode):
    """What the training of a classifier is given, step by step; its programs are not run."""
    seen = []

    def spy(programs, state, fixed, loss_sum, indices, call, step):
        assert step == len(seen)
        batches = np.asarray(indices[call.bucket])[:, call.first : call.first + call.steps]
        seen.extend((call.bucket, batch.tolist()) for batch in np.swapaxes(batches, 0, 1))
        return state, loss_sum

    def nothing(programs, params, members):
        return dict.fromkeys(("correct", "loss"), np.zeros((len(members), 1)))

    monkeypatch.setattr(Programs, "train", spy)
    monkeypatch.setattr(Programs, "predict", nothing)
    monkeypatch.setattr(Programs, "_compile_all", lambda programs, state, fixed: None)
    orders = []
    for depth, hidden in ((1, 2), (6, 2), (2, 32)):
        model = BiLSTMClassifier(12, 4, hidden, depth, 2, dropout=0.3)
        shapes = jax.eval_shape(
            model.init, jax.random.key(0), np.zeros((1, 1), np.int32), np.ones(1, np.int32)
        )["params"]
        params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
        mask = jax.tree.map(lambda _: np.array(True), params)
        task = TASK._replace(loss_fn=make_loss(model), predict_fn=make_predict(model))
        engine = Engine(mode, tuple(jax.devices()[:1]), 2)
        rows = [Given(params, mask, seed, 0.1) for seed in (0, 1)]
        outcomes_of(Trainer(engine, task, make_work(2)), rows)
        orders.append(seen.copy())
        seen.clear()
    assert len(orders[0]) == 2 * (3 + 3)
    assert orders[0] == orders[1] == orders[2]
