"""Masks over weights that are never trained, against scores computed by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from made_tickets import make_ticket
from test_search import mlp, search

import lth_flax as lth
from lth_flax.errors import UserError
from lth_flax.pruning.masks import apply_mask, count_kept, full_mask
from lth_flax.training.mask_state import current_mask
from lth_flax.training.supermask import initial_scores, stored_bytes, supermask


def test_a_score_goes_down_its_weight_times_the_gradient_straight_through_the_choice():
    weights = {"kernel": jnp.array([[2.0, -3.0], [4.0, 1.0]]), "bias": jnp.array([7.0, 7.0])}
    scores = {"kernel": jnp.array([[0.9, -0.8], [0.1, 0.2]]), "bias": jnp.zeros(())}
    full = full_mask(weights)
    optimizer = supermask(optax.sgd(0.1), full, weights=weights, scores=scores, kept=[2])
    state = optimizer.init(weights)
    params = apply_mask(weights, current_mask(state))
    # The largest |score| stay, whatever their sign.
    assert params["kernel"].tolist() == [[2.0, -3.0], [0.0, 0.0]]
    # A loss of x w with x = 1, 2 below and targets as below: its gradient at the *masked* weights,
    # for the pruned ones too, is x times (sum of x w - target).
    x, target = jnp.array([1.0, 2.0]), jnp.array([1.5, -1.0])

    def loss(params):
        return 0.5 * jnp.sum((x @ params["kernel"] - target) ** 2)

    updates, state = optimizer.update(jax.grad(loss)(params), state, params)
    params = optax.apply_updates(params, updates)
    # Errors 2 - 1.5 = 0.5 and -3 + 1 = -2; gradients [[0.5, -2], [1, -4]]; times the weights
    # [[1, 6], [4, -4]]: sizes of scores go down a tenth of it, 0.9 - 0.1, 0.8 - 0.6, 0.1 - 0.4 (it
    # changes its sign) and 0.2 + 0.4.
    np.testing.assert_allclose(state.scores["kernel"], [[0.8, -0.2], [-0.3, 0.6]], rtol=1e-5)
    assert params["kernel"].tolist() == [[2.0, 0.0], [0.0, 1.0]]
    updates, state = optimizer.update(jax.grad(loss)(params), state, params)
    params = optax.apply_updates(params, updates)
    # Errors 0.5 and 3; gradients [[0.5, 3], [1, 6]]; times the weights [[1, -9], [4, 6]]: sizes
    # 0.8 - 0.1, 0.2 + 0.9, 0.3 - 0.4 and 0.6 - 0.6.
    expected = [[0.7, -1.1], [0.1, 0.0]]
    np.testing.assert_allclose(state.scores["kernel"], expected, rtol=1e-5, atol=1e-6)
    assert params["kernel"].tolist() == [[2.0, -3.0], [0.0, 0.0]]
    assert params["bias"].tolist() == [7.0, 7.0]


def test_weights_never_move_and_the_mask_is_the_top_of_the_scores():
    task = mlp()
    weights = task.init(jax.random.key(0))
    full = full_mask(weights)
    kept = [30, 5]
    optimizer = supermask(
        optax.adam(0.05), full, weights=weights, scores=initial_scores(full, jax.random.key(1)),
        kept=kept,
    )  # fmt: skip
    state = optimizer.init(weights)
    params = apply_mask(weights, current_mask(state))
    rng = np.random.default_rng(0)
    batch = {
        "x": rng.normal(size=(32, 6)).astype(np.float32),
        "labels": rng.integers(0, 2, 32),
        "weight": np.ones(32, np.float32),
    }

    @jax.jit
    def step(params, state):
        grads = jax.grad(task.loss)(params, batch, None)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    masks = []
    for _ in range(25):
        params, state = step(params, state)
        mask = current_mask(state)
        masks.append(mask["hidden"]["kernel"])
        for name, number in zip(("hidden", "out"), kept, strict=True):
            sizes = np.abs(np.asarray(state.scores[name]["kernel"]))
            top = sizes >= np.sort(sizes, axis=None)[-number]
            np.testing.assert_array_equal(mask[name]["kernel"], top)
            expected = np.where(top, weights[name]["kernel"], np.float32(0))
            assert np.asarray(params[name]["kernel"]).tobytes() == expected.tobytes()
            np.testing.assert_array_equal(params[name]["bias"], weights[name]["bias"])
    assert not np.array_equal(masks[0], masks[-1])


def test_through_find_tickets_it_learns_and_says_what_it_takes_to_keep():
    training = lth.Training(epochs=12, batch_size=32, learning_rate=0.05)
    result = search(method="supermask", levels=[0.5], training=training, arms=("ticket", "reinit"))
    for seed in range(2):
        ticket = result.tickets[seed, 0.5]
        assert count_kept(ticket.mask) == 48 + 16  # half of each tensor
        for name in ("hidden", "out"):
            initial = np.asarray(ticket.initial_params[name]["kernel"])
            assert len(np.unique(np.abs(initial))) == 1
            expected = np.where(ticket.mask[name]["kernel"], initial, np.float32(0))
            np.testing.assert_array_equal(ticket.trained_params[name]["kernel"], expected)
    mine = [r for r in result.records if r.arm == "ticket" and r.split == "test"]
    assert min(r.accuracy for r in mine) > 0.7
    (said, _) = [r.search for r in mine if r.search]
    # 128 places and signs, two sizes, 18 biases.
    assert said == {
        "mask_bytes": 16, "sign_bytes": 16, "size_bytes": 8, "rest_bytes": 72,
        "dense_bytes": 4 * 146,
    }  # fmt: skip
    # Of the three products of a step, one is that of all weights.
    assert {round(r.dense_steps, 6) for r in mine} == {40}  # 60 (1 / 2 + 1 / 6)


@pytest.mark.slow
def test_shared_layers_are_one_set_of_weights_with_a_mask_each():
    task, _ = lth.text_classification(
        dataset="synthetic", synthetic_size=200, embedding_size=4, hidden_size=3, num_layers=3,
        num_seeds=1, method="supermask", share_layers=True,
    )  # fmt: skip
    params = jax.tree.map(np.asarray, task.init(jax.random.key(0)))
    jax.tree.map(np.testing.assert_array_equal, params["lstm_1"], params["lstm_2"])
    first = params["lstm_1"]["forward"]["input_kernel"]
    assert not np.array_equal(first, params["lstm_1"]["backward"]["input_kernel"])
    found = stored_bytes(params, full_mask(params))
    layer = 2 * (6 * 12 + 3 * 12)
    once = 2 * (4 * 12 + 3 * 12) + layer + 6 * 2
    assert found["mask_bytes"] == -(-(once + layer) // 8)
    assert found["sign_bytes"] == -(-once // 8)
    assert found["size_bytes"] == 4 * (4 + 4 + 1)
    language, _ = lth.language_model(
        synthetic_size=300, embedding_size=4, hidden_size=3, num_layers=3, method="supermask",
        share_layers=True,
    )  # fmt: skip
    params = language.init(jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, params["lstm_1"], params["lstm_2"])
    with pytest.raises(UserError, match="share_layers=true means nothing without"):
        lth.text_classification(
            dataset="synthetic", synthetic_size=200, num_layers=2, method="supermask",
            share_layers=True,
        )  # fmt: skip


def test_scores_begin_within_one_over_the_root_of_the_inputs():
    ticket = make_ticket()
    full = full_mask(ticket.initial_params)
    scores = initial_scores(full, jax.random.key(0))
    bound = 1 / np.sqrt(6)  # inputs of the second layer
    assert np.abs(scores["lstm_1"]["forward"]["input_kernel"]).max() <= bound
    assert np.abs(scores["lstm_1"]["forward"]["input_kernel"]).max() > 0.9 * bound
    assert scores["head"]["bias"].shape == ()
