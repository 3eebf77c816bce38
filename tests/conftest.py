"""Shared by all tests: two CPU devices, no compilation cache, strict promotion where it holds."""

from pathlib import Path

import jax
import pytest

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 2)

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


@pytest.fixture
def strict_promotion():
    """Mixed dtypes raise: for our own `models` and `pruning`."""
    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real data, where it is."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the real data is not here: expected ../shared/data beside the project")
    return SHARED / "data"
