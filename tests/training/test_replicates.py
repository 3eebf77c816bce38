"""The engine: rows do not know of each other, and nothing is compiled twice."""

import dataclasses
import re
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec
from tables import Given, outcomes_of

from lth_flax.compat import shard_map
from lth_flax.models.classifier import BiLSTMClassifier
from lth_flax.pruning.masks import full_mask
from lth_flax.pruning.scores import magnitude
from lth_flax.pruning.select import prune
from lth_flax.randomness import key
from lth_flax.training.classification import make_loss, make_predict
from lth_flax.training.loop import Trainer
from lth_flax.training.optimizers import make_optimizer, make_schedule
from lth_flax.training.programs import Workload
from lth_flax.training.replicates import Engine, choose_mode
from lth_flax.training.steps import Recipe, Row, initial_state, train_step, train_steps

MODEL = BiLSTMClassifier(
    vocabulary_size=12,
    embedding_size=4,
    hidden_size=3,
    num_layers=1,
    num_classes=2,
    dropout=0.3,
)
COLLECTIVE = re.compile(
    r"\b(all-reduce|all-gather|all-to-all|collective-permute|collective-broadcast|reduce-scatter)"
)


def engine(mode="map", devices=2, rows=2):
    return Engine(mode, tuple(jax.devices()[:devices]), rows)


def make_bucket(number, longest, seed):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest + 1, number).astype(np.int32)
    tokens = rng.integers(1, 12, (number, longest)).astype(np.int32)
    tokens[np.arange(longest) >= lengths[:, None]] = 0
    return {
        "tokens": tokens,
        "lengths": lengths,
        "labels": rng.integers(0, 2, number).astype(np.int32),
    }


def make_members(seed):
    """Of 20 texts per bucket: 11 or 10 train, 4 validation, the rest test, drawn per seed."""
    parts = {"train": [], "validation": [], "test": []}
    for bucket, train in enumerate((11, 10)):
        order = np.random.default_rng([seed, bucket]).permutation(20)
        for split, part in zip(parts, np.split(order, [train, train + 4]), strict=True):
            parts[split].append(np.sort(part))
    return {split: tuple(arrays) for split, arrays in parts.items()}


def make_work(shapes):
    return Workload(
        buckets=BUCKETS[:shapes],
        members={
            seed: {split: parts[:shapes] for split, parts in make_members(seed).items()}
            for seed in range(3)
        },
        epochs=2,
        batch_size=4,
        eval_batch_sizes=(5, 5)[:shapes],
    )


BUCKETS = (make_bucket(20, 5, 0), make_bucket(20, 3, 1))
TASK = Recipe(
    make_loss(MODEL),
    make_predict(MODEL),
    make_optimizer("adamw", weight_decay=0.1, clip_norm=1.0),
    make_schedule("cosine", total_steps=12),
)


@jax.jit
def init(init_key):
    return MODEL.init(init_key, jnp.zeros((1, 1), jnp.int32), jnp.ones(1, jnp.int32))["params"]


def make_replicate(number):
    """Everything about it is its own: weights, mask, seed, learning rate."""
    params = jax.tree.map(np.asarray, init(jax.random.key(number)))
    rng = np.random.default_rng(number)
    mask = jax.tree.map(
        lambda leaf: rng.random(leaf.shape) < 0.6 if leaf.ndim else np.asarray(leaf),
        full_mask(params),
    )
    return Given(params, mask, number % 3, 0.01 * (1 + number))


REPLICATES = [make_replicate(number) for number in range(4)]


@cache
def trainer(devices, rows):
    return Trainer(engine("map", devices, rows), TASK, make_work(1))


def bits(outcome):
    """All that a replicate became, as bytes."""
    leaves = jax.tree.leaves((outcome.params, outcome.curves, outcome.outputs))
    return [np.asarray(leaf).tobytes() for leaf in leaves]


