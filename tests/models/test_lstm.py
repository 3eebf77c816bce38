"""The recurrent core against a slow oracle, against autodiff, and against PyTorch."""

import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lth_flax.models.classifier import BiLSTMClassifier
from lth_flax.models.lstm import bidirectional_lstm

LENGTHS = np.array([6, 1, 4, 0, 5])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def oracle_direction(params, sequence):
    """One text, one direction, in float64: states after each token."""
    hidden = params["recurrent_kernel"].shape[0]
    h, c = np.zeros(hidden), np.zeros(hidden)
    states = []
    for x in sequence:
        z = x @ params["input_kernel"] + h @ params["recurrent_kernel"] + params["bias"]
        i, f, g, o = np.split(z, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        states.append(h)
    return np.array(states).reshape(len(sequence), hidden)


def oracle(layer_params, inputs, lengths):
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), layer_params)
    hidden = params["forward"]["recurrent_kernel"].shape[0]
    outputs = np.zeros((*inputs.shape[:2], 2 * hidden))
    final = np.zeros((inputs.shape[0], 2 * hidden))
    for row, length in enumerate(lengths):
        if length == 0:
            continue
        text = np.asarray(inputs[row, :length], np.float64)
        forward = oracle_direction(params["forward"], text)
        backward = oracle_direction(params["backward"], text[::-1])[::-1]
        outputs[row, :length] = np.concatenate([forward, backward], axis=1)
        final[row] = np.concatenate([forward[-1], backward[0]])
    return outputs, final


def layer(features=5, hidden=3, seed=0, scale=0.6):
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return jnp.asarray(rng.normal(size=shape) * scale, jnp.float32)

    def direction():
        return {
            "input_kernel": draw(features, 4 * hidden),
            "recurrent_kernel": draw(hidden, 4 * hidden),
            "bias": draw(4 * hidden),
        }

    return {"forward": direction(), "backward": direction()}


def inputs(features=5, time=6, seed=1):
    return jnp.asarray(
        np.random.default_rng(seed).normal(size=(len(LENGTHS), time, features)), jnp.float32
    )


@pytest.mark.usefixtures("strict_promotion")
def test_equals_the_oracle_on_ragged_lengths():
    outputs, final = bidirectional_lstm(layer(), inputs(), jnp.asarray(LENGTHS))
    expected_outputs, expected_final = oracle(layer(), inputs(), LENGTHS)
    np.testing.assert_allclose(outputs, expected_outputs, atol=2e-6)
    np.testing.assert_allclose(final, expected_final, atol=2e-6)


def test_outputs_past_the_end_and_of_empty_texts_are_exactly_zero():
    outputs, final = bidirectional_lstm(layer(scale=3.0), 10 * inputs(), jnp.asarray(LENGTHS))
    for row, length in enumerate(LENGTHS):
        assert not np.any(np.asarray(outputs)[row, length:])
    assert not np.any(np.asarray(final)[3])


def plain_lstm(layer_params, x, lengths):
    """The same layer for autodiff: a Python loop over time, masked with `where`."""
    finals, outputs = [], []
    for name in ("forward", "backward"):
        p = layer_params[name]
        hidden = p["recurrent_kernel"].shape[0]
        h = c = jnp.zeros((x.shape[0], hidden))
        states = [None] * x.shape[1]
        order = range(x.shape[1]) if name == "forward" else reversed(range(x.shape[1]))
        for t in order:
            z = x[:, t] @ p["input_kernel"] + h @ p["recurrent_kernel"] + p["bias"]
            i, f, g, o = jnp.split(z, 4, axis=-1)
            new_c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            new_h = jax.nn.sigmoid(o) * jnp.tanh(new_c)
            real = (t < lengths)[:, None]
            h, c = jnp.where(real, new_h, h), jnp.where(real, new_c, c)
            states[t] = jnp.where(real, new_h, 0)
        finals.append(h)
        outputs.append(jnp.stack(states, axis=1))
    return jnp.concatenate(outputs, -1), jnp.concatenate(finals, -1)


@pytest.mark.parametrize("hidden", [1, 8])
def test_handwritten_gradient_equals_autodiff(hidden):
    params, x, lengths = layer(hidden=hidden), inputs(), jnp.asarray(LENGTHS)
    rng = np.random.default_rng(3)
    weights = [
        jnp.asarray(rng.normal(size=(*x.shape[:2], 2 * hidden)), jnp.float32),
        jnp.asarray(rng.normal(size=(x.shape[0], 2 * hidden)), jnp.float32),
    ]

    def loss(function, params, x):
        outputs, final = function(params, x, lengths)
        return jnp.sum(outputs * weights[0]) + jnp.sum(final**2 * weights[1])

    ours = jax.jit(jax.grad(partial(loss, bidirectional_lstm), argnums=(0, 1)))(params, x)
    plain = jax.jit(jax.grad(partial(loss, plain_lstm), argnums=(0, 1)))(params, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), ours, plain)


