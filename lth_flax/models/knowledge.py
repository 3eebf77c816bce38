"""What scores before training ask of the classifier: its gates, its logits, its linear surrogate
and its step-to-step Jacobian, as functions of its parameters.

`tasks.ModelInfo` hands them over: those who ask know of trees only.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from lth_flax.models.lstm import layer_names, layer_outputs, real_steps
from lth_flax.types import DIRECTIONS, GATES, Batch, Params

SURROGATE_STEPS = 4
"""Length of the sequence of ones that the linear surrogate reads."""

JACOBIAN_STEPS, JACOBIAN_DRAWS = 4, 8
"""The last steps of every text that the Jacobian is looked at, and random signs for each."""


def gates(path: tuple[str, ...]) -> tuple[str, ...] | None:
    """The gates whose blocks make up the last axis of a kernel; None for other parameters."""
    return GATES if path[-1:] in (("input_kernel",), ("recurrent_kernel",)) else None


def tempered(params: Params, temperature: float) -> Params:
    """The parameters of the network whose logits are divided by `temperature`."""
    return {**params, "head": {name: leaf / temperature for name, leaf in params["head"].items()}}


def linearized(params: Params) -> Float[Array, ""]:
    """R: the sum of the outputs of a linear surrogate of the network, which reads ones.

    SynFlow (Tanaka et al., arXiv 2006.05467) wants a network whose output is a sum over
    paths of products of weights. Gates at 1 and no tanh would leave i, f and o without a
    path. So here h_t is the sum over the four gates of x_t W_x + h_(t-1) W_h, over
    `SURROGATE_STEPS` ones in place of embedded words, without biases. Every path passes the
    input kernels of each layer once (of both directions together), and the head once; it
    may pass recurrent kernels several times.

    R is up to a factor that does not depend on the weights: the states of a layer are scaled to
    a largest value of 1, or deep networks would leave the range of float32.

    Args:
      params: in the public layout, not negative.
    """
    embedding = params["embedding"]["embedding"]
    states = [jnp.ones(embedding.shape[1], embedding.dtype)] * SURROGATE_STEPS
    final = states[-1]
    for name in layer_names(params):
        forward = _linear_states(params[name]["forward"], states)
        backward = _linear_states(params[name]["backward"], states[::-1])
        final = jnp.concatenate([forward[-1], backward[-1]])
        pairs = zip(forward, backward[::-1], strict=True)
        states = [jnp.concatenate(pair) for pair in pairs]
        most = jax.lax.stop_gradient(jnp.max(jnp.stack(states)))
        scale = jnp.where(most > 0, most, jnp.ones_like(most))
        states, final = [state / scale for state in states], final / scale
    return jnp.sum(final @ params["head"]["kernel"])


def _linear_states(direction: Mapping[str, Any], inputs: list[Array]) -> list[Array]:
    """h of every step, in reading order."""
    into, again = (
        jnp.sum(kernel.reshape(kernel.shape[0], len(GATES), -1), axis=1)
        for kernel in (direction["input_kernel"], direction["recurrent_kernel"])
    )
    states = [inputs[0] @ into]
    for one in inputs[1:]:
        states.append(one @ into + states[-1] @ again)
    return states


def squared_jacobian(
    params: Params, batch: Batch, key: Array, *, readout: str = "final"
) -> Float[Array, ""]:
    """The size of what one step passes on to the next: chi, summed over layers and directions.

    J_t = d(h_t, c_t) / d(h_(t-1), c_(t-1)); chi is the mean of |J_t v|^2 over texts, their last
    `JACOBIAN_STEPS` real steps (in reading order) and `JACOBIAN_DRAWS` vectors v of random
    signs. Its expectation is the mean sum of squared singular values of J_t (after Zhang &
    Stadie, arXiv 1912.00120).

    No gradient goes to the layers below through a layer's inputs: the derivative by a kernel
    is that of the chi of its own layer and direction.

    Args:
      batch: "tokens" [B, T], "lengths" [B] and "weight" [B].
      readout: of the classifier: with "last_position" padding is text.
    """
    tokens, weight = batch["tokens"], batch["weight"]
    time = tokens.shape[1]
    lengths = jnp.full_like(batch["lengths"], time) if readout != "final" else batch["lengths"]
    real = real_steps(time, lengths)
    states = params["embedding"]["embedding"][tokens.T]
    total = jnp.zeros((), states.dtype)
    for layer, name in enumerate(layer_names(params)):
        states = jax.lax.stop_gradient(states)
        for number, direction in enumerate(DIRECTIONS):
            ours = jax.random.fold_in(key, 2 * layer + number)
            order = slice(None, None, -1 if direction == "backward" else 1)
            norms, there = _squared_jacobian(
                params[name][direction], states[order], real[order], ours
            )
            counted = jnp.where(there, weight, jnp.zeros_like(weight))
            total += jnp.sum(norms * counted) / jnp.maximum(jnp.sum(counted), 1.0)
        states = layer_outputs(params[name], states, lengths)
    return total


def _squared_jacobian(
    direction: Mapping[str, Any],
    inputs: Float[Array, "time batch features"],
    real: Bool[Array, "time batch"],
    key: Array,
) -> tuple[Float[Array, "steps batch"], Bool[Array, "steps batch"]]:
    """|J_t v|^2 of the last real steps, the mean over draws of v; and which steps there are."""
    before = _states(direction, inputs, real)
    # Where each text begins and ends: read backwards, its padding comes first.
    steps = jnp.arange(len(inputs))[:, None]
    last = jnp.max(jnp.where(real, steps, -1), axis=0)
    at = last - jnp.arange(JACOBIAN_STEPS)[:, None]
    first = jnp.min(jnp.where(real, steps, len(inputs)), axis=0)
    there = (at >= first) & (last >= 0)
    at = jnp.maximum(at, 0)[..., None]
    x, h, c = (jnp.take_along_axis(array, at, axis=0) for array in (inputs, *before))

    def norm(key: Array) -> Float[Array, "steps batch"]:
        one, other = jax.random.split(key)
        v = (jax.random.rademacher(one, h.shape, h.dtype),
             jax.random.rademacher(other, c.shape, c.dtype))  # fmt: skip
        _, (dh, dc) = jax.jvp(lambda h, c: plain_step(direction, x, h, c), (h, c), v)
        return jnp.sum(dh * dh + dc * dc, axis=-1)

    draws = jax.lax.map(norm, jax.random.split(key, JACOBIAN_DRAWS))
    return jnp.mean(draws, axis=0), there


def _states(
    direction: Mapping[str, Any],
    inputs: Float[Array, "time batch features"],
    real: Bool[Array, "time batch"],
) -> tuple[Float[Array, "time batch hidden"], Float[Array, "time batch hidden"]]:
    """(h, c) before every step; zero until the first real one."""
    hidden = direction["recurrent_kernel"].shape[0]
    zero = jnp.zeros((inputs.shape[1], hidden), inputs.dtype)

    def step(state: Any, now: Any) -> tuple[Any, Any]:
        x, is_real = now
        after = plain_step(direction, x, *state)
        kept = tuple(jnp.where(is_real[:, None], new, jnp.zeros_like(new)) for new in after)
        return kept, state

    found: tuple[Array, Array] = jax.lax.scan(step, (zero, zero), (inputs, real))[1]
    return found


def plain_step(
    direction: Mapping[str, Any],
    x: Array,
    h: Array,
    c: Array,
    *,
    candidate: Callable[[Array], Array] = jnp.tanh,
    output: Callable[[Array], Array] = jnp.tanh,
) -> tuple[Array, Array]:
    """One step as it is written down (see `lstm.bidirectional_lstm`), each tanh replaceable."""
    z = x @ direction["input_kernel"] + h @ direction["recurrent_kernel"] + direction["bias"]
    i, f, g, o = jnp.split(z, len(GATES), axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * candidate(g)
    return jax.nn.sigmoid(o) * output(c), c
