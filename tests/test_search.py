"""`find_tickets`: networks of other libraries, other metrics, other places to call it from."""

import asyncio
import dataclasses
import pkgutil
import threading

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import lth_flax as lth
from lth_flax import cli
from lth_flax.config import Config
from lth_flax.errors import UserError
from lth_flax.pruning import scores
from lth_flax.pruning.masks import apply_mask, count_kept, count_prunable
from lth_flax.records import compact_json, sort_records
from lth_flax.search import search as run_search

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 6)).astype(np.float32)
LABELS = (X[:, 0] + X[:, 1] > 0).astype(np.int32)
TRAINING = lth.Training(epochs=3, batch_size=32, learning_rate=0.03)


def mean(values, batch):
    return jnp.sum(values * batch["weight"]) / jnp.maximum(jnp.sum(batch["weight"]), 1)


def init(key):
    first, second = jax.random.split(key)
    return {
        "hidden": {"kernel": jax.random.normal(first, (6, 16)) / 2, "bias": jnp.zeros(16)},
        "out": {"kernel": jax.random.normal(second, (16, 2)) / 4, "bias": jnp.zeros(2)},
    }


def apply(params, x):
    hidden = jnp.tanh(x @ params["hidden"]["kernel"] + params["hidden"]["bias"])
    return hidden @ params["out"]["kernel"] + params["out"]["bias"]


def cross_entropy(params, batch):
    logits = apply(params, batch["x"])
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"])


def mlp():
    """A network in plain jax.numpy."""
    return lth.Task(
        init,
        lambda params, batch, key: mean(cross_entropy(params, batch), batch),
        lambda params, batch: {
            "correct": (apply(params, batch["x"]).argmax(-1) == batch["labels"]).astype(
                jnp.float32
            ),
            "loss": cross_entropy(params, batch),
        },
    )


def arrays():
    return lth.Examples.split({"x": X, "labels": LABELS}, stratify="labels")


def search(task=None, examples=None, **options):
    given = {"seeds": 2, "levels": [0.5, 0.8], "training": TRAINING, **options}
    return lth.find_tickets(task or mlp(), examples or arrays(), **given)


@pytest.fixture(scope="module")
def found():
    return search()


def rows(result):
    """Records as comparable values (NaN equals NaN)."""
    return [compact_json({**dataclasses.asdict(r), "loss": repr(r.loss)}) for r in result.records]


def test_a_network_in_plain_jax_numpy_has_a_verdict(found):
    assert "ticket minus reinit" in found.verdict
    assert found.verdict.lower().startswith(found.summary["headline"]["verdict"])
    assert "reinit" in found.table()
    assert found.figure("accuracy").axes
    assert "<html" in found._repr_html_()
    with pytest.raises(UserError, match="expected one of accuracy"):
        found.figure("nothing")
    # Two seeds, two checkpoints and splits: dense, and two arms at two levels.
    assert len(found.records) == 2 * 4 * (1 + 2 * 2)
    assert list(found.records) == sort_records(found.records)  # as with a work directory
    accuracies = [r.accuracy for r in found.records if r.arm == "dense" and r.split == "test"]
    assert min(accuracies) > 0.7  # it learns: the classes are equally frequent


def test_tickets_nest_and_are_exactly_as_sparse_as_asked(found):
    for seed in range(2):
        half, fifth = found.tickets[seed, 0.5], found.tickets[seed, 0.8]
        total = count_prunable(half.mask)
        assert total == 6 * 16 + 16 * 2  # kernels alone
        assert count_kept(half.mask) == total - round(0.5 * total)
        assert count_kept(fifth.mask) == total - round(0.8 * total)
        for more, less in zip(
            *map(jax.tree_util.tree_leaves, (half.mask, fifth.mask)), strict=True
        ):
            assert not (np.asarray(less) & ~np.asarray(more)).any()
        trained = half.trained_params
        jax.tree_util.tree_map(
            np.testing.assert_array_equal, trained, apply_mask(trained, half.mask)
        )


def test_twice_in_a_process_from_a_thread_and_in_an_event_loop(found):
    assert rows(search()) == rows(found)
    others = []
    thread = threading.Thread(target=lambda: others.append(search()))
    thread.start()
    thread.join()

    async def in_a_notebook():
        return search()

    others.append(asyncio.run(in_a_notebook()))
    for other in others:
        assert rows(other) == rows(found)


