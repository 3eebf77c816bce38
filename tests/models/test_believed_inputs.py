"""What the core does with inputs that are wrong, odd, or of another type."""

from contextlib import ExitStack
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_lstm import LENGTHS, inputs, layer, oracle, small_batch, small_classifier

from lth_flax.errors import UserError
from lth_flax.models.lstm import bidirectional_lstm

core = jax.jit(bidirectional_lstm)
MODEL = small_classifier().clone(num_layers=1)


@cache
def classifier_params():
    return jax.jit(MODEL.init)(jax.random.key(0), *small_batch())


@partial(jax.jit, static_argnums=0)
def classifier_step(model, params, tokens, lengths):
    """The value and the gradient of a loss."""

    def loss(params):
        return jnp.sum(model.apply(params, tokens, lengths) ** 2)

    return jax.value_and_grad(loss)(params)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([6, 1, 4, 0, 7], r"lengths\[4\] is 7: expected a whole number of steps between 0 and 6"),
        ([6, -1, 4, 0, 5], r"lengths\[1\] is -1"),
        ([6, 1, 4.5, 0, 5], r"lengths\[2\] is 4.5"),
        ([6, 1, np.nan, 0, 5], r"lengths\[2\] is nan"),
        ([np.inf, 1, 4, 0, 5], r"lengths\[0\] is inf"),
        (np.array([6, 1, 4, 0, 2**32 + 1]), r"lengths\[4\] is 4294967297"),
        (np.array([6, 1, 4, 0, 200], np.uint8), r"lengths\[4\] is 200"),
        ([6, 1, 4, 0], r"each of the 5 texts, found the shape \(4,\)"),
        (np.array([[6, 1, 4, 0, 5]]), r"found the shape \(1, 5\)"),
        (6, r"found the shape \(\)"),
        (np.ones(5, bool), "lengths must be numbers, found bool"),
        (["6", "1", "4", "0", "5"], "lengths must be numbers"),
        (None, r"found the shape \(\)"),
    ],
)
def test_wrong_lengths_are_one_clear_line(lengths, message):
    with pytest.raises(UserError, match=message) as error:
        bidirectional_lstm(layer(), inputs(), lengths)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=message):
        MODEL.apply(classifier_params(), small_batch()[0], lengths)


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize(
    "dtype",
    [np.uint8, np.int64, jnp.bfloat16]
    + [
        pytest.param(dtype, marks=pytest.mark.slow)
        for dtype in (np.int8, np.int16, np.uint32, jnp.float16, np.float64)
    ],
)
def test_lengths_of_any_type_of_number(dtype, traced):
    # 300 steps: neither the padded time nor a bound on it fits into 8 bits.
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 300, 1)), jnp.float32)
    lengths = np.array([100, 3])
    params = layer(features=1, hidden=1)
    outputs, final = (core if traced else bidirectional_lstm)(params, x, lengths.astype(dtype))
    expected_outputs, expected_final = oracle(params, x, lengths)
    np.testing.assert_allclose(outputs, expected_outputs, atol=5e-6)
    np.testing.assert_allclose(final, expected_final, atol=5e-6)


def test_a_plain_list_of_lengths():
    found = bidirectional_lstm(layer(), inputs(), [int(length) for length in LENGTHS])
    expected = bidirectional_lstm(layer(), inputs(), jnp.asarray(LENGTHS))
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize(
    ("lengths", "meant"),
    [
        (np.array([9, 1, 4, -3, 100], np.int32), [6, 1, 4, 0, 6]),
        (np.array([9, 1, 4, -3, 100], np.int8), [6, 1, 4, 0, 6]),
        (np.array([9, 1, 4, 0, 2**32 - 1], np.uint32), [6, 1, 4, 0, 6]),
        (np.array([np.inf, 1.9, 4, np.nan, -np.inf], np.float32), [6, 1, 4, 0, 0]),
    ],
)
def test_traced_lengths_are_clipped(lengths, meant):
    found = core(layer(), inputs(), lengths)
    for array, expected in zip(found, oracle(layer(), inputs(), meant), strict=True):
        np.testing.assert_allclose(array, expected, atol=2e-6)


def quadratic(params, x, lengths):
    outputs, final = bidirectional_lstm(params, x, lengths)
    return jnp.sum(outputs.astype(jnp.float32) ** 2) + jnp.sum(final.astype(jnp.float32) ** 3)


