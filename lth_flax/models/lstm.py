"""The recurrent core: an LSTM layer of one or both directions, as pure functions.

Written for speed on small machines, and held to a slow oracle by the tests:

- The inputs of all time steps are projected in one matrix product outside the
  loop; only `h @ W_hh` stays inside.
- Both directions run in one loop, the backward one on reversed time, so a step
  is one batched product and one pass over the gates.
- sigmoid(x) = (1 + tanh(x / 2)) / 2, with the halving folded into the weights:
  one tanh serves all four gates.
- A padded step gets gates that are shut (i = f = o = 0), so its state and its
  gradients are zero. The backward direction thus starts from zero at the last
  real token, and the forward final state is read where the text ends. What stands
  in the padding, NaN too, is replaced by zero in the copies that are made anyway.
- The backward pass is written by hand. The forward loop leaves, in place of the
  projected inputs, what the gradient of every gate is a multiple of; the
  backward loop carries (dh, dc) and leaves dz in the same place. So the large
  arrays are written twice, and read when they are still in the cache.
- The gradients of both kernels of a direction are one product over all time
  steps outside the loop.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from lth_flax.errors import UserError
from lth_flax.models.whole_numbers import checked_lengths
from lth_flax.types import DIRECTIONS, Params

LayerParams = Mapping[str, Mapping[str, Any]]
"""{"forward" | "backward": {"input_kernel" [D, 4H], "recurrent_kernel" [H, 4H], "bias" [4H]}}.