class Classifier(nn.Module):
    """A GRU over padded sequences."""

    @nn.compact
    def __call__(self, x, lengths):
        states = nn.RNN(nn.GRUCell(8))(x, seq_lengths=lengths)
        return nn.Dense(2)(jnp.take_along_axis(states, lengths[:, None, None] - 1, axis=1)[:, 0])


def gru():
    """Its task, and examples in two length buckets."""
    model = Classifier()

    def bucket(length):
        x = RNG.normal(size=(80, length, 3)).astype(np.float32)
        return {"x": x, "lengths": np.full(80, length, np.int32),
                "labels": (x[:, 0, 0] > 0).astype(np.int32)}  # fmt: skip

    def losses(params, batch):
        logits = model.apply({"params": params}, batch["x"], batch["lengths"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"]), logits

    def evaluate(params, batch):
        loss, logits = losses(params, batch)
        predicted = logits.argmax(-1)
        correct = (predicted == batch["labels"]).astype(jnp.float32)
        return {"loss": loss, "predicted": predicted, "correct": correct}

    task = lth.Task(
        lambda key: model.init(key, jnp.zeros((1, 2, 3)), jnp.ones(1, jnp.int32))["params"],
        lambda params, batch, key: mean(losses(params, batch)[0], batch),
        evaluate,
    )
    return task, lth.Examples.split([bucket(3), bucket(5)], stratify="labels")


def test_a_flax_gru_on_two_length_buckets():
    result = search(*gru(), levels=[0.5])
    assert "ticket minus reinit" in result.verdict
    assert {r.examples for r in result.records if r.split == "test"} == {32}
    # The shares of predicted classes, which this task tells.
    assert all(abs(sum(r.predicted_shares) - 1) < 1e-9 for r in result.records)
    # Biases of the cell stay; kernels of all gates are pruned.
    mask = result.tickets[0, 0.5].mask
    kept = {
        jax.tree_util.keystr(p): np.ndim(m) for p, m in jax.tree_util.tree_leaves_with_path(mask)
    }
    assert all((ndim == 2) == path.endswith("['kernel']") for path, ndim in kept.items())


def regression():
    """Its task, and examples."""

    def squared(params, batch):
        return (apply(params, batch["x"])[:, 0] - batch["y"]) ** 2

    task = lth.Task(
        init,
        lambda params, batch, key: mean(squared(params, batch), batch),
        lambda params, batch: {"squared_error": squared(params, batch)},
        metrics=lambda outputs, examples: {"mse": outputs["squared_error"].mean()},
        primary="mse",
        higher_is_better=False,
    )
    return task, lth.Examples.split({"x": X, "y": (X[:, 0] * 2).astype(np.float32)})


@pytest.mark.slow
@pytest.mark.parametrize("case", [gru, regression])
def test_others_too_are_alike_twice_in_a_process_and_from_a_thread(case):
    task, examples = case()
    others = []
    thread = threading.Thread(target=lambda: others.append(search(task, examples, levels=[0.5])))
    thread.start()
    thread.join()
    others.append(search(task, examples, levels=[0.5]))
    others.append(search(task, examples, levels=[0.5]))
    assert rows(others[0]) == rows(others[1]) == rows(others[2])


def test_a_regression_whose_metric_is_better_when_lower():
    task, examples = regression()
    result = search(task, examples, levels=[0.5, 0.9])
    y = examples.buckets[0]["y"]
    assert "mse" in result.verdict
    assert "accuracy" not in result.verdict
    dense = [r for r in result.records if r.arm == "dense" and r.checkpoint == "last"]
    for record in dense:
        assert record.accuracy is None
        assert record.metrics["mse"] == record.score < np.var(y)
    # The best epoch is that of the lowest error.
    for record in result.records:
        if record.split == "validation" and record.checkpoint == "best":
            last = next(
                r for r in result.records
                if (r.row_id, r.checkpoint, r.split) == (record.row_id, "last", "validation")
            )  # fmt: skip
            assert record.score <= last.score
    checkpoint = result.summary["configurations"][0]["checkpoints"]["last"]
    error = {(c["arm"], c["target_sparsity"]): c["score"]["mean"] for c in checkpoint["table"]}
    assert error["reinit", 0.9] > error["dense", 0.0] > 0
    # A gap says how much better: where lower is, it is the control's error minus the ticket's.
    for level in checkpoint["comparisons"]["reinit"]["levels"]:
        sparsity = level["target_sparsity"]
        expected = error["reinit", sparsity] - error["ticket", sparsity]
        assert level["gap"]["mean"] == pytest.approx(expected)


def largest(params, *, initial_params=None, loss_fn=None, key=None):
    """A score from outside the package: the sign is turned."""
    return jax.tree_util.tree_map(lambda leaf: -leaf, scores.magnitude(params))


def halved(seed, mask, level, draw):
    """An arm from outside the package: half of theta_0."""
    return jax.tree_util.tree_map(lambda leaf: leaf / 2, seed.initial_params), mask


def test_a_score_and_an_arm_from_outside_the_package(found):
    result = search(score=largest, arms=("ticket", halved), levels=[0.5])
    assert {r.arm for r in result.records} == {"dense", "ticket", "halved"}
    assert {r.criterion for r in result.records} == {f"{__name__}:largest"}
    mine, theirs = (one.tickets[0, 0.5].mask["hidden"]["kernel"] for one in (result, found))
    # Both keep half of all kernels by the trained dense network's weights: opposite halves.
    assert np.mean(np.asarray(mine) == np.asarray(theirs)) < 0.3


@pytest.mark.slow
@pytest.mark.parametrize(
    "given",
    [
        {"score": "test_search:largest", "arms": "ticket,test_search:halved"},
        {"method": "test_mask_origins:freezing"},
    ],
    ids=["score and arm", "method"],
)
def test_a_command_line_names_them(given):
    flags = {"levels": 0.5, "num_seeds": 2, "epochs": 3, "batch_size": 32, "learning_rate": 0.03}
    config = cli.parse(Config, [f"--{n}={value}" for n, value in {**flags, **given}.items()])
    found = run_search(config, lambda num_layers: mlp(), arrays(), directory=None)
    found.finish()
    by_name = [(record.row_id, record.score) for record in found.records]
    options = {
        name: [pkgutil.resolve_name(one) if ":" in one else one for one in text.split(",")]
        for name, text in given.items()
    }
    options = {name: of if name == "arms" else of[0] for name, of in options.items()}
    result = search(levels=[0.5], **options)
    assert by_name == [(record.row_id, record.score) for record in result.records]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seeds": 0}, "seeds=0"),
        ({"seeds": [1, 3]}, "in a row"),
        ({"levels": [0.5, 0.2]}, "increase"),
        ({"levels": [1.5]}, r"\[0, 1\)"),
        ({"arms": ("reinit",)}, "ticket"),
        ({"score": "none"}, "^score='none'"),
        ({"draws": 0}, "^draws=0"),
        ({"seeds": 2.0}, "in a row"),
        ({"seeds": "0:2"}, "in a row"),
        ({"levels": [50, 80]}, r"0\.5 is 50%"),
        ({"training": {"epochs": 3}}, "training is of type dict"),
        ({"examples": {"x": X}}, "examples is of type dict"),
        ({"prunable": lambda path: True}, "takes 1 positional .*; see prunable"),
        ({"rewind": 99}, "no point of training"),
        ({"prunable": lambda path, leaf: False}, "no parameter is prunable"),
    ],
)
def test_what_cannot_be_is_one_line(options, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=words) as refused:
        search(**options)
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def unsaid(rate):
    raise ValueError


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        (optax.contrib.momo, r"cannot take a step here \(.*value"),
        (lambda rate: optax.lookahead(optax.adam(rate), 2, 0.5), "^lookahead has two sets"),
        (lambda rate: rate, "expected a function learning_rate -> optax transformation"),
        (lambda rate: None, "expected a function learning_rate -> optax transformation"),
        (lambda: optax.adam(1e-3), "takes 0 positional arguments"),
        (unsaid, r"cannot take a step here \(ValueError\)"),
    ],
)
def test_an_optimizer_that_asks_for_more_than_gradients_is_one_line(optimizer, words):
    with pytest.raises(UserError, match=words) as refused:
        search(training=dataclasses.replace(TRAINING, optimizer=optimizer))
    assert "\n" not in str(refused.value)


