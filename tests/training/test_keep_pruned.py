"""`keep_pruned` around every optimizer of optax, in a loop that is not ours."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

from lth_flax.errors import UserError
from lth_flax.pruning.masks import apply_mask, full_mask
from lth_flax.training.mask_state import current_mask, mask_moments, with_mask
from lth_flax.training.optimizers import keep_pruned

RATE = 1e-2


def problem(seed=0):
    """Parameters of three shapes, a mask over the two kernels, and a loss that masks nothing."""
    rng = np.random.default_rng(seed)
    params = {
        "first": jnp.asarray(rng.normal(size=(4, 5)), jnp.float32),
        "bias": jnp.asarray(rng.normal(size=5), jnp.float32),
        "second": jnp.asarray(rng.normal(size=(5, 2)), jnp.float32),
    }
    mask = jax.tree.map(
        lambda leaf: jnp.asarray(rng.random(leaf.shape) < 0.5) if leaf.ndim else leaf,
        full_mask(params),
    )
    x = jnp.asarray(rng.normal(size=(16, 4)), jnp.float32)
    y = jnp.asarray(rng.normal(size=(16, 2)), jnp.float32)

    def loss(params):
        hidden = jnp.tanh(x @ params["first"] + params["bias"])
        return jnp.mean((hidden @ params["second"] - y) ** 2)

    return params, mask, loss


def extras(name, loss, params, grads):
    """What some optimizers ask for besides gradients, and others refuse."""
    if "line" in name or "lbfgs" in name:
        return {"value": loss(params), "grad": grads, "value_fn": loss}
    if "sam" in name:
        return {"grad_fn": lambda params, number: jax.grad(loss)(params)}
    return {"value": loss(params), "obj_fn": loss}


def run(optimizer, name="", steps=6, after_step=lambda params, state: None, axes=()):
    params, mask, loss = problem()
    wrapped = keep_pruned(optimizer, mask)

    @jax.jit
    def step(params, state):
        grads = jax.tree.map(lambda leaf: jnp.expand_dims(leaf, axes), jax.grad(loss)(params))
        more = extras(name, loss, params, grads)
        updates, state = wrapped.update(grads, state, params, **more)
        return optax.apply_updates(params, updates), state

    state = jax.jit(wrapped.init)(params)
    for _ in range(steps):
        params, state = step(params, state)
        after_step(params, state)
    return params, state


def nothing_leaks(params, state, *, moments=True):
    _, mask, _ = problem()
    jax.tree.map(np.testing.assert_array_equal, current_mask(state), mask)
    for leaf in jax.tree.leaves(params):
        assert np.isfinite(leaf).all()
    for name in ("first", "second"):
        pruned = ~np.asarray(mask[name])
        assert (np.asarray(params[name])[pruned] == 0).all()
        # The three parameters have three shapes: so their moments are known.
        for leaf in jax.tree.leaves(state.inner) if moments else ():
            if np.shape(leaf) == pruned.shape:
                assert (np.asarray(leaf)[pruned] == 0).all()


SAMPLE = {
    "adamw": optax.adamw(RATE, weight_decay=0.1),
    "nesterov": optax.sgd(RATE, momentum=0.9, nesterov=True),
    "lamb": optax.lamb(RATE, weight_decay=0.1),
    "adafactor": optax.adafactor(RATE, weight_decay_rate=1e-3),
    "rmsprop": optax.rmsprop(RATE, momentum=0.9, centered=True),
    "yogi, whose moments start above zero": optax.yogi(RATE),
    "noise before the moments": optax.chain(optax.add_noise(0.1, 0.5, 0), optax.adam(RATE)),
    "clipped": optax.chain(optax.clip_by_global_norm(0.1), optax.adamw(RATE, weight_decay=0.1)),
    "line search, which asks for other gradients": optax.lbfgs(memory_size=2),
    "accumulated": optax.MultiSteps(optax.adam(RATE), 2),
    "sam, which computes gradients of its own": optax.contrib.sam(
        optax.adam(RATE), optax.chain(optax.contrib.normalize(), optax.sgd(RATE)), opaque_mode=True
    ),
}


@pytest.mark.parametrize("name", SAMPLE)
def test_nothing_leaks_into_pruned_weights(name):
    before, mask, _ = problem()
    after, _ = run(SAMPLE[name], name, after_step=nothing_leaks)
    for name, leaf in before.items():
        moved = np.asarray(after[name]) != np.asarray(leaf)
        assert moved[np.broadcast_to(np.asarray(mask[name]), leaf.shape)].all()


def transformations():
    """Every function of optax that returns a transformation, by name."""
    found = {}
    for module in (optax, optax.contrib):
        for name, function in vars(module).items():
            if name.startswith("_") or not inspect.isfunction(function):
                continue
            if "GradientTransformation" in str(inspect.signature(function).return_annotation):
                found[f"{module.__name__}.{name}"] = function
    return found


ADAM, SGD = optax.adam(RATE), optax.sgd(RATE)
GIVEN = {
    # What functions with other arguments than a learning rate are called with.
    "adafactor": (RATE,),
    "adaptive_grad_clip": (0.1,),
    "add_noise": (0.1, 0.5, 0),
    "apply_if_finite": (ADAM, 3),
    "chain": (optax.clip(0.1), ADAM),
    "clip": (0.1,),
    "clip_by_block_rms": (0.1,),
    "clip_by_global_norm": (0.1,),
    "conditionally_mask": (ADAM, lambda step, **extra: step > 1),
    "conditionally_transform": (ADAM, lambda step, **extra: step > 1),
    "ema": (0.9,),
    "flatten": (ADAM,),
    "freeze": ({"first": False, "bias": True, "second": False},),
    "masked": (ADAM, {"first": True, "bias": False, "second": True}),
    "mechanize": (SGD,),
    "multi_transform": ({"a": ADAM, "b": SGD}, {"first": "a", "bias": "b", "second": "b"}),
    "named_chain": (("clip", optax.clip(0.1)), ("adam", ADAM)),
    "noisy_sgd": (RATE, 0.1, 0.5, 0),
    "partition": ({"a": ADAM, "b": SGD}, {"first": "a", "bias": "b", "second": "b"}),
    "sam": (SGD, optax.chain(optax.contrib.normalize(), SGD)),
    "scale": (-RATE,),
    "scale_by_backtracking_linesearch": (3,),
    "scale_by_schedule": (lambda step: -RATE,),
    "scale_by_zoom_linesearch": (3,),
    "schedule_free": (SGD, RATE),
    "snapshot": ("norm", optax.global_norm),
    "split_real_and_imaginary": (ADAM,),
    "stateless": (lambda updates, params: updates,),
    "stateless_with_tree_map": (lambda update, param: update,),
    "trace": (0.9,),
    "with_extra_args_support": (ADAM,),
}
REFUSED = {
    # Gradients per example have an axis that no mask has.
    "differentially_private_aggregate": ((0.1, 0.1, 0), "expected that of the gradients"),
    "dpsgd": ((RATE, 0.1, 0.1, 0), "expected that of the gradients"),
    # What comes out is a measurement, not an update.
    "measure_with_ema": ((optax.global_norm, 0.9), "expected the tree of the updates"),
    # Two sets of parameters.
    "lookahead": ((ADAM, 2, 0.5), r"use optax.lookahead\(keep_pruned\(optimizer, mask\), ...\)"),
}
FACTORIES = ("inject_hyperparams", "inject_stateful_hyperparams")


def build(name, function):
    short = name.rpartition(".")[2]
    if short == "selective_transform":
        return function(ADAM, freeze_mask={"first": False, "bias": True, "second": False})
    if short in FACTORIES:
        return function(optax.adamw)(learning_rate=RATE)
    if short == "scale_by_muon":
        # It takes kernels alone.
        numbers = optax.contrib.MuonDimensionNumbers()
        kernels = function(
            weight_dimension_numbers=lambda tree: jax.tree.map(lambda _: numbers, tree)
        )
        return optax.masked(kernels, {"first": True, "bias": False, "second": True})
    if short in GIVEN:
        return function(*GIVEN[short])
    if "learning_rate" in inspect.signature(function).parameters:
        return function(learning_rate=RATE)
    return function()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Specifying a key will be required")
@pytest.mark.parametrize("name", sorted(transformations()))
def test_every_transformation_of_optax_is_wrapped_or_refused_in_one_line(name):
    function, short = transformations()[name], name.rpartition(".")[2]
    if short in REFUSED:
        arguments, message = REFUSED[short]
        with pytest.raises(UserError, match=message) as error:
            run(function(*arguments), axes=(0,) if "gradients" in message else ())
        assert "\n" not in str(error.value).partition("\n-----")[0]  # what JAX adds
        return
    run(
        build(name, function), name, after_step=partial(nothing_leaks, moments="galore" not in name)
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adamw", "nesterov", "clipped"])
def test_weights_that_are_kept_train_as_in_a_loop_that_masks_by_hand(name):
    params, mask, loss = problem()
    optimizer = SAMPLE[name]
    masked = partial(apply_mask, mask=mask)
    expected = masked(params)
    state = optimizer.init(expected)

    @jax.jit
    def by_hand(params, state):
        updates, state = optimizer.update(masked(jax.grad(loss)(params)), state, params)
        return masked(optax.apply_updates(params, updates)), state

    def ours(params):
        wrapped = keep_pruned(optimizer, mask)
        state = wrapped.init(params)
        for _ in range(5):
            updates, state = wrapped.update(jax.grad(loss)(params), state, params)
            params = optax.apply_updates(params, updates)
        return params

    for _ in range(5):
        expected, state = by_hand(expected, state)
    found = jax.jit(ours)(masked(params))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), found, expected)


def test_the_mask_is_an_argument_of_the_step_and_a_copy():
    params, mask, loss = problem()
    wrapped = keep_pruned(optax.adam(RATE), mask)
    state = wrapped.init(params)

    def step(params, state):
        updates, state = wrapped.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    donating = jax.jit(step, donate_argnums=(0, 1))
    donating(jax.tree.map(jnp.copy, params), state)
    assert state.mask["first"].is_deleted()
    jax.tree.map(np.asarray, mask)  # the caller's lives
    # The same program under another mask: what counts is the one in the state.
    other = jax.tree.map(lambda leaf: ~leaf if leaf.ndim else leaf, mask)
    state = with_mask(wrapped.init(params), other, params)
    after, state = jax.jit(step)(params, state)
    jax.tree.map(np.testing.assert_array_equal, current_mask(state), other)
    for name in ("first", "second"):
        np.testing.assert_array_equal(np.asarray(after[name]) != 0, other[name])


def test_masks_of_other_kinds_are_bool_in_the_state():
    params, mask, _ = problem()
    floats = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), mask)
    state = keep_pruned(optax.sgd(RATE), floats).init(params)
    jax.tree.map(np.testing.assert_array_equal, current_mask(state), mask)
    assert {leaf.dtype for leaf in jax.tree.leaves(state.mask)} == {np.dtype(bool)}


@pytest.mark.slow
@pytest.mark.parametrize("reset_state", [False, True])
def test_inside_lookahead_both_sets_of_parameters_stay_masked(reset_state):
    params, mask, loss = problem()
    optimizer = optax.lookahead(
        keep_pruned(optax.adamw(RATE), mask), 2, 0.5, reset_state=reset_state
    )
    pair = optax.LookaheadParams.init_synced(apply_mask(params, mask))
    state = optimizer.init(pair)
    for _ in range(5):
        updates, state = optimizer.update(jax.grad(loss)(pair.fast), state, pair)
        pair = optax.apply_updates(pair, updates)
        for one in (pair.fast, pair.slow):
            jax.tree.map(np.testing.assert_array_equal, apply_mask(one, mask), one)
        jax.tree.map(np.testing.assert_array_equal, current_mask(state), mask)
    assert (np.asarray(pair.slow["first"]) != np.asarray(params["first"])).any()


def test_not_outermost_is_one_line():
    params, mask, _ = problem()
    kept = keep_pruned(optax.adam(RATE), mask)
    labels = {"first": "a", "bias": "b", "second": "a"}
    for optimizer in (
        optax.multi_transform({"a": kept, "b": optax.sgd(RATE)}, labels),
        optax.masked(kept, {"first": True, "bias": False, "second": True}),
    ):
        with pytest.raises(UserError, match="keep_pruned must be outermost"):
            optimizer.init(params)
    with pytest.raises(UserError, match="needs the parameters"):
        kept.update(params, kept.init(params))
    with pytest.raises(UserError, match="found none: wrap the whole optimizer"):
        current_mask(optax.adam(RATE).init(params))
    with pytest.raises(UserError, match="lookahead has two sets"):
        keep_pruned(optax.sgd(RATE), mask).init(optax.LookaheadParams.init_synced(params))


@pytest.mark.parametrize(
    ("of_params", "of_grads"), [("bfloat16", "float32"), ("float32", "bfloat16")]
)
def test_a_weight_of_another_precision_than_its_update_is_taken_to_zero(of_params, of_grads):
    params, mask, _ = problem()
    params = jax.tree.map(lambda leaf: leaf.astype(of_params), params)
    grads = jax.tree.map(lambda leaf: jnp.ones_like(leaf, of_grads), params)
    wrapped = keep_pruned(optax.sgd(RATE), mask)
    updates, _ = wrapped.update(grads, wrapped.init(params), params)
    after = optax.apply_updates(params, updates)
    jax.tree.map(np.testing.assert_array_equal, apply_mask(after, mask), after)
    assert {leaf.dtype for leaf in jax.tree.leaves(after)} == {jnp.dtype(of_params)}


def test_moments_are_told_apart_where_one_path_ends_with_another():
    params = {"w": jnp.ones((2, 2)), "mu": {"w": jnp.ones((2, 2))}}
    mask = {"w": jnp.array([[True, False]] * 2), "mu": {"w": jnp.array([[False, True]] * 2)}}
    state = jax.tree.map(jnp.ones_like, optax.scale_by_adam().init(params))
    masked = mask_moments(state, mask, params)
    for moments in (masked.mu, masked.nu):
        jax.tree.map(lambda leaf, m: np.testing.assert_array_equal(leaf != 0, m), moments, mask)
