"""Tasks with a memory from batch to batch, on streams: against an obvious loop over stretches."""

import dataclasses
import itertools
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tables import Given, outcomes_of

import lth_flax as lth
from lth_flax.config import Config
from lth_flax.data.stretches import in_columns
from lth_flax.errors import UserError
from lth_flax.pruning.masks import apply_mask, full_mask
from lth_flax.runs.masks import first_batches, loss_over
from lth_flax.runs.setup import build
from lth_flax.training import loop
from lth_flax.training.checkpoints import Checkpoints
from lth_flax.training.loop import Hooks, Stopped
from lth_flax.training.steps import gather

RNG = np.random.default_rng(0)
LENGTH, BATCH, RATE = 4, 3, 0.2
POSITIONS = {"train": 45, "validation": 26, "test": 33}  # 11, 6 and 8 stretches
SEQUENCES = {
    name: {
        "x": RNG.normal(size=(size, 2)).astype(np.float32),
        "y": RNG.normal(size=size).astype(np.float32),
    }
    for name, size in POSITIONS.items()
}


def init(key):
    first, second, third = jax.random.split(key, 3)
    return {
        "in": {"kernel": jax.random.normal(first, (2, 3))},
        "again": {"kernel": jax.random.normal(second, (3, 3)) / 2},
        "out": {"kernel": jax.random.normal(third, (3, 1))},
    }


def read(params, x, h):
    """Predictions [B, T] and the state after x [B, T, 2]: a recurrent network of three units."""
    found = []
    for t in range(x.shape[1]):
        h = jnp.tanh(x[:, t] @ params["in"]["kernel"] + h @ params["again"]["kernel"])
        found.append(h @ params["out"]["kernel"])
    return jnp.concatenate(found, axis=1), h


def errors(params, batch, h):
    found, h = read(params, batch["x"], h)
    return jnp.mean((found - batch["y"]) ** 2, axis=1), h


def loss(params, batch, key, h):
    each, h = errors(params, batch, h)
    return jnp.sum(each * batch["weight"]) / jnp.sum(batch["weight"]), h


def evaluate(params, batch, h):
    each, h = errors(params, batch, h)
    return {"loss": each}, h


def carry(batch_size):
    return jnp.zeros((batch_size, 3))


TASK = lth.Task(init, loss, evaluate, primary="loss", higher_is_better=False, carry=carry)
TRAINING = lth.Training(
    epochs=2, batch_size=BATCH, optimizer="sgd", momentum=0, learning_rate=RATE,
    lr_schedule="constant", clip_norm=0,
)  # fmt: skip


def streams(**changed):
    return lth.Examples.streams(**{**SEQUENCES, **changed}, length=LENGTH)


# The obvious loop. -----------------------------------------------------------------------


def columns(name, count):
    """Column after column its stretches, [(x, y), ...]: eleven of three columns are 4 + 4 + 3."""
    x, y = SEQUENCES[name]["x"], SEQUENCES[name]["y"]
    whole = [slice(start, start + LENGTH) for start in range(0, len(y) - LENGTH + 1, LENGTH)]
    sizes = [len(whole) // count + (column < len(whole) % count) for column in range(count)]
    found, start = [], 0
    for size in sizes:
        found.append([(x[s], y[s]) for s in whole[start : start + size]])
        start += size
    return found


def slow_training(params, mask, epochs, start=0, states=None, stop=None):
    """(parameters, states of the columns) after training with plain gradient descent."""
    of_column = columns("train", BATCH)
    steps = max(map(len, of_column))
    for step in range(start, epochs * steps):
        if step == stop:
            break
        t = step % steps
        if t == 0 or states is None:
            states = [np.zeros((1, 3), np.float32)] * BATCH

        def mean(params, t=t, states=tuple(states)):
            total, number, after = 0.0, 0, []
            for column, state in zip(of_column, states, strict=True):
                if t < len(column):
                    x, y = column[t]
                    found, state = read(params, x[None], state)
                    total, number = total + jnp.mean((found[0] - y) ** 2), number + 1
                after.append(state)
            return total / number, after

        (_, states), grads = jax.value_and_grad(mean, has_aux=True)(params)
        params = jax.tree.map(lambda w, g, m: (w - RATE * g) * m, params, grads, mask)
    return params, states


def slow_losses(params, name, count=BATCH):
    """The loss of every stretch, in the order of the sequence."""
    losses = []
    for column in columns(name, count):
        state = np.zeros((1, 3), np.float32)
        for x, y in column:
            found, state = read(params, x[None], state)
            losses.append(float(jnp.mean((found[0] - y) ** 2)))
    return losses


# Against it. -----------------------------------------------------------------------------


@cache
def found():
    return lth.find_tickets(
        TASK, streams(), seeds=2, levels=[0.5], arms=["ticket"], training=TRAINING
    )


def test_training_under_a_mask_is_that_of_the_loop():
    for seed in range(2):
        ticket = found().tickets[seed, 0.5]
        start = apply_mask(ticket.initial_params, ticket.mask)
        expected, _ = slow_training(start, ticket.mask, epochs=2)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6),
            ticket.trained_params, expected,
        )  # fmt: skip


