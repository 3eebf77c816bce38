"""An LSTM layer of one direction, with a state in and out, on the loops of `models.lstm`."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lth_flax.models.lstm import kernel_gradients, loop, loop_backward

State = tuple[Float[Array, "batch hidden"], Float[Array, "batch hidden"]]
"""(h, c) after a step."""


def forward_lstm(
    params: Mapping[str, Any], inputs: Float[Array, "time batch features"], state: State
) -> tuple[Float[Array, "time batch hidden"], State]:
    """One LSTM layer that reads from the first step to the last, on from a state.

    Args:
      params: of one direction (see `bidirectional_lstm`), float32 like the inputs and the state.
      state: (h, c) before the first step.

    Returns:
      outputs: h of every step.
      state: (h, c) after the last one: a sequence may be read in stretches.
    """
    hidden = params["recurrent_kernel"].shape[0]
    halve = jnp.repeat(jnp.array([0.5, 0.5, 1.0, 0.5], inputs.dtype), hidden)
    names = ("input_kernel", "recurrent_kernel", "bias")
    scaled = [(params[name] * jnp.broadcast_to(halve, params[name].shape))[None] for name in names]
    outputs, (h, c) = _one_way(inputs[None], *scaled, (state[0][None], state[1][None]))
    return outputs[0], (h[0], c[0])


@jax.custom_vjp
def _one_way(inputs, input_kernel, recurrent_kernel, bias, start):
    """Outputs and the last (h, c), each with a leading axis; columns of i, f and o are halved."""
    projected = jnp.einsum("dtbx,dxk->dtbk", inputs, input_kernel)
    states, _, _, last = loop(projected, recurrent_kernel, bias, None, start, keep=False)
    return states, last


def _one_way_forward(inputs, input_kernel, recurrent_kernel, bias, start):
    projected = jnp.einsum("dtbx,dxk->dtbk", inputs, input_kernel)
    states, local, kept, last = loop(projected, recurrent_kernel, bias, None, start, keep=True)
    residuals = (inputs, input_kernel, recurrent_kernel, start[0][:, None], states, local, kept)
    return (states, last), residuals


def _one_way_backward(residuals, cotangents):
    inputs, input_kernel, recurrent_kernel, before, states, local, kept = residuals
    dstates, dlast = cotangents
    dz, dstart = loop_backward(dstates, local, kept, recurrent_kernel, dlast)
    dinputs, dparams = kernel_gradients(dz, inputs, before, states, input_kernel)
    return dinputs, *dparams, dstart


_one_way.defvjp(_one_way_forward, _one_way_backward)
