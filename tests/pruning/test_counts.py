"""`round(share * number)` on the device against Python's."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lth_flax.pruning.counts import rounded_share

LARGEST = 2**31 - 1
# Where products come close to halves, and the ends of what a double can say.
SHARES = [
    0.0, 1.0, 0.5, 0.3, 0.1, 0.2, 0.15, 1 / 3, 0.95, 0.7,
    1 - 2**-53, 0.5 + 2**-53, 0.5 - 2**-54, 0.25 + 2**-54, 2**-31, 2**-32, 2**-33,
    1e-9, 1e-300, 5e-324,
]  # fmt: skip


def check(share, numbers):
    numbers = np.asarray(numbers, np.int32)
    found = jax.vmap(partial(rounded_share, share))(jnp.asarray(numbers))
    expected = [round(share * number) for number in numbers.tolist()]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("share", SHARES)
def test_equals_python_for_small_and_for_the_largest_numbers(share):
    powers = 2 ** np.arange(31)
    check(
        share, np.concatenate([np.arange(8000), powers, powers - 1, LARGEST - np.arange(968 - 30)])
    )


@settings(max_examples=200, deadline=None)
@given(st.floats(0, 1), st.integers(0, LARGEST))
def test_equals_python_anywhere(share, number):
    assert int(rounded_share(share, jnp.int32(number))) == round(share * number)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**30), st.integers(1, LARGEST), st.integers(-3, 3))
def test_equals_python_next_to_a_half(whole, number, steps):
    # The share whose product with `number` is next to a half, and its neighbours.
    share = (min(whole, number - 1) + 0.5) / number
    for _ in range(abs(steps)):
        share = float(np.nextafter(share, np.sign(steps) * 2.0))
    share = min(share, 1.0)
    assert int(rounded_share(share, jnp.int32(number))) == round(share * number)


def test_same_on_the_host_under_jit_and_in_wide_integers():
    assert int(rounded_share(0.3, jnp.int32(95))) == 28
    assert int(jax.jit(partial(rounded_share, 0.3))(95)) == 28
    assert int(rounded_share(0.3, np.int64(95))) == 28


@pytest.mark.slow
def test_equals_python_for_many_shares():
    rng = np.random.default_rng()
    for share in [*rng.random(300), *(1e-6 * rng.random(50)), *np.arange(1, 1000) / 1000]:
        check(float(share), np.concatenate([np.arange(2000), rng.integers(0, LARGEST, 2000)]))


@pytest.mark.exhaustive
@pytest.mark.parametrize("share", SHARES)
def test_equals_python_for_all_numbers_up_to_four_million(share):
    for start in range(0, 2**22, 2**18):
        check(share, np.arange(start, start + 2**18))
