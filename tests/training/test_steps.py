"""One replicate's step: pruned weights stay zero, keys and schedules are what they say."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lth_flax.models.classifier import BiLSTMClassifier
from lth_flax.pruning.masks import apply_mask, full_mask, path_names
from lth_flax.randomness import key
from lth_flax.training.classification import make_loss, make_predict
from lth_flax.training.optimizers import make_optimizer, make_schedule
from lth_flax.training.steps import (
    Recipe,
    Row,
    gather,
    initial_state,
    predict_steps,
    train_step,
    train_steps,
)

STEPS = 50
ZERO = np.float32(0)
MODEL = BiLSTMClassifier(
    vocabulary_size=12,
    embedding_size=4,
    hidden_size=3,
    num_layers=1,
    num_classes=3,
    dropout=0.3,
)


def examples(number=24, longest=5, seed=0):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, longest + 1, number).astype(np.int32)
    tokens = rng.integers(1, 12, (number, longest)).astype(np.int32)
    tokens[np.arange(longest) >= lengths[:, None]] = 0
    return {
        "tokens": jnp.asarray(tokens),
        "lengths": jnp.asarray(lengths),
        "labels": jnp.asarray(rng.integers(0, 3, number).astype(np.int32)),
    }


@jax.jit
def init(init_key):
    return MODEL.init(init_key, jnp.zeros((1, 1), jnp.int32), jnp.ones(1, jnp.int32))["params"]


def fresh_params(seed=0):
    return init(jax.random.key(seed))


@jax.jit
def logits_of(params, data):
    return MODEL.apply({"params": params}, data["tokens"], data["lengths"])


LOSS = make_loss(MODEL)
LOSS_AND_GRADIENT = jax.jit(jax.value_and_grad(LOSS))


def half_mask(params, seed=1):
    """About every second prunable weight is pruned."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: jnp.asarray(rng.random(leaf.shape) < 0.5) if leaf.ndim else leaf,
        full_mask(params),
    )


def make_row(seed=0, learning_rate=1e-2):
    return Row(key(seed, "dropout"), jnp.float32(learning_rate))


def make_task(optimizer, schedule=None, loss_fn=None):
    return Recipe(
        loss_fn=loss_fn or LOSS,
        predict_fn=make_predict(MODEL),
        optimizer=optimizer,
        schedule=schedule or make_schedule("constant", total_steps=STEPS),
    )


def spied(optimizer):
    """Keeps the gradients that the optimizer was given as its state."""
    spy = optax.GradientTransformation(
        lambda params: jax.tree.map(jnp.zeros_like, params),
        lambda grads, state, params=None: (grads, grads),
    )
    return lambda rate: optax.chain(spy, optimizer(rate))


