"""Scores, masks and needs of whole units, each against a slow and obvious way to the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.tree_util import tree_leaves_with_path

from lth_flax.errors import UserError
from lth_flax.models.units import units
from lth_flax.pruning.masks import full_mask, path_names, permute_within_tensors, sparsity
from lth_flax.pruning.select import prune
from lth_flax.pruning.units import (
    chosen_groups,
    expanded,
    needed_units,
    on_units,
    unit_scores,
    units_of,
)

FEATURES, CLASSES, WORDS = 3, 2, 5


def network(widths, rng, features=FEATURES):
    """Random parameters in the public layout, float64."""
    params = {"embedding": {"embedding": rng.normal(size=(WORDS, features))}}
    for layer, pair in enumerate(widths):
        params[f"lstm_{layer}"] = {
            name: {
                "input_kernel": rng.normal(size=(features, 4 * hidden)),
                "recurrent_kernel": rng.normal(size=(hidden, 4 * hidden)),
                "bias": rng.normal(size=4 * hidden),
            }
            for name, hidden in zip(("forward", "backward"), pair, strict=True)
        }
        features = sum(pair)
    head = {"kernel": rng.normal(size=(features, CLASSES)), "bias": rng.normal(size=CLASSES)}
    return {**params, "head": head}


def logits(params, tokens, lengths, readout="final"):
    """One text after the other, one step after the other; the readout "every" sums all steps."""
    found = []
    for text, length in zip(tokens, lengths, strict=True):
        if readout == "last_position":
            length = len(text)
        states = params["embedding"]["embedding"][text[:length]]
        depth = sum(name.startswith("lstm_") for name in params)
        final = np.zeros(params["head"]["kernel"].shape[0])
        for layer in range(depth):
            outputs = []
            for name in ("forward", "backward"):
                p = params[f"lstm_{layer}"][name]
                hidden = len(p["recurrent_kernel"])
                h, c, seen = np.zeros(hidden), np.zeros(hidden), []
                for x in states if name == "forward" else states[::-1]:
                    z = x @ p["input_kernel"] + h @ p["recurrent_kernel"] + p["bias"]
                    i, f, g, o = np.split(z, 4)
                    c = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
                    h = np.tanh(c) / (1 + np.exp(-o))
                    seen.append(h)
                outputs.append(np.array(seen).reshape(length, hidden))
            states = np.concatenate([outputs[0], outputs[1][::-1]], axis=1)
            ends = [outputs[0], outputs[1][::-1] if readout == "last_position" else outputs[1]]
            if length:
                final = np.concatenate([end[-1] for end in ends])
                if readout == "every":
                    final = states.sum(axis=0)
        found.append(final @ params["head"]["kernel"] + params["head"]["bias"])
    return np.array(found)


def places(group, roles=("owned", "readers")):
    """Unit -> every (path, index) that is its, each once."""
    found = [set() for _ in range(group.size)]
    for role in roles:
        for part in getattr(group, role):
            for start in part.starts:
                for unit in range(group.size):
                    found[unit].add((part.path, part.axis, start + unit))
    return found


def entries(params, mine):
    """The weights at some places, each once."""
    flat = {path_names(p): np.asarray(leaf) for p, leaf in tree_leaves_with_path(params)}
    where = {path: np.zeros(leaf.shape, bool) for path, leaf in flat.items()}
    for path, axis, at in mine:
        index = [slice(None)] * flat[path].ndim
        index[axis] = at
        where[path][tuple(index)] = True
    return np.concatenate([flat[path][marked] for path, marked in where.items()])


PARAMS = network([(3, 2), (2, 4)], np.random.default_rng(0))
GROUPS = units(PARAMS)


@pytest.mark.parametrize("norm", [1, 2, 3.5, 0.5, np.inf])
def test_the_score_of_a_unit_is_the_norm_of_all_that_is_its(norm):
    magnitudes = jax.tree_util.tree_map(lambda w: jnp.abs(jnp.asarray(w, jnp.float32)), PARAMS)
    found = unit_scores(magnitudes, GROUPS, norm=norm)
    for group in GROUPS:
        expected = []
        for mine in places(group):
            values = np.abs(entries(PARAMS, mine))
            expected.append(values.max() if norm == np.inf else (values**norm).sum() ** (1 / norm))
        np.testing.assert_allclose(found[group.name], expected, rtol=2e-5)


def test_of_any_score_it_is_the_sum_with_its_sign():
    scores = jax.tree_util.tree_map(lambda w: jnp.asarray(w, jnp.float32), PARAMS)
    found = unit_scores(scores, GROUPS)
    for group in GROUPS:
        expected = [entries(PARAMS, mine).sum() for mine in places(group)]
        np.testing.assert_allclose(found[group.name], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", [0, -1, float("nan")])
def test_a_norm_that_is_none_is_one_error(norm):
    with pytest.raises(UserError, match="norm of a unit must be above 0"):
        unit_scores(PARAMS, GROUPS, norm=norm)


def test_a_mask_of_units_takes_their_columns_and_rows_alone():
    rng = np.random.default_rng(1)
    kept = {group.name: rng.random(group.size) < 0.6 for group in GROUPS}
    mask = expanded(kept, GROUPS, full_mask(PARAMS))
    flat = {path_names(p): np.asarray(leaf) for p, leaf in tree_leaves_with_path(mask)}
    expected = {
        path_names(p): np.ones(np.shape(leaf), bool) for p, leaf in tree_leaves_with_path(PARAMS)
    }
    for group in GROUPS:
        for unit, mine in enumerate(places(group)):
            for path, axis, at in () if kept[group.name][unit] else mine:
                index = [slice(None)] * expected[path].ndim
                index[axis] = at
                expected[path][tuple(index)] = False
    for path, leaf in flat.items():
        if path[-1].endswith("kernel"):
            np.testing.assert_array_equal(leaf, expected[path])
        else:  # biases and word vectors are not prunable
            assert leaf.shape == ()
            assert leaf


def test_the_units_of_a_mask_are_those_that_it_was_made_from():
    rng = np.random.default_rng(2)
    for _ in range(20):
        kept = {group.name: rng.random(group.size) < 0.5 for group in GROUPS}
        # A feature that no unit of layer 0 is left to read is gone with them.
        if not (kept["lstm_0/forward"].any() or kept["lstm_0/backward"].any()):
            continue
        found = units_of(expanded(kept, GROUPS, full_mask(PARAMS)), GROUPS)
        for name, expected in kept.items():
            np.testing.assert_array_equal(found[name], expected)


@pytest.mark.parametrize("scope", ["global", "tensor"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_units_are_selected_exactly_and_masks_nest(scope, share):
    groups = chosen_groups(GROUPS, ("units",), full_mask(PARAMS))
    full = units_of(full_mask(PARAMS), groups)
    scores = unit_scores(PARAMS, groups)
    kept = prune(scores, full, sparsity=share, scope=scope)
    sizes = [group.size for group in groups]
    if scope == "global":
        assert sum(int(np.sum(k)) for k in kept.values()) == 11 - round(share * 11)
        worst_kept = min(
            (float(scores[n][j]) for n in kept for j in np.flatnonzero(kept[n])), default=np.inf
        )
        best_gone = max(
            (float(scores[n][j]) for n in kept for j in np.flatnonzero(~np.asarray(kept[n]))),
            default=-np.inf,
        )
        assert worst_kept >= best_gone
    else:
        assert [int(np.sum(kept[g.name])) for g in groups] == [n - round(share * n) for n in sizes]
    further = prune(scores, kept, fraction=0.5, scope=scope)
    assert all(not np.any(np.asarray(further[n]) & ~np.asarray(kept[n])) for n in kept)


def test_a_shuffled_mask_of_units_has_as_many_of_each_group():
    groups = chosen_groups(GROUPS, ("units",), full_mask(PARAMS))
    kept = {g.name: np.arange(g.size) < (g.size + 1) // 2 for g in groups}
    mask = expanded(kept, groups, full_mask(PARAMS))
    seen = set()
    for seed in range(8):
        key = jax.random.key(seed)
        shuffled = on_units(mask, groups, lambda m, key=key: permute_within_tensors(m, key))
        assert sparsity(shuffled) > 0
        of_units = units_of(shuffled, groups)
        for name, before in kept.items():
            assert np.sum(of_units[name]) == before.sum()
        # Again whole units: nothing else was moved.
        again = expanded(of_units, groups, full_mask(PARAMS))
        jax.tree_util.tree_map(np.testing.assert_array_equal, shuffled, again)
        seen.add(b"".join(np.asarray(of_units[n]).tobytes() for n in sorted(of_units)))
    assert len(seen) > 1


def test_without_groups_a_mask_is_changed_weight_by_weight():
    mask = full_mask(PARAMS)
    found = on_units(mask, (), lambda m: prune(PARAMS, m, sparsity=0.5))
    assert sparsity(found) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("kinds", "names"),
    [
        (("units",), ["lstm_0/forward", "lstm_0/backward", "lstm_1/forward", "lstm_1/backward"]),
        (("features",), ["embedding"]),
    ],
)
def test_kinds_are_chosen_where_they_can_be_pruned(kinds, names):
    assert [group.name for group in chosen_groups(GROUPS, kinds, full_mask(PARAMS))] == names


def test_what_has_no_prunable_weight_cannot_be_chosen():
    only_head = full_mask(PARAMS, lambda path, leaf: path == ("head", "kernel"))
    assert [g.name for g in chosen_groups(GROUPS, ("units",), only_head)] == [
        "lstm_1/forward", "lstm_1/backward",
    ]  # fmt: skip
    with pytest.raises(UserError, match="no such units with prunable weights"):
        chosen_groups(GROUPS, ("features",), only_head)


# Which units are needed --------------------------------------------------------------------

TOKENS = np.random.default_rng(3).integers(0, WORDS, (3, 10))
LENGTHS = np.array([10, 7, 0])


@st.composite
def masked_networks(draw):
    """A network of random values, with random weights, units, gates and whole matrices pruned."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    depth = draw(st.integers(1, 4))
    # Three units per direction show all there is.
    widths = [tuple(int(n) for n in rng.integers(1, 4, 2)) for _ in range(depth)]
    params = network(widths, rng)
    density = draw(st.sampled_from([0.15, 0.3, 0.5, 0.8, 1.0]))
    emptied = draw(st.sampled_from([0.0, 0.15, 0.4]))

    def masked(path, leaf):
        name = path_names(path)[-1]
        if name == "embedding" or path_names(path) == ("head", "bias"):
            return leaf
        if name == "bias":  # trained biases are not zero, fresh ones of g are
            return np.where(rng.random(leaf.shape) < 0.5, leaf, 0) if rng.random() < 0.5 else leaf
        kept = rng.random(leaf.shape) < density
        if rng.random() < emptied:
            kept[:] = False
        return leaf * kept

    return jax.tree_util.tree_map_with_path(masked, params)


