"""How large a classifier is, before and after: what a ticket saves."""

import math
from typing import NamedTuple

from lth_flax.models.classifier import BiLSTMClassifier, parameter_shapes


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
