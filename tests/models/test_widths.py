"""Layers whose directions differ in width, or have none, against the oracles of test_lstm."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_lstm import LENGTHS, inputs, oracle_direction, plain_lstm

from lth_flax.errors import UserError
from lth_flax.models.classifier import BiLSTMClassifier
from lth_flax.models.lstm import bidirectional_lstm

TOKENS = np.array([[1, 2, 3, 4], [2, 4, 1, 0], [3, 0, 0, 0], [0, 0, 0, 0]])
OF_TOKENS = np.array([4, 3, 1, 0])


def layer(forward, backward, features=5):
    rng = np.random.default_rng(7)

    def direction(hidden):
        shapes = {
            "input_kernel": (features, 4 * hidden),
            "recurrent_kernel": (hidden, 4 * hidden),
            "bias": (4 * hidden,),
        }
        return {name: jnp.asarray(rng.normal(size=s), jnp.float32) for name, s in shapes.items()}

    return {"forward": direction(forward), "backward": direction(backward)}


@pytest.mark.usefixtures("strict_promotion")
@pytest.mark.parametrize(
    "widths", [(3, 1), pytest.param((1, 4), marks=pytest.mark.slow), (0, 2), (3, 0)]
)
def test_equals_the_oracle_direction_by_direction(widths):
    params, x = layer(*widths), inputs()
    outputs, final = bidirectional_lstm(params, x, jnp.asarray(LENGTHS))
    assert outputs.shape == (*x.shape[:2], sum(widths))
    wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    for row, length in enumerate(LENGTHS):
        text = np.asarray(x[row, :length], np.float64)
        ahead = oracle_direction(wide["forward"], text)
        back = oracle_direction(wide["backward"], text[::-1])[::-1]
        np.testing.assert_allclose(
            outputs[row, :length], np.concatenate([ahead, back], 1), atol=2e-6
        )
        assert not np.any(np.asarray(outputs)[row, length:])
        expected = np.concatenate([ahead[-1], back[0]]) if length else np.zeros(sum(widths))
        np.testing.assert_allclose(final[row], expected, atol=2e-6)


@pytest.mark.parametrize("widths", [pytest.param((3, 1), marks=pytest.mark.slow), (0, 2)])
def test_gradient_equals_autodiff(widths):
    lengths = jnp.asarray(LENGTHS)

    def loss(function, params, x):
        outputs, final = function(params, x, lengths)
        weights = jnp.arange(1.0, 1 + sum(widths))
        return jnp.sum(outputs**2 * weights) + jnp.sum(final * weights)

    ours, plain = (
        jax.jit(jax.grad(loss, argnums=(1, 2)), static_argnums=0)(f, layer(*widths), inputs())
        for f in (bidirectional_lstm, plain_lstm)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), ours, plain)


def test_a_layer_without_units_has_no_outputs():
    outputs, final = bidirectional_lstm(layer(0, 0), inputs(), jnp.asarray(LENGTHS))
    assert outputs.shape == (5, 6, 0)
    assert final.shape == (5, 0)


@pytest.mark.parametrize("readout", ["final", "last_position"])
def test_a_classifier_with_a_dead_layer_answers_by_what_is_left(readout):
    """Above a layer without units every text of a length is the same text."""
    model = BiLSTMClassifier(5, 3, ((2, 0), (0, 0), (2, 3)), 3, 2, readout=readout)
    params = model.init(jax.random.key(0), TOKENS, OF_TOKENS)["params"]
    shapes = jax.tree.map(jnp.shape, params)
    assert shapes["lstm_1"]["forward"]["input_kernel"] == (2, 0)
    assert shapes["lstm_2"]["backward"]["input_kernel"] == (0, 12)
    assert shapes["head"]["kernel"] == (5, 2)
    logits = model.apply({"params": params}, TOKENS, OF_TOKENS)
    other = model.apply({"params": params}, TOKENS % 4 + 1, OF_TOKENS)
    assert np.all(np.isfinite(logits))
    np.testing.assert_array_equal(logits, other)


def test_a_classifier_without_any_unit_answers_its_bias():
    model = BiLSTMClassifier(5, 0, ((0, 0),), 1, 2)
    params = model.init(jax.random.key(0), TOKENS, OF_TOKENS)["params"]
    params = {**params, "head": {**params["head"], "bias": jnp.array([1.0, -2.0])}}
    logits = model.apply({"params": params}, TOKENS, OF_TOKENS)
    np.testing.assert_array_equal(logits, [[1.0, -2.0]] * 4)


def test_equal_widths_said_as_pairs_are_the_same_network_to_the_bit():
    models = [BiLSTMClassifier(5, 3, size, 2, 2) for size in (3, ((3, 3), (3, 3)), [[3, 3]] * 2)]
    params = [model.init(jax.random.key(1), TOKENS, OF_TOKENS)["params"] for model in models]
    logits = [
        model.apply({"params": p}, TOKENS, OF_TOKENS)
        for model, p in zip(models, params, strict=True)
    ]
    for other in (1, 2):
        jax.tree.map(np.testing.assert_array_equal, params[0], params[other])
        np.testing.assert_array_equal(logits[0], logits[other])


@pytest.mark.parametrize("size", [((3, 3),), ((3,), (3, 3)), ((1, 2, 3), (1, 2))])
def test_widths_that_do_not_fit_the_layers_are_one_error(size):
    with pytest.raises(UserError, match="a pair .* for each of the 2 layers"):
        BiLSTMClassifier(5, 3, size, 2, 2).init(jax.random.key(0), TOKENS, OF_TOKENS)
