"""What the classifier says of itself, against textbook code in NumPy and autodiff."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lth_flax.models import knowledge
from lth_flax.models.classifier import BiLSTMClassifier

HIDDEN = 3
LENGTHS = np.array([5, 2, 0, 7])


def network(layers=2, hidden=HIDDEN, classes=2, seed=0):
    """A classifier, and parameters of its shapes."""
    model = BiLSTMClassifier(11, 4, hidden, layers, classes)
    tokens, lengths = jnp.zeros((1, 1), jnp.int32), jnp.ones(1, jnp.int32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), tokens, lengths)["params"]
    rng = np.random.default_rng(seed)
    return model, jax.tree.map(lambda s: jnp.asarray(rng.normal(0, 0.5, s.shape), s.dtype), shapes)


def a_batch(time=7, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "tokens": jnp.asarray(rng.integers(1, 11, (4, time)), jnp.int32),
        "lengths": jnp.asarray(LENGTHS, jnp.int32),
        "labels": jnp.array([0, 1, 1, 0]),
        "weight": jnp.array([1.0, 1.0, 1.0, 0.0]),
    }


def test_tempered_logits_are_divided():
    model, params = network()
    params["head"]["bias"] += 0.7
    batch = a_batch()
    found = model.apply(
        {"params": knowledge.tempered(params, 200.0)}, batch["tokens"], batch["lengths"]
    )
    expected = model.apply({"params": params}, batch["tokens"], batch["lengths"]) / 200
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8)


def test_gates_are_those_of_lstm_kernels():
    assert knowledge.gates(("lstm_0", "forward", "input_kernel")) == ("i", "f", "g", "o")
    assert knowledge.gates(("lstm_1", "backward", "recurrent_kernel")) == ("i", "f", "g", "o")
    assert knowledge.gates(("head", "kernel")) is None
    assert knowledge.gates(("lstm_0", "forward", "bias")) is None


def paths_of(params, steps=knowledge.SURROGATE_STEPS):
    """The surrogate as a loop over steps and gates, in float64, without any scaling."""
    features = params["embedding"]["embedding"].shape[1]
    inputs = [np.ones(features)] * steps
    for layer in range(sum(name.startswith("lstm_") for name in params)):
        outputs = {}
        for direction in ("forward", "backward"):
            kernels = params[f"lstm_{layer}"][direction]
            into, again = (
                sum(np.split(np.asarray(kernels[name], np.float64), 4, axis=1))
                for name in ("input_kernel", "recurrent_kernel")
            )
            state, states = np.zeros(into.shape[1]), []
            for x in inputs if direction == "forward" else reversed(inputs):
                state = x @ into + state @ again
                states.append(state)
            outputs[direction] = states
        inputs = [
            np.concatenate([one, other])
            for one, other in zip(outputs["forward"], outputs["backward"][::-1], strict=True)
        ]
        final = np.concatenate([outputs["forward"][-1], outputs["backward"][-1]])
    return float(np.sum(final @ np.asarray(params["head"]["kernel"], np.float64)))


@pytest.mark.parametrize("layers", [1, 3])
def test_the_surrogate_is_a_sum_over_paths_up_to_a_factor(layers):
    # A factor that no weight changes: ratios of outputs and of their derivatives are right.
    _, params = network(layers)
    sizes = jax.tree.map(jnp.abs, params)
    found, gradient = jax.value_and_grad(knowledge.linearized)(sizes)
    total = paths_of(sizes)
    for path in (("lstm_0", "forward", "recurrent_kernel"), ("head", "kernel")):
        leaf, slope = sizes, gradient
        for name in path:
            leaf, slope = leaf[name], slope[name]
        without = jax.tree.map(np.array, sizes)
        inner = without
        for name in path[:-1]:
            inner = inner[name]
        step = 1e-4
        inner[path[-1]] = inner[path[-1]].astype(np.float64)
        inner[path[-1]][1, 1] += step
        expected = (paths_of(without) - total) / step / total
        np.testing.assert_allclose(slope[1, 1] / found, expected, rtol=2e-3)


@pytest.mark.slow
def test_a_deep_surrogate_stays_in_range():
    _, params = network(layers=8, hidden=16)
    sizes = jax.tree.map(lambda leaf: 1000 * jnp.abs(leaf), params)
    found, gradient = jax.value_and_grad(knowledge.linearized)(sizes)
    assert np.isfinite(found)
    assert found > 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    nothing = jax.tree.map(jnp.zeros_like, params)
    assert knowledge.linearized(nothing) == 0
    assert all(
        np.isfinite(x).all() for x in jax.tree.leaves(jax.grad(knowledge.linearized)(nothing))
    )


@jax.jit
def step(kernels, x, h, c):
    """One LSTM step, gate by gate."""
    z = [
        x @ w + h @ u + b
        for w, u, b in zip(
            jnp.split(kernels["input_kernel"], 4, axis=1),
            jnp.split(kernels["recurrent_kernel"], 4, axis=1),
            jnp.split(kernels["bias"], 4),
            strict=True,
        )
    ]
    c = jax.nn.sigmoid(z[1]) * c + jax.nn.sigmoid(z[0]) * jnp.tanh(z[2])
    return jax.nn.sigmoid(z[3]) * jnp.tanh(c), c


def squares(kernels, state, x):
    """One step, and the sum of squared singular values of its Jacobian."""

    def both(state):
        return jnp.concatenate(step(kernels, x, state[:HIDDEN], state[HIDDEN:]))

    values = jnp.linalg.svd(jax.jacfwd(both)(state), compute_uv=False)
    return both(state), jnp.sum(values**2)


@jax.jit
@jax.value_and_grad
def chi_of(kernels, texts):
    """The mean of that over the last four steps of every text."""
    found = [
        jax.lax.scan(lambda h_c, x: squares(kernels, h_c, x), jnp.zeros(2 * HIDDEN), text)[1][-4:]
        for text in texts
    ]
    return jnp.mean(jnp.concatenate(found))


def texts_of(params, batch, layer, direction):
    """What a direction of a layer reads, in its order, real texts and real steps alone."""
    states = np.asarray(params["embedding"]["embedding"])[np.asarray(batch["tokens"])]
    texts = [states[row, : LENGTHS[row]] for row in range(3)]  # the fourth has weight 0
    for below in range(layer):
        outputs = []
        for text in texts:
            sides = []
            for one in ("forward", "backward"):
                h = c = jnp.zeros(HIDDEN)
                side = []
                for x in text if one == "forward" else text[::-1]:
                    h, c = step(params[f"lstm_{below}"][one], x, h, c)
                    side.append(h)
                sides.append(side if one == "forward" else side[::-1])
            outputs.append(
                np.array([np.concatenate(pair) for pair in zip(*sides, strict=True)]).reshape(
                    len(text), 2 * HIDDEN
                )
            )
        texts = outputs
    return [text if direction == "forward" else text[::-1] for text in texts if len(text)]


@pytest.mark.slow
def test_the_jacobian_is_the_sum_of_squared_singular_values_and_so_is_its_gradient(monkeypatch):
    # Many draws: their mean comes near its expectation, which the oracle computes.
    monkeypatch.setattr(knowledge, "JACOBIAN_DRAWS", 16_000)
    _, params = network()
    batch = a_batch()

    def total(params):
        return knowledge.squared_jacobian(params, batch, jax.random.key(0))

    found, gradient = jax.jit(jax.value_and_grad(total))(params)
    expected = 0.0
    for layer in range(2):
        for direction in ("forward", "backward"):
            texts = texts_of(params, batch, layer, direction)
            chi, slope = chi_of(params[f"lstm_{layer}"][direction], texts)
            expected += chi
            for name, leaf in slope.items():
                ours = gradient[f"lstm_{layer}"][direction][name]
                scale = float(jnp.abs(leaf).max())
                np.testing.assert_allclose(ours / scale, leaf / scale, atol=0.03)
    np.testing.assert_allclose(found, expected, rtol=0.02)
    for name in ("embedding", "head"):
        assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradient[name]))


@pytest.mark.slow
def test_the_jacobian_does_not_read_padding():
    _, params = network(1)
    batch = a_batch(time=9)
    key = jax.random.key(1)
    other = {**batch, "tokens": batch["tokens"].at[1, 2:].set(7).at[3].set(3)}
    np.testing.assert_array_equal(
        knowledge.squared_jacobian(params, batch, key),
        knowledge.squared_jacobian(params, other, key),
    )
    as_text = {**batch, "lengths": jnp.full(4, 9, jnp.int32)}
    np.testing.assert_array_equal(
        knowledge.squared_jacobian(params, batch, key, readout="last_position"),
        knowledge.squared_jacobian(params, as_text, key),
    )