def softmax(logits):
    logits = np.asarray(logits, np.float64)
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def by_path(tree):
    return {path_names(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def leaves_of(state, path, shape):
    """All arrays in an optimizer state that belong to the parameter at `path`."""
    return [
        np.asarray(leaf)
        for names, leaf in by_path(state).items()
        if names[-len(path) :] == path and leaf.shape == shape
    ]


def random_indices(steps=STEPS, batch=8, number=24, seed=2):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.integers(0, number, (steps, batch)).astype(np.int32))


@pytest.mark.parametrize(
    ("optimizer", "moments"),
    [
        (make_optimizer("adamw", weight_decay=0.1), 2),
        pytest.param(
            make_optimizer("sgd", momentum=0.9, weight_decay=0.1), 1, marks=pytest.mark.slow
        ),
        pytest.param(make_optimizer("adam", clip_norm=0.05), 2, marks=pytest.mark.slow),
        (make_optimizer("sgd", momentum=0.9, clip_norm=0.05), 1),
    ],
    ids=["adamw", "sgd with momentum", "adam clipped", "sgd clipped"],
)
def test_nothing_leaks_into_pruned_weights(optimizer, moments):
    params = fresh_params()
    mask = half_mask(params)
    row, task = make_row(), make_task(spied(optimizer))
    state = initial_state(task, params, mask, row, jnp.int32(0))
    run = jax.jit(partial(train_steps, task))
    state, total = run(
        state, row, ZERO, random_indices(), examples(), jnp.int32(0), jnp.int32(STEPS)
    )
    assert int(state.step) == STEPS
    assert np.isfinite(float(total))
    before, after = by_path(params), by_path(state.params)
    prunable = {path: np.asarray(m) for path, m in by_path(mask).items() if m.ndim}
    assert len(prunable) == 5  # two kernels per direction, and the head
    for path, kept in prunable.items():
        assert 0 < kept.sum() < kept.size
        assert (np.asarray(after[path])[~kept] == 0).all()
        assert (np.asarray(after[path]) != np.asarray(before[path]))[kept].all()
        # The optimizer's moments, and the gradient that the spy has seen last.
        belonging = leaves_of(state.opt_state, path, kept.shape)
        belonging = [array for array in belonging if array.dtype != bool]  # the mask is there too
        assert len(belonging) == moments + 1
        for array in belonging:
            assert (array[~kept] == 0).all()
            assert array[kept].any()


def test_the_loss_has_gradients_at_pruned_weights_that_are_not_zero():
    # Or else the test above would be about nothing.
    params = fresh_params()
    mask = half_mask(params)
    batch = gather(examples(), jnp.arange(8))
    _, grads = LOSS_AND_GRADIENT(apply_mask(params, mask), batch, key(0, "dropout"))
    for path, kept in by_path(mask).items():
        if kept.ndim:
            assert np.asarray(by_path(grads)[path])[~np.asarray(kept)].any()


@pytest.mark.slow
def test_a_full_mask_trains_as_no_mask_at_all_to_the_bit():
    params, data, batches = fresh_params(), examples(), random_indices(4)
    build = make_optimizer("adamw", weight_decay=0.1, clip_norm=1.0)
    # Only the loss is compiled: two programs that differ by a mask may round
    # differently where one of them fuses a product with a sum.
    loss_fn = jax.jit(LOSS)
    row, task = make_row(), make_task(build, loss_fn=loss_fn)
    state = initial_state(task, params, full_mask(params), row, jnp.int32(0))
    plain, opt_state = params, build(row.learning_rate).init(params)
    for number, indices in enumerate(batches):
        batch = gather(data, indices)
        state, _ = train_step(task, state, row, batch)
        grads = jax.grad(loss_fn)(plain, batch, jax.random.fold_in(row.key, number))
        updates, opt_state = build(row.learning_rate).update(grads, opt_state, plain)
        plain = optax.apply_updates(plain, updates)
    for path, leaf in by_path(plain).items():
        np.testing.assert_array_equal(by_path(state.params)[path], leaf)
        assert (np.asarray(leaf) != np.asarray(by_path(params)[path])).any()


def test_rows_that_only_fill_up_a_batch_have_no_influence():
    params, data = fresh_params(), examples()
    # A negative index reads example 0: whatever that is, nothing may change.
    other = {name: array.at[0].set(array[7]) for name, array in data.items()}
    other["labels"] = other["labels"].at[0].set((data["labels"][0] + 1) % 3)
    assert (np.asarray(other["tokens"][0]) != np.asarray(data["tokens"][0])).any()
    indices = jnp.array([3, -1, 5, -1], jnp.int32)
    results = [
        LOSS_AND_GRADIENT(params, gather(rows, indices), key(0, "dropout"))
        for rows in (data, other)
    ]
    jax.tree.map(np.testing.assert_array_equal, *results)


def test_the_loss_is_the_mean_over_the_real_rows():
    params, data = fresh_params(), examples()
    loss = jax.jit(make_loss(MODEL.clone(dropout=0.0)))
    shares = softmax(logits_of(params, data))
    expected = [-np.log(shares[row, int(data["labels"][row])]) for row in (3, 5)]
    found = loss(params, gather(data, jnp.array([3, -1, 5, -1])), key(0, "dropout"))
    np.testing.assert_allclose(float(found), np.mean(expected), rtol=1e-5)
    empty = loss(params, gather(data, jnp.full(4, -1)), key(0, "dropout"))
    assert float(empty) == 0.0


def test_dropout_noise_depends_on_seed_and_step_alone():
    def losses(seed, params_seed, mask_seed, learning_rate, indices_seed):
        # This loss is its own noise: its value says which key it got.
        def noise(params, batch, dropout_key):
            still = sum(jnp.sum(leaf) for leaf in jax.tree.leaves(params)) * 0
            return jax.random.uniform(dropout_key) + still * jnp.sum(batch["weight"])

        params = fresh_params(params_seed)
        row = make_row(seed, learning_rate)
        task = make_task(make_optimizer("sgd"), loss_fn=noise)
        state = initial_state(task, params, half_mask(params, mask_seed), row, jnp.int32(0))
        found = []
        for indices in random_indices(4, seed=indices_seed):
            state, loss = train_step(task, state, row, gather(examples(), indices))
            found.append(float(loss))
        return found

    first = losses(0, 0, 0, 1e-2, 0)
    assert first == losses(0, 1, 2, 1e-4, 3)
    other = losses(1, 0, 0, 1e-2, 0)
    assert len({*first, *other}) == 8


@pytest.mark.parametrize(
    ("name", "warmup", "factors"),
    [
        ("constant", 0, {0: 1.0, 5: 1.0, 12: 1.0}),
        ("linear", 0, {0: 1.0, 3: 0.75, 6: 0.5, 12: 0.0}),
        ("cosine", 0, {0: 1.0, 4: 0.75, 6: 0.5, 8: 0.25, 12: 0.0}),
        ("constant", 4, {0: 0.0, 1: 0.25, 2: 0.5, 4: 1.0, 12: 1.0}),
        ("linear", 4, {0: 0.0, 3: 0.75, 4: 1.0, 6: 0.75, 8: 0.5, 12: 0.0}),
        ("cosine", 4, {0: 0.0, 2: 0.5, 4: 1.0, 8: 0.5, 12: 0.0}),
    ],
)
def test_schedules_of_twelve_steps(name, warmup, factors):
    schedule = make_schedule(name, total_steps=12, warmup_steps=warmup)
    for step, factor in factors.items():
        assert float(schedule(jnp.int32(step))) == pytest.approx(factor, abs=1e-6)


def test_the_schedule_scales_the_rate_of_the_row():
    def loss(params, batch, dropout_key):
        return jnp.sum(params["w"]) * jnp.mean(batch["weight"])

    task = make_task(
        make_optimizer("sgd", momentum=0.0), make_schedule("linear", total_steps=4), loss
    )
    params = {"w": jnp.full((1, 2), 3.0)}
    row = make_row(learning_rate=0.1)
    state = initial_state(task, params, full_mask(params), row, jnp.int32(0))
    data = {"x": jnp.zeros(2)}
    indices = jnp.zeros((6, 2), jnp.int32)
    state, total = train_steps(task, state, row, ZERO, indices, data, jnp.int32(1), jnp.int32(4))
    # The gradient is 1: 0.1 * (1 + 3/4 + 1/2 + 1/4) is what four steps take away.
    np.testing.assert_allclose(state.params["w"], 2.75, rtol=1e-6)
    # Two weights of 3, 2.9, 2.825, 2.775 before each step, two examples per batch.
    np.testing.assert_allclose(float(total), 2 * 2 * (3 + 2.9 + 2.825 + 2.775), rtol=1e-6)


def test_a_frozen_embedding_keeps_its_bits_and_the_rest_moves():
    params = fresh_params()
    optimizer = make_optimizer(
        "adamw", weight_decay=0.1, clip_norm=1.0, frozen=lambda path: "embedding" in path
    )
    row, task = make_row(), make_task(optimizer)
    state = initial_state(task, params, full_mask(params), row, jnp.int32(0))
    run = jax.jit(partial(train_steps, task))
    state, _ = run(state, row, ZERO, random_indices(), examples(), jnp.int32(0), jnp.int32(5))
    for path, leaf in by_path(params).items():
        moved = np.asarray(by_path(state.params)[path]) != np.asarray(leaf)
        assert not moved.any() if "embedding" in path else moved.all()


def test_weight_decay_is_for_kernels_alone():
    params = {
        "embedding": {"embedding": jnp.ones((3, 2))},
        "head": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)},
    }
    optimizer = make_optimizer("adamw", weight_decay=0.5)(jnp.float32(0.1))
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(zeros, optimizer.init(params), params)
    np.testing.assert_allclose(updates["head"]["kernel"], -0.05, rtol=1e-6)
    assert not np.asarray(updates["head"]["bias"]).any()
    assert not np.asarray(updates["embedding"]["embedding"]).any()