@pytest.mark.parametrize(
    ("devices", "rows"),
    [
        pytest.param(2, 2, id="a row per device"),
        pytest.param(1, 3, id="three rows on one device", marks=pytest.mark.slow),
    ],
)
def test_the_bits_of_a_row_do_not_depend_on_its_neighbours(devices, rows):
    def trained(*numbers):
        outcomes = outcomes_of(trainer(devices, rows), [REPLICATES[number] for number in numbers])
        assert len(outcomes) == len(numbers)
        return {number: bits(outcome) for number, outcome in zip(numbers, outcomes, strict=True)}

    together = trained(0, 1, 2)
    assert len({b"".join(one) for one in together.values()}) == 3
    assert {**trained(0), **trained(1), **trained(2)} == together
    reordered = trained(2, 3, 1, 0)
    assert {number: reordered[number] for number in together} == together


@pytest.mark.parametrize(("devices", "rows"), [pytest.param(2, 2, marks=pytest.mark.slow), (1, 3)])
def test_neither_the_number_of_devices_nor_the_size_of_a_slice_changes_bits(devices, rows):
    one = outcomes_of(trainer(1, 1), REPLICATES[:3])
    other = outcomes_of(trainer(devices, rows), REPLICATES[:3])
    assert [bits(outcome) for outcome in one] == [bits(outcome) for outcome in other]


def stop_listening(listener):
    if hasattr(jax.monitoring, "unregister_event_duration_listener"):
        jax.monitoring.unregister_event_duration_listener(listener)
    else:  # jax 0.5.0
        from jax._src import monitoring

        monitoring._unregister_event_duration_listener_by_callback(listener)


@pytest.mark.slow
def test_a_longer_table_compiles_nothing_more():
    compiled = []

    def listen(event, seconds, **kwargs):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(kwargs)

    traced = []
    loss_fn = make_loss(MODEL)

    def counted(params, batch, dropout_key):
        traced.append(None)
        return loss_fn(params, batch, dropout_key)

    fresh = Trainer(engine(), TASK._replace(loss_fn=counted), make_work(2))
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        outcomes_of(fresh, REPLICATES[:2])
        assert compiled  # the listener does hear
        assert len(traced) == 2  # one training program for each of the two shapes
        compiled.clear()
        assert len(outcomes_of(fresh, [*REPLICATES, *REPLICATES[:1]])) == 5  # three slices
        assert len(outcomes_of(fresh, REPLICATES[:1])) == 1
    finally:
        stop_listening(listen)
    assert compiled == []
    assert len(traced) == 2


def spied(rate):
    """Plain gradient descent that keeps the gradients as its state."""
    spy = optax.GradientTransformation(
        lambda params: jax.tree.map(jnp.zeros_like, params),
        lambda grads, state, params=None: (grads, grads),
    )
    return optax.chain(spy, optax.scale_by_learning_rate(rate))


def test_one_step_under_vmap_agrees_with_map():
    task = TASK._replace(optimizer=spied)
    batch = {**BUCKETS[0], "weight": np.ones(20, np.float32)}
    found = {}
    for mode in ("map", "vmap"):
        lifter = engine(mode, devices=2, rows=4)
        row = Row(
            lifter.place_rows([key(one.seed, "dropout") for one in REPLICATES]),
            lifter.place_stacked(np.array([one.learning_rate for one in REPLICATES], np.float32)),
        )
        params = lifter.place_rows([one.params for one in REPLICATES])
        step = lifter.place_stacked(np.zeros(4, np.int32))
        masks = lifter.place_rows([one.mask for one in REPLICATES])
        state = lifter.lift(partial(initial_state, task))(params, (masks, row, step), ())

        def one_step(state, row, batch, task=task):
            state, loss = train_step(task, state, row, batch)
            return state.params, state.opt_state.inner[0], loss

        found[mode] = jax.device_get(lifter.lift(one_step)(state, (row,), (batch,)))
    for mapped, batched in zip(*(jax.tree.leaves(found[m]) for m in found), strict=True):
        assert mapped.shape[0] == 4
        for expected, here in zip(mapped, batched, strict=True):
            error = np.linalg.norm(here - expected)
            assert error <= 1e-5 * np.linalg.norm(expected)
            assert np.linalg.norm(expected) > 0


