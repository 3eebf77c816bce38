"""Scores: how much a weight is worth. The lowest are pruned first.

A score is a function `score(params, *, initial_params=None, loss_fn=None, key=None, model=None,
batches=None)` that returns a tree of floats like the parameters. It names the keywords that it
needs; what it does not name it is not given, and need not be made:

  initial_params: theta_0, where `params` are trained.
  loss_fn: params -> the mean loss over a few batches of training, without dropout.
  key: for what is drawn.
  model: what the task knows of its network (`tasks.ModelInfo`).
  batches: those that `loss_fn` is closed over.

To add one, write the function and name it in `SCORES`. Those here take every keyword, so that
they can be exchanged for each other.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

from lth_flax.errors import UserError
from lth_flax.pruning.masks import apply_mask, checked_mask, path_names
from lth_flax.pruning.select import Scope, prune
from lth_flax.types import Array, Batch, Mask, Params

Score = Callable[..., Params]
LossOf = Callable[[Params], Float[Array, ""]]

TEMPERATURE = 200.0
"""Of the logits in GraSP, as in its public code."""


def magnitude(params: Params, **_: Any) -> Params:
    """|w|: the criterion of Frankle & Carbin (arXiv 1803.03635)."""
    return jax.tree_util.tree_map(jnp.abs, params)


def magnitude_init(params: Params, *, initial_params: Params | None = None, **_: Any) -> Params:
    """The rank of |theta_0| in its tensor, from 0 to 1; of untrained parameters their own.

    Ranks, because entries of different tensors say how these are drawn: orthogonal recurrent
    kernels have larger ones than Glorot's input kernels, which would be emptied first.
    """
    sizes = magnitude(params if initial_params is None else initial_params)
    return jax.tree_util.tree_map(_ranks, sizes)


def magnitude_increase(params: Params, *, initial_params: Params | None = None, **_: Any) -> Params:
    """|w_final| - |w_initial|: how far training grew a weight (Zhou et al., arXiv 1905.01067).

    Raises:
      UserError: without `initial_params`.
    """
    before = _needed(initial_params, "magnitude_increase", "initial_params=, to compare with")
    return jax.tree_util.tree_map(lambda w, w0: jnp.abs(w) - jnp.abs(w0), params, before)


def random(params: Params, *, key: Array | None = None, **_: Any) -> Params:
    """Uniform noise: a mask that knows nothing about the weights.

    Raises:
      UserError: without a `key`.
    """
    key = _needed(key, "random", "key=jax.random.key(...), to draw from")
    leaves, tree = jax.tree_util.tree_flatten(params)
    draws = [
        jax.random.uniform(jax.random.fold_in(key, index), jnp.shape(leaf), jnp.float32)
        for index, leaf in enumerate(leaves)
    ]
    return jax.tree_util.tree_unflatten(tree, draws)


def snip(params: Params, *, loss_fn: LossOf | None = None, **_: Any) -> Params:
    """|w dL/dw|: how far the loss moves when a weight is scaled away (Lee et al., 1810.02340).

    Raises:
      UserError: without `loss_fn`.
    """
    loss_fn = _needed(loss_fn, "snip", "loss_fn=, params -> mean loss")
    return _product_size(params, jax.grad(loss_fn)(params))


def grasp(params: Params, *, loss_fn: LossOf | None = None, model: Any = None, **_: Any) -> Params:
    """w (H g): what a weight does for the norm of the gradient (Wang et al., arXiv 2002.07376).

    g is the gradient of the loss, H its Hessian. Without weight i the squared norm of g changes
    by -2 w_i (H g)_i to first order. Those whose removal raises it most have the *lowest* score
    here and go first; the highest stay. (The paper names the negative, and removes its highest.)
    Logits are divided by `TEMPERATURE` where the model says what its logits are.

    Raises:
      UserError: without `loss_fn`.
    """
    loss = _needed(loss_fn, "grasp", "loss_fn=, params -> mean loss")
    tempered = getattr(model, "tempered", None)
    gradient = jax.grad(lambda p: loss(tempered(p, TEMPERATURE) if tempered else p))
    _, change = jax.jvp(gradient, (params,), (gradient(params),))
    return jax.tree_util.tree_map(jnp.multiply, params, change)


def synflow(params: Params, *, model: Any = None, **_: Any) -> Params:
    """|w dR/dw| with |w| in place of w: the flow through a weight (Tanaka et al., 2006.05467).

    R is the output of the model's linear surrogate, `model.linearized`. Meant to be computed
    anew in many rounds: at once it empties whole layers.

    Raises:
      UserError: the model has no linear surrogate.
    """
    linearized = _of_model(model, "linearized", "synflow", "(params) -> output of a linear network")
    sizes = magnitude(params)
    return _product_size(sizes, jax.grad(linearized)(sizes))


def jacobian(
    params: Params,
    *,
    initial_params: Params | None = None,
    key: Array | None = None,
    model: Any = None,
    batches: Sequence[Batch] | None = None,
    **_: Any,
) -> Params:
    """|w dchi/dw|: who moves the spectrum of the step-to-step Jacobian (after 1912.00120).

    chi is the sum of the squared singular values of `model.jacobian`, over all texts of
    `batches`. Scores are divided by their mean over the gate of their matrix, so that none is
    emptied as a whole. What is no recurrent layer (the head) has no such score: there |theta_0|
    ranks, in the distribution of the others, so that it is pruned to their density.

    Raises:
      UserError: without `key` or `batches`, or the model has no Jacobian.
    """
    chi = _of_model(model, "jacobian", "jacobian", "(params, batch, key) -> size of a step")
    gates = _of_model(model, "gates", "jacobian", "(path) -> names of gates")
    some = _needed(batches, "jacobian", "batches=, to run the network on")
    key = _needed(key, "jacobian", "key=jax.random.key(...), to draw from")

    def mean(params: Params) -> Float[Array, ""]:
        sizes = [jnp.sum(batch["weight"]) for batch in some]
        found = [
            size * chi(params, batch, jax.random.fold_in(key, number))
            for number, (size, batch) in enumerate(zip(sizes, some, strict=True))
        ]
        return sum(found[1:], found[0]) / sum(sizes[1:], sizes[0])

    scores = _product_size(params, jax.grad(mean)(params))
    found, tree = jax.tree_util.tree_flatten_with_path(scores)
    named = [(gates(path_names(path)), leaf) for path, leaf in found]
    recurrent = [_over_mean(leaf, len(names)) for names, leaf in named if names]
    pool = jnp.sort(jnp.concatenate([leaf.reshape(-1) for leaf in recurrent]))
    ranked = jax.tree_util.tree_leaves(magnitude_init(params, initial_params=initial_params))
    scored = iter(recurrent)
    leaves = [
        next(scored) if names else _quantiles(pool, ranks)
        for (names, _), ranks in zip(named, ranked, strict=True)
    ]
    return jax.tree_util.tree_unflatten(tree, leaves)


def _over_mean(scores: Array, blocks: int) -> Array:
    """Scores over their mean in each of the blocks of the last axis."""
    apart = scores.reshape(*scores.shape[:-1], blocks, -1)
    means = jnp.mean(apart, axis=(*range(apart.ndim - 2), -1), keepdims=True)
    return (apart / jnp.where(means > 0, means, jnp.ones_like(means))).reshape(scores.shape)


def _ranks(values: Array) -> Float[Array, "..."]:
    """The share of entries that are smaller, and half of each own; of equals the first is lower."""
    ranks = jnp.argsort(jnp.argsort(values.reshape(-1), stable=True), stable=True)
    return ((ranks.astype(jnp.float32) + 0.5) / values.size).reshape(values.shape)


def _quantiles(pool: Float[Array, " pool"], shares: Float[Array, "..."]) -> Float[Array, "..."]:
    """Those of a sorted pool."""
    at = (shares * pool.size).astype(jnp.int32)
    return pool[jnp.clip(at, 0, pool.size - 1)]


@dataclass(frozen=True)
class InRounds:
    """A score that is computed anew in `rounds` rounds, each of which prunes by the same share.

    Of a target density rho, round k of n keeps rho^(k/n) of all prunable weights
    (`prune_in_rounds`). Called like the score itself, it is the score of one round.

    Example: `find_tickets(..., score=InRounds(my_score, 100))`.
    """

    score: Score
    rounds: int

    def __post_init__(self) -> None:
        if isinstance(self.rounds, bool) or not isinstance(self.rounds, int) or self.rounds < 1:
            raise UserError(f"InRounds needs a whole number of rounds from 1, found {self.rounds}")
        # Looks like the function that it stands for: to `inspect`, in records and in digests.
        name = f"{_name(self.score)}_in_{self.rounds}_rounds"
        for key, value in {
            "__wrapped__": self.score,
            "__module__": self.score.__module__,
            "__name__": name,
            "__qualname__": name,
        }.items():
            object.__setattr__(self, key, value)

    def __call__(self, params: Params, **keywords: Any) -> Params:
        return self.score(params, **keywords)


def inverted(score: Score) -> Score:
    """The same score upside down: what it ranks highest goes first.

    If accuracy does not fall, the ranking did not matter (Frankle et al., arXiv 2009.08576).
    """
    if isinstance(score, InRounds):
        return InRounds(inverted(score.score), score.rounds)

    @functools.wraps(score)
    def opposite(params: Params, **keywords: Any) -> Params:
        return jax.tree_util.tree_map(jnp.negative, score(params, **keywords))

    opposite.__name__ = opposite.__qualname__ = f"inverted_{_name(score)}"
    return opposite


def prune_in_rounds(
    score: Score,
    params: Params,
    mask: Mask,
    *,
    sparsity: float,
    scope: Scope = "global",
    **keywords: Any,
) -> Mask:
    """The mask of a score at a target sparsity, for scripts: with `InRounds` as it says, else once.

    Every round scores the parameters under the mask of the round before, and keeps the share
    (1 - sparsity)^(k / rounds) after round k.

    Args:
      keywords: what the score needs, such as `loss_fn`.

    Raises:
      UserError: a sparsity outside [0, 1], or what `prune` and the score raise.
    """
    rounds = score.rounds if isinstance(score, InRounds) else 1
    if not 0 <= sparsity <= 1:
        raise UserError(f"sparsity must be in [0, 1], found {sparsity}")
    mask = checked_mask(mask, params)
    for number in range(1, rounds + 1):
        scores = score(apply_mask(params, mask), **keywords)
        kept = (1 - sparsity) ** (number / rounds)
        share = sparsity if number == rounds else 1 - kept
        mask = prune(scores, mask, sparsity=share, scope=scope)
    return mask


def _product_size(params: Params, gradient: Params) -> Params:
    return jax.tree_util.tree_map(lambda w, g: jnp.abs(w * g), params, gradient)


GRADIENTS: dict[Score, int] = {snip: 1, grasp: 3, synflow: 1, jacobian: 1}
"""What a score costs, in gradients of what it reads; one with its derivative counts thrice."""


def _needed(value: Any, score: str, what: str) -> Any:
    if value is None:
        raise UserError(f"the score {score} needs what it was not given: pass {what}")
    return value


def _of_model(model: Any, name: str, score: str, what: str) -> Any:
    found = getattr(model, name, None)
    if found is None:
        raise UserError(
            f"the score {score} needs to know the network: expected Task(model=ModelInfo("
            f"{name}=...)), {what}; use another score where there is none"
        )
    return found


def _name(score: Score) -> str:
    return getattr(score, "__name__", type(score).__name__)


_BEFORE_TRAINING: dict[str, Score] = {
    "magnitude_init": magnitude_init,
    "snip": snip,
    "grasp": grasp,
    "synflow": InRounds(synflow, 100),
    "jacobian": jacobian,
}
SCORES: dict[str, Score] = {
    "magnitude": magnitude,
    "magnitude_increase": magnitude_increase,
    "random": random,
    **_BEFORE_TRAINING,
    **{f"inverted_{n}": inverted(score) for n, score in _BEFORE_TRAINING.items()},
    "inverted_magnitude": inverted(magnitude),
}
