"""Laws of masks, scores and connectivity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lth_flax.models.knowledge import gates
from lth_flax.pruning import scores
from lth_flax.pruning.connectivity import is_connected
from lth_flax.pruning.masks import (
    apply_mask,
    count_kept,
    density,
    full_mask,
    permute_within_tensors,
    sparsity,
    total_sparsity,
)


def network(features=3, hidden=2, classes=2, layers=2):
    def direction(inputs):
        return {
            "input_kernel": jnp.ones((inputs, 4 * hidden)),
            "recurrent_kernel": jnp.ones((hidden, 4 * hidden)),
            "bias": jnp.ones(4 * hidden),
        }

    params = {
        "embedding": {"embedding": jnp.ones((7, features))},
        "head": {"kernel": jnp.ones((2 * hidden, classes)), "bias": jnp.ones(classes)},
    }
    for layer in range(layers):
        inputs = features if layer == 0 else 2 * hidden
        params[f"lstm_{layer}"] = {"forward": direction(inputs), "backward": direction(inputs)}
    return params


def numpy_tree(tree):
    return jax.tree.map(np.array, tree)


def test_default_rule_is_every_kernel_and_no_embedding_or_bias():
    mask = full_mask(network())
    assert mask["embedding"]["embedding"].shape == ()
    assert mask["head"]["bias"].shape == ()
    assert mask["lstm_1"]["backward"]["bias"].shape == ()
    assert mask["lstm_0"]["forward"]["input_kernel"].shape == (3, 8)
    assert mask["head"]["kernel"].shape == (4, 2)
    assert sparsity(mask) == 0.0


def test_a_predicate_on_the_path_changes_the_rule():
    mask = full_mask(network(), lambda path, leaf: path == ("head", "kernel"))
    assert sum(leaf.ndim > 0 for leaf in jax.tree.leaves(mask)) == 1
    with pytest.raises(ValueError, match="no parameter is prunable"):
        full_mask(network(), lambda path, leaf: False)
    with pytest.raises(ValueError, match="is a scalar"):
        full_mask({"scale": jnp.float32(1)}, lambda path, leaf: True)


def test_any_pytree():
    params = [(jnp.ones((2, 2)), jnp.ones(2)), {"k": jnp.ones((1, 3))}]
    mask = full_mask(params)
    assert mask[0][0].shape == (2, 2)
    assert mask[0][1].shape == ()
    assert sparsity(mask) == 0.0


def test_apply_mask_zeroes_exactly_and_keeps_the_rest():
    params = {"w": jnp.array([[1.0, jnp.nan], [jnp.inf, 4.0]]), "b": jnp.array([jnp.nan])}
    mask = {"w": jnp.array([[True, False], [False, True]]), "b": jnp.array(True)}
    masked = apply_mask(params, mask)
    np.testing.assert_array_equal(masked["w"], [[1.0, 0.0], [0.0, 4.0]])
    assert np.isnan(masked["b"]).all()
    again = apply_mask(masked, mask)
    np.testing.assert_array_equal(again["w"], masked["w"])


def test_apply_mask_lifts_over_a_table():
    params = {"w": jnp.arange(8.0).reshape(2, 2, 2), "b": jnp.ones((2, 3))}
    mask = {"w": jnp.arange(8).reshape(2, 2, 2) % 2 == 0, "b": jnp.ones(2, bool)}
    lifted = jax.vmap(apply_mask)(params, mask)
    for row in range(2):
        one = apply_mask(
            {name: leaf[row] for name, leaf in params.items()},
            {name: leaf[row] for name, leaf in mask.items()},
        )
        for name, leaf in one.items():
            np.testing.assert_array_equal(leaf, lifted[name][row])


def test_sparsity_of_prunable_and_of_all_weights():
    params = {"k": jnp.ones((2, 5)), "b": jnp.ones(10)}
    mask = {"k": jnp.array([[True] * 5, [False] * 5]), "b": jnp.array(True)}
    assert sparsity(mask) == 0.5
    assert total_sparsity(params, mask) == 0.25


def test_density_per_matrix_and_gate():
    mask = numpy_tree(full_mask(network()))
    kernel = mask["lstm_0"]["forward"]["input_kernel"]
    kernel[:, 2:4] = False  # gate f of hidden size 2
    kernel[0, 4] = False  # one of the six weights of gate g
    found = density(mask, gates)
    assert found["lstm_0/forward/input_kernel/i"] == 1.0
    assert found["lstm_0/forward/input_kernel/f"] == 0.0
    assert found["lstm_0/forward/input_kernel/g"] == pytest.approx(5 / 6)
    assert found["lstm_0/forward/input_kernel"] == pytest.approx(17 / 24)
    assert found["head/kernel"] == 1.0
    assert "embedding/embedding" not in found


def test_density_of_a_network_that_says_nothing_of_gates():
    # As Keras names the kernels of a GRU, which has three; and an array that is all there is.
    mask = {"cell": {"recurrent_kernel": np.ones((2, 3), bool)}}
    assert density(mask) == {"cell/recurrent_kernel": 1.0}
    assert density(np.array([True, False])) == {"": 0.5}


def test_permutation_keeps_the_count_of_every_tensor():
    mask = {"a": jnp.arange(60).reshape(6, 10) < 20, "b": jnp.arange(40).reshape(4, 10) < 7}
    mask["bias"] = jnp.array(True)
    shuffled = permute_within_tensors(mask, jax.random.key(0))
    for name in ("a", "b"):
        assert count_kept({name: shuffled[name]}) == count_kept({name: mask[name]})
        assert (np.asarray(shuffled[name]) != np.asarray(mask[name])).any()
    assert shuffled["bias"].shape == ()
    again = permute_within_tensors(mask, jax.random.key(0))
    np.testing.assert_array_equal(again["a"], shuffled["a"])


def test_scores():
    params, before = {"w": jnp.array([[-3.0, 1.0]])}, {"w": jnp.array([[2.5, -4.0]])}
    np.testing.assert_array_equal(scores.magnitude(params)["w"], [[3.0, 1.0]])
    increase = scores.magnitude_increase(params, initial_params=before)
    np.testing.assert_array_equal(increase["w"], [[0.5, -3.0]])
    draw = scores.random({"a": jnp.zeros((50, 2)), "b": jnp.zeros((50, 2))}, key=jax.random.key(1))
    assert len(np.unique(np.concatenate([draw["a"], draw["b"]]))) == 200
    with pytest.raises(ValueError, match="pass key"):
        scores.random(params)
    with pytest.raises(ValueError, match="initial_params"):
        scores.magnitude_increase(params)


def test_connected_networks():
    params = network()
    mask = numpy_tree(full_mask(params))
    assert is_connected(params, mask)
    # One weight per matrix on one path: input 2 -> unit 1 (gate o) of layer 0 backward
    # -> unit 0 (gate i) of layer 1 forward -> head.
    for leaf in jax.tree.leaves(mask):
        if leaf.ndim:
            leaf[...] = False
    mask["lstm_0"]["backward"]["input_kernel"][2, 3 * 2 + 1] = True
    mask["lstm_1"]["forward"]["input_kernel"][2 + 1, 0] = True
    mask["head"]["kernel"][0, 1] = True
    assert is_connected(params, mask)
    mask["lstm_1"]["forward"]["input_kernel"][2 + 1, 0] = False
    assert not is_connected(params, mask)


def test_connection_through_time():
    params = network(layers=1)
    mask = numpy_tree(full_mask(params))
    for leaf in jax.tree.leaves(mask):
        if leaf.ndim:
            leaf[...] = False
    # Unit 0 reads the input, unit 1 reads unit 0 one step later, the head reads unit 1.
    mask["lstm_0"]["forward"]["input_kernel"][0, 0] = True
    mask["head"]["kernel"][1, 0] = True
    assert not is_connected(params, mask)
    mask["lstm_0"]["forward"]["recurrent_kernel"][0, 2 + 1] = True
    assert is_connected(params, mask)


def test_an_empty_head_disconnects_and_head_only_masks_work():
    params = network()
    mask = numpy_tree(full_mask(params))
    mask["head"]["kernel"][...] = False
    assert not is_connected(params, mask)
    assert is_connected(params, full_mask(params, lambda path, leaf: path == ("head", "kernel")))
