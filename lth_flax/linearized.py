"""Partial linearization: how many of an LSTM's non-linearities does a task need, and how deep?

After Mehmeti-Göpel & Disselhoff (arXiv 2211.17180): every tanh of a unit, of its candidate and of
its output, becomes a x + (1 - a) tanh(x), with an a in [0, 1] that is trained. A penalty on
sum(1 - a) drives them to the identity; one that has come above `FIXED` stays there. What is not
linear in the end is counted, and a layer without any adds no depth.

    task = linearized(task, penalty=1e-3)
    training = Training(..., optimizer=lambda rate: keep_blends(optax.adam(rate)))
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from lth_flax.models.knowledge import plain_step
from lth_flax.models.lstm import (
    LayerParams,
    final_states,
    layer_names,
    real_steps,
)
from lth_flax.pruning.masks import path_names
from lth_flax.tasks import Task
from lth_flax.training.classification import cross_entropy
from lth_flax.types import DIRECTIONS, Batch, Params

FIXED = 0.999
BLENDS = "blends"
"""Where the parameters have them: layer -> direction -> "candidate" and "output", each [H]."""


def blended_lstm(
    layer_params: LayerParams,
    blends: Mapping[str, Mapping[str, Any]],
    inputs: Float[Array, "batch time features"],
    lengths: Int[Array, " batch"],
) -> tuple[Float[Array, "batch time units"], Float[Array, "batch units"]]:
    """`lstm.bidirectional_lstm` with blends: where all are 0 it is that, by a plain loop."""
    real = real_steps(inputs.shape[1], lengths)[..., None]
    x = jnp.where(real, inputs.swapaxes(0, 1), 0)
    states = []
    for direction in DIRECTIONS:
        params, a = layer_params[direction], blends[direction]
        backward = direction == "backward"

        def step(carry: Any, now: Any, params: Any = params, a: Any = a) -> Any:
            x, real = now
            candidate, output = (partial(_blend, a[name]) for name in ("candidate", "output"))
            after = plain_step(params, x, *carry, candidate=candidate, output=output)
            h, c = (jnp.where(real, new, 0) for new in after)
            return (h, c), h

        nothing = jnp.zeros((inputs.shape[0], params["recurrent_kernel"].shape[0]), inputs.dtype)
        _, out = jax.lax.scan(step, (nothing, nothing), (x, real), reverse=backward)
        states.append(out)
    outputs = jnp.concatenate(states, axis=-1)
    final = final_states(outputs, lengths, forward=states[0].shape[-1])
    return outputs.swapaxes(0, 1), final


def _blend(a: Array, x: Array) -> Array:
    return a * x + (1 - a) * jnp.tanh(x)


def linearized(task: Task, *, penalty: float) -> Task:
    """A task of text classification (`text_classification`) whose LSTM layers have blends.

    They begin at 0, where the network is the task's own, without its dropout. The loss has
    `penalty` times sum(1 - a) added; beside the accuracy there is the metric "nonlinear LAYER",
    what `nonlinearities` counts, for every layer.
    """

    def init(key: Array) -> Params:
        params = task.init(key)
        blends = {
            name: {
                direction: dict.fromkeys(
                    ("candidate", "output"), jnp.zeros(len(of["recurrent_kernel"]))
                )
                for direction, of in params[name].items()
            }
            for name in layer_names(params)
        }
        return {**params, BLENDS: blends}

    def logits(params: Params, batch: Batch) -> Array:
        states = params["embedding"]["embedding"][batch["tokens"]]
        for name in layer_names(params):
            states, final = blended_lstm(
                params[name], params[BLENDS][name], states, batch["lengths"]
            )
        return final @ params["head"]["kernel"] + params["head"]["bias"]

    def loss(params: Params, batch: Batch, key: Array) -> Array:
        del key  # no dropout
        losses, weight = cross_entropy(logits(params, batch), batch["labels"]), batch["weight"]
        left = sum(jnp.sum(1 - a) for a in jax.tree_util.tree_leaves(params[BLENDS]))
        return jnp.sum(losses * weight) / jnp.maximum(jnp.sum(weight), 1.0) + penalty * left

    def evaluate(params: Params, batch: Batch) -> dict[str, Array]:
        found = logits(params, batch)
        every = jnp.ones(len(batch["labels"]))
        counts = {name: _count(a) for name, a in params[BLENDS].items()}
        return {
            "correct": jnp.float32(jnp.argmax(found, axis=-1) == batch["labels"]),
            "loss": cross_entropy(found, batch["labels"]),
            **{f"nonlinear {name}": every * count for name, count in counts.items()},
        }

    return replace(
        task, init=init, loss=loss, evaluate=evaluate, metrics=None, model=None, start=None,
        settings={**task.settings, "penalty": penalty}, name=f"linearized {task.name or ''}",
    )  # fmt: skip


def keep_blends(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """The optimizer, with every blend kept in [0, 1], and where it was once above `FIXED`."""

    def update(grads: Params, state: Any, params: Params | None = None) -> tuple[Params, Any]:
        updates, state = optimizer.update(grads, state, params)

        def kept(path: Any, update: Array, param: Array) -> Array:
            if BLENDS not in path_names(path):
                return update
            return jnp.where(param > FIXED, 0, jnp.clip(param + update, 0, 1) - param)

        return jax.tree_util.tree_map_with_path(kept, updates, params), state

    return optax.GradientTransformation(optimizer.init, update)


def nonlinearities(params: Params) -> dict[str, int]:
    """How many tanh of each layer are not the identity: of two for each unit and direction."""
    return {name: int(_count(a)) for name, a in params[BLENDS].items()}


def surviving_depth(params: Params) -> int:
    """Layers that have a non-linear tanh left."""
    return sum(count > 0 for count in nonlinearities(params).values())


def _count(blends: Any) -> Any:
    return sum(jnp.sum(a <= FIXED) for a in jax.tree_util.tree_leaves(blends))