def test_a_notebook_shows_which_tickets_there_are(found):
    assert repr(found.tickets[1, 0.5]) == (
        "Ticket(task='task', dataset='arrays', seed=1, target_sparsity=0.5)"
    )
    for key in ((0, 50), 0):
        with pytest.raises(KeyError, match=r"expected \(seed, sparsity\), one of \(0, 0.5\)"):
            found.tickets[key]


def test_seeds_and_levels_are_read_as_they_are_written():
    tiny = lth.Training(epochs=1, batch_size=32)
    one = search(seeds=np.int64(2), levels=0.5, arms="ticket", training=tiny)
    assert sorted(one.tickets) == [(0, 0.5), (1, 0.5)]


def test_a_network_whose_score_is_no_number_has_statistics_and_no_verdict():
    def evaluate(params, batch):  # of some networks, as where training diverges
        diverged = params["out"]["kernel"][0, 0] > 0
        return {"error": jnp.where(diverged, jnp.nan, cross_entropy(params, batch))}

    task = lth.Task(init, mlp().loss, evaluate, primary="error", higher_is_better=False)
    result = search(task, seeds=3, draws=2, training=lth.Training(epochs=1, batch_size=32))
    scores = [r.score for r in result.records if r.arm != "dense" and r.split == "test"]
    assert 0 < np.isnan(scores).sum() < len(scores)
    assert "error of a network that is compared is no finite number" in result.verdict
    assert "better:" not in result.verdict
    assert "–" in result.table()
    assert "<html" in result._repr_html_()


