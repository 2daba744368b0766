"""Backbones: networks that turn an image into grids of features."""

from __future__ import annotations

from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from a2lc.errors import require_known
from a2lc.features.grids import Grid
from a2lc.features.layout import CHANNELS, INPUT_MULTIPLE, STRIDES
from a2lc.features.weights import read_state, weights_file

__all__ = ["BACKBONES", "LARGEST_SIDE", "Backbone", "EfficientNetLite0", "load_backbone"]

LARGEST_SIDE = 1024
"""Pixels of the longer side at most: larger images are scaled down to it."""


class Backbone(Protocol):
    """Turns images into grids of features."""

    name: str
    """What features are known to be made by."""

    channels: tuple[int, ...]
    """Channels of each grid."""

    def __call__(self, pixels: NDArray[np.uint8]) -> list[Grid]:
        """Compute the grids of an image, (H, W, 3) RGB. It may be called by several threads at once."""
        ...


class EfficientNetLite0:
    """EfficientNet-Lite0 trained on ImageNet, frozen, run by onnxruntime: 40, 112 and 320 channels at strides 8, 16 and 16.

    A call uses one thread; several calls may run at once.

    Raises:
        MissingExtraError: The package of the weights is not installed.
        ImageFileError: Its file is not the one that is known.
    """

    name = "efficientnet-lite0"
    channels: tuple[int, ...] = CHANNELS

    def __init__(self) -> None:
        import onnxruntime

        from a2lc.features.graph import lite0_graph

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        graph = lite0_graph(read_state(weights_file()))
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def __call__(self, pixels: NDArray[np.uint8]) -> list[Grid]:
        """Compute the three grids of an image."""
        canvas, fitted = _canvas(pixels)
        values: list[Any] = self._session.run(None, {"x": canvas})
        return [
            Grid(values=grid[0], reach=(fitted[0] / stride, fitted[1] / stride))
            for grid, stride in zip(values, STRIDES, strict=True)
        ]


def _canvas(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], tuple[int, int]]:
    """Scale an image to at most `LARGEST_SIDE` and pad it by its edge: (1, 3, h, w) in [-1, 1], and the part it fills."""
    from PIL import Image

    height, width = pixels.shape[:2]
    scale = min(1.0, LARGEST_SIDE / max(height, width))
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
    fitted = pixels.shape[0], pixels.shape[1]
    down, right = (-side % INPUT_MULTIPLE for side in fitted)
    padded = np.pad(pixels, ((0, down), (0, right), (0, 0)), mode="edge")
    planes = np.ascontiguousarray(padded.transpose(2, 0, 1)[None], dtype=np.float32)
    return (planes / np.float32(255) - np.float32(0.5)) / np.float32(0.5), fitted


BACKBONES = {EfficientNetLite0.name: EfficientNetLite0}
"""Backbones by name."""


@cache
def load_backbone(name: str = EfficientNetLite0.name) -> Backbone:
    """Load a backbone, once in a process.

    Raises:
        UnknownNameError: There is none of that name.
        MissingExtraError: The package of its weights is not installed.
    """
    require_known("backbone", name, BACKBONES)
    return BACKBONES[name]()
