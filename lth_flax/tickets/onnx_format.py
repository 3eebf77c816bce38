"""The classifier as an ONNX graph: its LSTM operator, not a traced loop.

ONNX has the gates in the order i, o, f, c, kernels transposed, two biases in one array, and one
width for both directions of an operator: where ours differ, each direction has its own.
"""

import importlib
from typing import Any

import numpy as np

from lth_flax.errors import UserError
from lth_flax.models.classifier import BiLSTMClassifier
from lth_flax.models.lstm import DIRECTIONS
from lth_flax.types import Params

OPSET = 17
IR_VERSION = 8
"""Read by every onnxruntime from 1.12 (2022) on."""

_ORDER = (0, 3, 1, 2)
"""Where i, o, f, c stand among our gates i, f, g, o."""


def onnx_model(model: BiLSTMClassifier, params: Params) -> bytes:
    """A checked ONNX model: "tokens" int64 [batch, time], "lengths" int32 [batch] -> "logits".

    Lengths may differ, and be 0. A head that reads the last padded position reads padding like
    text, and lengths count for nothing.

    Raises:
      UserError: the package onnx is not installed.
    """
    try:
        onnx = importlib.import_module("onnx")
    except ImportError:
        raise UserError(
            "--format=onnx needs the package onnx, of the extra export: "
            "pip install 'lth_flax[export]'"
        ) from None
    graph = _Graph(onnx)
    padded = model.readout == "last_position"
    # The operator refuses texts without words: they are read as one word, and then forgotten.
    lengths = "" if padded else graph.add("Max", "lengths", graph.constant(np.ones(1, np.int32)))
    vectors = graph.constant(np.asarray(params["embedding"]["embedding"]), "embedding")
    states = graph.add("Transpose", graph.add("Gather", vectors, "tokens"), perm=[1, 0, 2])
    finals: list[str] = []
    for layer, widths in enumerate(model.widths):
        states, finals = _layer(graph, params[f"lstm_{layer}"], widths, states, lengths, layer)
    if padded:
        final = graph.add("Gather", states, graph.constant(np.int64(-1)), axis=0)
    else:
        real = graph.add("Greater", "lengths", graph.constant(np.zeros(1, np.int32)))
        real = graph.add("Unsqueeze", real, graph.constant(np.array([1])))
        both = finals[0] if len(finals) == 1 else graph.add("Concat", *finals, axis=1)
        final = graph.add("Mul", both, graph.add("Cast", real, to=onnx.TensorProto.FLOAT))
    kernel = graph.constant(np.asarray(params["head"]["kernel"]), "head_kernel")
    bias = graph.constant(np.asarray(params["head"]["bias"]), "head_bias")
    graph.add("Gemm", final, kernel, bias, output="logits")
    return graph.model(model.num_classes)


def _layer(
    graph: "_Graph",
    layer_params: Any,
    widths: tuple[int, int],
    states: str,
    lengths: str,
    layer: int,
) -> tuple[str, list[str]]:
    """The outputs [time, batch, units] of a layer, and the final states of its operators."""
    groups = [DIRECTIONS] if widths[0] == widths[1] else [(name,) for name in DIRECTIONS]
    names = {DIRECTIONS: "bidirectional", ("forward",): "forward", ("backward",): "reverse"}
    outputs, finals = [], []
    for group in groups:
        hidden = np.shape(layer_params[group[0]]["recurrent_kernel"])[0]
        kernels = [
            graph.constant(
                np.stack([_gates(layer_params[name][kind]) for name in group]),
                f"lstm_{layer}_{names[group]}_{kind}",
            )
            for kind in ("input_kernel", "recurrent_kernel", "bias")
        ]
        every, last = graph.add(
            "LSTM", states, *kernels, lengths, outputs=2, hidden_size=hidden,
            direction=names[group],
        )  # fmt: skip
        # [time, directions, batch, hidden] -> [time, batch, directions * hidden].
        width = hidden * len(group)
        every = graph.add("Transpose", every, perm=[0, 2, 1, 3])
        outputs.append(graph.add("Reshape", every, graph.constant(np.array([0, 0, width]))))
        last = graph.add("Transpose", last, perm=[1, 0, 2])
        finals.append(graph.add("Reshape", last, graph.constant(np.array([0, width]))))
    if len(outputs) == 1:
        return outputs[0], finals
    return graph.add("Concat", *outputs, axis=2), finals


def _gates(parameter: Any) -> np.ndarray:
    """[rows, 4 * hidden] -> [4 * hidden, rows]; a bias, of which ONNX has two, with zeros."""
    blocks = np.split(np.asarray(parameter), 4, axis=-1)
    array = np.concatenate([blocks[gate] for gate in _ORDER], axis=-1)
    return array.T if array.ndim == 2 else np.concatenate([array, np.zeros_like(array)])


class _Graph:
    """Nodes and constants in the order in which they are needed; names are made here."""

    def __init__(self, onnx: Any) -> None:
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, array: Any, name: str = "") -> str:
        name = name or f"constant_{len(self.constants)}"
        content = np.ascontiguousarray(array)
        tensor = self.onnx.numpy_helper.from_array(content.reshape(np.shape(array)), name)
        self.constants.append(tensor)
        return name

    def add(
        self, operator: str, *inputs: str, outputs: int = 1, output: str = "", **attributes: Any
    ) -> Any:
        """The name of what an operator computes; of the LSTM, of all states and the final ones."""
        number = len(self.nodes)
        names = [output or f"{operator.lower()}_{number}_{k}" for k in range(outputs)]
        node = self.onnx.helper.make_node(operator, list(inputs), names, **attributes)
        self.nodes.append(node)
        return names[0] if outputs == 1 else names

    def model(self, classes: int) -> bytes:
        """The model of all that was added, after a look by ONNX's own checker."""
        helper, types = self.onnx.helper, self.onnx.TensorProto
        graph = helper.make_graph(
            self.nodes,
            "bidirectional_lstm_classifier",
            [
                helper.make_tensor_value_info("tokens", types.INT64, ["batch", "time"]),
                helper.make_tensor_value_info("lengths", types.INT32, ["batch"]),
            ],
            [helper.make_tensor_value_info("logits", types.FLOAT, ["batch", classes])],
            self.constants,
        )
        opset = helper.make_opsetid("", OPSET)
        made = helper.make_model(
            graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="lth_flax"
        )
        self.onnx.checker.check_model(made, full_check=True)
        return bytes(made.SerializeToString())