@pytest.mark.parametrize("rubbish", [np.nan, np.inf, -np.inf, 1e30])
def test_what_stands_in_the_padding_is_never_read(rubbish):
    padding = (np.arange(6) >= LENGTHS[:, None])[..., None]
    clean = jnp.where(padding, 0.0, inputs())
    lengths = jnp.asarray(LENGTHS)
    step = jax.jit(jax.value_and_grad(quadratic, argnums=(0, 1)))
    found = step(layer(), jnp.where(padding, rubbish, clean), lengths)
    jax.tree.map(np.testing.assert_array_equal, found, step(layer(), clean, lengths))
    assert np.isfinite(float(found[0]))
    assert not np.asarray(found[1][1])[np.broadcast_to(padding, clean.shape)].any()


def test_a_loss_that_is_infinite_in_the_padding_and_cut_off_there():
    real = (np.arange(6) < LENGTHS[:, None])[..., None]

    def loss(params, offset):
        outputs, _ = bidirectional_lstm(params, inputs(), jnp.asarray(LENGTHS))
        # The derivative of the root is infinite at the zeros past a text's end.
        return jnp.sum(jnp.where(real, jnp.sqrt(outputs**2 + offset), 0.0))

    # A hair above zero the root is harmless, and nearly the same.
    grads, near = (jax.jit(jax.grad(loss))(layer(), offset) for offset in (0.0, 1e-12))
    for one, other in zip(jax.tree.leaves(grads), jax.tree.leaves(near), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)


@pytest.mark.parametrize("unknown", [-1, 20, 2**31 - 1])
def test_token_ids_that_nobody_reads_may_be_anything(unknown):
    tokens, lengths = small_batch()
    model, params = MODEL, classifier_params()
    other = jnp.where(np.arange(6) >= LENGTHS[:, None], unknown, tokens)
    value, grads = classifier_step(model, params, other, lengths)
    assert np.isfinite(float(value))
    expected = classifier_step(model, params, tokens, lengths)
    jax.tree.map(np.testing.assert_array_equal, (value, grads), expected)


def test_unknown_token_ids_in_a_text():
    tokens, lengths = small_batch()
    model, params = MODEL, classifier_params()
    for wrong in (-1, 20):
        bad = tokens.at[2, 1].set(wrong)
        message = f"token id {wrong} at step 1 of text 2 is not in the vocabulary: expected 0 to 19"
        with pytest.raises(UserError, match=message):
            model.apply(params, bad, lengths)
        # Traced it cannot be seen: the nearest word is read.
        nearest = tokens.at[2, 1].set(min(max(wrong, 0), 19))
        found, expected = (classifier_step(model, params, t, lengths) for t in (bad, nearest))
        jax.tree.map(np.testing.assert_array_equal, found, expected)
    padded = model.clone(readout="last_position")
    with pytest.raises(UserError, match="token id 99 at step 5 of text 1"):
        padded.apply(params, tokens.at[1, 5].set(99), lengths)  # there padding is read
    with pytest.raises(UserError, match="token ids must be integers, found float32"):
        model.apply(params, tokens.astype(jnp.float32), lengths)
    narrow = model.apply(params, np.asarray(tokens, np.uint8), lengths)
    np.testing.assert_array_equal(narrow, model.apply(params, tokens, lengths))
    with pytest.raises(UserError, match=r"tokens must be \[batch, time\]"):
        model.apply(params, tokens[0], lengths)


@pytest.mark.parametrize(
    ("of_inputs", "of_params"),
    [
        (jnp.float32, jnp.bfloat16),
        (jnp.bfloat16, jnp.float32),
        pytest.param(jnp.float16, jnp.float32, marks=pytest.mark.slow),
        pytest.param(jnp.float16, jnp.bfloat16, marks=pytest.mark.slow),
        pytest.param(jnp.bfloat16, jnp.bfloat16, marks=pytest.mark.slow),
    ],
)
def test_gradients_have_the_dtype_of_what_they_belong_to(of_inputs, of_params):
    params = jax.tree.map(lambda leaf: leaf.astype(of_params), layer())
    x = inputs().astype(of_inputs)
    step = jax.jit(jax.grad(quadratic, argnums=(0, 1)))
    grads, dx = step(params, x, jnp.asarray(LENGTHS))
    assert dx.dtype == of_inputs
    assert {leaf.dtype for leaf in jax.tree.leaves(grads)} == {jnp.dtype(of_params)}
    exact = step(layer(), inputs(), jnp.asarray(LENGTHS))
    for one, other in zip(jax.tree.leaves((grads, dx)), jax.tree.leaves(exact), strict=True):
        error = np.linalg.norm(np.asarray(one, np.float64) - np.asarray(other))
        assert error <= 0.05 * np.linalg.norm(other)


