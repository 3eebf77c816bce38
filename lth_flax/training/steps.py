"""One replicate, pure: its state, a training step, several steps, an evaluation.

Nothing here knows about text or about tables. The engine lifts `train_steps`
and `predict_steps` over the rows of a table.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from lth_flax.errors import UserError
from lth_flax.pruning.masks import apply_mask
from lth_flax.training.mask_state import current_mask, masked, pruned_state, with_mask
from lth_flax.training.optimizers import Optimizer, Schedule, keep_pruned
from lth_flax.types import Batch, Mask, Params


class Recipe(NamedTuple):
    """What is trained, and how: everything static that a training step needs.

    loss_fn: (params, batch, key) -> scalar; with `carry` (params, batch, key, memory) ->
      (scalar, memory).
    predict_fn: (params, batch) -> arrays with one leading axis, the examples; with `carry`
      (params, batch, memory) -> (arrays, memory).
    optimizer, schedule: see `training.optimizers`.
    keep_mask: whether pruned weights stay zero; else the mask is put on once, and all train.
    wrap: (optimizer, mask to begin with, what is a row's own) -> a transformation that changes
      the mask during training (`changing_masks`); None: masks stay.
    carry: (batch size) -> the memory before the first batch, of what keeps one from batch to
      batch: batches are stretches of a stream.
    batch_size: of training, for `carry`.
    """

    loss_fn: Any
    predict_fn: Any
    optimizer: Optimizer
    schedule: Schedule
    keep_mask: bool = True
    wrap: Callable[[optax.GradientTransformation, Mask, Any], Any] | None = None
    carry: Callable[[int], Any] | None = None
    batch_size: int = 0

    def empty(self, size: int) -> Any:
        """The memory before the first of batches of this size; () without one."""
        if self.carry is None:
            return ()
        return jax.tree_util.tree_map(jnp.asarray, self.carry(size))

    def loss(
        self, params: Params, batch: Batch, key: Array, memory: Any
    ) -> tuple[Float[Array, ""], Any]:
        """`loss_fn`, and the memory after the batch."""
        if self.carry is None:
            return self.loss_fn(params, batch, key), memory
        return remembered("loss", self.loss_fn(params, batch, key, memory), memory)

    def predict(self, params: Params, batch: Batch, memory: Any) -> tuple[Any, Any]:
        """`predict_fn`, and the memory after the batch."""
        if self.carry is None:
            return self.predict_fn(params, batch), memory
        return remembered("evaluate", self.predict_fn(params, batch, memory), memory)

    def transformation(self, rate: Float[Array, ""], mask: Mask, row: "Row") -> Any:
        """The optimizer under a mask."""
        optimizer = self.optimizer(rate)
        if self.wrap is None:
            return keep_pruned(optimizer, mask, frozen=row.frozen)
        return optax.with_extra_args_support(self.wrap(optimizer, mask, row.own))


class Row(NamedTuple):
    """What is fixed during a replicate's training. The mask is in the optimizer's state.

    own: what `Recipe.wrap` needs to know of this row, if anything.
    frozen: whether pruned weights stay at their initial values, in place of zero.
    """

    key: Array
    learning_rate: Float[Array, ""]
    own: Any = ()
    frozen: Bool[Array, ""] | None = None


class State(NamedTuple):
    """What a training step changes. carry: the memory of the last batch, () of what has none."""

    params: Params
    opt_state: Any
    step: Int[Array, ""]
    carry: Any = ()


def remembered(function: str, returned: Any, memory: Any) -> tuple[Any, Any]:
    """What a function of a task with a memory returned, (answer, memory), checked.

    Raises:
      UserError: it is no such pair, or the memory is not like the one that it was given.
    """
    if not (isinstance(returned, tuple) and len(returned) == 2):
        raise UserError(
            f"the task has a memory (carry), and its {function} returned "
            f"{type(returned).__name__}: expected a pair, (what it is without a memory, state)"
        )
    answer, after = returned
    kinds = [jax.tree_util.tree_map(_kind, tree) for tree in (memory, after)]
    if kinds[0] != kinds[1]:
        raise UserError(
            f"the state that the task's {function} returned is {kinds[1]}: expected what carry "
            f"gave, {kinds[0]}"
        )
    return answer, after


def _kind(leaf: Any) -> str:
    return f"{jnp.result_type(leaf)}{list(jnp.shape(leaf))}"


def initial_state(
    recipe: Recipe, params: Params, mask: Mask, row: Row, step: Int[Array, ""]
) -> State:
    """A fresh optimizer at `params` under `mask`; `step` is 0 but after rewinding."""
    params = apply_mask(params, mask, row.frozen)
    if not recipe.keep_mask:
        mask = jax.tree_util.tree_map(jnp.ones_like, mask)
    optimizer = recipe.transformation(row.learning_rate, mask, row)
    return State(params, optimizer.init(params), step, recipe.empty(recipe.batch_size))


def continued_state(state: State, opt_state: Any, carry: Any = ()) -> State:
    """`state` with the optimizer state of a dense run at the same step (late rewinding).

    The mask stays that of `state`, and moments of pruned weights become zero. `carry` is the
    memory of that run, if it is known.
    """
    held = pruned_state(state.opt_state)
    opt_state = with_mask(opt_state, held.mask, state.params, frozen=held.frozen)
    carry = carry if jax.tree_util.tree_leaves(carry) else state.carry
    return State(state.params, opt_state, state.step, carry)


def train_step(
    recipe: Recipe, state: State, row: Row, batch: Batch, step: Int[Array, ""] | None = None
) -> tuple[State, Float[Array, ""]]:
    """One step of training under the mask: (state, loss before the step).

    The loss sees masked parameters, and its gradient is taken at them, dense. Updates are
    masked, and so are the new parameters.

    Args:
      step: `state.step` as a number that all rows share: masks that change are changed under
        `lax.cond`, and nothing of that runs between the changes, also under `vmap`.
    """
    mask = current_mask(state.opt_state)
    params = masked(state.params, state.opt_state)
    key = jax.random.fold_in(row.key, state.step)
    (loss, carry), grads = jax.value_and_grad(recipe.loss, has_aux=True)(
        params, batch, key, state.carry
    )
    rate = row.learning_rate * recipe.schedule(state.step)
    optimizer = recipe.transformation(rate, mask, row)
    extra = {} if recipe.wrap is None else {"step": state.step if step is None else step}
    updates, opt_state = optimizer.update(grads, state.opt_state, params, **extra)
    params = masked(optax.apply_updates(params, updates), opt_state)
    return State(params, opt_state, state.step + 1, carry), loss


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
    start: Int[Array, ""] | None = None,
) -> tuple[State, Float[Array, ""]]:
    """Trains on `steps` batches of `indices`, from its `first` on.

    Args:
      start: the step of the run that the first of them is; `state.step` if not given.

    Returns:
      the state, and `loss_sum` with the loss of every example added: step by step, so that it
      does not depend on which steps share a call.
    """

    empty = recipe.empty(indices.shape[-1])

    def body(index, carry):
        state, total = carry
        batch = gather(examples, indices[index])
        if recipe.carry is not None:  # the first batch of an epoch follows nothing
            before = jax.tree_util.tree_map(partial(jnp.where, index == 0), empty, state.carry)
            state = state._replace(carry=before)
        step = None if start is None else start + (index - first)
        state, loss = train_step(recipe, state, row, batch, step)
        return state, total + loss * jnp.sum(batch["weight"])

    return jax.lax.fori_loop(first, first + steps, body, (state, loss_sum))


def predict_steps(
    recipe: Recipe,
    params: Params,
    indices: Int[Array, "most_steps batch"],
    examples: Batch,
    steps: Int[Array, ""],
) -> Any:
    """`predict_fn` over batches: arrays [most_steps, batch], zero past `steps`.

    A memory is empty before the first of them.
    """

    def predict(batch: Batch, memory: Any) -> tuple[Any, Any]:
        return recipe.predict(params, batch, memory)

    return _over_batches(predict, recipe.empty(indices.shape[-1]), indices, examples, steps)


def predict_levels(
    recipe: Recipe,
    params: Params,
    masks: Mask,
    indices: Int[Array, "most_steps batch"],
    examples: Batch,
    steps: Int[Array, ""],
) -> Any:
    """`predict_steps` of one network under several masks: arrays [levels, most_steps, batch].

    `masks` is a mask tree whose leaves have a leading axis, the levels. All of them see a batch
    before the next is read.
    """
    levels = jax.tree_util.tree_leaves(masks)[0].shape[0]
    memory = jax.tree_util.tree_map(
        lambda leaf: jnp.broadcast_to(leaf, (levels, *leaf.shape)), recipe.empty(indices.shape[-1])
    )

    def predict(batch: Batch, memory: Any) -> tuple[Any, Any]:
        def under(level: tuple[Mask, Any]) -> tuple[Any, Any]:
            mask, before = level
            return recipe.predict(apply_mask(params, mask), batch, before)

        return jax.lax.map(under, (masks, memory))

    outputs = _over_batches(predict, memory, indices, examples, steps)
    return jax.tree_util.tree_map(lambda leaf: jnp.swapaxes(leaf, 0, 1), outputs)


def _over_batches(
    predict: Callable[[Batch, Any], tuple[Any, Any]],
    memory: Any,
    indices: Int[Array, "most_steps batch"],
    examples: Batch,
    steps: Int[Array, ""],
) -> Any:
    shapes, _ = jax.eval_shape(lambda: predict(gather(examples, indices[0]), memory))
    empty = jax.tree_util.tree_map(
        lambda s: jnp.zeros((indices.shape[0], *s.shape), s.dtype), shapes
    )

    def body(index, carry):
        outputs, memory = carry
        one, memory = predict(gather(examples, indices[index]), memory)
        put = jax.tree_util.tree_map(lambda all_, new: all_.at[index].set(new), outputs, one)
        return put, memory

    return jax.lax.fori_loop(0, steps, body, (empty, memory))[0]
