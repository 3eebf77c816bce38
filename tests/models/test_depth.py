"""Layers repeated and dropped, against layers counted by hand."""

import jax
import numpy as np
import pytest
from made_tickets import make_ticket

from lth_flax.errors import UserError
from lth_flax.models.depth import with_depth
from lth_flax.pruning.masks import apply_mask


def same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize(
    ("before", "order"),
    [
        (2, [0, 1, 1, 1]),
        (2, [0, 1, 1, 1, 1, 1]),
        (4, [0, 1, 2, 3, 1, 2]),
        (3, [0, 1, 2, 1, 2, 1]),
        (6, [0, 1]),
        (6, [0, 1, 2, 3]),
        (3, [0, 1, 2]),
        (3, [0]),
        (1, [0]),
    ],
)
def test_layers_are_repeated_in_order_or_the_last_are_dropped(before, order):
    ticket = make_ticket(layers=before)
    for tree in (ticket.initial_params, ticket.mask):
        found = with_depth(tree, len(order))
        names = {"embedding", "head", *(f"lstm_{number}" for number in range(len(order)))}
        assert set(found) == names
        for number, old in enumerate(order):  # both directions, kernels and biases
            same(found[f"lstm_{number}"], tree[f"lstm_{old}"])
        for name in ("embedding", "head"):
            same(found[name], tree[name])


@pytest.mark.parametrize("depth", [3, 4, 7])
def test_what_was_made_deeper_is_itself_again_when_it_is_cut_back(depth):
    ticket = make_ticket(layers=3)
    same(with_depth(with_depth(ticket.initial_params, depth), 3), ticket.initial_params)


def test_the_classifier_of_that_depth_takes_it():
    ticket = make_ticket(layers=2)
    tokens, lengths = np.array([[2, 3, 4], [5, 1, 0]]), np.array([3, 2])
    deep = with_depth(apply_mask(ticket.initial_params, ticket.mask), 4)
    model = ticket.model.clone(num_layers=4)
    drawn = jax.eval_shape(model.init, jax.random.key(0), tokens, lengths)["params"]
    assert jax.tree.map(np.shape, drawn) == jax.tree.map(np.shape, deep)
    logits = jax.eval_shape(model.apply, {"params": deep}, tokens, lengths)
    assert logits.shape == (2, 3)


def test_what_cannot_be_is_one_line():
    ticket = make_ticket(layers=1)
    with pytest.raises(UserError, match="1 layer cannot become one of 2"):
        with_depth(ticket.initial_params, 2)
    with pytest.raises(UserError, match="cannot become one of 0"):
        with_depth(make_ticket(layers=3).mask, 0)
    uneven = make_ticket(layers=3).initial_params
    uneven = {**uneven, "lstm_2": make_ticket(layers=3, hidden=2).initial_params["lstm_2"]}
    with pytest.raises(UserError, match="several shapes"):
        with_depth(uneven, 4)
