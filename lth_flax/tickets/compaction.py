"""From a masked network to a smaller dense one with equal outputs, and how much smaller it is."""

import dataclasses
import functools
import math
from typing import NamedTuple

import jax
import numpy as np

from lth_flax.errors import UserError
from lth_flax.models.classifier import BiLSTMClassifier, parameter_shapes
from lth_flax.models.units import units
from lth_flax.pruning.masks import apply_mask, path_names
from lth_flax.pruning.units import links_of, needed_units, taken
from lth_flax.tickets.ticket import Ticket
from lth_flax.types import Mask, Params


def compact(model: BiLSTMClassifier, params: Params, mask: Mask) -> tuple[BiLSTMClassifier, Params]:
    """The smallest network of the same class with the outputs of the masked one, without dropout.

    Units that the output does not depend on go, and features of the word vectors that no kept
    weight reads: to a fixed point, in both directions of all layers (`pruning.units.needed_units`).
    Words stay. A width may become 0. What an unstructured mask leaves is hardly smaller: nearly
    every unit keeps some weight that is read. Pruned weights of kept units are zeros.

    Args:
      params: as trained; what the mask prunes counts as zero.

    Raises:
      UserError: parameters or mask do not fit the model; see `masks.checked_mask`.
    """
    check_fits(model, params)
    masked = apply_mask(params, mask)
    groups = units(params)
    small = taken(masked, groups, needed_units(groups, masked))
    return model.resized(small), small


def compact_ticket(ticket: Ticket) -> Ticket:
    """The ticket as a smaller network that trains like it, from its own initial weights.

    What goes can never have an influence, whatever training under the mask makes of it: so
    gradients agree, and with dropout off training does. (With dropout the draws are others:
    they have the shape of the network.) A unit that is silent only by the values of its
    weights stays; `compact` on the trained weights takes it too. The mask stays, for weights
    that are pruned inside of kept units.

    Raises:
      UserError: the ticket is not of a text classifier.
    """
    model = ticket.model
    groups = units(ticket.initial_params)
    kept = needed_units(groups, links_of(ticket.mask, ticket.initial_params))
    small = functools.partial(taken, groups=groups, kept=kept)
    rewound = ticket.rewind_params
    settings = model.resized(small(ticket.initial_params)).settings
    return dataclasses.replace(
        ticket,
        initial_params=small(ticket.initial_params),
        mask=small(ticket.mask),
        trained_params=small(ticket.trained_params),
        rewind_params=None if rewound is None else small(rewound),
        metadata={**ticket.metadata, "model": settings},
    )


def check_fits(model: BiLSTMClassifier, params: Params) -> None:
    """Raises `UserError` where parameters are not those of the model."""
    found = {
        "/".join(path_names(path)): np.shape(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    expected = parameter_shapes(model.settings)
    for path in sorted(expected.keys() | found.keys()):
        if found.get(path) != expected.get(path):
            raise UserError(
                f"{path} has the shape {found.get(path)}, expected {expected.get(path)}: give the "
                "parameters of this model, in its public layout"
            )


class Sizes(NamedTuple):
    """What a network consists of, and what a word costs.

    features: numbers per word vector.
    units: per layer, of the forward and the backward direction.
    parameters: all of them, word vectors included.
    network_parameters: without the word vectors, of which a text needs only those of its words.
    operations: floating point operations of the matrix products per word (2 per weight); the
      head, once per text, is left out.
    """

    features: int
    units: tuple[tuple[int, int], ...]
    parameters: int
    network_parameters: int
    operations: int


def sizes(model: BiLSTMClassifier) -> Sizes:
    """The sizes of a model, from its settings alone."""
    shapes = parameter_shapes(model.settings)
    number = {path: math.prod(shape) for path, shape in shapes.items()}
    total = sum(number.values())
    kernels = sum(
        count for path, count in number.items() if path[:5] == "lstm_" and path[-7:] == "_kernel"
    )
    return Sizes(
        features=model.embedding_size,
        units=model.widths,
        parameters=total,
        network_parameters=total - number["embedding/embedding"],
        operations=2 * kernels,
    )


def comparison(before: Sizes, after: Sizes) -> list[str]:
    """Lines "name: before => after"; times smaller where that is a number."""

    def line(name: str, one: int, two: int) -> str:
        times = f" ({one / two:.1f} times fewer)" if two and one != two else ""
        return f"{name}: {one:,} => {two:,}{times}"

    def widths(found: Sizes) -> str:
        return ", ".join(f"{forward}+{backward}" for forward, backward in found.units)

    return [
        f"units (forward+backward, per layer): {widths(before)} => {widths(after)}",
        line("features of a word vector", before.features, after.features),
        line("parameters", before.parameters, after.parameters),
        line("of these not word vectors", before.network_parameters, after.network_parameters),
        line("operations per word", before.operations, after.operations),
    ]