H may be another for each direction, and 0."""

State = tuple[Float[Array, "batch hidden"], Float[Array, "batch hidden"]]
"""(h, c) after a step."""

_PARTS = ("input_kernel", "recurrent_kernel", "bias")

UNROLL = 1
"""Steps of the time loop in one iteration: on a CPU more are slower, and compile for longer."""

_SHUT = -1e4
"""A gate pre-activation whose tanh is exactly -1, and whose gate is exactly 0."""


def bidirectional_lstm(
    layer_params: LayerParams,
    inputs: Float[Array, "batch time features"],
    lengths: Int[Array, " batch"],
) -> tuple[Float[Array, "batch time units"], Float[Array, "batch units"]]:
    """One bidirectional LSTM layer over ragged sequences.

    Gate order i, f, g, o (that of PyTorch), one bias:
      i, f, o = sigmoid(z), g = tanh(z), z = x W_x + h W_h + b
      c' = f * c + i * g,  h' = o * tanh(c')
    (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000.)

    Args:
      layer_params: of both directions. Where their dtype is not that of the
        inputs, both become the wider one; gradients have the dtypes of the arguments.
      inputs: what stands past a text's end is not read, and its gradient is zero.
      lengths: as `checked_lengths` takes them: concrete ones are checked, traced
        ones (under `jit`, `vmap`, `grad`) are clipped to [0, time].

    Returns:
      outputs: both directions concatenated (2 H units where they are equally wide), zero
        after a text's end.
      final: the forward state after the last real token beside the backward
        state after the first; zero for a text of length zero.

    Raises:
      UserError: lengths that are concrete and wrong, or shapes that do not fit.
    """
    if jnp.ndim(inputs) != 3:
        raise UserError(
            f"inputs must be [batch, time, features], found the shape {jnp.shape(inputs)}"
        )
    inputs = jnp.asarray(inputs)
    lengths = checked_lengths(lengths, batch=inputs.shape[0], time=inputs.shape[1])
    outputs = layer_outputs(layer_params, jnp.swapaxes(inputs, 0, 1), lengths)
    forward = jnp.shape(layer_params["forward"]["recurrent_kernel"])[0]
    return jnp.swapaxes(outputs, 0, 1), final_states(outputs, lengths, forward=forward)


def layer_outputs(
    layer_params: LayerParams,
    inputs: Float[Array, "time batch features"],
    lengths: Int[Array, " batch"],
) -> Float[Array, "time batch units"]:
    """The outputs of `bidirectional_lstm`, time first: the layout that layers pass on.

    `lengths` are those that `checked_lengths` returned.
    """
    time, batch, features = inputs.shape
    widths = _checked_widths(layer_params, features)
    hidden = max(widths)
    used = [layer_params[direction][name] for direction in DIRECTIONS for name in _PARTS]
    with jax.numpy_dtype_promotion("standard"):
        dtype = jnp.result_type(inputs, *used)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise UserError(f"inputs and parameters of a layer must be floats, found {dtype}")
    if time == 0 or hidden == 0:
        return jnp.zeros((time, batch, sum(widths)), dtype)

    def both(name: str) -> Array:
        leaves = [
            _widened(jnp.asarray(layer_params[one][name], dtype), name, width, hidden)
            for one, width in zip(DIRECTIONS, widths, strict=True)
        ]
        return jnp.stack([_halved(leaf) for leaf in leaves])

    real = real_steps(time, lengths)
    outputs = _layer(inputs.astype(dtype), *(both(name) for name in _PARTS), real)
    if min(widths) == hidden:
        return outputs
    forward, backward = widths
    parts = [outputs[..., :forward], outputs[..., hidden : hidden + backward]]
    return jnp.concatenate(parts, axis=-1)


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
    scaled = [_halved(params[name])[None] for name in _PARTS]
    outputs, (h, c) = _one_way(inputs[None], *scaled, (state[0][None], state[1][None]))
    return outputs[0], (h[0], c[0])


def layer_names(params: Params) -> list[str]:
    """The names of the LSTM layers of a network, from the input on."""
    return [f"lstm_{layer}" for layer in range(sum(name.startswith("lstm_") for name in params))]


def _halved(leaf: Array) -> Array:
    """The columns of i, f and o times 1/2, which turns their sigmoid into a tanh; g stays."""
    gates = jnp.array([0.5, 0.5, 1.0, 0.5], leaf.dtype)
    return leaf * jnp.broadcast_to(jnp.repeat(gates, leaf.shape[-1] // 4), leaf.shape)


def _widened(leaf: Array, name: str, width: int, hidden: int) -> Array:
    """With units of zeros, so that both directions go through one loop.

    The cell of such a unit stays empty: it answers zero, and zeros read it.
    """
    if width == hidden:
        return leaf
    more = (0, hidden - width)
    rows = [more if name == "recurrent_kernel" else (0, 0)] * (leaf.ndim - 1)
    gates = leaf.reshape(*leaf.shape[:-1], 4, width)
    padded = jnp.pad(gates, [*rows, (0, 0), more])
    return padded.reshape(*padded.shape[:-2], 4 * hidden)


def final_states(
    outputs: Float[Array, "time batch units"], lengths: Int[Array, " batch"], *, forward: int
) -> Float[Array, "batch units"]:
    """Reads each direction where it has seen the whole text; the first `forward` units are its."""
    time, batch, width = outputs.shape
    if time == 0:
        return jnp.zeros((batch, width), outputs.dtype)
    # A sum against an indicator: no gather, and its gradient no scatter.
    steps = jnp.arange(time, dtype=lengths.dtype)[:, None]
    last = (steps == lengths[None, :] - 1).astype(outputs.dtype)
    ahead = jnp.sum(outputs[:, :, :forward] * last[:, :, None], axis=0)
    return jnp.concatenate([ahead, outputs[0, :, forward:]], axis=-1)


def _checked_widths(layer_params: LayerParams, features: int) -> tuple[int, ...]:
    """The number of hidden units of each direction, after a look at every shape."""
    widths = []
    for direction in DIRECTIONS:
        shape = jnp.shape(layer_params[direction]["recurrent_kernel"])
        hidden = shape[0] if shape else 0
        expected = {
            "input_kernel": (features, 4 * hidden),
            "recurrent_kernel": (hidden, 4 * hidden),
            "bias": (4 * hidden,),
        }
        for name, shape in expected.items():
            found = jnp.shape(layer_params[direction][name])
            if found != shape:
                raise UserError(
                    f"{direction}/{name} of a layer has the shape {found}, expected {shape}: "
                    f"{features} input features, {hidden} hidden units, 4 gates"
                )
        widths.append(hidden)
    return tuple(widths)


def real_steps(time: int, lengths: Int[Array, " batch"]) -> Bool[Array, "time batch"]:
    """Whether a step lies before its text's end."""
    return jnp.arange(time, dtype=lengths.dtype)[:, None] < lengths[None, :]


@jax.custom_vjp
def _layer(
    inputs: Float[Array, "time batch features"],
    input_kernel: Float[Array, "2 features 4*hidden"],
    recurrent_kernel: Float[Array, "2 hidden 4*hidden"],
    bias: Float[Array, "2 4*hidden"],
    real: Bool[Array, "time batch"],
) -> Float[Array, "time batch 2*hidden"]:
    """Outputs in natural time; i, f and o columns of kernels and bias are halved."""
    return _read_both(inputs, input_kernel, recurrent_kernel, bias, real, keep=False)[0]


def _read_both(inputs, input_kernel, recurrent_kernel, bias, real, *, keep):
    """The outputs of `_layer`, and with `keep` what its gradient needs."""
    both = _both_times(inputs, inputs, real)
    projected = jnp.einsum("dtbx,dxk->dtbk", both, input_kernel)
    states, local, kept, _ = _loop(projected, recurrent_kernel, bias, real, keep=keep)
    residuals = (both, input_kernel, recurrent_kernel, states, local, kept, real)
    return _natural_time(states), residuals


def _layer_backward(residuals, doutputs):
    both, input_kernel, recurrent_kernel, states, local, kept, real = residuals
    hidden = recurrent_kernel.shape[1]
    dstates = _both_times(doutputs[..., :hidden], doutputs[..., hidden:], real)
    dz, _ = _loop_backward(dstates, local, kept, recurrent_kernel)
    before = jnp.zeros_like(states[:, :1])
    dboth, dparams = _kernel_gradients(dz, both, before, states, input_kernel)
    return dboth[0] + dboth[1, ::-1], *dparams, None


_layer.defvjp(partial(_read_both, keep=True), _layer_backward)


@jax.custom_vjp
def _one_way(inputs, input_kernel, recurrent_kernel, bias, start):
    """Outputs and the last (h, c), each with a leading axis; columns of i, f and o are halved."""
    return _read_one_way(inputs, input_kernel, recurrent_kernel, bias, start, keep=False)[0]


def _read_one_way(inputs, input_kernel, recurrent_kernel, bias, start, *, keep):
    projected = jnp.einsum("dtbx,dxk->dtbk", inputs, input_kernel)
    states, local, kept, last = _loop(projected, recurrent_kernel, bias, None, start, keep=keep)
    residuals = (inputs, input_kernel, recurrent_kernel, start[0][:, None], states, local, kept)
    return (states, last), residuals


def _one_way_backward(residuals, cotangents):
    inputs, input_kernel, recurrent_kernel, before, states, local, kept = residuals
    dstates, dlast = cotangents
    dz, dstart = _loop_backward(dstates, local, kept, recurrent_kernel, dlast)
    dinputs, dparams = _kernel_gradients(dz, inputs, before, states, input_kernel)
    return dinputs, *dparams, dstart


_one_way.defvjp(partial(_read_one_way, keep=True), _one_way_backward)


def _kernel_gradients(dz, inputs, before, states, input_kernel):
    """Of the inputs, both kernels and the bias, from that of every pre-activation.

    `inputs` [directions, time, batch, features] in reading order, `before` the state h that the
    first step had, [directions, 1, batch, hidden].
    """
    features = input_kernel.shape[1]
    # What each step multiplied the kernels with: its input, and h of the step before.
    before = jnp.concatenate([before, states[:, :-1]], axis=1)
    multiplied = _flat(jnp.concatenate([inputs, before], axis=-1))
    flat = _flat(dz)
    dkernels = jnp.einsum("dnx,dnk->dxk", multiplied, flat)
    dinputs = jnp.einsum("dnk,dxk->dnx", flat, input_kernel).reshape(inputs.shape)
    # A product too: as a sum over the long axes it is slow.
    dbias = jnp.einsum("dn,dnk->dk", jnp.ones(flat.shape[:2], flat.dtype), flat)
    return dinputs, (dkernels[:, :features], dkernels[:, features:], dbias)


def _both_times(forward: Array, backward: Array, real: Bool[Array, "time batch"]) -> Array:
    """[time, batch, n] of each direction -> [2, time, batch, n], in the order that each reads in.

    Zero in the padding, whatever stands there: a zero gradient times NaN would be NaN.
    """
    clean = [
        jnp.where(real[..., None], array, jnp.zeros_like(array)) for array in (forward, backward)
    ]
    return jnp.stack([clean[0], clean[1][::-1]])


def _flat(array: Array) -> Array:
    """[directions, time, batch, n] -> [directions, time * batch, n]."""
    return array.reshape(len(array), -1, array.shape[-1])


def _natural_time(states: Array) -> Array:
    """[2, time, batch, hidden] -> [time, batch, 2*hidden]."""
    return jnp.concatenate([states[0], states[1, ::-1]], axis=-1)


def _at(array: Array, step: Array) -> Array:
    return jax.lax.dynamic_index_in_dim(array, step, axis=1, keepdims=False)


def _put(array: Array, value: Array, step: Array) -> Array:
    return jax.lax.dynamic_update_index_in_dim(array, value, step, axis=1)


def _loop(
    projected: Float[Array, "directions time batch 4*hidden"],
    kernel: Float[Array, "directions hidden 4*hidden"],
    bias: Float[Array, "directions 4*hidden"],
    real: Bool[Array, "time batch"] | None,
    start: tuple[Array, Array] | None = None,
    *,
    keep: bool,
) -> tuple[Array, Array, Array, tuple[Array, Array]]:
    """h of every step; with `keep` also what the backward loop needs.

    Args:
      real: steps of both directions that are no padding; None: there is none.
      start: h and c before the first step, [directions, batch, hidden]; None: zero.

    Returns:
      states: h, [directions, time, batch, hidden].
      local: dz is (dc, dc, dc, dh) times this, [directions, time, batch, 4*hidden].
      kept: f, and the derivative of h by c, [directions, time, batch, 2*hidden].
      last: h and c after the last step.
    """
    directions, time, batch, gates = projected.shape
    hidden = gates // 4
    dtype = projected.dtype
    shut = jnp.repeat(jnp.array([_SHUT, _SHUT, 0.0, _SHUT], dtype), hidden)[None, None]
    real = None if real is None else jnp.stack([real, real[::-1]])

    def step(t, carry):
        h, c, buffer, states, kept = carry
        if real is None:
            z = _at(buffer, t) + bias[:, None]
        else:
            z = jnp.where(_at(real, t)[..., None], _at(buffer, t) + bias[:, None], shut)
        i, f, g, o = _gates(jnp.tanh(z + jnp.einsum("dbh,dhk->dbk", h, kernel)))
        c_before, c = c, f * c + i * g
        tanh_c = jnp.tanh(c)
        h = o * tanh_c
        if keep:
            # The factors 2 undo the halving: d sigmoid(z) / d(z/2) = 2 s (1 - s).
            local = [
                2 * g * i * (1 - i),
                2 * c_before * f * (1 - f),
                i * (1 - g * g),
                2 * tanh_c * o * (1 - o),
            ]
            buffer = _put(buffer, jnp.concatenate(local, axis=-1), t)
            kept = _put(kept, jnp.concatenate([f, o * (1 - tanh_c * tanh_c)], axis=-1), t)
        return h, c, buffer, _put(states, h, t), kept

    zero = jnp.zeros((directions, batch, hidden), dtype)
    start = (zero, zero) if start is None else start
    states = jnp.zeros((directions, time, batch, hidden), dtype)
    kept = jnp.zeros((directions, time, batch, 2 * hidden) if keep else (), dtype)
    h, c, local, states, kept = jax.lax.fori_loop(
        0, time, step, (*start, projected, states, kept), unroll=UNROLL
    )
    return states, local, kept, (h, c)


def _gates(t):
    """tanh of the (halved) pre-activations -> i, f, g, o."""
    i, f, g, o = jnp.split(t, 4, axis=-1)
    return 0.5 * i + 0.5, 0.5 * f + 0.5, g, 0.5 * o + 0.5


def _loop_backward(
    dstates: Float[Array, "directions time batch hidden"],
    local: Float[Array, "directions time batch 4*hidden"],
    kept: Float[Array, "directions time batch 2*hidden"],
    kernel: Float[Array, "directions hidden 4*hidden"],
    dlast: tuple[Array, Array] | None = None,
) -> tuple[Float[Array, "directions time batch 4*hidden"], tuple[Array, Array]]:
    """The gradient of every pre-activation (halved), dz, and of h and c before the first step.

    `dlast` is that of h and c after the last one; None: zero.
    """
    directions, time, batch, hidden = dstates.shape
    transposed = jnp.swapaxes(kernel, 1, 2)

    def step(number, carry):
        t = time - 1 - number
        dh, dc, buffer = carry
        f, dc_dh = jnp.split(_at(kept, t), 2, axis=-1)
        dh = dh + _at(dstates, t)
        dc = dc + dh * dc_dh
        dz = jnp.concatenate([dc, dc, dc, dh], axis=-1) * _at(buffer, t)
        return jnp.einsum("dbk,dkh->dbh", dz, transposed), dc * f, _put(buffer, dz, t)

    zero = jnp.zeros((directions, batch, hidden), dstates.dtype)
    dlast = (zero, zero) if dlast is None else dlast
    dh, dc, dz = jax.lax.fori_loop(0, time, step, (*dlast, local), unroll=UNROLL)
    return dz, (dh, dc)