@pytest.mark.slow
def test_equals_torch_forward_and_gradient():
    torch = pytest.importorskip("torch", reason="PyTorch is in the extra bench")
    params, x = layer(), np.asarray(inputs())
    rows = [0, 1, 2, 4]  # PyTorch refuses texts of length zero
    module = torch.nn.LSTM(5, 3, bidirectional=True, batch_first=True)
    suffixes = {"forward": "", "backward": "_reverse"}
    with torch.no_grad():
        for name, suffix in suffixes.items():
            for ours, theirs in (("input_kernel", "weight_ih"), ("recurrent_kernel", "weight_hh")):
                value = torch.tensor(np.asarray(params[name][ours]).T.copy())
                getattr(module, f"{theirs}_l0{suffix}").copy_(value)
            getattr(module, f"bias_ih_l0{suffix}").copy_(
                torch.tensor(np.array(params[name]["bias"]))
            )
            getattr(module, f"bias_hh_l0{suffix}").zero_()
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        torch.tensor(x[rows]), torch.tensor(LENGTHS[rows]), batch_first=True, enforce_sorted=False
    )
    packed_outputs, (h, _) = module(packed)
    outputs, _ = torch.nn.utils.rnn.pad_packed_sequence(packed_outputs, batch_first=True)
    final = torch.cat([h[0], h[1]], dim=-1)
    (outputs.pow(2).sum() + final.pow(3).sum()).backward()

    def loss(params):
        ours, ours_final = bidirectional_lstm(
            params, jnp.asarray(x[rows]), jnp.asarray(LENGTHS[rows])
        )
        return jnp.sum(ours**2) + jnp.sum(ours_final**3), (ours, ours_final)

    grads, (ours, ours_final) = jax.grad(loss, has_aux=True)(params)
    np.testing.assert_allclose(ours, outputs.detach().numpy(), atol=2e-6)
    np.testing.assert_allclose(ours_final, final.detach().numpy(), atol=2e-6)
    for name, suffix in suffixes.items():
        for mine, theirs in (("input_kernel", "weight_ih"), ("recurrent_kernel", "weight_hh")):
            expected = getattr(module, f"{theirs}_l0{suffix}").grad.numpy().T
            np.testing.assert_allclose(grads[name][mine], expected, atol=1e-5)
        expected = getattr(module, f"bias_ih_l0{suffix}").grad.numpy()
        np.testing.assert_allclose(grads[name]["bias"], expected, atol=1e-5)


def small_classifier(dropout=0.0):
    return BiLSTMClassifier(
        vocabulary_size=20, embedding_size=4, hidden_size=3, num_layers=3, num_classes=3,
        dropout=dropout,
    )  # fmt: skip


def small_batch():
    tokens = np.zeros((len(LENGTHS), 6), np.int32)
    rng = np.random.default_rng(0)
    for row, length in enumerate(LENGTHS):
        tokens[row, :length] = rng.integers(2, 20, length)
    return jnp.asarray(tokens), jnp.asarray(LENGTHS, jnp.int32)


@functools.cache
def small_params():
    """Of `small_classifier`, with or without dropout."""
    return small_classifier().init(jax.random.key(0), *small_batch())["params"]


@pytest.mark.slow
def test_padding_further_changes_nothing_even_under_dropout():
    tokens, lengths = small_batch()
    model = small_classifier(dropout=0.4)
    params = small_params()
    longer = jnp.pad(tokens, ((0, 0), (0, 9)))

    def loss(params, tokens):
        logits = model.apply(
            {"params": params},
            tokens,
            lengths,
            deterministic=False,
            rngs={"dropout": jax.random.key(5)},
        )
        return jnp.sum(logits**2), logits

    gradient = jax.jit(jax.grad(loss, has_aux=True))
    grads, logits = gradient(params, tokens)
    longer_grads, longer_logits = gradient(params, longer)
    np.testing.assert_allclose(longer_logits, logits, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), longer_grads, grads)


def test_what_stands_in_the_padding_does_not_matter():
    tokens, lengths = small_batch()
    model, params = small_classifier(), small_params()
    padding = np.arange(6)[None, :] >= LENGTHS[:, None]
    other = jnp.where(padding, 7, tokens)
    np.testing.assert_array_equal(
        model.apply({"params": params}, tokens, lengths),
        model.apply({"params": params}, other, lengths),
    )


def test_public_parameter_layout_and_initialization():
    tokens, lengths = small_batch()
    params = small_classifier().init(jax.random.key(3), tokens, lengths)["params"]
    shapes = jax.tree.map(lambda leaf: leaf.shape, params)
    direction = {"recurrent_kernel": (3, 12), "bias": (12,)}
    first, later = ({**direction, "input_kernel": (n, 12)} for n in (4, 6))
    assert shapes == {
        "embedding": {"embedding": (20, 4)},
        "lstm_0": {"forward": first, "backward": first},
        "lstm_1": {"forward": later, "backward": later},
        "lstm_2": {"forward": later, "backward": later},
        "head": {"kernel": (6, 3), "bias": (3,)},
    }
    for gate in np.split(np.asarray(params["lstm_1"]["forward"]["recurrent_kernel"]), 4, axis=1):
        np.testing.assert_allclose(gate @ gate.T, np.eye(3), atol=1e-5)
    bias = np.asarray(params["lstm_0"]["backward"]["bias"])
    np.testing.assert_array_equal(bias, [0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    # Glorot, gate by gate: uniform within sqrt(6 / (in + out)), and not far inside it.
    limit = np.sqrt(6 / (6 + 3))
    kernel = np.abs(np.asarray(params["lstm_1"]["forward"]["input_kernel"]))
    assert limit * 0.8 < kernel.max() <= limit


def test_empty_text_gives_the_bias_alone():
    tokens, lengths = small_batch()
    model = small_classifier()
    params = model.init(jax.random.key(0), tokens, lengths)["params"]
    params = {**params, "head": {**params["head"], "bias": jnp.array([1.0, -2.0, 0.5])}}
    logits = model.apply({"params": params}, tokens, lengths)
    np.testing.assert_array_equal(logits[3], [1.0, -2.0, 0.5])
