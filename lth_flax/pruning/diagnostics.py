"""What a mask does to a stacked bidirectional LSTM besides its density: numbers for records.

Zhang & Stadie (arXiv 1912.00120) trace how a sparse recurrent network trains to the spectrum of
its step-to-step Jacobian; what of that a mask decides are the recurrent kernels under it.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lth_flax.pruning.connectivity import live_units
from lth_flax.pruning.masks import apply_mask
from lth_flax.types import GATES

_DIGITS = 6
"""Of what an eigenvalue is rounded to: its last bits depend on threads."""


def diagnostics(params: Mapping[str, Any], mask: Mapping[str, Any]) -> dict[str, float]:
    """Dead units, and size and spectrum of the recurrent kernels, of a masked network.

    Args:
      params: of a `BiLSTMClassifier`, in the public layout.
      mask: its mask.

    Returns:
      by what it is and where, "dead_units/lstm_0/forward":
        dead_units: the share that lies on no path of kept weights from input to output;
        singular_value: the largest of the recurrent kernel, all gates side by side;
        spectral_radius_i, _f, _g, _o: the largest |eigenvalue| of a gate's recurrent kernel.
      NaN where weights are not finite.
    """
    masked = apply_mask(params, mask)
    found = {}
    for name, live in live_units(params, mask).items():
        layer, direction = name.split("/")
        kernel = np.asarray(masked[layer][direction]["recurrent_kernel"], np.float64)
        found[f"dead_units/{name}"] = float(1 - live.mean())
        finite = bool(np.isfinite(kernel).all())
        found[f"singular_value/{name}"] = _rounded(np.linalg.norm(kernel, 2)) if finite else np.nan
        for gate, part in zip(GATES, np.split(kernel, len(GATES), axis=1), strict=True):
            radius = _rounded(np.abs(np.linalg.eigvals(part)).max()) if finite else np.nan
            found[f"spectral_radius_{gate}/{name}"] = radius
    return found


def _rounded(value: Any) -> float:
    return float(f"{value:.{_DIGITS}g}")
