"""Ambient settings change nothing, or are told."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import flax
import flax.linen as nn
import jax
import numpy as np
import pytest

from lth_flax import numerics
from lth_flax.compat import option_context
from lth_flax.randomness import PURPOSES, generator, key

ROOT = Path(__file__).resolve().parents[1]

AMBIENT = {
    "jax_default_prng_impl": "rbg",
    "jax_threefry_partitionable": False,
    "jax_enable_custom_prng": True,
    "jax_enable_x64": True,
    "jax_numpy_dtype_promotion": "strict",
    "jax_numpy_rank_promotion": "raise",
    "jax_disable_jit": True,
    "jax_debug_nans": True,
    "jax_debug_infs": True,
}
"""For every pinned option another value."""


@contextlib.contextmanager
def flax_option(name, value):
    before = getattr(flax.config, name)
    flax.config.update(name, value)
    try:
        yield
    finally:
        flax.config.update(name, before)


@contextlib.contextmanager
def seed_offset(value):
    jax.config.update("jax_random_seed_offset", value)
    try:
        yield
    finally:
        jax.config.update("jax_random_seed_offset", 0)


def ambient():
    """Name -> a context in which a setting has another value than here."""
    found = {name: lambda n=name, v=value: option_context(n, v) for name, value in AMBIENT.items()}
    for name, value in numerics.FLAX_PINNED.items():
        found[name] = lambda n=name, v=value: flax_option(n, not v)
    return {**found, "jax_random_seed_offset": lambda: seed_offset(5)}


def test_every_pinned_option_is_tried():
    assert AMBIENT.keys() == numerics.PINNED.keys()
    assert all(AMBIENT[name] != value for name, value in numerics.PINNED.items())


# What is drawn. -------------------------------------------------------------------------


def test_keys_are_those_of_jax_for_the_seed():
    for seed in (0, 1, 2**31 - 2):
        expected = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), 4)
        for counter in (7, 2):
            expected = jax.random.fold_in(expected, counter)
        found = key(seed, PURPOSES[4], 7, 2)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(jax.random.key_data(found), jax.random.key_data(expected))


def test_numpys_numbers_are_those_of_pcg64():
    expected = np.random.Generator(np.random.PCG64(np.random.SeedSequence([3, 1, 9])))
    np.testing.assert_array_equal(
        generator(3, PURPOSES[1], 9).permutation(100), expected.permutation(100)
    )


@pytest.mark.parametrize("name", ambient())
def test_a_key_does_not_depend_on_what_surrounds_it(name):
    expected = jax.random.key_data(key(3, "dropout", 1))
    with ambient()[name]():
        np.testing.assert_array_equal(jax.random.key_data(key(3, "dropout", 1)), expected)


class Noisy(nn.Module):
    """Parameters and dropout of a module within another, as Flax draws them."""

    @nn.compact
    def __call__(self, x):
        return nn.Dropout(0.4, deterministic=False)(nn.Dense(3, name="inner")(x))


def drawn():
    model, x = Noisy(), np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
    keys = {"params": key(0, "initialization"), "dropout": key(0, "dropout")}
    output, variables = jax.jit(model.init_with_output)(keys, x)
    scores = jax.random.uniform(jax.random.key(2), (5,))
    leaves = [output, *jax.tree_util.tree_leaves(dict(variables)), scores]
    return type(variables), [np.asarray(leaf) for leaf in leaves]


def same(one, other):
    return one[0] is other[0] and all(
        a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(one[1], other[1], strict=True)
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", [*AMBIENT, *numerics.FLAX_PINNED])
def test_pinned_draws_are_the_same_whatever_surrounds_them(name):
    with numerics.pinned():
        expected = drawn()
    with ambient()[name]():
        before = {**jax.config.values, **flax.config._values}
        with numerics.pinned():
            found = drawn()
        assert {**jax.config.values, **flax.config._values} == before
    assert same(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "jax_default_prng_impl", "jax_threefry_partitionable", "jax_enable_x64",
        "flax_fix_rng_separator", "flax_return_frozendict",
    ],
)  # fmt: skip
def test_without_being_pinned_they_would_not_be(name):
    expected = drawn()
    with ambient()[name]():
        assert not same(drawn(), expected)


# What is told. --------------------------------------------------------------------------

SAY = """
import json, jax
from lth_flax import numerics
import flax
options = {**jax.config.values, **flax.config._values}
kinds = {name: type(value).__name__ for name, value in options.items()}
known = [n for n in options if n in {**numerics.PINNED, **numerics.FLAX_PINNED}]
print(json.dumps([kinds, known, numerics.in_effect()]))
"""


def say(**environment):
    plain = {n: v for n, v in os.environ.items() if not n.startswith(("JAX_", "FLAX_", "XLA_"))}
    done = subprocess.run(
        [sys.executable, "-c", SAY],
        env={**plain, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return json.loads(done.stdout)


def test_every_option_of_jax_and_flax_is_pinned_harmless_or_told():
    kinds, pinned, told = say()
    harmless = {name for name in kinds if numerics.is_harmless(name)}
    assert kinds.keys() == {*harmless, *pinned, *told}
    assert not harmless & told.keys()
    # Switched over in the environment, every other one is told as it is then. (With one of
    # them jax 0.5.0 cannot be imported.)
    switched = [n for n in told if kinds.get(n) == "bool" and n != "jax_sharding_in_types"]
    assert len(switched) > 15
    environment = {name.upper(): str(told[name] != "True") for name in switched}
    _, _, now = say(**environment)
    assert [name for name in switched if now[name] == told[name]] == []
    assert {n: v for n, v in now.items() if n not in switched} == {
        n: v for n, v in told.items() if n not in switched
    }


@pytest.mark.parametrize(
    "name",
    [
        "jax_log_compiles", "jax_compilation_cache_dir", "jax_platforms", "jax_traceback_filtering",
        "jax_cuda_visible_devices", "jax_num_cpu_devices", "jax_transfer_guard", "flax_profile",
        "jax_debug_log_modules", "jax_dump_ir_to", "jax_enable_checks",
    ],
)  # fmt: skip
def test_what_changes_no_bits_is_not_told(name):
    assert numerics.is_harmless(name)


@pytest.mark.parametrize(
    "name",
    [
        "jax_enable_x64", "jax_disable_most_optimizations", "jax_softmax_custom_jvp",
        "jax_exec_time_optimization_effort", "jax_default_dtype_bits", "jax_use_magma",
        "jax_pgle_profiling_runs", "jax_an_option_of_a_version_to_come", "flax_fix_rng_separator",
    ],
)  # fmt: skip
def test_what_may_change_bits_is_not_called_harmless(name):
    assert not numerics.is_harmless(name)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("--xla_cpu_enable_fast_math", {"xla_cpu_enable_fast_math": "true"}),
        ("--xla_x=1 --xla_x=false", {"xla_x": "false"}),
        ("--xla_x=0", {"xla_x": "false"}),
        ("--xla_x=", {"xla_x": ""}),
        ("--xla_dump_to=/tmp/x --xla_force_host_platform_device_count=4", {}),
        (
            "--xla_backend_extra_options=a --xla_backend_extra_options=b=1,a",
            {"xla_backend_extra_options": "a,b=1"},
        ),
    ],
)
def test_flags_of_xla(text, found):
    assert numerics.xla_flags(text) == found


def test_libraries_below_are_asked_too():
    plain = numerics.in_effect({})
    told = numerics.in_effect(
        {
            "NVIDIA_TF32_OVERRIDE": "0",
            "OMP_NUM_THREADS": "4",
            "HOME": "/",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
    )
    assert told == {**plain, "NVIDIA_TF32_OVERRIDE": "0", "OMP_NUM_THREADS": "4"}
    # Its own variable goes first for OpenBLAS.
    own = {"OPENBLAS_NUM_THREADS": "1"}
    assert numerics.in_effect({**own, "OMP_NUM_THREADS": "4"}) == {**plain, **own}
