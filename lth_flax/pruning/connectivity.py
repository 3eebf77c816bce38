"""What in a pruned stacked LSTM still links its input to its output."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool

from lth_flax.pruning.masks import checked_mask
from lth_flax.types import DIRECTIONS


def is_connected(params: Mapping[str, Any], mask: Mapping[str, Any]) -> bool:
    """Whether any path of kept weights leads from the embedding to the head.

    A network without one answers every text alike, whatever its weights: no training can
    mend it. Arguments as those of `live_units`.
    """
    return any(bool(live.any()) for live in live_units(params, mask).values())


def live_units(
    params: Mapping[str, Any], mask: Mapping[str, Any]
) -> dict[str, Bool[np.ndarray, " units"]]:
    """The units of each layer and direction that lie on a path of kept weights.

    A path leads from the embedding through gates of units, also to units of the same direction
    one step later, to the head. The others are dead.

    Args:
      params: of a `BiLSTMClassifier`, or of one direction, in the public layout; only shapes are
        read.
      mask: its mask. What is not prunable counts as kept.

    Returns:
      by "lstm_0/forward" and so on.
    """
    mask = checked_mask(mask, params)
    layers = [f"lstm_{n}" for n in range(sum(1 for name in params if name.startswith("lstm_")))]
    directions = [name for name in DIRECTIONS if name in params["lstm_0"]]
    # From below: which units the input reaches.
    reached: dict[str, np.ndarray] = {}
    links = {}
    below: np.ndarray = np.ones(np.shape(params["lstm_0"]["forward"]["input_kernel"])[0], bool)
    for layer in layers:
        for direction in directions:
            name = f"{layer}/{direction}"
            links[name] = _links(params[layer][direction], mask[layer][direction])
            into, again = links[name]
            reached[name] = _spread(into[below].any(axis=0), again)
        below = np.concatenate([reached[f"{layer}/{direction}"] for direction in directions])
    # From above: which units the output hears of.
    heard = _heard(params, mask)
    found = {}
    for layer in reversed(layers):
        split = len(reached[f"{layer}/forward"])
        parts = zip(directions, (heard[:split], heard[split:]), strict=False)
        heard = np.zeros(len(links[f"{layer}/forward"][0]), bool)
        for direction, part in parts:
            name = f"{layer}/{direction}"
            into, again = links[name]
            live = _spread(part, again.T)
            found[name] = live & reached[name]
            heard = np.asarray(heard | into[:, live].any(axis=1))
    return {name: found[name] for name in reached}


def _heard(params: Mapping[str, Any], mask: Mapping[str, Any]) -> Bool[np.ndarray, " units"]:
    """The units of the last layer that a weight of the output reads: a kernel, or a word table."""
    if "kernel" in params["head"]:
        return np.asarray(_kept(params["head"]["kernel"], mask["head"]["kernel"]).any(axis=1))
    table = "head" if "embedding" in params["head"] else "embedding"
    kept = _kept(params[table]["embedding"], mask[table]["embedding"])
    return np.asarray(kept.any(axis=0))


def _kept(parameter: Any, mask: Any) -> np.ndarray:
    return np.broadcast_to(np.asarray(mask), np.shape(parameter))


def _links(
    params: Mapping[str, Any], mask: Mapping[str, Any]
) -> tuple[Bool[np.ndarray, "inputs units"], Bool[np.ndarray, "units units"]]:
    """Which input, and which unit one step earlier, a unit reads: a weight to any gate links."""
    into, again = (
        np.any(kernel.reshape(len(kernel), 4, -1), axis=1)
        for kernel in (_kept(params[n], mask[n]) for n in ("input_kernel", "recurrent_kernel"))
    )
    return into, again


def _spread(
    live: Bool[np.ndarray, " units"], links: Bool[np.ndarray, "units units"]
) -> Bool[np.ndarray, " units"]:
    """What can be reached from some units through links, themselves included."""
    while True:
        reached = live | links[live].any(axis=0)
        if (reached == live).all():
            return live
        live = reached