def test_scores_of_a_split_are_those_of_one_pass_over_its_columns():
    ticket = found().tickets[1, 0.5]
    for record in found().records:
        if (record.arm, record.seed, record.checkpoint) == ("ticket", 1, "last"):
            expected = slow_losses(ticket.trained_params, record.split)
            assert record.examples == len(expected)
            np.testing.assert_allclose(record.loss, np.mean(expected), rtol=1e-5)


def setup(mode="map", rows=2, task=TASK, **settings):
    config = Config(
        seeds="0:2", replicates=mode, rows_per_program=rows, batch_size=BATCH, optimizer="sgd",
        momentum=0, learning_rate=RATE, lr_schedule="constant", clip_norm=0, **settings,
    )  # fmt: skip
    return build(config, task, streams(), range(2), epochs=2, rows=2)


def rows_of(some):
    starts = [some.initialize(seed) for seed in range(2)]
    return [Given(p, some.full_mask(p), seed, RATE) for seed, p in enumerate(starts)]


@cache
def uninterrupted():
    some = setup()
    return outcomes_of(some.trainer, rows_of(some))


def test_outputs_stand_in_the_order_of_the_sequence():
    for outcome in uninterrupted():
        for split in ("validation", "test"):
            np.testing.assert_allclose(
                outcome.outputs["last", split]["loss"], slow_losses(outcome.params, split),
                rtol=1e-4,
            )  # fmt: skip


@pytest.mark.slow
def test_stretches_with_a_state_are_one_long_pass():
    params = init(jax.random.key(3))
    x = SEQUENCES["train"]["x"][None, : 10 * LENGTH]
    whole, last = read(params, x, carry(1))
    state, parts = carry(1), []
    for start in range(0, x.shape[1], LENGTH):
        part, state = read(params, x[:, start : start + LENGTH], state)
        parts.append(part)
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
    np.testing.assert_array_equal(state, last)
    # And so is an evaluation in one column.
    one = dataclasses.replace(TRAINING, batch_size=1)
    result = lth.find_tickets(TASK, streams(), seeds=1, levels=[0.5], arms=["ticket"], training=one)
    params = result.tickets[0, 0.5].trained_params
    (record,) = [
        r for r in result.records
        if (r.arm, r.checkpoint, r.split) == ("ticket", "last", "test")
    ]  # fmt: skip
    y = SEQUENCES["test"]["y"][: 8 * LENGTH]
    whole, _ = read(params, SEQUENCES["test"]["x"][None, : 8 * LENGTH], carry(1))
    np.testing.assert_allclose(record.loss, np.mean((whole[0] - y) ** 2), rtol=1e-5)


def test_vmap_and_map_agree():
    lifted = setup("vmap")
    for one, other in zip(
        uninterrupted(), outcomes_of(lifted.trainer, rows_of(lifted)), strict=True
    ):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
            (one.params, dict(one.outputs)), (other.params, dict(other.outputs)),
        )  # fmt: skip


