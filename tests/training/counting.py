"""A task whose every answer is known beforehand, for the tests of the loop.

Its one weight counts: the loss is minus it and the learning rate 1, so it grows
by one at each step. Predictions say which example they are of and how far the
weight had counted, and are as accurate as a script says for that count.
"""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from tables import Given

from lth_flax.training.loop import Trainer
from lth_flax.training.optimizers import make_optimizer, make_schedule
from lth_flax.training.programs import Workload
from lth_flax.training.replicates import Engine
from lth_flax.training.steps import Recipe

SPLITS = ("train", "validation", "test")
SIZES = ((7, 5, 4), (9, 1, 3))  # per bucket and split: few are multiples of a batch
EPOCHS = 4
STEPS = 6  # per epoch: 7 and 9 examples in batches of 3

BUCKETS = (
    {"id": np.arange(100, 116, dtype=np.int32), "x": np.linspace(-1, 1, 16, dtype=np.float32)},
    {"id": np.arange(200, 213, dtype=np.int32), "x": np.linspace(3, 5, 13, dtype=np.float32)},
)

SCRIPT = np.zeros(300, np.float32)
SCRIPT[[6, 12, 18, 24]] = [0.25, 0.75, 0.75, 0.5]
SCRIPT[[106, 112, 118, 124]] = [0.125, 0.25, 0.375, 0.5]
SCRIPT[[206, 212, 218, 224]] = [0.0, 0.0, 0.0, 0.0]


def make_members(seed):
    """Every seed has other examples, in an order that is not sorted."""
    members = {split: [] for split in SPLITS}
    for bucket, sizes in enumerate(SIZES):
        order = np.random.default_rng([seed, bucket]).permutation(sum(sizes))
        for split, part in zip(SPLITS, np.split(order, np.cumsum(sizes)[:-1]), strict=True):
            members[split].append(part)
    return {split: tuple(parts) for split, parts in members.items()}


MEMBERS = {seed: make_members(seed) for seed in range(3)}


def loss(params, batch, dropout_key):
    del dropout_key
    weight = batch["weight"]
    return -params["count"][0] + jnp.sum(weight * batch["x"]) / jnp.sum(weight)


def predict(params, batch):
    count = jnp.round(params["count"][0]).astype(jnp.int32)
    like = jnp.ones_like(batch["id"])
    return {
        "id": batch["id"],
        "pair": jnp.stack([batch["id"], -batch["id"]], axis=1),
        "count": count * like,
        "correct": jnp.asarray(SCRIPT)[count] * like,
        "loss": batch["x"] - params["count"][0],
    }


@cache
def trainer():
    task = Recipe(
        loss,
        predict,
        make_optimizer("sgd", momentum=0.0),
        make_schedule("constant", total_steps=EPOCHS * STEPS),
    )
    work = Workload(
        buckets=BUCKETS,
        members=MEMBERS,
        epochs=EPOCHS,
        batch_size=3,
        eval_batch_sizes=(4, 4),
    )
    return Trainer(Engine("map", tuple(jax.devices()[:2]), 2), task, work)


def row(seed, start=0.0, rate=1.0):
    params = {"count": np.array([start], np.float32)}
    return Given(params, {"count": np.array(True)}, seed, rate)


def column(name, seed, split):
    """What the examples of a split hold, in the order of its members."""
    parts = zip(BUCKETS, MEMBERS[seed][split], strict=True)
    return np.concatenate([bucket[name][members] for bucket, members in parts])
