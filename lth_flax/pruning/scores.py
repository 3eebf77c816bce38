"""Scores: how much a weight is worth. The lowest are pruned first.

A score takes `(params, *, initial_params=None, loss_fn=None, key=None)`, uses
what it needs, and returns a tree of floats like the parameters. To add one,
write the function and name it in `SCORES`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from lth_flax.types import Array, Params

Score = Callable[..., Params]


def magnitude(
    params: Params, *, initial_params: Params | None = None, loss_fn: Any = None, key: Any = None
) -> Params:
    """|w|: the criterion of Frankle & Carbin (arXiv 1803.03635)."""
    del initial_params, loss_fn, key
    return jax.tree_util.tree_map(jnp.abs, params)


def magnitude_increase(
    params: Params, *, initial_params: Params | None = None, loss_fn: Any = None, key: Any = None
) -> Params:
    """|w_final| - |w_initial|: how far training grew a weight (Zhou et al., arXiv 1905.01067).

    Raises:
      ValueError: without `initial_params`.
    """
    del loss_fn, key
    if initial_params is None:
        raise ValueError("magnitude_increase compares with initial_params: pass them")
    return jax.tree_util.tree_map(lambda w, w0: jnp.abs(w) - jnp.abs(w0), params, initial_params)


def random(
    params: Params,
    *,
    initial_params: Params | None = None,
    loss_fn: Any = None,
    key: Array | None = None,
) -> Params:
    """Uniform noise: a mask that knows nothing about the weights.

    Raises:
      ValueError: without a `key`.
    """
    del initial_params, loss_fn
    if key is None:
        raise ValueError("random scores are drawn from a key: pass key=jax.random.key(...)")
    leaves, tree = jax.tree_util.tree_flatten(params)
    draws = [
        jax.random.uniform(jax.random.fold_in(key, index), jnp.shape(leaf), jnp.float32)
        for index, leaf in enumerate(leaves)
    ]
    return jax.tree_util.tree_unflatten(tree, draws)


SCORES: dict[str, Score] = {
    "magnitude": magnitude,
    "magnitude_increase": magnitude_increase,
    "random": random,
}
