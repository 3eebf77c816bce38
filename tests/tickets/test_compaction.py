"""A masked network and its compact form answer alike, train alike, and the second is smaller."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lth_flax.errors import UserError
from lth_flax.models.classifier import BiLSTMClassifier
from lth_flax.models.units import units
from lth_flax.pruning.masks import apply_mask, full_mask
from lth_flax.pruning.units import expanded
from lth_flax.tickets import Ticket, compact, load_ticket, save_ticket
from lth_flax.tickets.compaction import compact_ticket, comparison, sizes
from lth_flax.training.classification import make_loss
from lth_flax.training.optimizers import keep_pruned

TOKENS = np.random.default_rng(0).integers(0, 7, (4, 6))
LENGTHS = np.array([6, 3, 1, 0])
BATCH = {
    "tokens": TOKENS,
    "lengths": LENGTHS,
    "labels": np.array([0, 1, 1, 0]),
    "weight": np.ones(4),
}


def network(layers, hidden=4, readout="final", seed=0, **more):
    """A network whose biases are as after training: not zero."""
    model = BiLSTMClassifier(7, 5, hidden, layers, 3, readout=readout, **more)
    params = model.init(jax.random.key(seed), TOKENS, LENGTHS)["params"]
    rng = np.random.default_rng(seed)
    return model, jax.tree_util.tree_map(
        lambda w: np.asarray(w + 0.3 * rng.normal(size=w.shape), np.float32), params
    )


def logits(model, params):
    return np.asarray(model.apply({"params": params}, TOKENS, LENGTHS))


def agree(model, params, mask):
    small_model, small = compact(model, params, mask)
    masked = jax.tree_util.tree_map(np.asarray, apply_mask(params, mask))
    np.testing.assert_allclose(logits(small_model, small), logits(model, masked), atol=1e-5)
    return small_model, small


def random_mask(params, rng, density=0.5, units_kept=0.6, emptied=0.0):
    """Weights, units and whole matrices at random."""
    groups = units(params)
    kept = {g.name: rng.random(g.size) < units_kept for g in groups}
    mask = expanded(kept, groups, full_mask(params))

    def leaf(m):
        if not m.ndim:
            return np.asarray(m)
        m = np.asarray(m) & (rng.random(m.shape) < density)
        return m & (rng.random() >= emptied)

    return jax.tree_util.tree_map(leaf, mask)


@pytest.mark.parametrize(
    ("layers", "readout", "emptied"),
    [
        (2, "final", 0.0),
        (1, "last_position", 0.0),
        pytest.param(3, "final", 0.3, marks=pytest.mark.slow),
        pytest.param(4, "last_position", 0.1, marks=pytest.mark.slow),
    ],
)
def test_outputs_of_compact_and_masked_network_are_equal(layers, readout, emptied):
    model, params = network(layers, readout=readout)
    rng = np.random.default_rng(layers)
    small_model, small = agree(model, params, random_mask(params, rng, emptied=emptied))
    assert sizes(small_model).parameters < sizes(model).parameters
    assert compact(small_model, small, full_mask(small))[0] == small_model  # nothing more goes


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 4), st.sampled_from(["final", "last_position"]),
    st.sampled_from([0.05, 0.3, 0.7, 1.0]), st.sampled_from([0.0, 0.3, 0.7, 1.0]),
    st.sampled_from([0.0, 0.2, 0.5]),
)  # fmt: skip
def test_outputs_are_equal_for_any_mask(seed, layers, readout, density, units_kept, emptied):
    model, params = network(layers, hidden=3, readout=readout, seed=seed % 1000)
    agree(
        model,
        params,
        random_mask(params, np.random.default_rng(seed), density, units_kept, emptied),
    )


@pytest.mark.parametrize(
    "dead",
    [
        "lstm_0/forward",
        "lstm_1",
        pytest.param("lstm_1/backward", marks=pytest.mark.slow),
        pytest.param("lstm_0", marks=pytest.mark.slow),
    ],
)
def test_a_dead_layer_or_direction_goes_and_answers_stay(dead):
    model, params = network(2)
    groups = units(params)
    kept = {g.name: np.full(g.size, not g.name.startswith(dead)) for g in groups}
    small_model, _ = agree(model, params, expanded(kept, groups, full_mask(params)))
    widths = dict(zip([g.name for g in groups[1:]], sum(small_model.widths, ()), strict=True))
    expected = {g.name: 0 if g.name.startswith(dead) else g.size for g in groups[1:]}
    if dead == "lstm_1":  # nobody reads what is below
        expected = dict.fromkeys(expected, 0)
        assert small_model.embedding_size == 0
    assert widths == expected


def test_a_full_mask_leaves_the_network_as_it_is():
    model, params = network(2)
    small_model, small = compact(model, params, full_mask(params))
    assert small_model == model
    jax.tree_util.tree_map(np.testing.assert_array_equal, small, params)


def test_what_does_not_fit_is_one_error():
    model, params = network(2)
    with pytest.raises(UserError, match="has the shape .8, 3., expected .10, 3."):
        compact(model.clone(hidden_size=5), params, full_mask(params))
    with pytest.raises(UserError, match="the mask of"):
        compact(model, params, full_mask(network(2, hidden=3)[1]))


def test_sizes_are_those_of_the_parameters():
    model, params = network(2)
    found = sizes(model)
    assert found.parameters == sum(np.size(leaf) for leaf in jax.tree_util.tree_leaves(params))
    assert found.units == ((4, 4), (4, 4))
    # Per direction, input and recurrent kernel: 5 * 16 + 4 * 16, then 8 * 16 + 4 * 16.
    assert found.operations == 2 * 2 * (144 + 192)
    assert found.network_parameters == found.parameters - 7 * 5
    smaller = sizes(model.clone(hidden_size=((2, 1), (1, 0)), embedding_size=2))
    assert "4+4, 4+4 => 2+1, 1+0" in comparison(found, smaller)[0]


# Training ----------------------------------------------------------------------------------


def ticket(layers=2, seed=5):
    """A structured ticket with one weight pruned inside of the units that it keeps."""
    model, _ = network(layers)
    params = jax.tree_util.tree_map(
        np.asarray, model.init(jax.random.key(seed), TOKENS, LENGTHS)["params"]
    )
    groups = units(params)
    rng = np.random.default_rng(seed)
    kept = {g.name: np.arange(g.size) != rng.integers(g.size) for g in groups}
    mask = jax.tree_util.tree_map(np.array, expanded(kept, groups, full_mask(params)))
    mask["head"]["kernel"][0, 0] = False
    metadata = {
        "task": "text_classification",
        "model": model.settings,
        "vocabulary": ["<pad>", "<unk>", "a", "b", "c", "d", "e"],
        "class_names": ["x", "y", "z"],
    }
    return model, Ticket(params, mask, apply_mask(params, mask), metadata)


def trained(model, params, mask, steps):
    optimizer = keep_pruned(optax.chain(optax.clip_by_global_norm(1.0), optax.adam(3e-3)), mask)
    loss = make_loss(model)
    params = apply_mask(params, mask)

    @jax.jit
    def step(params, state):
        value, grads = jax.value_and_grad(loss)(params, BATCH, jax.random.key(0))
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, grads, value

    state, first, losses = optimizer.init(params), None, []
    for _ in range(steps):
        params, state, grads, value = step(params, state)
        first = grads if first is None else first
        losses.append(float(value))
    return params, first, losses


@pytest.mark.slow
def test_a_compact_ticket_trains_like_the_masked_one():
    model, found = ticket()
    small = compact_ticket(found)
    assert sizes(small.model).units == ((3, 3), (3, 3))
    assert small.model.embedding_size == 4
    masked, grads, losses = trained(model, found.initial_params, found.mask, 20)
    compacted, small_grads, small_losses = trained(
        small.model, small.initial_params, small.mask, 20
    )
    assert losses[-1] < losses[0] - 0.05  # it learns
    np.testing.assert_allclose(small_losses, losses, atol=1e-3)
    np.testing.assert_allclose(logits(small.model, compacted), logits(model, masked), atol=1e-3)
    # One step's gradients, where both have them.
    like = dataclasses.replace(found, initial_params=apply_mask(grads, found.mask))
    for expected, leaf in zip(
        jax.tree_util.tree_leaves(compact_ticket(like).initial_params),
        jax.tree_util.tree_leaves(apply_mask(small_grads, small.mask)),
        strict=True,
    ):
        np.testing.assert_allclose(leaf, expected, atol=1e-5)


def test_a_unit_that_is_silent_at_its_start_stays_for_training():
    """A fresh g bias is zero: without incoming weights such a unit answers zero until it moves."""
    model, found = ticket(layers=1)
    mask = jax.tree_util.tree_map(np.array, full_mask(found.initial_params))
    mask["lstm_0"]["forward"]["input_kernel"][:, 1::4] = False
    mask["lstm_0"]["forward"]["recurrent_kernel"][:, 1::4] = False
    found = dataclasses.replace(found, mask=mask)
    assert compact(model, found.initial_params, mask)[0].widths == ((3, 4),)
    assert compact_ticket(found).model.widths == ((4, 4),)
    after, _, _ = trained(model, found.initial_params, mask, 3)
    assert compact(model, after, mask)[0].widths == ((4, 4),)


def test_a_compact_ticket_is_saved_and_loaded(tmp_path):
    _, found = ticket()
    small = compact_ticket(found)
    save_ticket(tmp_path / "small", small)
    again = load_ticket(tmp_path / "small")
    assert again.model == small.model
    assert again.digest == small.digest
    np.testing.assert_array_equal(
        logits(again.model, again.trained_params), logits(small.model, small.trained_params)
    )


def test_a_ticket_of_another_task_has_no_model_here():
    _, found = ticket()
    other = dataclasses.replace(found, metadata={**found.metadata, "task": "games"})
    with pytest.raises(UserError, match="a ticket of 'games'"):
        compact_ticket(other)
    assert jnp.ndim(other.mask["head"]["bias"]) == 0
