"""The built-in network as an ONNX graph, built node by node. Needs the extra onnx.

It has opset 13 and IR version 7 (onnx 1.8, 2020), which all later runtimes read. GELU and SiLU, which are operators in
later opsets only, are composed of several nodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mnist_ff.models.activations import ACTIVATIONS

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

OPSET, IR_VERSION = 13, 7
INPUT = "images"
Layers = Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]]


def output_name(softmax: bool) -> str:
    """The name of the graph's output."""
    return "probabilities" if softmax else "logits"


def build_graph(
    layers: Layers, activation: str, softmax: bool, facts: Mapping[str, str], shape: Sequence[int] = ()
) -> ModelProto:
    """A graph from images (B, inputs) float32 in [0, 1] to logits or probabilities (B, classes), for any B.

    layers: weights (out, in) and biases (out,) in the order of the forward pass. facts: metadata of the model. shape:
    with several dimensions, the graph takes images (B, *shape).
    """
    from onnx import TensorProto, helper, numpy_helper

    nodes: list[NodeProto] = []
    constants = [
        numpy_helper.from_array(array, f"{number}.{kind}")
        for number, layer in enumerate(layers)
        for kind, array in zip(("weight", "bias"), layer, strict=True)
    ]
    value = INPUT
    if len(shape) > 1:
        nodes.append(helper.make_node("Flatten", [INPUT], ["rows"], axis=1))
        value = "rows"
    for number in range(len(layers)):
        last = number == len(layers) - 1
        to = "logits" if last else f"{number}.sum"
        nodes.append(helper.make_node("Gemm", [value, f"{number}.weight", f"{number}.bias"], [to], transB=1))
        if not last:
            made, used = _activation(activation, to, str(number))
            nodes += made
            constants += [numpy_helper.from_array(np.array(number, np.float32), name) for name, number in used.items()]
        value = nodes[-1].output[0]
    if softmax:
        nodes.append(helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1))
    graph = helper.make_graph(
        nodes,
        "mnist-ff",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["B", *(shape or layers[0][0].shape[1:])])],
        [helper.make_tensor_value_info(output_name(softmax), TensorProto.FLOAT, ["B", len(layers[-1][1])])],
        constants,
    )
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="mnist-ff")
    helper.set_model_props(model, dict(facts))
    return model


def _activation(name: str, value: str, layer: str) -> tuple[list[NodeProto], dict[str, float]]:
    """The nodes of an activation function of `value`, and their constants by name."""
    from onnx import helper

    row, nodes = ACTIVATIONS[name], []
    for operator, inputs, output in row.onnx:
        names = [value if given == "z" else f"{layer}.{given}" for given in inputs.split()]
        nodes.append(helper.make_node(operator, names, [f"{layer}.{output}"]))
    return nodes, {f"{layer}.{constant}": number for constant, number in row.onnx_constants.items()}