def program_text(lifter):
    rows = lifter.rows
    row = Row(
        lifter.place_rows([key(0, "dropout")] * rows),
        lifter.place_stacked(np.full(rows, 0.01, np.float32)),
    )
    params = lifter.place_rows([REPLICATES[0].params] * rows)
    step = lifter.place_stacked(np.zeros(rows, np.int32))
    masks = lifter.place_rows([REPLICATES[0].mask] * rows)
    state = lifter.lift(partial(initial_state, TASK))(params, (masks, row, step), ())
    indices = lifter.place_stacked(np.zeros((rows, 2, 4), np.int32))
    loss_sum = lifter.place_stacked(np.zeros(rows, np.float32))
    shared = (lifter.place_shared(dict(BUCKETS[0])), np.int32(0), np.int32(2))
    lifted = lifter.lift(partial(train_steps, TASK), donate=True)
    return lifted.lower(state, (row, loss_sum, indices), shared).compile().as_text()


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "rows"), [("map", 2), ("map", 4), ("vmap", 4)])
def test_devices_do_not_talk_to_each_other(mode, rows):
    text = program_text(engine(mode, devices=2, rows=rows))
    assert "num_partitions=2" in text
    assert COLLECTIVE.findall(text) == []


def test_a_collective_would_be_found():
    spec = PartitionSpec("rows")
    talk = shard_map(lambda x: jax.lax.psum(x, "rows"), engine().mesh, (spec,), PartitionSpec())
    text = jax.jit(talk).lower(engine().place_stacked(np.ones(2))).compile().as_text()
    assert COLLECTIVE.findall(text)


def padding(lifter, total):
    """Rows of a table that only fill up its slices."""
    return sum(len(indices) - real for indices, real in lifter.slices(total))


def test_a_small_table_does_not_run_as_the_largest():
    large = engine("vmap", devices=1, rows=432)
    assert large.sizes == (1, 2, 4, 8, 16, 32, 64, 128, 256, 432)
    assert [padding(large, total) for total in (1, 8, 9, 257, 432, 440, 864)] == [
        0, 0, 7, 175, 0, 0, 0
    ]  # fmt: skip
    two = engine("vmap", devices=2, rows=12)
    assert two.sizes == (2, 4, 8, 12)
    for total in range(1, 50):
        slices = list(two.slices(total))
        assert [i for indices, real in slices for i in indices[:real]] == list(range(total))
        assert all(len(indices) == 12 for indices, _ in slices[:-1])
        indices, real = slices[-1]
        assert len(indices) == min(size for size in two.sizes if size >= real)
    # On a CPU a program per size would take longer to compile than the padding does.
    assert engine("map", rows=4).sizes == (4,)


def test_slices_of_map_have_one_size_and_pad_with_the_last_row():
    assert list(engine(rows=4).slices(6)) == [([0, 1, 2, 3], 4), ([4, 5, 5, 5], 2)]
    assert list(engine(rows=2).slices(2)) == [([0, 1], 2)]
    assert list(engine(rows=4).slices(1)) == [([0, 0, 0, 0], 1)]
    assert list(engine(rows=2).slices(0)) == []


def test_a_lifted_function_sees_one_row_and_what_all_share():
    for mode in ("map", "vmap"):
        lifter = engine(mode, devices=2, rows=4)
        state = lifter.place_rows([{"x": np.full(3, row, np.float32)} for row in range(4)])
        scale = lifter.place_stacked(np.array([1, 10, 100, 1000], np.float32))
        shared = lifter.place_shared(np.arange(3, dtype=np.float32))
        lifted = lifter.lift(lambda state, scale, shared: state["x"] * scale + shared)
        found = lifted(state, (scale,), (shared,))
        expected = [[0, 1, 2], [10, 11, 12], [200, 201, 202], [3000, 3001, 3002]]
        np.testing.assert_array_equal(found, expected)
        assert len(found.sharding.device_set) == 2


