"""What a backend is asked for, read off the lowered programs: this needs no device.

Metal (jax-metal) has 32-bit types only, no decompositions, no sorting and no
custom calls; the list below is what it is known to run (elementwise arithmetic,
products, reductions, loops, gathers and scatters with 32-bit indices). It is
checked here by lowering for it, not on Apple hardware.
"""

import re
from functools import partial

import jax
import jax.export
import numpy as np
import pytest
from test_replicates import BUCKETS, MODEL, REPLICATES, TASK

from lth_flax.randomness import key
from lth_flax.training.replicates import Engine
from lth_flax.training.steps import Row, initial_state, predict_steps, train_steps

TYPES = {"f32", "i32", "i1", "ui32"}
OPERATIONS = {
    # structure
    "constant", "return", "while", "broadcast_in_dim", "reshape", "transpose", "concatenate",
    "slice", "dynamic_slice", "dynamic_update_slice", "pad", "reverse", "iota", "mesh",
    # arithmetic
    "add", "subtract", "multiply", "divide", "negate", "maximum", "minimum", "abs", "sign",
    "power", "sqrt", "rsqrt", "exponential", "log", "log_plus_one", "tanh", "logistic", "cosine",
    "square", "clamp", "compare", "select", "convert", "bitcast_convert", "is_finite", "floor",
    "dot_general", "reduce",
    # bits of random numbers
    "and", "or", "xor", "not", "shift_left", "shift_right_logical",
    # indexing, with 32-bit indices
    "gather", "scatter",
}  # fmt: skip


def programs(narrow):
    """The training and the evaluation step of three rows, as an accelerator would run them."""
    engine = Engine("vmap", tuple(jax.devices()[:1]), 3, donate=False, narrow=narrow)
    rows = REPLICATES[:3]
    fixed = Row(
        engine.place_rows([key(row.seed, "dropout") for row in rows]),
        engine.place_stacked(np.ones(3, np.float32)),
    )
    params = engine.place_rows([row.params for row in rows])
    rowed = (engine.place_rows([row.mask for row in rows]), fixed, np.zeros(3, np.int32))
    state = engine.lift(partial(initial_state, TASK))(params, rowed, ())
    indices = np.zeros((3, 2, 4), np.int32)
    examples, zero, one = dict(BUCKETS[0]), np.int32(0), np.int32(1)
    return {
        "train": (
            engine.lift(partial(train_steps, TASK)),
            (state, (fixed, np.zeros(3, np.float32), indices), (examples, zero, one)),
        ),
        "evaluate": (
            engine.lift(partial(predict_steps, TASK)), (params, (indices,), (examples, one)),
        ),
    }  # fmt: skip


def operations(text):
    return {name for _, name in re.findall(r"\b(stablehlo|chlo)\.([a-z_0-9]+)", text)}


def types(text):
    """Element types of tensors; sizes and attributes of operations are not data."""
    text = re.sub(r"array<i64[^>]*>|dense<[^>]*> : tensor<[0-9x]*i64>", "", text)
    return set(re.findall(r"tensor<(?:[0-9]+x)*([a-z]+[0-9]+[a-z0-9]*)>", text))


@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_metal_is_asked_for_nothing_that_it_lacks(name):
    function, arguments = programs(narrow=True)[name]
    text = function.trace(*arguments).lower(lowering_platforms=("METAL",)).as_text()
    assert operations(text) <= OPERATIONS
    assert types(text) <= TYPES
    assert "custom_call" not in text.replace("custom_call @Sharding", "").replace(
        "custom_call @SPMD", ""
    )
    assert "jax.buffer_donor" not in text
    assert "tf.aliasing_output" not in text
    # Gathers of unsigned integers go wrong there.
    assert not re.search(r"gather\"?\(.*\) : \(tensor<[0-9x]*ui32>", text)
    assert operations(text) >= {"while", "dot_general", "tanh", "gather"}  # it is this program


def test_the_lists_see_what_they_forbid():
    # Dropout as it is drawn elsewhere counts in 64 bits.
    function, arguments = programs(narrow=False)["train"]
    text = function.trace(*arguments).lower(lowering_platforms=("METAL",)).as_text()
    assert "ui64" in types(text) - TYPES
    matrix = np.eye(3, dtype=np.float32)
    for forbidden in (jax.numpy.linalg.qr, jax.numpy.sort, lambda x: jax.lax.top_k(x, 2)):
        text = jax.jit(forbidden).lower(matrix).as_text()
        assert "custom_call" in text or not operations(text) <= OPERATIONS


@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_cuda_has_a_lowering_of_every_operation(name):
    function, arguments = programs(narrow=False)[name]
    # A typed key is an extended type: what is exported takes its numbers.
    keys = isinstance(arguments[1][0], Row)

    def plain(state, data, rowed, shared):
        if keys:
            fixed = rowed[0]._replace(key=jax.random.wrap_key_data(data))
            rowed = (fixed, *rowed[1:])
        return function(state, rowed, shared)

    state, rowed, shared = arguments
    data = jax.random.key_data(rowed[0].key) if keys else ()
    if keys:
        rowed = (rowed[0]._replace(key=None), *rowed[1:])
    exported = jax.export.export(jax.jit(plain), platforms=["cuda"])(state, data, rowed, shared)
    assert exported.platforms == ("cuda",)
    text = exported.mlir_module()
    assert "stablehlo.while" in text
    assert "f64" not in types(text)


@pytest.mark.slow
def test_narrow_bits_are_another_draw_of_the_same_dropout():
    (wide, arguments), (narrow, _) = (programs(narrow=n)["train"] for n in (False, True))
    first, second = (function(*arguments)[1] for function in (wide, narrow))
    assert MODEL.dropout > 0
    assert not np.array_equal(first, second)
    np.testing.assert_allclose(first, second, rtol=0.5)


@pytest.mark.skipif(
    not any(device.platform in ("gpu", "cuda") for device in jax.devices()),
    reason="needs a CUDA GPU, and LTH_FLAX_TEST_PLATFORMS=cuda,cpu",
)
@jax.default_matmul_precision("highest")  # that of the experiments; else a GPU rounds to TF32
def test_vmap_and_map_on_a_gpu_agree_with_the_cpu():
    answers = []
    gpu = [device for device in jax.devices() if device.platform in ("gpu", "cuda")][:1]
    for mode, devices in (("vmap", gpu), ("map", gpu), ("map", jax.devices("cpu")[:1])):
        engine = Engine(mode, tuple(devices), 3, donate=False)
        rows = REPLICATES[:3]
        fixed = Row(
            engine.place_rows([key(row.seed, "dropout") for row in rows]),
            engine.place_stacked(np.ones(3, np.float32)),
        )
        params = engine.place_rows([row.params for row in rows])
        step = engine.place_stacked(np.zeros(3, np.int32))
        masks = engine.place_rows([row.mask for row in rows])
        state = engine.lift(partial(initial_state, TASK))(params, (masks, fixed, step), ())
        indices = engine.place_stacked(np.arange(24, dtype=np.int32).reshape(3, 2, 4) % 20)
        shared = (engine.place_shared(dict(BUCKETS[0])), np.int32(0), np.int32(1))
        rowed = (fixed, engine.place_stacked(np.zeros(3, np.float32)), indices)
        after, loss = engine.lift(partial(train_steps, TASK))(state, rowed, shared)
        answers.append(jax.device_get((after.params, loss)))
    for other in answers[1:]:
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), answers[0], other
        )
