"""Partial linearization: the blended core is the LSTM at 0 and linear in its tanh at 1."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import lth_flax as lth
from lth_flax.linearized import (
    blended_lstm,
    keep_blends,
    linearized,
    nonlinearities,
    surviving_depth,
)
from lth_flax.models.lstm import bidirectional_lstm

LENGTHS = np.array([5, 1, 3, 0], np.int32)


def layer(features, hidden):
    rng = np.random.default_rng(0)

    def direction():
        return {
            "input_kernel": rng.normal(size=(features, 4 * hidden)).astype(np.float32),
            "recurrent_kernel": rng.normal(size=(hidden, 4 * hidden)).astype(np.float32),
            "bias": rng.normal(size=4 * hidden).astype(np.float32),
        }

    return {"forward": direction(), "backward": direction()}


def blends(hidden, value):
    full = np.full(hidden, value, np.float32)
    return {d: {"candidate": full, "output": full} for d in ("forward", "backward")}


def test_without_blends_it_is_the_lstm():
    params = layer(4, 3)
    inputs = np.random.default_rng(1).normal(size=(4, 5, 4)).astype(np.float32)
    inputs[1, 2:] = np.nan  # padding says nothing
    mine = blended_lstm(params, blends(3, 0), inputs, LENGTHS)
    for ours, theirs in zip(mine, bidirectional_lstm(params, inputs, LENGTHS), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-6)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize(("candidate", "output"), [(1.0, 1.0), (0.25, 0.5)])
def test_a_word_by_hand(candidate, output):
    """One token: c = i * blend(g), h = o * blend(c)."""
    params = layer(4, 2)
    a = blends(2, candidate)
    for direction in a.values():
        direction["output"] = np.full(2, output, np.float32)
    x = np.random.default_rng(2).normal(size=(1, 1, 4)).astype(np.float32)
    expected = []
    for direction in ("forward", "backward"):
        z = x[0, 0] @ params[direction]["input_kernel"] + params[direction]["bias"]
        i, _, g, o = np.split(z.astype(np.float64), 4)
        c = sigmoid(i) * (candidate * g + (1 - candidate) * np.tanh(g))
        expected.append(sigmoid(o) * (output * c + (1 - output) * np.tanh(c)))
    _, final = blended_lstm(params, a, x, np.array([1], np.int32))
    np.testing.assert_allclose(final[0], np.concatenate(expected), rtol=1e-5)


def test_blends_stay_in_their_bounds_and_a_fixed_one_stays():
    params = {"blends": {"lstm_0": jnp.array([0.0, 0.5, 0.95, 0.9995])}, "kernel": jnp.ones(2)}
    optimizer = keep_blends(optax.sgd(1.0))
    grads = {"blends": {"lstm_0": jnp.array([2.0, 0.25, -1.0, 0.9])}, "kernel": jnp.full(2, 3.0)}
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    new = optax.apply_updates(params, updates)
    np.testing.assert_allclose(new["blends"]["lstm_0"], [0, 0.25, 1, 0.9995], atol=1e-6)
    np.testing.assert_allclose(new["kernel"], [-2, -2])


def test_what_is_not_linear_is_counted():
    params = {
        "blends": {
            "lstm_0": {"forward": {"candidate": jnp.array([0.0, 1.0]), "output": jnp.ones(2)}},
            "lstm_1": {"forward": {"candidate": jnp.ones(2), "output": jnp.array([1.0, 0.9995])}},
            "lstm_2": {"forward": {"candidate": jnp.zeros(2), "output": jnp.full(2, 0.998)}},
        }
    }
    assert nonlinearities(params) == {"lstm_0": 1, "lstm_1": 0, "lstm_2": 4}
    assert surviving_depth(params) == 2


def small():
    return lth.text_classification(
        num_seeds=1, num_layers=1, hidden_size=3, embedding_size=4, synthetic_size=200, max_shapes=1
    )


def test_the_gradient_of_the_penalty_is_that_of_the_sum():
    task, _ = small()
    # Of the loss alone the slope of a blend is another, by the penalty to the last bit of rounding.
    batch = {
        "tokens": np.ones((2, 4), np.int32), "lengths": np.array([4, 2], np.int32),
        "labels": np.array([0, 1], np.int32), "weight": np.ones(2, np.float32),
    }  # fmt: skip
    free, bound = linearized(task, penalty=0.0), linearized(task, penalty=0.5)
    params = free.init(jax.random.key(0))
    key = jax.random.key(1)
    slopes = [jax.grad(one.loss)(params, batch, key)["blends"] for one in (free, bound)]
    apart = jax.tree.map(lambda a, b: a - b, *slopes)
    for leaf in jax.tree.leaves(apart):
        np.testing.assert_allclose(leaf, 0.5, atol=1e-5)


@pytest.mark.slow
def test_a_penalty_takes_non_linearities_away():
    (task, examples), found = small(), {}
    for penalty in (0.0, 1.0):
        result = lth.find_tickets(
            linearized(task, penalty=penalty), examples, seeds=1, levels=[0.5], arms=["ticket"],
            training=lth.Training(
                epochs=1, batch_size=32, learning_rate=0.5,
                optimizer=lambda rate: keep_blends(optax.adam(rate)),
            ),
        )  # fmt: skip
        (dense,) = [
            r for r in result.records if (r.arm, r.split, r.checkpoint) == ("dense", "test", "last")
        ]
        found[penalty] = dense.metrics["nonlinear lstm_0"]
    assert found[1.0] < found[0.0] <= 12
    assert dataclasses.asdict(dense)["settings"]["penalty"] == 1.0
