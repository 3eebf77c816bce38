"""What a model says of its units, held against what the network itself does.

The oracle knows nothing of the statement: a derivative of the outputs by the parameters says who
owns and who reads, and a permuted network with equal outputs says that nothing was forgotten.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import tree_leaves_with_path, tree_map

from lth_flax.models.classifier import BiLSTMClassifier
from lth_flax.models.units import units
from lth_flax.pruning.masks import path_names

TOKENS = np.array([[1, 2, 3, 4], [2, 4, 1, 0], [3, 0, 0, 0], [0, 0, 0, 0]])
LENGTHS = np.array([4, 3, 1, 0])


def network(layers=2, hidden=3, seed=0):
    model = BiLSTMClassifier(5, 4, hidden, layers, 2)
    params = model.init(jax.random.key(seed), TOKENS, LENGTHS)["params"]
    noise = jax.random.split(jax.random.key(seed + 1), len(jax.tree_util.tree_leaves(params)))
    leaves, tree = jax.tree_util.tree_flatten(params)
    leaves = [
        leaf + 0.3 * jax.random.normal(k, leaf.shape) for leaf, k in zip(leaves, noise, strict=True)
    ]
    return model, jax.tree_util.tree_unflatten(tree, leaves)


def touched(params, parts, unit):
    """Per path, where a unit has its share, as a bool array of the parameter's shape."""
    found = {
        path_names(p): np.zeros(np.shape(leaf), bool) for p, leaf in tree_leaves_with_path(params)
    }
    for part in parts:
        for start in part.starts:
            index = [slice(None)] * found[part.path].ndim
            index[part.axis] = start + unit
            found[part.path][tuple(index)] = True
    return found


def test_the_groups_of_two_layers_are_counted_from_features_up():
    _, params = network()
    found = [(group.name, group.kind, group.size) for group in units(params)]
    assert found == [
        ("embedding", "features", 4),
        ("lstm_0/forward", "units", 3),
        ("lstm_0/backward", "units", 3),
        ("lstm_1/forward", "units", 3),
        ("lstm_1/backward", "units", 3),
    ]


@pytest.mark.parametrize("layers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_unit_without_its_readers_has_no_influence_and_no_gradient(layers):
    model, params = network(layers)
    for group in units(params):
        away = touched(params, group.readers, 1)
        cut = {p: ~kept for p, kept in away.items()}
        masked = jax.tree_util.tree_map_with_path(
            lambda p, w, cut=cut: w * cut[path_names(p)], params
        )
        grads = jax.grad(lambda p: jnp.sum(model.apply({"params": p}, TOKENS, LENGTHS) ** 2))(
            masked
        )
        owned = touched(params, group.owned, 1)
        for path, grad in tree_leaves_with_path(grads):
            names = path_names(path)
            # What the unit owns gets no gradient, but from its rows of other units' kernels.
            assert not np.any(np.asarray(grad)[owned[names]]), (group.name, names)
        other = touched(params, group.owned, 0)  # that of a unit that is read is not all zero
        assert any(
            np.any(np.asarray(grad)[other[path_names(path)]])
            for path, grad in tree_leaves_with_path(grads)
        )


def test_units_that_are_permuted_with_all_their_parts_change_nothing():
    model, params = network()
    before = model.apply({"params": params}, TOKENS, LENGTHS)
    rng = np.random.default_rng(0)
    flat = {path_names(p): np.array(leaf) for p, leaf in tree_leaves_with_path(params)}
    for group in units(params):
        order = rng.permutation(group.size)
        for part in (*group.owned, *group.readers):
            leaf = flat[part.path]
            index = np.arange(leaf.shape[part.axis])
            for start in part.starts:
                index[start : start + group.size] = start + order
            flat[part.path] = np.take(leaf, index, part.axis)
    permuted = jax.tree_util.tree_map_with_path(lambda p, _: flat[path_names(p)], params)
    assert any(
        not np.array_equal(a, b)
        for a, b in zip(
            jax.tree_util.tree_leaves(permuted), jax.tree_util.tree_leaves(params), strict=True
        )
    )
    after = model.apply({"params": permuted}, TOKENS, LENGTHS)
    np.testing.assert_allclose(after, before, atol=1e-6)


def test_every_entry_of_a_kernel_and_bias_belongs_to_one_unit_and_every_row_is_read_once():
    _, params = network()
    for role in ("owned", "readers"):
        count = tree_map(lambda leaf: np.zeros(np.shape(leaf), int), params)
        count = {path_names(p): leaf for p, leaf in tree_leaves_with_path(count)}
        for group in units(params):
            for unit in range(group.size):
                for path, where in touched(params, getattr(group, role), unit).items():
                    count[path] += where
        for path, times in count.items():
            of_output = path[0] == "head"
            one = not of_output if role == "owned" else path[-1].endswith("kernel")
            assert np.all(times == one), (role, path)


def test_a_unit_whose_drive_is_zero_answers_zero_whatever_else_it_has():
    model, params = network()
    before = model.apply({"params": params}, TOKENS, LENGTHS)
    for group in units(params):
        driven = touched(params, group.drive, 1)
        silent = jax.tree_util.tree_map_with_path(
            lambda p, w, driven=driven: jnp.where(driven[path_names(p)], 0, w), params
        )
        unread = touched(params, group.readers, 1)
        cut = jax.tree_util.tree_map_with_path(
            lambda p, w, unread=unread: jnp.where(unread[path_names(p)], 0, w), silent
        )
        one = model.apply({"params": silent}, TOKENS, LENGTHS)
        two = model.apply({"params": cut}, TOKENS, LENGTHS)
        np.testing.assert_allclose(one, two, atol=1e-6)
        assert np.abs(one - before).max() > 1e-4  # it was not silent before
