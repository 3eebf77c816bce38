"""The classifier as PyTorch has it: names and shapes of a `state_dict`, there and back.

PyTorch's gates stand in the same order, its kernels are transposed, and it has two biases that
it adds: ours is the first, zeros are the second. No PyTorch is needed here.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from lth_flax.errors import UserError
from lth_flax.models.classifier import BiLSTMClassifier
from lth_flax.models.lstm import DIRECTIONS
from lth_flax.types import Mask, Params

State = Mapping[str, np.ndarray]

_KINDS = {"input_kernel": "weight_ih", "recurrent_kernel": "weight_hh", "bias": "bias_ih"}
_OTHERS = {
    "embedding/embedding": "embedding.weight",
    "head/kernel": "head.weight",
    "head/bias": "head.bias",
}
_CELL = re.compile(
    r"(?P<prefix>.*?)(?P<kind>(?:weight|bias)_[a-z]+)_l(?P<layer>\d+)(?P<back>_reverse)?"
)


def state_dict(params: Params, *, separate: bool) -> dict[str, np.ndarray]:
    """The parameters (or their mask) by the names that `module_source` gives them.

    Args:
      separate: one `nn.LSTM` per layer and direction, whose widths may differ; else one for all.
    """
    state = {}
    for path, leaf in flatten_dict(params, sep="/").items():
        name = _name(path, separate)
        array = np.asarray(leaf)
        state[name] = array.T if array.ndim == 2 and path != "embedding/embedding" else array
        if path.startswith("lstm_") and path.endswith("/bias"):
            # Of a mask, too: what is added there stays.
            state[name.replace("bias_ih", "bias_hh")] = np.zeros_like(array)
    return state


def with_masks(state: State, mask: Mask, *, separate: bool) -> dict[str, np.ndarray]:
    """The state as `torch.nn.utils.prune` names it: weight_orig and weight_mask of what is pruned.

    Args:
      mask: in our layout, every leaf of its parameter's shape.
    """
    masks = {
        name: leaf.astype(np.float32)
        for name, leaf in state_dict(mask, separate=separate).items()
        if not leaf.all() and "bias_hh" not in name
    }
    found = {f"{name}_orig" if name in masks else name: leaf for name, leaf in state.items()}
    return {**found, **{f"{name}_mask": leaf for name, leaf in masks.items()}}


def _name(path: str, separate: bool) -> str:
    if path in _OTHERS:
        return _OTHERS[path]
    layer, direction, kind = path.split("/")
    number = int(layer.removeprefix("lstm_"))
    if separate:
        return f"{direction}_lstms.{number}.{_KINDS[kind]}_l0"
    return f"lstm.{_KINDS[kind]}_l{number}{'_reverse' if direction == 'backward' else ''}"


# And back ----------------------------------------------------------------------------------


def from_torch(path: str | Path) -> tuple[BiLSTMClassifier, Params, Mask]:
    """A PyTorch bidirectional LSTM classifier as a network of this project.

    The file holds the `state_dict` of a module of one embedding, an `nn.LSTM` with
    `bidirectional=True` and one linear layer that reads both final states, whatever they are
    called (also weight_orig and weight_mask); save it by `safetensors.torch.save_file`. What
    `export` writes is read as well. The two biases are added.

    Returns:
      the model without dropout, its parameters, and its mask, with a 0-d True for
      what is not pruned.

    Raises:
      UserError: the file is none of safetensors, or holds another network.
    """
    try:
        state = safetensors.load_file(path)
    except (OSError, SafetensorError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path} cannot be read as safetensors ({error}): expected a state_dict saved by "
            "safetensors.torch.save_file"
        ) from None
    names = sorted({name.removesuffix("_orig") for name in state if not name.endswith("_mask")})
    values = {name: _float(path, name, state) for name in names}
    full = {name: np.ones(value.shape, bool) for name, value in values.items()}
    kept = full | {n: state[f"{n}_mask"] != 0 for n in names if f"{n}_mask" in state}
    params = unflatten_dict(_params(path, values), sep="/")
    masks = _params(path, kept)
    mask = unflatten_dict(
        {p: np.array(True) if leaf.all() else leaf for p, leaf in masks.items()}, sep="/"
    )
    vocabulary, features = np.shape(params["embedding"]["embedding"])
    depth = sum(name.startswith("lstm_") for name in params)
    classes = len(params["head"]["bias"])
    model = BiLSTMClassifier(vocabulary, features, ((0, 0),) * depth, depth, classes)
    return model.resized(params), params, mask


def _float(path: str | Path, name: str, state: State) -> np.ndarray:
    array = state[name if name in state else f"{name}_orig"]
    if array.dtype.kind != "f":
        _refuse(path, f"{name} holds {array.dtype}, expected float32, float64 or float16")
    if (kept := state.get(f"{name}_mask")) is not None:
        _check_shape(path, f"{name}_mask", kept, array.shape)
        array = np.where(kept != 0, array, 0)
    return array.astype(np.float32)


def _params(path: str | Path, state: State) -> dict[str, np.ndarray]:
    """From names of PyTorch, whatever the modules are called, to our paths."""
    cells: dict[tuple[int, str], dict[str, np.ndarray]] = {}
    others = {}
    for name, array in state.items():
        found = _CELL.fullmatch(name)
        if found is None:
            others[name] = array
            continue
        cell = cells.setdefault(_place(found), {})
        if found["kind"] in cell:
            _refuse(path, f"{name} is of a second LSTM, expected one")
        cell[found["kind"]] = array
    depth = len({layer for layer, _ in cells})
    places = [(layer, direction) for layer in range(depth) for direction in DIRECTIONS]
    if not cells or cells.keys() != set(places):
        _refuse(path, "expected the weights of a bidirectional nn.LSTM, weight_ih_l0_reverse too")
    for cell in cells.values():
        if cell.keys() | {"bias_hh"} != {*_KINDS.values(), "bias_hh"}:
            _refuse(path, f"an LSTM has {', '.join(sorted(cell))}: expected weights and biases")
    params: dict[str, np.ndarray] = {}
    features = first = _columns(cells[places[0]]["weight_ih"])
    for layer in range(depth):
        width = 0
        for direction in DIRECTIONS:
            cell = cells[layer, direction]
            hidden = _columns(cell["weight_hh"])
            shapes = {
                "weight_ih": (4 * hidden, features), "weight_hh": (4 * hidden, hidden),
                "bias_ih": (4 * hidden,), "bias_hh": (4 * hidden,),
            }  # fmt: skip
            for kind, array in cell.items():
                _check_shape(path, f"{kind} of layer {layer}, {direction},", array, shapes[kind])
            # Both biases; of a mask, whether either is kept.
            bias = cell["bias_ih"] + cell["bias_hh"] if "bias_hh" in cell else cell["bias_ih"]
            where = f"lstm_{layer}/{direction}"
            params[f"{where}/input_kernel"] = np.ascontiguousarray(cell["weight_ih"].T)
            params[f"{where}/recurrent_kernel"] = np.ascontiguousarray(cell["weight_hh"].T)
            params[f"{where}/bias"] = bias
            width += hidden
        features = width
    return {**params, **_outer(path, others, first, features)}


def _columns(array: np.ndarray) -> int:
    return array.shape[1] if array.ndim == 2 else 0


def _place(found: re.Match[str]) -> tuple[int, str]:
    """Layer and direction of a weight, in one module for all or in one for each."""
    separate = re.search(r"(forward|backward)_lstms\.(\d+)\.$", found["prefix"])
    if separate:
        return int(separate[2]), separate[1]
    return int(found["layer"]), "backward" if found["back"] else "forward"


def _outer(path: str | Path, others: State, features: int, width: int) -> dict[str, np.ndarray]:
    """Word vectors and head: told from each other by their shapes, then by their names."""
    biases = [name for name, array in others.items() if array.ndim == 1]
    weights = {name for name, array in others.items() if array.ndim == 2}
    if len(biases) != 1 or len(weights) != 2 or len(others) != 3:
        _refuse(
            path,
            f"besides the LSTM it holds {', '.join(sorted(others)) or 'nothing'}: expected the "
            "weight of one embedding, and weight and bias of one linear layer",
        )
    (bias,) = biases
    head = f"{bias.removesuffix('bias')}weight"
    if head not in weights:
        _refuse(path, f"{bias} has no weight beside it: expected one linear layer")
    (embedding,) = weights - {head}
    _check_shape(path, embedding, others[embedding], (len(others[embedding]), features))
    _check_shape(path, head, others[head], (len(others[bias]), width))
    return {
        "embedding/embedding": others[embedding],
        "head/kernel": np.ascontiguousarray(others[head].T),
        "head/bias": others[bias],
    }


def _check_shape(path: str | Path, name: str, array: np.ndarray, expected: tuple[int, ...]) -> None:
    if array.shape != expected:
        _refuse(path, f"{name} has the shape {array.shape}, expected {expected}")


def _refuse(path: str | Path, why: str) -> NoReturn:
    raise UserError(f"{path} is no bidirectional LSTM classifier: {why}; see docs/using_tickets.md")