@pytest.mark.parametrize("calls", [*(pytest.param(n, marks=pytest.mark.slow) for n in (1, 3)), 6])
def test_stopped_in_an_epoch_it_ends_with_the_same_bits(tmp_path, monkeypatch, calls):
    monkeypatch.setattr(loop, "MOST_STEPS", 1)
    some, count = setup(), itertools.count(1)
    kept = Checkpoints(tmp_path, identity="a run", minutes=60)
    stopping = Hooks(checkpoints=kept, stop=lambda: next(count) >= calls)
    with pytest.raises(Stopped):
        outcomes_of(some.trainer, rows_of(some), hooks=stopping)
    kept.close()
    kept = Checkpoints(tmp_path, identity="a run", minutes=60)
    resumed = outcomes_of(some.trainer, rows_of(some), hooks=Hooks(checkpoints=kept))
    kept.close()
    for one, other in zip(uninterrupted(), resumed, strict=True):
        one, other = map(dataclasses.asdict, (one, other))
        jax.tree.map(np.testing.assert_array_equal, one, other)


def test_late_rewinding_goes_on_with_the_memory_of_the_dense_network():
    # Step 3 of 8: in the middle of an epoch of four steps.
    result = lth.find_tickets(
        TASK, streams(), seeds=1, levels=[0.0, 0.5], arms=["ticket"], training=TRAINING,
        rewind=0.75,
    )  # fmt: skip
    scored = {
        (r.arm, r.target_sparsity): r.loss for r in result.records
        if (r.checkpoint, r.split) == ("last", "test")
    }  # fmt: skip
    assert scored["ticket", 0.0] == scored["dense", 0.0]  # level 0 is the dense network
    ticket = result.tickets[0, 0.5]
    full = jax.tree.map(np.asarray, full_mask(ticket.initial_params))
    point, states = slow_training(ticket.initial_params, full, epochs=2, stop=3)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6),
                 ticket.rewind_params, point)  # fmt: skip
    expected, _ = slow_training(
        apply_mask(point, ticket.mask), ticket.mask, epochs=2, start=3, states=states
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=5e-6),
                 ticket.trained_params, expected)  # fmt: skip


@pytest.mark.slow
def test_a_score_reads_the_first_batches_of_an_epoch_with_their_memory():
    some = setup(criterion="snip", score_examples=7)
    indices = first_batches(some.examples, 0, 7, BATCH)
    np.testing.assert_array_equal(indices, [[0, 4, 8], [1, 5, 9]])
    examples = {name: jnp.asarray(array) for name, array in some.examples.buckets[0].items()}
    batches = [gather(examples, row) for row in indices]
    params = init(jax.random.key(1))

    def expected(params):
        state, total = carry(BATCH), 0.0
        for batch in batches:
            each, state = errors(params, batch, jax.lax.stop_gradient(state))
            total += jnp.sum(each)
        return total / 6

    score_loss = loss_over(some.trainer.recipe, batches, jax.random.key(0))
    for one, other in zip(
        jax.tree.leaves(jax.value_and_grad(score_loss)(params)),
        jax.tree.leaves(jax.value_and_grad(expected)(params)), strict=True,
    ):  # fmt: skip
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
    result = lth.find_tickets(
        TASK, streams(), seeds=1, levels=[0.5], arms=["ticket"], training=TRAINING, score="snip",
        mask_from="initialization", score_examples=7,
    )  # fmt: skip
    ticket = result.tickets[0, 0.5]
    grads = jax.grad(expected)(ticket.initial_params)
    sizes = jax.tree.map(lambda w, g: np.abs(w * g), ticket.initial_params, grads)
    kept = [np.asarray(s)[m] for s, m in zip(*map(jax.tree.leaves, (sizes, ticket.mask)),
                                             strict=True)]  # fmt: skip
    gone = [np.asarray(s)[~m] for s, m in zip(*map(jax.tree.leaves, (sizes, ticket.mask)),
                                              strict=True)]  # fmt: skip
    assert np.concatenate(gone).max() <= np.concatenate(kept).min()


