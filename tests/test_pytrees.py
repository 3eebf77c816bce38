"""Networks whose parameters are objects of other libraries, with parts that are no arrays."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_search import LABELS, TRAINING, X, mean

import lth_flax as lth
from lth_flax.pruning.masks import apply_mask, count_kept, count_prunable
from lth_flax.tickets import load_ticket


@dataclasses.dataclass(frozen=True)
class Layer:
    """As Equinox has them: arrays, and what is static."""

    kernel: jax.Array
    bias: jax.Array
    activation: Callable[[jax.Array], jax.Array]
    name: str

    def __call__(self, x):
        return self.activation(x @ self.kernel + self.bias)


@dataclasses.dataclass(frozen=True)
class Network:
    layers: tuple[Layer, ...]
    scale: jax.Array | None
    classes: int

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


jax.tree_util.register_dataclass(Layer, ["kernel", "bias"], ["activation", "name"])
jax.tree_util.register_dataclass(Network, ["layers", "scale"], ["classes"])


def identity(x):
    return x


def init(key):
    first, second = jax.random.split(key)
    return Network(
        (
            Layer(jax.random.normal(first, (6, 8)) / 2, jnp.zeros(8), jnp.tanh, "hidden"),
            Layer(jax.random.normal(second, (8, 2)) / 3, jnp.zeros(2), identity, "out"),
        ),
        None,
        2,
    )


def task_of(init, apply):
    """A classifier: `apply` has the logits of a batch."""

    def losses(params, batch):
        logits = apply(params, batch["x"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"]), logits

    def evaluate(params, batch):
        loss, logits = losses(params, batch)
        correct = (logits.argmax(-1) == batch["labels"]).astype(jnp.float32)
        return {"loss": loss, "correct": correct}

    def loss(params, batch, key):
        return mean(losses(params, batch)[0], batch)

    return lth.Task(init, loss, evaluate, name="objects", version="1")


def check(task, tmp_path, *, kernels):
    """In memory and on disk the same tickets, exactly as sparse as asked."""
    examples = lth.Examples.split({"x": X, "labels": LABELS}, stratify="labels")
    options = {"seeds": 2, "levels": [0.5, 0.75], "training": TRAINING}
    found = lth.find_tickets(task, examples, **options)
    dense = [r.accuracy for r in found.records if r.arm == "dense" and r.split == "test"]
    assert min(dense) > 0.7  # it learns: the classes are equally frequent
    ticket = found.tickets[0, 0.75]
    shape = jax.tree.structure(task.init(jax.random.key(0)))
    assert jax.tree.structure(ticket.initial_params) == shape
    assert count_prunable(ticket.mask) == kernels
    assert count_kept(ticket.mask) == kernels - round(0.75 * kernels)
    trained = ticket.trained_params
    jax.tree.map(np.testing.assert_array_equal, trained, apply_mask(trained, ticket.mask))
    saved = lth.find_tickets(task, examples, work_dir=tmp_path / "run", **options)
    again = saved.tickets[0, 0.75]
    assert again.digest == ticket.digest
    assert (
        load_ticket(tmp_path / "run" / "tickets" / "seed_0" / "level_0.75").digest == again.digest
    )
    return again


@pytest.mark.slow
def test_a_registered_dataclass_with_static_parts(tmp_path):
    again = check(task_of(init, lambda params, x: params(x)), tmp_path, kernels=6 * 8 + 8 * 2)
    # Read back, it is made of dicts.
    assert again.mask["layers"]["1"]["kernel"].shape == (8, 2)
    assert again.mask["layers"]["1"]["bias"].shape == ()


@pytest.mark.slow
def test_an_equinox_network(tmp_path):
    eqx = pytest.importorskip("equinox", reason="could not import equinox, which no extra brings")

    def network(key):
        return eqx.nn.MLP(6, 2, width_size=8, depth=1, activation=jnp.tanh, key=key)

    _, static = eqx.partition(network(jax.random.key(0)), eqx.is_inexact_array)
    task = task_of(
        lambda key: eqx.filter(network(key), eqx.is_inexact_array),
        lambda params, x: jax.vmap(eqx.combine(params, static))(x),
    )
    check(task, tmp_path, kernels=6 * 8 + 8 * 2)


@pytest.mark.slow
def test_an_array_that_is_all_there_is(tmp_path):
    task = task_of(lambda key: jax.random.normal(key, (6, 2)) / 30, lambda params, x: x @ params)
    assert check(task, tmp_path, kernels=6 * 2).mask.shape == (6, 2)