def influences(params, group, unit, readout):
    """Whether the logits change with what is read of a unit.

    By the derivative along an imaginary step, which nothing is subtracted for: a difference of
    logits ends in rounding after four layers of small weights.
    """
    moved = jax.tree_util.tree_map(lambda leaf: np.array(leaf, complex), params)
    for part in group.readers:
        leaf = moved
        for name in part.path:
            leaf = leaf[name]
        for start in part.starts:
            index = [slice(None)] * leaf.ndim
            index[part.axis] = start + unit
            leaf[tuple(index)] *= 1 + 1e-100j
    return np.any(logits(moved, TOKENS, LENGTHS, readout).imag)


@settings(deadline=None, max_examples=20)
@given(masked_networks(), st.sampled_from(["final", "last_position"]))
def test_a_unit_is_needed_exactly_where_an_answer_reads_it(params, readout):
    groups = units(params)
    needed = needed_units(groups, params)
    for group in groups:
        for unit in range(group.size):
            if influences(params, group, unit, readout):
                assert needed[group.name][unit], (group.name, unit)
            elif needed[group.name][unit]:
                # An answer may read of a direction only what it is after one token: what passes
                # from step to step is needed by other positions then, which no answer reads.
                assert influences(params, group, unit, "every"), (group.name, unit)


