"""Backbones: networks that turn an image into grids of features."""

from __future__ import annotations

from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from a2lc.features.canvas import fit_canvas
from a2lc.features.choice import BUILT_IN, find_backbone, pinned_name
from a2lc.features.grids import Grid
from a2lc.features.layout import CHANNELS, INPUT_MULTIPLE, STRIDES
from a2lc.features.weights import SHA256, read_state, weights_file
from a2lc.weights.catalogue import check_license
from a2lc.weights.files import obtain

__all__ = ["Backbone", "EfficientNetLite0", "load_backbone"]


class Backbone(Protocol):
    """Turns images into grids of features."""

    name: str
    """The name under which a project remembers it."""

    digest: str
    """SHA-256 of its weights."""

    identity: str
    """What features are known to be made by: the name, and the digest unless the name implies it."""

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

    name = BUILT_IN
    digest = SHA256
    identity = BUILT_IN  # its file is always the same
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
        canvas, fitted = fit_canvas(pixels, INPUT_MULTIPLE)
        planes = np.ascontiguousarray(canvas.transpose(2, 0, 1)[None], dtype=np.float32)
        scaled = (planes / np.float32(255) - np.float32(0.5)) / np.float32(0.5)
        values: list[Any] = self._session.run(None, {"x": scaled})
        return [
            Grid(values=grid[0], reach=(fitted[0] / stride, fitted[1] / stride))
            for grid, stride in zip(values, STRIDES, strict=True)
        ]


@cache
def load_backbone(
    name: str = BUILT_IN,
    *,
    device: str = "auto",
    mixed_precision: bool = False,
    accepted: frozenset[str] = frozenset(),
) -> Backbone:
    """Load a backbone whose weights are on this machine, once in a process. Nothing is downloaded.

    Args:
        name: See `a2lc.features.choice.find_backbone`.
        device: Of a backbone of timm or transformers: `auto`, `cpu`, `cuda` or `cuda:N`.
        mixed_precision: Compute in half precision on a GPU.
        accepted: Names of weights whose licence the user accepted.

    Raises:
        UnknownNameError: There is none of that name.
        MissingExtraError: The package of its weights, or its library, is not installed.
        MissingFileError: Its weights are not on this machine.
        InputError: Its licence was not accepted, or its files are not those of a backbone.
    """
    weights = find_backbone(name)
    if weights is None:
        return EfficientNetLite0()
    check_license(weights, accepted)
    ready = obtain(weights)
    from a2lc.features.torch_backbone import open_backbone

    return open_backbone(pinned_name(ready), ready, device=device, mixed_precision=mixed_precision)
