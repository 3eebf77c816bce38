"""Tickets for other programs: files in the formats that they read.

  torch        weights.safetensors, a state_dict; classifier.py, the module that loads it with
               strict=True; where weights are pruned, pruned_weights.safetensors, the same with
               weight_orig and weight_mask, so that training goes on under the mask
  onnx         classifier.onnx: token ids and lengths in, logits out
  safetensors  weights.safetensors, flat names; masks, where weights are pruned, as mask/...
  npz          weights.npz, the same
Beside each, ticket.json says how texts become token ids: vocabulary, cleaning, length, classes.
"""

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import numpy as safetensors

from lth_flax.errors import UserError
from lth_flax.files import make_directory, write_bytes_atomic
from lth_flax.models.classifier import BiLSTMClassifier, parameter_shapes
from lth_flax.models.units import units
from lth_flax.pruning.masks import apply_mask, full_mask
from lth_flax.pruning.units import given_back, links_of
from lth_flax.tickets.compaction import compact, compact_ticket
from lth_flax.tickets.onnx_format import onnx_model
from lth_flax.tickets.prediction import reading_of
from lth_flax.tickets.ticket import Ticket
from lth_flax.tickets.torch_format import state_dict, with_masks
from lth_flax.tickets.torch_module import module_source
from lth_flax.types import Mask, Params

WEIGHTS = ("trained", "initial")

INFORMATION_FILE = "ticket.json"


class Network(NamedTuple):
    """What is exported. Where the mask has a zero, the parameters do too."""

    model: BiLSTMClassifier
    params: Params
    mask: Mask

    @property
    def separate(self) -> bool:
        """Whether widths differ, so that an `nn.LSTM` for all layers and directions cannot be."""
        return len(set(sum(self.model.widths, ()))) > 1


def network_of(ticket: Ticket, *, weights: str = "trained", compacted: bool = False) -> Network:
    """A ticket's network: as trained, or where its own training starts (theta_0, or theta_k).

    Compacted, the trained network is that of `compact`, and the initial one still trains like
    the ticket (`compact_ticket`). Frameworks have no layers without units: a unit of zeros,
    which answers zero, stands for those.

    Raises:
      UserError: the ticket is of another task than text classification, or `weights` is none
        of `WEIGHTS`.
    """
    if weights not in WEIGHTS:
        raise UserError(f"weights is {weights!r}: expected one of {', '.join(WEIGHTS)}")
    model = ticket.model
    if weights == "initial":
        ticket = compact_ticket(ticket) if compacted else ticket
        start = ticket.initial_params if ticket.rewind_params is None else ticket.rewind_params
        network = Network(ticket.model, apply_mask(start, ticket.mask), ticket.mask)
    else:
        params, mask = ticket.trained_params, ticket.mask
        leaves = map(jax.tree_util.tree_leaves, (params, apply_mask(params, mask)))
        if not all(np.array_equal(a, b, equal_nan=True) for a, b in zip(*leaves, strict=True)):
            mask = full_mask(params)  # weights grew back (keep_mask=False)
        network = Network(model, params, mask)
        if compacted:
            small_model, small = compact(model, params, mask)
            network = Network(small_model, small, _nonzero(small, mask))
    return _without_empty(network._replace(mask=links_of(network.mask, network.params)))


def export_ticket(
    ticket: Ticket,
    directory: str | Path,
    *,
    format: str,
    weights: str = "trained",
    compacted: bool = False,
) -> list[Path]:
    """Writes a ticket's network for another program; what has the same name there is replaced.

    Args:
      format: one of `FORMATS`.

    Returns:
      the files.

    Raises:
      UserError: the ticket is of another task or does not say how its texts were read, the format
        is unknown or needs a package that is not installed, or the files cannot be written.
    """
    if format not in FORMATS:
        raise UserError(f"format is {format!r}: expected one of {', '.join(FORMATS)}")
    network = network_of(ticket, weights=weights, compacted=compacted)
    files = FORMATS[format](network)
    said = information(ticket, network) | {"weights": weights, "compact": compacted}
    text = json.dumps(said, ensure_ascii=False, indent=1) + "\n"
    files = {**files, INFORMATION_FILE: text.encode("utf-8")}
    target = Path(directory)
    try:
        make_directory(target)
    except OSError as error:
        raise UserError(
            f"{target} cannot be made ({error.strerror}): give a directory as --out"
        ) from None
    for name, content in files.items():
        write_bytes_atomic(target / name, content)
    return [target / name for name in files]


def information(ticket: Ticket, network: Network) -> dict[str, Any]:
    """How texts become token ids and answers become labels, and where the ticket is from."""
    metadata, reading = ticket.metadata, reading_of(ticket.metadata)
    return {
        "model": network.model.settings,
        "class_names": metadata["class_names"],
        "vocabulary": metadata["vocabulary"],
        "text": {n: value for n, value in reading._asdict().items() if n != "vocabulary"},
        **{name: metadata.get(name) for name in ("seed", "level", "target_sparsity")},
    }


def _arrays(network: Network) -> dict[str, np.ndarray]:
    """Parameters by their paths, and masks as mask/..., where something is pruned."""
    masks = flatten_dict({"mask": network.mask}, sep="/")
    pruned = {path: leaf for path, leaf in masks.items() if not leaf.all()}
    return {**flatten_dict(network.params, sep="/"), **pruned}


def _npz(network: Network) -> dict[str, bytes]:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **_arrays(network))  # type: ignore[arg-type]
    return {"weights.npz": buffer.getvalue()}


def _torch(network: Network) -> dict[str, bytes]:
    state = state_dict(network.params, separate=network.separate)
    source = module_source(network.model, separate=network.separate)
    files = {"weights.safetensors": _packed(state), "classifier.py": source.encode("utf-8")}
    pruned = with_masks(state, network.mask, separate=network.separate)
    if pruned.keys() != state.keys():
        files["pruned_weights.safetensors"] = _packed(pruned)
    return files


FORMATS: dict[str, Callable[[Network], Mapping[str, bytes]]] = {
    "torch": _torch,
    "onnx": lambda network: {"classifier.onnx": onnx_model(network.model, network.params)},
    "safetensors": lambda network: {"weights.safetensors": _packed(_arrays(network))},
    "npz": _npz,
}
"""Name -> a function from a network to the content of its files."""


def _packed(arrays: Mapping[str, np.ndarray]) -> bytes:
    return safetensors.save({name: np.ascontiguousarray(a) for name, a in arrays.items()})


def _without_empty(network: Network) -> Network:
    """With a unit of zeros wherever there is none."""
    model = network.model
    if min(model.embedding_size, *sum(model.widths, ())):
        return network
    widths = tuple((max(1, one), max(1, two)) for one, two in model.widths)
    larger = model.clone(hidden_size=widths, embedding_size=max(1, model.embedding_size))
    shapes = parameter_shapes(larger.settings)
    zeros = {path: np.zeros(shape, np.float32) for path, shape in shapes.items()}
    like = unflatten_dict(zeros, sep="/")
    before = {group.name: group.size for group in units(network.params)}
    groups = units(like)
    kept = {group.name: np.arange(group.size) < before[group.name] for group in groups}
    params, mask = (given_back(t, groups, kept, like) for t in (network.params, network.mask))
    return network._replace(model=larger, params=params, mask=mask)


def _nonzero(params: Params, mask: Mask) -> Mask:
    """The mask that zeros among prunable weights state."""
    return jax.tree_util.tree_map(
        lambda p, m: np.asarray(p) != 0 if np.ndim(m) else np.asarray(m), params, mask
    )
