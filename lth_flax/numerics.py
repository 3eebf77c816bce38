"""The settings around us that could change a result: pinned here, or told to whoever asks.

JAX, Flax, XLA and the libraries below them take settings from environment
variables and from whatever the surrounding program did. What a training run
depends on and can be set for it alone is in `PINNED`; `in_effect` says the rest.
"""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from flax import config as flax_config

from lth_flax.compat import option_context

PINNED: Mapping[str, Any] = {
    # What is drawn. The offset is not here: `randomness.key` never sees it.
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
    "jax_enable_custom_prng": False,
    # In which types it is computed.
    "jax_enable_x64": False,
    "jax_numpy_dtype_promotion": "standard",
    "jax_numpy_rank_promotion": "allow",
    # That it is compiled, and that a row may diverge: its record says so.
    "jax_disable_jit": False,
    "jax_debug_nans": False,
    "jax_debug_infs": False,
}
"""Options of JAX, each with the one value that everything here is computed with."""

FLAX_PINNED: Mapping[str, Any] = {
    "flax_fix_rng_separator": False,
    "flax_preserve_adopted_names": False,
    "flax_return_frozendict": False,
}
"""Options of Flax: which draws dropout makes, and what parameters are called."""

_ALARMS: Mapping[str, Any] = {
    **{f"jax_error_checking_behavior_{kind}": "ignore" for kind in ("nan", "divide", "oob")},
    **{f"jax_transfer_guard{way}": "allow" for way in (
        "", "_host_to_device", "_device_to_device", "_device_to_host"
    )},
}  # fmt: skip
"""Options that change no bits but raise where nothing is wrong: commands do without them."""

_HARMLESS_WORDS = {
    "cache", "check", "checks", "checking", "debug", "dump", "dumps", "explain", "export", "guard",
    "include", "log", "logging", "platform", "platforms", "pprint", "timeout", "traceback",
    "tracer", "verbose",
}  # fmt: skip
"""An option with one of these in its name changes what is said, kept or looked at."""

_HARMLESS = re.compile(
    r"""jax_(
        array_garbage_.* | backend_target | captured_constants_.* | cpu_collectives_implementation
        | cpu_enable_async_dispatch | cpu_enable_gloo_collectives | cpu_get_.* | cross_host_.*
        | .*_visible_devices | default_device | disallow_.* | distributed_.*
        | enable_preemption_service | enable_recoverability | force_dcn_.*
        | default_matmul_precision  # a setting of ours, and compared as one
        | hlo_source_file_canonicalization_regex | legacy_prng_key | num_cpu_devices
        | random_seed_offset | serialization_version | share_binary_.*
        | sort_devices_by_process_index | source_url_schema | xla_backend | xla_profile_version
    )
    | flax_(filter_frames | max_repr_depth | profile | use_orbax_checkpointing)
    | jax2tf_.* | mock_num_gpu_processes""",
    re.VERBOSE,
)
"""Others that change no bits, or say only which machines work and how they are reached."""

_HARMLESS_XLA = re.compile(
    r"(.*_)?(dump|dumps|log|logging|timeout)(_.*)?"
    r"|xla_force_host_platform_device_count|xla_gpu_cuda_data_dir"
)
"""Flags of XLA of that kind."""

_LIBRARIES = re.compile(
    r"""OPENBLAS_ .* | GOTO_NUM_THREADS | MKL_ .* | OMP_NUM_THREADS | BLIS_ .*
    | NVIDIA_TF32_OVERRIDE | CUDNN_ .* | CUBLAS .* | TF_CUDNN_ .* | MIOPEN_ .* | ROCBLAS_ .*
    | HIPBLAS .* | LIBTPU_INIT_ARGS | NPY_DISABLE_CPU_FEATURES | NPY_ENABLE_CPU_FEATURES""",
    re.VERBOSE,
)
"""Environment variables of the libraries that JAX and NumPy compute with.

BLAS is among them: LAPACK draws the orthogonal initialization, and its bits
depend on its kernels and, from some hundred units on, on its threads.
"""


@contextlib.contextmanager
def pinned() -> Iterator[None]:
    """Inside, and in a function that it decorates, JAX and Flax compute as `PINNED` says.

    Only in this thread, as far as JAX is concerned: a notebook that has 64-bit
    types switched on keeps them.
    """
    before = {name: getattr(flax_config, name) for name in FLAX_PINNED}
    with contextlib.ExitStack() as contexts:
        for name, value in PINNED.items():
            contexts.enter_context(option_context(name, value))
        try:
            for name, value in FLAX_PINNED.items():
                flax_config.update(name, value)
            yield
        finally:
            for name, value in before.items():
                flax_config.update(name, value)


def pin_process() -> None:
    """The same for a whole process, all of its threads included: for commands."""
    known = jax.config.values
    for name, value in {**PINNED, **_ALARMS}.items():
        if name in known:
            jax.config.update(name, value)
    for name, value in FLAX_PINNED.items():
        flax_config.update(name, value)


def in_effect(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Name -> value of every other setting that could change bits, as it holds now.

    All options of JAX and Flax count, those of versions to come too, but for
    the ones that are known not to; so do the flags of XLA and the variables of
    the libraries below it in the environment.
    """
    environment = os.environ if environment is None else environment
    # Flax shows its options in no other way.
    options = {**jax.config.values, **flax_config._values}
    found = {
        name: _text(value)
        for name, value in options.items()
        if name not in PINNED and name not in FLAX_PINNED and not is_harmless(name)
    }
    found |= {
        name: value for name, value in environment.items() if _LIBRARIES.fullmatch(name) and value
    }
    if "OPENBLAS_NUM_THREADS" in found:  # which goes before it
        found.pop("OMP_NUM_THREADS", None)
    return dict(sorted((found | xla_flags(environment.get("XLA_FLAGS", ""))).items()))


def is_option(name: str) -> bool:
    """Whether a name of `in_effect` is an option of JAX or Flax: those of parts not loaded lack."""
    return name.islower() and not name.startswith("xla_")


def is_harmless(option: str) -> bool:
    """Whether an option of JAX or Flax is known not to change the bits of a result."""
    return bool(_HARMLESS.fullmatch(option) or _HARMLESS_WORDS & set(option.split("_")))


def xla_flags(text: str) -> dict[str, str]:
    """Flags of the variable XLA_FLAGS that could change bits: name -> value.

    The last value of a flag counts, as for XLA; extra options add up there.
    """
    found: dict[str, str] = {}
    for flag in text.split():
        name, equals, value = flag.lstrip("-").partition("=")
        value = {"": "" if equals else "true", "1": "true", "0": "false"}.get(value, value)
        if _HARMLESS_XLA.fullmatch(name):
            continue
        if name == "xla_backend_extra_options" and name in found:
            value = ",".join(dict.fromkeys([*found[name].split(","), *value.split(",")]))
        found[name] = value
    return found


def _text(value: Any) -> str:
    """Of an option, the same in every process: an enum by its name."""
    return str(getattr(value, "name", value))
