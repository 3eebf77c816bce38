"""Mistakes in the functions of a task are one line, before anything is trained."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_search import LABELS, X, arrays, cross_entropy, init, mean, mlp, search

import lth_flax as lth
from lth_flax.errors import UserError
from lth_flax.training.programs import Programs

TASK = mlp()


@pytest.fixture(autouse=True)
def untrained(monkeypatch):
    monkeypatch.setattr(Programs, "train", lambda *_: pytest.fail("it was trained"))


def changed(**functions):
    return dataclasses.replace(TASK, **functions)


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (changed(init=lambda key: {**init(key), "step": jnp.int32(0)}), r"\['step'\] as int32"),
        (changed(init=lambda key: np.random.default_rng(key)), "init fails.*from a key"),
        (changed(init=lambda key: init(jax.random.key(0))), "the same weights for two keys"),
        (changed(loss=lambda p, b: 0.0), "loss fails: TypeError.*takes 2 positional"),
        (changed(loss=lambda p, b, k: cross_entropy(p, b)), r"loss returned float32\[32\]"),
        (changed(loss=lambda p, b, k: (mean(cross_entropy(p, b), b), 1.0)), "returned a tuple"),
        (changed(loss=lambda p, b, k: None), "returned NoneType: expected one float"),
        (changed(loss=lambda p, b, k: b["labels"].sum()), r"returned int32\[\]"),
        (changed(loss=lambda p, b, k: b["inputs"]), r"KeyError: 'inputs'; a batch has x float32"),
        (changed(evaluate=lambda p, b: {"loss": cross_entropy(p, b).mean()}), r"loss float32\[\]"),
        (changed(evaluate=cross_entropy), "evaluate returned .*expected a dict"),
        (changed(primary="acuracy"), "'acuracy' is none of its metrics .accuracy, loss.*primary="),
        (changed(metrics=lambda outputs: {}), "metrics fails: TypeError"),
        (changed(metrics=lambda outputs, e: {"accuracy": outputs["hits"]}), "KeyError: 'hits'"),
        (changed(metrics=lambda outputs, e: {"accuracy": outputs["correct"]}), "dict of numbers"),
        (changed(metrics=lambda outputs, e: outputs["correct"].mean()), "dict of numbers"),
    ],
)
def test_a_mistake_is_one_line(task, words):
    with pytest.raises(UserError, match=words) as refused:
        search(task)
    assert "\n" not in str(refused.value)


def test_buckets_may_share_no_array(monkeypatch):
    monkeypatch.undo()
    task = lth.Task(
        lambda key: {"kernel": jax.random.normal(key, (1, 8))},
        lambda p, b, k: mean(jnp.mean((b["x"] - p["kernel"].mean()) ** 2, axis=1), b),
        lambda p, b: {"mse": jnp.mean((b["x"] - p["kernel"].mean()) ** 2, axis=1)},
        primary="mse",
        higher_is_better=False,
    )
    examples = lth.Examples.split([{"x": X[:100, :3]}, {"x": X[100:, :5]}])
    result = search(task, examples, seeds=1, levels=[0.5], training=lth.Training(1, 20))
    assert result.tickets


def test_labels_of_another_kind_are_one_line():
    given = lth.Examples.split({"x": X, "labels": LABELS.astype(np.float32)})
    with pytest.raises(UserError, match=r"loss fails.*labels float32\[32\]"):
        search(examples=given)


def test_state_that_changes_in_training_is_no_part_of_a_task():
    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(2)(nn.BatchNorm(use_running_average=False)(x))

    network = Network()

    def loss(params, batch, key):
        logits = network.apply({"params": params}, batch["x"])
        each = optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"])
        return mean(each, batch)

    with pytest.raises(UserError, match="loss fails: .*batch_stats.*; a batch has x"):
        search(changed(init=lambda key: network.init(key, X[:1])["params"], loss=loss))


def test_full_batches_need_no_weight_and_metrics_may_need_outputs_that_differ(monkeypatch):
    monkeypatch.undo()

    def correlation(outputs, examples):
        if outputs["loss"].std() == 0:
            raise ValueError("a constant has no correlation")
        return {"r": np.corrcoef(outputs["loss"], examples["labels"])[0, 1]}

    task = changed(
        loss=lambda p, b, k: cross_entropy(p, b).mean(), metrics=correlation, primary="r"
    )
    result = search(task, levels=[0.5], training=lth.Training(epochs=1, batch_size=35))
    assert len(arrays().of(0, "train")["x"]) == 140  # four batches
    assert "on test, where higher is better" in result.verdict


def test_a_loss_that_counts_what_fills_up_a_batch_is_warned_of(monkeypatch):
    monkeypatch.undo()
    task = changed(loss=lambda p, b, k: cross_entropy(p, b).mean())
    with pytest.warns(UserWarning, match=r"does not read batch\[.weight.\].*jnp.average"):
        search(task, seeds=1, levels=[0.5], training=lth.Training(epochs=1, batch_size=32))


def test_an_optimizer_is_a_function_of_the_rate():
    with pytest.raises(UserError, match="is an optimizer itself.*such as lambda rate"):
        lth.Training(epochs=1, batch_size=32, optimizer=optax.adam(1e-3))


def test_functions_of_a_task_are_functions():
    with pytest.raises(UserError, match=r"Task\(init=...\) is a dict: expected a function"):
        lth.Task({}, TASK.loss, TASK.evaluate)
