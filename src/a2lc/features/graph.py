"""The convolutions of EfficientNet-Lite0 as an ONNX graph, built from its weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from a2lc.features.layout import CHANNELS

__all__ = ["lite0_graph"]

_EPSILON = 1e-3
"""Of batch normalisation, as the weights were trained with TensorFlow."""

# Of each stage: blocks, kernel, stride, expansion, channels (Tan and Le 2019, arXiv:1905.11946; the Lite variant of
# 2020 leaves out squeeze-and-excitation, clips activations at 6, and keeps the first and last layers at their width).
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_SHOWN = (2, 4, 6)
_DILATED = 5


def lite0_graph(state: Mapping[str, NDArray[Any]]) -> bytes:
    """Build the ONNX model: input `x`, (N, 3, H, W) float32 in [-1, 1]; outputs `f0`, `f1`, `f2` of `CHANNELS` at `STRIDES`.

    Args:
        state: Parameters in the order of the layers: a convolution and the four vectors of its batch normalisation.

    Raises:
        ValueError: There are too few parameters, or one has another shape than its layer.
    """
    build = _Builder(array for name, array in state.items() if not name.endswith("num_batches_tracked"))
    x = build.conv("x", 32, 3, stride=2)
    channels, dilation, outputs = 32, 1, []
    for number, (blocks, kernel, first_stride, expansion, width) in enumerate(_STAGES):
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            into = dilation
            if number == _DILATED and block == 0:
                stride, dilation = 1, 2  # in place of a stride of 2, which the blocks that follow make up for
            y = x if expansion == 1 else build.conv(x, channels * expansion, 1)
            y = build.conv(y, channels * expansion, kernel, stride=stride, dilation=into, group=channels * expansion)
            y = build.conv(y, width, 1, clipped=False)
            x = build.add(x, y) if block > 0 else y
            channels = width
        if number in _SHOWN:
            outputs.append(x)
    return build.model(outputs)


class _Builder:
    """Collects nodes and folds each batch normalisation into its convolution."""

    def __init__(self, parameters: Iterator[NDArray[Any]]) -> None:
        self.parameters = parameters
        self.nodes: list[onnx.NodeProto] = []
        self.constants = [
            numpy_helper.from_array(np.array(0, np.float32), "low"),
            numpy_helper.from_array(np.array(6, np.float32), "high"),
        ]
        self.count = 0

    def conv(
        self,
        x: str,
        width: int,
        kernel: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        group: int = 1,
        clipped: bool = True,
    ) -> str:
        """Append a convolution with its normalisation and, unless it is a projection, ReLU6; return its output."""
        weights, gamma, beta, mean, variance = (next(self.parameters, np.empty(0)) for _ in range(5))
        if weights.ndim != 4 or weights.shape[0] != width or weights.shape[2:] != (kernel, kernel):
            raise ValueError(f"layer {self.count} has weights {weights.shape}, expected {width} of {kernel} x {kernel}")
        scale = gamma / np.sqrt(variance + _EPSILON)
        number, self.count = self.count, self.count + 1
        self.constants += [
            numpy_helper.from_array((weights * scale[:, None, None, None]).astype(np.float32), f"w{number}"),
            numpy_helper.from_array((beta - mean * scale).astype(np.float32), f"b{number}"),
        ]
        # TensorFlow pads an input of even size on its right and lower sides alone where it takes every second pixel.
        padding: dict[str, Any] = (
            {"auto_pad": "SAME_UPPER"}
            if stride == 2
            else {"pads": [dilation * (kernel - 1) // 2] * 4, "dilations": [dilation] * 2}
        )
        inputs = [x, f"w{number}", f"b{number}"]
        out = f"c{number}"
        shape: dict[str, Any] = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "group": group}
        self.nodes.append(helper.make_node("Conv", inputs, [out], **shape, **padding))
        if clipped:
            self.nodes.append(helper.make_node("Clip", [out, "low", "high"], [f"a{number}"]))
            return f"a{number}"
        return out

    def add(self, x: str, y: str) -> str:
        """Append the sum of a block's input and output."""
        self.nodes.append(helper.make_node("Add", [x, y], [f"s{self.count}"]))
        return f"s{self.count}"

    def model(self, outputs: list[str]) -> bytes:
        """Return the model with these outputs."""
        for number, name in enumerate(outputs):
            self.nodes.append(helper.make_node("Identity", [name], [f"f{number}"]))
        shown = [
            helper.make_tensor_value_info(f"f{number}", TensorProto.FLOAT, [None, width, None, None])
            for number, width in enumerate(CHANNELS)
        ]
        image = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 3, None, None])
        graph = helper.make_graph(self.nodes, "efficientnet_lite0", [image], shown, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString())