def three_steps(optimizer):
    params = {"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([0.5])}
    state = optimizer.init(params)
    for step in range(3):
        grads = jax.tree.map(lambda p, step=step: jnp.cos(p + step), params)
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return params


KERNELS = {"kernel": True, "bias": False}


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (make_optimizer("adam"), optax.adam(0.1)),
        (make_optimizer("adam", weight_decay=0.0), optax.adam(0.1)),
        (make_optimizer("adamw"), optax.adamw(0.1, weight_decay=0.01, mask=KERNELS)),
        (make_optimizer("adamw", weight_decay=0.0), optax.adam(0.1)),
        (
            make_optimizer("adamw", weight_decay=0.3),
            optax.adamw(0.1, weight_decay=0.3, mask=KERNELS),
        ),
        (make_optimizer("sgd"), optax.sgd(0.1, momentum=0.9)),
        (make_optimizer("sgd", momentum=0.5), optax.sgd(0.1, momentum=0.5)),
    ],
    ids=["adam", "adam, none", "adamw", "adamw, none", "adamw, given", "sgd", "sgd, given"],
)
def test_an_optimizer_by_name_is_that_of_optax_with_its_defaults(mine, theirs):
    found, expected = three_steps(mine(jnp.float32(0.1))), three_steps(theirs)
    for name, leaf in expected.items():
        np.testing.assert_allclose(found[name], leaf, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("adam", {"weight_decay": 0.1}),
        ("adam", {"momentum": 0.9}),
        ("adamw", {"momentum": 0.0}),
    ],
)
def test_a_setting_that_an_optimizer_does_not_have_is_refused(name, given):
    with pytest.raises(ValueError, match=f"optimizer {name} has no {next(iter(given))}"):
        make_optimizer(name, **given)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="adam, adamw, sgd"):
        make_optimizer("adamax")
    with pytest.raises(ValueError, match="constant, cosine, linear"):
        make_schedule("step", total_steps=3)


def test_predictions_are_those_of_the_logits_and_zero_past_the_last_step():
    params, data = fresh_params(), examples()
    task = make_task(make_optimizer("adam"))
    indices = jnp.array([[0, 1, 2], [3, 4, -1], [5, 6, 7]], jnp.int32)
    found = jax.jit(partial(predict_steps, task))(params, indices, data, jnp.int32(2))
    shares = softmax(logits_of(params, data))
    labels = np.asarray(data["labels"])
    for step, batch in enumerate(np.asarray(indices[:2])):
        for column, example in enumerate(batch):
            if example < 0:
                continue
            guess = int(np.argmax(shares[example]))
            assert int(found["predicted"][step, column]) == guess
            assert float(found["correct"][step, column]) == float(guess == labels[example])
            loss = -np.log(shares[example, labels[example]])
            np.testing.assert_allclose(float(found["loss"][step, column]), loss, rtol=1e-5)
    assert not any(np.asarray(array[2]).any() for array in found.values())