def test_inputs_and_parameters_of_other_shapes_and_types():
    lengths = jnp.asarray(LENGTHS)
    whole = jnp.round(inputs())
    jax.tree.map(
        np.testing.assert_array_equal,
        bidirectional_lstm(layer(), whole.astype(jnp.int32), lengths),
        bidirectional_lstm(layer(), whole, lengths),
    )
    with pytest.raises(UserError, match=r"forward/input_kernel .* \(5, 12\), expected \(4, 12\)"):
        bidirectional_lstm(layer(), inputs(features=4), lengths)
    with pytest.raises(UserError, match="must be floats, found complex64"):
        bidirectional_lstm(layer(), inputs().astype(jnp.complex64), lengths)
    with pytest.raises(UserError, match=r"inputs must be \[batch, time, features\]"):
        bidirectional_lstm(layer(), inputs()[0], lengths)
    broken = layer()
    broken["backward"]["bias"] = jnp.zeros(3)
    with pytest.raises(UserError, match=r"backward/bias of a layer has the shape \(3,\)"):
        bidirectional_lstm(broken, inputs(), lengths)


@pytest.mark.parametrize(("batch", "time"), [(0, 6), (2, 0), (0, 0)])
def test_no_texts_and_no_time(batch, time):
    x, lengths = jnp.zeros((batch, time, 5)), jnp.zeros(batch, jnp.int32)
    outputs, final = bidirectional_lstm(layer(), x, lengths)
    assert outputs.shape == (batch, time, 6)
    np.testing.assert_array_equal(final, np.zeros((batch, 6)))
    grads = jax.jit(jax.grad(quadratic))(layer(), x, lengths)
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(grads))
    tokens = jnp.zeros((batch, time), jnp.int32)
    for readout in ("final", "last_position"):
        model = MODEL.clone(readout=readout)
        value, _ = classifier_step(model, classifier_params(), tokens, lengths)
        # A text that says nothing gets the bias, which is zero.
        assert float(value) == 0.0 or readout == "last_position"
        logits = jax.eval_shape(model.apply, classifier_params(), tokens, lengths)
        assert logits.shape == (batch, 3)


def x64():
    scope = ExitStack()
    scope.callback(jax.config.update, "jax_enable_x64", jax.config.jax_enable_x64)
    jax.config.update("jax_enable_x64", True)
    return scope


@pytest.mark.slow
@pytest.mark.parametrize(
    "setting",
    [
        lambda: jax.numpy_rank_promotion("raise"),
        lambda: jax.numpy_dtype_promotion("strict"),
        x64,
    ],
    ids=["rank promotion", "dtype promotion", "x64"],
)
def test_numeric_settings_of_jax_change_nothing(setting):
    tokens, lengths = small_batch()
    params = classifier_params()
    expected = classifier_step(MODEL, params, tokens, lengths)
    with setting():
        found = classifier_step(MODEL, params, np.asarray(tokens), np.asarray(lengths, np.int64))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_a_network_is_initialized_and_run_with_dropout_under_strict_rules():
    model = MODEL.clone(dropout=0.4, embedding_dropout=0.1)

    @jax.jit
    def logits(tokens, lengths):
        params = model.init(jax.random.key(0), tokens, lengths)
        rngs = {"dropout": jax.random.key(1)}
        return model.apply(params, tokens, lengths, deterministic=False, rngs=rngs)

    expected = logits(*small_batch())
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        np.testing.assert_array_equal(logits(*small_batch()), expected)


@pytest.mark.slow
def test_double_precision_where_it_is_asked_for():
    with x64():
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), layer())
        x = jnp.asarray(inputs(), jnp.float64)
        outputs, _ = bidirectional_lstm(params, x, LENGTHS)
        grads = jax.jit(jax.grad(quadratic))(params, x, LENGTHS)
    assert outputs.dtype == np.float64
    np.testing.assert_allclose(outputs, oracle(layer(), inputs(), LENGTHS)[0], atol=1e-12)
    assert {leaf.dtype for leaf in jax.tree.leaves(grads)} == {np.dtype(np.float64)}


def test_the_core_lifts_over_a_batch_of_networks_with_lengths_of_their_own():
    params = jax.tree.map(lambda *leaves: jnp.stack(leaves), layer(seed=0), layer(seed=5))
    lengths = jnp.stack([jnp.asarray(LENGTHS), jnp.asarray(LENGTHS[::-1].copy())])
    outputs, _ = jax.vmap(bidirectional_lstm, in_axes=(0, None, 0))(params, inputs(), lengths)
    for row, seed in enumerate((0, 5)):
        expected, _ = oracle(layer(seed=seed), inputs(), np.asarray(lengths[row]))
        np.testing.assert_allclose(outputs[row], expected, atol=2e-6)