@pytest.mark.slow
def test_late_rewinding_starts_from_the_dense_network_of_then(found):
    result = search(rewind=1, levels=[0.5])
    ticket = result.tickets[0, 0.5]
    assert ticket.rewind_params is not None
    moved = np.abs(
        ticket.rewind_params["hidden"]["kernel"] - ticket.initial_params["hidden"]["kernel"]
    )
    assert moved.max() > 1e-3


def test_a_work_directory_holds_what_a_command_leaves_and_answers_again(found, tmp_path):
    place = tmp_path / "a [run]"

    def on_disk(**options):
        task = dataclasses.replace(mlp(), name="mlp", version="1")
        return search(task, levels=[0.5], work_dir=place, **options)

    first = on_disk()
    assert {p.name for p in place.iterdir()} >= {
        "flags.txt", "provenance.json", "records.csv", "curves.csv", "summary.json", "report",
        "tickets",
    }  # fmt: skip
    ticket = first.tickets[1, 0.5]
    assert list(first.tickets) == [(0, 0.5), (1, 0.5)]
    jax.tree_util.tree_map(np.testing.assert_array_equal, ticket.mask, found.tickets[1, 0.5].mask)
    before = (place / "records.csv").read_bytes()
    again = on_disk()
    assert again.verdict == first.verdict
    assert (place / "records.csv").read_bytes() == before
    with pytest.raises(UserError, match="other code .*task"):
        search(dataclasses.replace(mlp(), name="mlp", version="2"), levels=[0.5], work_dir=place)
    with pytest.raises(UserError, match="learning_rate"):
        on_disk(training=dataclasses.replace(TRAINING, learning_rate=0.5))


@pytest.mark.slow
def test_functions_without_a_source_need_a_name_on_disk_alone(tmp_path):
    names = {"jnp": jnp, "apply": apply, "mean": mean, "cross_entropy": cross_entropy}
    loss = eval("lambda params, batch, key: mean(cross_entropy(params, batch), batch)", names)
    task = dataclasses.replace(mlp(), loss=loss)
    options = {"seeds": 1, "levels": [0.5], "training": lth.Training(epochs=1, batch_size=64)}
    assert search(task, **options).records
    with pytest.raises(UserError, match="no source .*name= and version="):
        search(task, work_dir=tmp_path / "run", **options)
    named = dataclasses.replace(task, name="mine", version="1")
    assert search(named, work_dir=tmp_path / "run", **options).records
