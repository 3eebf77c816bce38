"""One replicate, pure: its state, a training step, several steps, an evaluation.

Nothing here knows about text or about tables. The engine lifts `train_steps`
and `predict_steps` over the rows of a table.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from lth_flax.pruning.masks import apply_mask
from lth_flax.training.mask_state import current_mask, with_mask
from lth_flax.training.optimizers import Optimizer, Schedule, keep_pruned
from lth_flax.types import Batch, LossFn, Mask, Params


class Recipe(NamedTuple):
    """What is trained, and how: everything static that a training step needs.

    loss_fn: (params, batch, key) -> scalar.
    predict_fn: (params, batch) -> arrays with one leading axis, the examples.
    optimizer, schedule: see `training.optimizers`.
    keep_mask: whether pruned weights stay zero; else the mask is put on once, and all train.
    """

    loss_fn: LossFn
    predict_fn: Any
    optimizer: Optimizer
    schedule: Schedule
    keep_mask: bool = True


class Row(NamedTuple):
    """What is fixed during a replicate's training. The mask is in the optimizer's state."""

    key: Array
    learning_rate: Float[Array, ""]


class State(NamedTuple):
    """What a training step changes."""

    params: Params
    opt_state: Any
    step: Int[Array, ""]


def initial_state(
    recipe: Recipe, params: Params, mask: Mask, row: Row, step: Int[Array, ""]
) -> State:
    """A fresh optimizer at `params` under `mask`; `step` is 0 but after rewinding."""
    params = apply_mask(params, mask)
    if not recipe.keep_mask:
        mask = jax.tree_util.tree_map(jnp.ones_like, mask)
    optimizer = keep_pruned(recipe.optimizer(row.learning_rate), mask)
    return State(params, optimizer.init(params), step)


def continued_state(state: State, opt_state: Any) -> State:
    """`state` with the optimizer state of a dense run at the same step (late rewinding).

    The mask stays that of `state`, and moments of pruned weights become zero.
    """
    opt_state = with_mask(opt_state, current_mask(state.opt_state), state.params)
    return State(state.params, opt_state, state.step)


def train_step(
    recipe: Recipe, state: State, row: Row, batch: Batch
) -> tuple[State, Float[Array, ""]]:
    """One step of training with the mask kept: (state, loss before the step).

    The loss sees masked parameters; gradients and updates are masked, and so
    are the new parameters.
    """
    mask = current_mask(state.opt_state)
    params = apply_mask(state.params, mask)
    key = jax.random.fold_in(row.key, state.step)
    loss, grads = jax.value_and_grad(recipe.loss_fn)(params, batch, key)
    rate = row.learning_rate * recipe.schedule(state.step)
    optimizer = keep_pruned(recipe.optimizer(rate), mask)
    updates, opt_state = optimizer.update(grads, state.opt_state, params)
    params = apply_mask(optax.apply_updates(params, updates), current_mask(opt_state))
    return State(params, opt_state, state.step + 1), loss


def gather(examples: Batch, indices: Int[Array, " batch"]) -> Batch:
    """A batch of resident examples; a negative index gives weight zero."""
    real = indices >= 0
    rows = jnp.where(real, indices, 0)
    batch = {name: array[rows] for name, array in examples.items()}
    return {**batch, "weight": real.astype(jnp.float32)}


def train_steps(
    recipe: Recipe,
    state: State,
    row: Row,
    loss_sum: Float[Array, ""],
    indices: Int[Array, "batches batch"],
    examples: Batch,
    first: Int[Array, ""],
    steps: Int[Array, ""],
) -> tuple[State, Float[Array, ""]]:
    """Trains on `steps` batches of `indices`, from its `first` on.

    Returns:
      the state, and `loss_sum` with the loss of every example added: step by step, so that it
      does not depend on which steps share a call.
    """

    def body(index, carry):
        state, total = carry
        batch = gather(examples, indices[index])
        state, loss = train_step(recipe, state, row, batch)
        return state, total + loss * jnp.sum(batch["weight"])

    return jax.lax.fori_loop(first, first + steps, body, (state, loss_sum))


def predict_steps(
    recipe: Recipe,
    params: Params,
    indices: Int[Array, "most_steps batch"],
    examples: Batch,
    steps: Int[Array, ""],
) -> Any:
    """`predict_fn` over batches: arrays [most_steps, batch], zero past `steps`."""
    shapes = jax.eval_shape(lambda: recipe.predict_fn(params, gather(examples, indices[0])))
    empty = jax.tree_util.tree_map(
        lambda s: jnp.zeros((indices.shape[0], *s.shape), s.dtype), shapes
    )

    def body(index, outputs):
        one = recipe.predict_fn(params, gather(examples, indices[index]))
        return jax.tree_util.tree_map(lambda all_, new: all_.at[index].set(new), outputs, one)

    return jax.lax.fori_loop(0, steps, body, empty)


def predict_levels(
    recipe: Recipe,
    params: Params,
    masks: Mask,
    indices: Int[Array, "most_steps batch"],
    examples: Batch,
    steps: Int[Array, ""],
) -> Any:
    """`predict_steps` of one network under several masks: arrays [levels, most_steps, batch].

    `masks` is a mask tree whose leaves have a leading axis, the levels.
    """

    def one(mask: Mask) -> Any:
        return predict_steps(recipe, apply_mask(params, mask), indices, examples, steps)

    return jax.lax.map(one, masks)