def test_rows_must_divide_over_the_devices():
    with pytest.raises(ValueError, match="3 rows do not divide over 2 devices"):
        engine(rows=3)


def test_auto_maps_on_a_cpu_and_batches_elsewhere():
    assert [choose_mode("auto", platform) for platform in ("cpu", "gpu", "tpu")] == [
        "map",
        "vmap",
        "vmap",
    ]
    assert choose_mode("vmap", "cpu") == "vmap"
    assert choose_mode("map", "gpu") == "map"
    with pytest.raises(ValueError, match="auto, map, vmap"):
        choose_mode("pmap", "cpu")


def test_a_loss_that_is_no_classifier_at_all():
    # Least squares on a tuple of arrays, solved by NumPy beside it.
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 3)).astype(np.float32)
    y = (x @ [1.0, -2.0, 0.5] + 0.3).astype(np.float32)

    def residuals(params, batch):
        return batch["x"] @ params[0][:, 0] + params[1] - batch["y"]

    def loss(params, batch, dropout_key):
        del dropout_key
        return jnp.sum(residuals(params, batch) ** 2 * batch["weight"]) / jnp.sum(batch["weight"])

    def predict(params, batch):
        error = residuals(params, batch)
        return {"error": error, "correct": jnp.abs(error) < 0.1, "loss": error**2}

    everyone = {split: (np.arange(12),) for split in ("train", "validation", "test")}
    work = Workload(({"x": x, "y": y},), {0: everyone}, 300, 12, (12,))
    task = Recipe(
        loss,
        predict,
        make_optimizer("sgd", momentum=0.0),
        make_schedule("constant", total_steps=300),
    )
    start = (np.zeros((3, 1), np.float32), np.zeros((), np.float32))
    masks = [np.ones((3, 1), bool), np.array([[True], [False], [True]])]
    table = [Given(start, (mask, np.array(True)), 0, 0.1) for mask in masks]
    outcomes = outcomes_of(Trainer(engine(), task, work), table)
    for outcome, mask in zip(outcomes, masks, strict=True):
        kept = mask[:, 0]
        design = np.column_stack([x[:, kept], np.ones(12)])
        solution, *_ = np.linalg.lstsq(design, y, rcond=None)
        kernel, bias = outcome.params
        assert (kernel[~kept] == 0).all()
        np.testing.assert_allclose([*kernel[kept, 0], bias], solution, atol=1e-3)
        np.testing.assert_allclose(
            outcome.outputs["last", "test"]["error"], design @ solution - y, atol=2e-3
        )


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["map", pytest.param("vmap", marks=pytest.mark.slow)])
def test_all_levels_of_a_network_in_one_call_are_those_one_by_one(mode):
    """The slow way: a network with the mask put on it, trained at rate zero and scored."""
    trainer = Trainer(engine(mode), TASK, make_work(2))
    networks = [
        dataclasses.replace(one, mask=full_mask(one.params), learning_rate=0.0)
        for one in REPLICATES[:3]
    ]
    levels = [
        [prune(magnitude(one.params), one.mask, sparsity=sparsity) for sparsity in (0.0, 0.5, 0.9)]
        for one in networks
    ]
    together = trainer.evaluate_levels([(one.seed, one.params) for one in networks], levels, "test")
    for network, masks, found in zip(networks, levels, together, strict=True):
        for number, mask in enumerate(masks):
            (alone,) = outcomes_of(trainer, [dataclasses.replace(network, mask=mask)])
            expected = alone.outputs["last", "test"]
            assert found["correct"].shape[0] == len(masks)
            np.testing.assert_array_equal(found["predicted"][number], expected["predicted"])
            np.testing.assert_allclose(
                found["loss"][number], expected["loss"], rtol=1e-5, atol=1e-6
            )
