"""Loss and predictions of a text classifier, as functions of its parameters."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from lth_flax.types import Batch, LossFn, Params


def cross_entropy(
    logits: Float[Array, "batch classes"], labels: Int[Array, " batch"]
) -> Float[Array, " batch"]:
    """-log p(label), in nats, per example."""
    # An indicator, not a gather: every backend has it.
    chosen = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return -jnp.sum(chosen * jax.nn.log_softmax(logits), axis=-1)


def make_loss(model) -> LossFn:
    """Mean cross-entropy over the real examples of a batch, with dropout.

    A batch has "tokens" [B, T], "lengths" [B], "labels" [B] and "weight" [B].
    """

    def loss(params: Params, batch: Batch, key: Array) -> Float[Array, ""]:
        logits = model.apply(
            {"params": params},
            batch["tokens"],
            batch["lengths"],
            deterministic=False,
            rngs={"dropout": key},
        )
        losses = cross_entropy(logits, batch["labels"])
        weight = batch["weight"]
        return jnp.sum(losses * weight) / jnp.maximum(jnp.sum(weight), 1.0)

    return loss


def make_predict(model) -> Callable[[Params, Batch], dict[str, Array]]:
    """Per example: "predicted" class, "correct" (0 or 1) and "loss" in nats."""

    def predict(params: Params, batch: Batch) -> dict[str, Array]:
        logits = model.apply({"params": params}, batch["tokens"], batch["lengths"])
        predicted = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        return {
            "predicted": predicted,
            "correct": (predicted == batch["labels"]).astype(jnp.float32),
            "loss": cross_entropy(logits, batch["labels"]),
        }

    return predict