# What is cut, and what is refused. ----------------------------------------------------------


def test_token_ids_come_with_the_tokens_that_follow():
    ids = np.arange(10, 21)
    examples = lth.Examples.streams(ids, ids[:5], ids[:5], length=4)
    train = examples.of(0, "train")
    np.testing.assert_array_equal(train["tokens"], [[10, 11, 12, 13], [14, 15, 16, 17]])
    np.testing.assert_array_equal(train["targets"], train["tokens"] + 1)
    assert not (train["tokens"] == train["targets"]).any()
    np.testing.assert_array_equal(examples.of(3, "test")["targets"], [[11, 12, 13, 14]])


@pytest.mark.parametrize("count", [1, 2, 3, 5, 11])
def test_every_stretch_is_read_once_after_its_neighbour(count):
    found = in_columns(np.arange(11), count)
    assert found.shape == (-(-11 // count), count)
    in_order = [[one for one in column if one >= 0] for column in found.T]
    assert sum(in_order, []) == list(range(11))
    assert max(map(len, in_order)) - min(map(len, in_order)) <= 1


def search(task=TASK, examples=None, batch_size=BATCH):
    training = dataclasses.replace(TRAINING, batch_size=batch_size)
    return lth.find_tickets(task, examples or streams(), seeds=1, levels=[0.5], training=training)


def without_memory(params, batch, *_):
    return errors(params, batch, carry(len(batch["weight"])))[0].mean()


ARRAYS = {"x": np.zeros((8, 4, 2), np.float32), "y": np.zeros((8, 4), np.float32)}


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (lambda: search(dataclasses.replace(TASK, carry=None)), "give Task.carry=.... too"),
        (lambda: search(examples=lth.Examples.split(ARRAYS)), "give Examples.streams"),
        (
            lambda: search(
                examples=lth.Examples.from_arrays([ARRAYS] * 2, [ARRAYS] * 2, [ARRAYS] * 2)
            ),
            "give Examples.streams",
        ),
        (lambda: search(batch_size=12), "batch_size=12 columns of a stream of 11 stretches"),
        (lambda: search(dataclasses.replace(TASK, loss=without_memory)), "loss returned.*a pair"),
        (
            lambda: search(dataclasses.replace(TASK, evaluate=lambda p, b, h: {"loss": h})),
            "evaluate returned dict: expected a pair",
        ),
        (
            lambda: search(dataclasses.replace(TASK, carry=lambda size: jnp.zeros((size, 3), int))),
            r"state that the task's loss returned is float32\[3, 3\]: expected .* int32\[3, 3\]",
        ),
        (lambda: lth.Examples.streams(np.ones(9), np.ones(9), np.ones(9)), "whole numbers"),
        (lambda: lth.Examples.streams(*[np.ones((9, 2), int)] * 3), r"found int64\[9, 2\]"),
        (lambda: lth.Examples.streams(*["a b c"] * 3), "expected a sequence of token ids"),
        (lambda: lth.Examples.streams(*[np.arange(35)] * 3), "34 positions are no stretch of 35"),
        (lambda: lth.Examples.streams(*[np.arange(9)] * 3, length=0), "length=0"),
        (lambda: lth.Examples.streams(*[np.arange(9)] * 3, length=2.5), "length=2.5"),
        (lambda: streams(train={"x": np.ones((9, 2)), "y": np.ones(8)}), "equally long"),
        (lambda: streams(train={}), "equally long"),
        (lambda: streams(test=np.arange(9)), "same names"),
        (lambda: streams(test={**SEQUENCES["test"], "x": np.ones((33, 5))}), "x of bucket 0"),
    ],
)
def test_what_does_not_go_together_is_one_line(run, words):
    with pytest.raises(UserError, match=words) as refused:
        run()
    assert "\n" not in str(refused.value)
