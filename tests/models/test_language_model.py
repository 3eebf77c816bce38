"""The one-directional core and the language model on it: oracle, autodiff, PyTorch, no peeking."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_lstm import sigmoid

from lth_flax.errors import UserError
from lth_flax.models.language_model import LSTMLanguageModel
from lth_flax.models.lstm import forward_lstm

TIME, BATCH, FEATURES, HIDDEN = 7, 3, 4, 5


def draw(*shape, seed):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape) * 0.6, jnp.float32)


PARAMS = {
    "input_kernel": draw(FEATURES, 4 * HIDDEN, seed=1),
    "recurrent_kernel": draw(HIDDEN, 4 * HIDDEN, seed=2),
    "bias": draw(4 * HIDDEN, seed=3),
}
INPUTS = draw(TIME, BATCH, FEATURES, seed=4)
STATE = (draw(BATCH, HIDDEN, seed=5), draw(BATCH, HIDDEN, seed=6))


def oracle(params, inputs, state):
    """In float64, one step after the other."""
    kernel, again, bias = (np.asarray(params[n], np.float64) for n in PARAMS)
    h, c = (np.asarray(one, np.float64) for one in state)
    outputs = []
    for x in np.asarray(inputs, np.float64):
        i, f, g, o = np.split(x @ kernel + h @ again + bias, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
    return np.array(outputs), (h, c)


def plain(params, inputs, state):
    """The same for autodiff."""
    (h, c), outputs = state, []
    for x in inputs:
        z = x @ params["input_kernel"] + h @ params["recurrent_kernel"] + params["bias"]
        i, f, g, o = jnp.split(z, 4, axis=1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        outputs.append(h)
    return jnp.stack(outputs), (h, c)


@pytest.mark.usefixtures("strict_promotion")
def test_equals_the_oracle_on_from_a_state():
    outputs, (h, c) = forward_lstm(PARAMS, INPUTS, STATE)
    expected, (last_h, last_c) = oracle(PARAMS, INPUTS, STATE)
    for found, wanted in ((outputs, expected), (h, last_h), (c, last_c)):
        np.testing.assert_allclose(found, wanted, atol=2e-6)


def test_the_handwritten_gradient_is_that_of_autodiff_also_through_both_states():
    weights = [draw(TIME, BATCH, HIDDEN, seed=7), *(draw(BATCH, HIDDEN, seed=s) for s in (8, 9))]

    def total(function):
        def loss(params, inputs, state):
            outputs, (h, c) = function(params, inputs, state)
            return sum(jnp.sum(w * a**2) for w, a in zip(weights, (outputs, h, c), strict=True))

        return jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(PARAMS, INPUTS, STATE)

    found, expected = total(forward_lstm), total(plain)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), found, expected)


def test_stretches_are_one_long_pass():
    whole, last = forward_lstm(PARAMS, INPUTS, STATE)
    state, parts = STATE, []
    for start, stop in ((0, 3), (3, 4), (4, 7)):
        part, state = forward_lstm(PARAMS, INPUTS[start:stop], state)
        parts.append(part)
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), state, last)


@pytest.mark.slow
def test_equals_pytorch():
    torch = pytest.importorskip("torch", reason="needs the extra bench")
    layers = [PARAMS, {**PARAMS, "input_kernel": draw(HIDDEN, 4 * HIDDEN, seed=11)}]
    lstm = torch.nn.LSTM(FEATURES, HIDDEN, num_layers=2)
    for number, params in enumerate(layers):
        values = {
            f"weight_ih_l{number}": np.asarray(params["input_kernel"]).T,
            f"weight_hh_l{number}": np.asarray(params["recurrent_kernel"]).T,
            f"bias_ih_l{number}": np.asarray(params["bias"]),
            f"bias_hh_l{number}": np.zeros(4 * HIDDEN, np.float32),
        }
        for name, value in values.items():
            getattr(lstm, name).data = torch.tensor(np.ascontiguousarray(value))
    start = [torch.tensor(np.stack([np.asarray(one)] * 2)) for one in STATE]
    expected, last = lstm(torch.tensor(np.asarray(INPUTS)), tuple(start))
    outputs, states = INPUTS, []
    for params in layers:
        outputs, state = forward_lstm(params, outputs, STATE)
        states.append(state)
    np.testing.assert_allclose(outputs, expected.detach(), atol=2e-6)
    for number, name in enumerate(("h", "c")):
        found = np.stack([state[number] for state in states])
        np.testing.assert_allclose(found, last[number].detach(), atol=2e-6, err_msg=name)


def model_and_params(**changed):
    settings = {"vocabulary_size": 6, "embedding_size": 5, "hidden_size": 5, "num_layers": 2}
    model = LSTMLanguageModel(**{**settings, **changed})
    params = model.init(jax.random.key(0), jnp.zeros((1, 1), int), model.empty(1))["params"]
    return model, params


@pytest.mark.parametrize("tied", [False, True])
def test_no_logit_depends_on_a_later_token(tied):
    """The gradient of the logits at t by the word vectors that are read after t is zero."""
    model, params = model_and_params(tied=tied, vocabulary_size=9)
    tokens = jnp.arange(8)[None]  # every token once: its row of the table is its input

    @jax.jit
    @jax.grad
    def of_step(table, t):
        # The output reads other vectors than the input: those of a tied one are held.
        changed = {**params, "embedding": {"embedding": table}}
        head = params["embedding"]["embedding"] if tied else params["head"]["embedding"]
        untied = {**changed, "head": {"embedding": head, "bias": params["head"]["bias"]}}
        reader = model.clone(tied=False)
        logits, _ = reader.apply({"params": untied}, tokens, model.empty(1))
        return jnp.sum(jnp.square(logits[0, t]))

    for t in range(8):
        grads = np.asarray(of_step(params["embedding"]["embedding"], t))
        assert np.abs(grads[: t + 1]).max(axis=1).min() > 0
        np.testing.assert_array_equal(grads[t + 1 :], 0)


def test_a_tied_output_is_the_word_vectors():
    model, params = model_and_params(tied=True)
    assert set(params["head"]) == {"bias"}
    tokens = jnp.array([[1, 4, 2]])
    outer = {"embedding": params["embedding"]["embedding"], "bias": params["head"]["bias"]}
    expected, _ = model.clone(tied=False).apply(
        {"params": {**params, "head": outer}}, tokens, model.empty(1)
    )
    found, _ = model.apply({"params": params}, tokens, model.empty(1))
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(UserError, match="must be equal"):
        model_and_params(tied=True, hidden_size=4)


def test_dropout_is_drawn_once_per_stretch_and_only_in_training():
    model, params = model_and_params(embedding_dropout=0.5)
    tokens = jnp.array([[3] * 6])
    kept = [
        model.apply({"params": params}, tokens, model.empty(1), deterministic=False,
                    rngs={"dropout": jax.random.key(seed)})[0]
        for seed in range(3)
    ]  # fmt: skip
    plain_logits, _ = model.apply({"params": params}, tokens, model.empty(1))
    assert not np.allclose(kept[0], kept[1])
    assert not np.allclose(kept[0], plain_logits)
    with pytest.raises(UserError, match="token id"):
        model.apply({"params": params}, np.array([[6]]), model.empty(1))