def all_zero(widths=((2, 2),)):
    return jax.tree_util.tree_map(np.zeros_like, network(list(widths), np.random.default_rng(0)))


def test_a_unit_without_incoming_weights_counts_time_through_its_biases():
    params = all_zero()
    params["lstm_0"]["forward"]["bias"][:] = 1.0
    params["head"]["kernel"][0, 0] = 1.0
    found = needed_units(units(params), params)
    np.testing.assert_array_equal(found["lstm_0/forward"], [True, False])
    texts = np.zeros((2, 3), int)
    one, two = logits(params, texts, [1, 3])[:, 0]
    assert abs(one - two) > 0.01
    # With a g bias of exactly 0 the cell stays empty, whatever the other gates do.
    params["lstm_0"]["forward"]["bias"][4] = 0.0
    params["lstm_0"]["forward"]["input_kernel"][:, [0, 2, 6]] = 1.0
    found = needed_units(units(params), params)
    np.testing.assert_array_equal(found["lstm_0/forward"], [False, False])


def test_units_that_read_only_themselves_and_each_other_are_not_needed():
    params = all_zero()
    for direction in ("forward", "backward"):
        params["lstm_0"][direction]["bias"][:] = 1.0
        params["lstm_0"][direction]["recurrent_kernel"][:] = 1.0
    params["head"]["kernel"][3, 1] = 1.0
    found = needed_units(units(params), params)
    np.testing.assert_array_equal(found["lstm_0/forward"], [False, False])
    np.testing.assert_array_equal(found["lstm_0/backward"], [True, True])


def test_a_chain_is_needed_from_the_head_down_to_the_word_vectors():
    params = all_zero(((2, 2), (2, 2)))
    params["embedding"]["embedding"][:] = 1.0
    params["lstm_0"]["backward"]["input_kernel"][2, 4] = 1.0  # feature 2 -> gate g of unit 0
    params["lstm_1"]["forward"]["input_kernel"][2, 5] = 1.0  # unit 0 backward -> g of unit 1
    params["head"]["kernel"][1, 0] = 1.0
    found = needed_units(units(params), params)
    expected = {
        "embedding": [False, False, True],
        "lstm_0/forward": [False, False],
        "lstm_0/backward": [True, False],
        "lstm_1/forward": [False, True],
        "lstm_1/backward": [False, False],
    }
    for name, kept in expected.items():
        np.testing.assert_array_equal(found[name], kept)
