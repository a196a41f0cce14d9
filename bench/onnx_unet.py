"""The peer for ONNX Runtime and OpenVINO: a minunet.Network as an ONNX model, same weights, written node by node.

By hand rather than by torch.onnx.export: it needs nothing but onnx, and the weights are minunet's own.
"""

from __future__ import annotations

from typing import Any

import measure
import numpy as np

from minunet import Network

OPSET = 17


def to_onnx(network: Network, batch: int, side: int) -> bytes:
    """Return the serialised model: x (N, C, H, W) -> logits (N, K, H, W). The network has padding "same"."""
    if network.padding != "same":
        raise ValueError(f"padding is {network.padding!r}; to_onnx takes 'same'")
    onnx = measure.load("onnx")
    helper, nodes, weights = onnx.helper, [], []

    def node(kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def convolve(x: str, name: str, kind: str = "Conv", **attributes: Any) -> str:
        for key in ("weight", "bias"):
            array = network.parameters[f"{name}.{key}"]
            # (R, S, C, K) -> (K, C, R, S); of an up-convolution, (R, S, K, C) -> (C, K, R, S)
            array = np.ascontiguousarray(array.transpose(3, 2, 0, 1) if key == "weight" else array)
            weights.append(onnx.numpy_helper.from_array(array, f"{name}.{key}"))
        return node(kind, [x, f"{name}.weight", f"{name}.bias"], f"{name}.y", **attributes)

    def block(x: str, name: str) -> str:
        for layer in ("conv1", "conv2"):
            x = node("Relu", [convolve(x, f"{name}.{layer}", pads=[1, 1, 1, 1])], f"{name}.{layer}.relu")
        return x

    x, skips = "x", []
    for i in range(network.depth):
        skips.append(block(x, f"encoder.{i}"))
        x = node("MaxPool", [skips[-1]], f"pool.{i}", kernel_shape=[2, 2], strides=[2, 2])
    x = block(x, f"encoder.{network.depth}")
    for i in reversed(range(network.depth)):
        up = convolve(x, f"decoder.{i}.up", "ConvTranspose", strides=[2, 2])
        x = block(node("Concat", [skips.pop(), up], f"concat.{i}", axis=1), f"decoder.{i}")
    logits = convolve(x, "head")

    def array(name: str, channels: int) -> Any:
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [batch, channels, side, side])

    graph = helper.make_graph(nodes, "minunet", [array("x", network.in_channels)], [array(logits, network.out_channels)], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()
