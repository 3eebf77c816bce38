"""Examples, Task and Training: values that are checked when they are made."""

import numpy as np
import optax
import pytest

from lth_flax.errors import UserError
from lth_flax.tasks import Examples, Task, Training

LABELS = np.arange(40) % 2
ARRAYS = {"x": np.arange(80, dtype=np.float32).reshape(40, 2), "labels": LABELS}


def part(start, stop):
    return {name: array[start:stop] for name, array in ARRAYS.items()}


def test_given_splits_are_those_of_every_seed():
    examples = Examples.from_arrays(part(0, 20), part(20, 26), part(26, 40))
    for seed in (0, 7):
        np.testing.assert_array_equal(examples.of(seed, "train")["x"], ARRAYS["x"][:20])
        np.testing.assert_array_equal(examples.of(seed, "validation")["labels"], LABELS[20:26])
        np.testing.assert_array_equal(examples.of(seed, "test")["x"], ARRAYS["x"][26:])
    assert [bucket["x"].shape for bucket in examples.buckets] == [(40, 2)]


def test_buckets_may_be_of_other_lengths_and_one_of_a_split_empty():
    def bucket(count, length):
        return {"x": np.ones((count, length)), "labels": np.zeros(count, int)}

    examples = Examples.from_arrays(
        [bucket(4, 3), bucket(5, 6)], [bucket(1, 3), bucket(0, 6)], [bucket(2, 3), bucket(2, 6)]
    )
    assert [bucket["x"].shape for bucket in examples.buckets] == [(7, 3), (7, 6)]
    assert list(examples.of(0, "train")) == ["labels"]  # x has no one shape
    assert len(examples.of(0, "test")["labels"]) == 4


def test_drawn_splits_are_disjoint_stratified_and_new_for_every_seed():
    examples = Examples.split(ARRAYS, validation=0.1, test=0.25, stratify="labels")
    seen = []
    for seed in range(3):
        parts = {name: rows[0] for name, rows in examples.draw(seed).items()}
        together = np.concatenate(list(parts.values()))
        assert sorted(together) == list(range(40))
        assert {name: len(rows) for name, rows in parts.items()} == {
            "train": 26, "validation": 4, "test": 10,
        }  # fmt: skip
        for rows in parts.values():
            assert LABELS[rows].sum() * 2 == len(rows)
        seen.append(tuple(parts["test"]))
    assert len(set(seen)) == 3
    np.testing.assert_array_equal(examples.draw(1)["test"][0], examples.draw(1)["test"][0])


def test_every_seed_has_the_same_counts_in_every_bucket():
    buckets = [part(0, 13), part(13, 40)]
    examples = Examples.split(buckets, stratify="labels")
    counts = {
        tuple(len(rows) for of_split in examples.draw(seed).values() for rows in of_split)
        for seed in range(5)
    }
    assert len(counts) == 1


def test_the_fingerprint_is_that_of_the_content():
    one = Examples.split(ARRAYS)
    assert one.fingerprint == Examples.split({n: a.copy() for n, a in ARRAYS.items()}).fingerprint
    changed = {**ARRAYS, "x": ARRAYS["x"].copy()}
    changed["x"][3, 1] += 1
    for other in (
        Examples.split(changed), Examples.split(ARRAYS, test=0.3),
        Examples.split({**ARRAYS, "x": ARRAYS["x"].astype(np.float64)}),
    ):  # fmt: skip
        assert other.fingerprint != one.fingerprint


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Examples.split({}), "dict of arrays"),
        (lambda: Examples.split({"x": np.ones(3), "y": np.ones(4)}), r"y has shape \(4,\)"),
        (lambda: Examples.split({"x": np.array(["a", "b"])}), "expected numbers"),
        (lambda: Examples.split({"x": np.ones(3), "weight": np.ones(3)}), "another name"),
        (lambda: Examples.split(ARRAYS, test=1.0), "no sum below 1"),
        (lambda: Examples.split(ARRAYS, stratify="y"), "none of the arrays"),
        (lambda: Examples.split(ARRAYS, stratify="x"), "whole numbers"),
        (lambda: Examples.split(part(0, 3), test=0.1), "no example in this split"),
        (
            lambda: Examples.from_arrays(part(0, 3), {"x": np.ones((2, 2))}, part(3, 6)),
            "same names",
        ),
        (
            lambda: Examples.from_arrays(
                part(0, 3), {"x": np.ones((2, 3), np.float32), "labels": LABELS[:2]}, part(3, 6)
            ),
            r"x of bucket 0 is float32\[3\] per example, in train it is float32\[2\]",
        ),
        (lambda: Examples.from_arrays([part(0, 3)], [part(3, 4)] * 2, [part(4, 6)]), "buckets"),
        (lambda: Examples.from_arrays(part(0, 3), part(3, 3), part(3, 6)), "no example"),
    ],
)
def test_arrays_that_do_not_fit_are_one_line(make, words):
    with pytest.raises(UserError, match=words) as refused:
        make()
    assert "\n" not in str(refused.value)


def test_training_has_the_bounds_of_the_flags():
    training = Training(epochs=3, batch_size=8, learning_rate=1)
    assert (training.epochs, training.learning_rate, training.optimizer) == (3, 1.0, "adam")
    assert Training(1, 2, optimizer=optax.sgd).optimizer is optax.sgd
    for wrong in ({"epochs": 0}, {"batch_size": 0}, {"optimizer": "none"}, {"epochs": (1, 2)},
                  {"learning_rate": float("nan")}, {"lr_schedule": "stairs"}):  # fmt: skip
        with pytest.raises(UserError, match=next(iter(wrong))):
            Training(**{"epochs": 1, "batch_size": 1, **wrong})


def test_metrics_are_means_of_outputs_or_the_tasks_own():
    outputs = {"correct": np.array([1.0, 0.0, 1.0, 1.0]), "loss": np.array([1.0, 2.0, 3.0, 6.0])}
    functions = (lambda key: key, lambda *_: 0, lambda *_: {})
    assert Task(*functions).measure(outputs, {}) == {"accuracy": 0.75, "loss": 3.0}
    own = Task(
        *functions,
        metrics=lambda outputs, examples: {"worst": outputs["loss"].max() - examples["shift"][0]},
        primary="worst",
    )
    assert own.measure(outputs, {"shift": np.array([2.0])}) == {"worst": 4.0}
    with pytest.raises(UserError, match="'f1' is none of its metrics \\(accuracy, loss\\)"):
        Task(*functions, primary="f1").measure(outputs, {})
