"""How many weights go: `round(share * number)` of a traced number, exactly.

The count of a fraction is that of Python: the product is a double, and is then
rounded half to even. On the device there are no doubles, and in float32
0.3 * 95 rounds the wrong way, so the double product is worked out in integers
of 32 bits, which every backend has.
"""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, UInt

_WORD = 32


def rounded_share(share: float, number: Int[Array, ""]) -> Int[Array, ""]:
    """`round(share * number)` as Python computes it, for share in [0, 1], number in [0, 2^31).

    With x the exact product and q its whole part, the double next to x is above
    q + 1/2, on it, or below. It is on it where x is within half a unit in the
    last place, which is 2^(b - 54) for a q of b bits. (A distance of exactly that
    goes to q + 1/2 too, whose last bit is zero.) Then the even one of q and q + 1
    is the answer.
    """
    # 96 bits behind the point hold every double whose product can reach 1/2.
    bits = int(Fraction(float(share)) * 2**96)
    words = [(bits >> shift) & 0xFFFFFFFF for shift in (0, 32, 64, 96)]
    return _rounded(np.array(words, np.uint32), number)


@jax.jit  # for calls outside of a program: many small operations, compiled once for all shares
def _rounded(share: UInt[Array, "4"], number: Int[Array, ""]) -> Int[Array, ""]:
    low, middle, high, whole = share
    n = number.astype(jnp.uint32)
    carry, p0 = _product(low, n)
    carry, p1 = _product(middle, n, carry)
    carry, p2 = _product(high, n, carry)
    q = whole * n + carry
    length = sum((q >> bit != 0).astype(jnp.uint32) for bit in range(_WORD - 1))
    # Half a unit in the last place, in units of 2^-64: (near2, near1), two words.
    place = length + 10
    near1 = jnp.where(place < _WORD, jnp.uint32(1) << jnp.minimum(place, 31), jnp.uint32(0))
    near2 = jnp.where(
        place < _WORD, jnp.uint32(0), jnp.uint32(1) << jnp.maximum(place, _WORD) - _WORD
    )
    half = jnp.uint32(2**31)
    # An odd q goes up from 1/2 - near on; an even one above 1/2 + near.
    first2, first1 = half - near2 - (near1 != 0).astype(jnp.uint32), jnp.uint32(0) - near1
    odd_up = (p2 > first2) | ((p2 == first2) & (p1 >= first1))
    last2, last1 = half + near2, near1
    even_up = (p2 > last2) | ((p2 == last2) & ((p1 > last1) | ((p1 == last1) & (p0 > 0))))
    up = jnp.where(q & 1 != 0, odd_up, even_up)
    return (q + up.astype(jnp.uint32)).astype(jnp.int32)


def _product(
    factor: UInt[Array, ""], n: UInt[Array, ""], carry: UInt[Array, ""] | int = 0
) -> tuple[UInt[Array, ""], UInt[Array, ""]]:
    """The high and the low word of factor * n + carry."""
    half = 16
    mask = jnp.uint32(0xFFFF)
    f1, f0 = factor >> half, factor & mask
    n1, n0 = n >> half, n & mask
    one = f0 * n0
    two = f1 * n0 + (one >> half)
    three = f0 * n1 + (two & mask)
    high = f1 * n1 + (two >> half) + (three >> half)
    low = (three << half) | (one & mask)
    total = low + jnp.uint32(carry)
    return high + (total < low).astype(jnp.uint32), total
