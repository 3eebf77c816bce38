"""Whether a pruned stacked bidirectional LSTM still links its input to its output."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool

from lth_flax.pruning.masks import checked_mask


def is_connected(params: Mapping[str, Any], mask: Mapping[str, Any]) -> bool:
    """Whether any path of kept weights leads from the embedding to the head.

    A unit of a layer is live when one of its gates has a kept weight from a
    live input, or from a live unit of the same direction one step earlier. A
    network with no live unit that the head reads answers every text alike,
    whatever its weights: no training can mend it.

    Args:
      params: of a `BiLSTMClassifier`, in the public layout; only shapes are read.
      mask: its mask. What is not prunable counts as kept.
    """
    mask = checked_mask(mask, params)
    depth = sum(1 for name in params if name.startswith("lstm_"))
    live: np.ndarray = np.ones(np.shape(params["lstm_0"]["forward"]["input_kernel"])[0], bool)
    for layer in range(depth):
        name = f"lstm_{layer}"
        live = np.concatenate(
            [
                _live_units(params[name][direction], mask[name][direction], live)
                for direction in ("forward", "backward")
            ]
        )
    return bool(_kept(params["head"]["kernel"], mask["head"]["kernel"])[live].any())


def _kept(parameter: Any, mask: Any) -> np.ndarray:
    return np.broadcast_to(np.asarray(mask), np.shape(parameter))


def _live_units(
    params: Mapping[str, Any], mask: Mapping[str, Any], live_inputs: Bool[np.ndarray, " inputs"]
) -> Bool[np.ndarray, " units"]:
    # [from, gates * units] -> [from, units]: a weight to any gate links.
    recurrent = _kept(params["recurrent_kernel"], mask["recurrent_kernel"])
    units = recurrent.shape[0]
    links: np.ndarray = np.any(recurrent.reshape(units, 4, units), axis=1)
    kernel = _kept(params["input_kernel"], mask["input_kernel"])
    inputs: np.ndarray = np.any(kernel.reshape(-1, 4, units), axis=1)
    live: np.ndarray = np.asarray(inputs[live_inputs].any(axis=0))
    while True:
        reached = np.asarray(live | links[live].any(axis=0))
        if (reached == live).all():
            return live
        live = reached
