"""Dead units and spectra against other ways to find them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lth_flax.models.classifier import BiLSTMClassifier
from lth_flax.pruning.connectivity import is_connected, live_units
from lth_flax.pruning.diagnostics import diagnostics
from lth_flax.pruning.masks import apply_mask, full_mask
from lth_flax.pruning.scores import random
from lth_flax.pruning.select import prune

MODEL = BiLSTMClassifier(7, 3, 4, 2, 2)


@pytest.fixture(scope="module")
def params():
    one = jnp.zeros((1, 1), jnp.int32), jnp.ones(1, jnp.int32)
    shapes = jax.eval_shape(MODEL.init, jax.random.key(0), *one)["params"]
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda s: rng.normal(0, 0.5, s.shape).astype(s.dtype), shapes)


def reachable(params, mask):
    """The live units by closing a graph of all nodes and edges: inputs, units, the output."""
    edges = set()
    hidden = 4
    for layer in range(2):
        for direction in ("forward", "backward"):
            into = np.asarray(mask[f"lstm_{layer}"][direction]["input_kernel"])
            again = np.asarray(mask[f"lstm_{layer}"][direction]["recurrent_kernel"])
            for unit in range(hidden):
                columns = [gate * hidden + unit for gate in range(4)]
                for row in np.flatnonzero(into[:, columns].any(axis=1)):
                    below = ("forward", "backward")[row // hidden]
                    source = (layer - 1, below, row % hidden) if layer else "input"
                    edges.add((source, (layer, direction, unit)))
                for row in np.flatnonzero(again[:, columns].any(axis=1)):
                    edges.add(((layer, direction, row), (layer, direction, unit)))
    for row in np.flatnonzero(np.asarray(mask["head"]["kernel"]).any(axis=1)):
        edges.add(((1, ("forward", "backward")[row // hidden], row % hidden), "output"))

    def closure(start, pairs):
        seen = {start}
        while more := {b for a, b in pairs if a in seen} - seen:
            seen |= more
        return seen

    return closure("input", edges) & closure("output", {(b, a) for a, b in edges})


@pytest.mark.slow
def test_live_units_are_those_of_a_path_in_the_graph(params):
    dead = connected = 0
    for number in range(40):
        scores = random(params, key=jax.random.key(number))
        mask = prune(scores, full_mask(params), sparsity=[0.8, 0.9, 0.95, 0.97][number % 4])
        expected = reachable(params, mask)
        found = live_units(params, mask)
        assert list(found) == [f"lstm_{n}/{d}" for n in (0, 1) for d in ("forward", "backward")]
        for layer in (0, 1):
            for direction in ("forward", "backward"):
                live = found[f"lstm_{layer}/{direction}"]
                ours = [(layer, direction, unit) in expected for unit in range(4)]
                assert live.tolist() == ours
                dead += int((~live).sum())
        assert is_connected(params, mask) == ("input" in expected)
        connected += "input" in expected
    assert 0 < dead < 40 * 16
    assert 0 < connected < 40


def test_spectra_are_those_of_the_kernels_under_the_mask(params):
    mask = prune(random(params, key=jax.random.key(1)), full_mask(params), sparsity=0.5)
    found = diagnostics(params, mask)
    assert len(found) == 4 * 6
    kernel = np.asarray(apply_mask(params, mask)["lstm_1"]["backward"]["recurrent_kernel"])
    gram = kernel.astype(np.float64) @ kernel.T
    largest = np.sqrt(np.linalg.eigvalsh(gram).max())
    np.testing.assert_allclose(found["singular_value/lstm_1/backward"], largest, rtol=1e-5)
    # Powers of a matrix grow like its spectral radius.
    gate = kernel[:, 8:12].astype(np.float64)  # g
    grown = np.linalg.norm(np.linalg.matrix_power(gate, 400)) ** (1 / 400)
    np.testing.assert_allclose(found["spectral_radius_g/lstm_1/backward"], grown, rtol=0.02)
    dense = diagnostics(params, full_mask(params))
    assert dense["dead_units/lstm_0/forward"] == 0
    assert dense["singular_value/lstm_1/backward"] != found["singular_value/lstm_1/backward"]


def test_weights_that_are_not_finite_have_no_spectrum(params):
    broken = jax.tree.map(np.array, params)
    broken["lstm_0"]["forward"]["recurrent_kernel"][0, 0] = np.inf
    found = diagnostics(broken, full_mask(params))
    assert np.isnan(found["singular_value/lstm_0/forward"])
    assert np.isnan(found["spectral_radius_o/lstm_0/forward"])
    assert np.isfinite(found["singular_value/lstm_1/forward"])
