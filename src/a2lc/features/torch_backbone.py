"""Backbones of timm and transformers: frozen networks run by torch, whose outputs become grids like those of the default."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.errors import InputError
from a2lc.features.canvas import fit_canvas
from a2lc.features.grids import Grid
from a2lc.weights.files import Ready, folder_digest
from a2lc.weights.loading import choose_device

__all__ = ["Network", "TorchBackbone", "chosen_levels", "open_backbone"]

FINEST_STRIDE = 8
"""Levels of smaller strides are left out where there are others: cells of four pixels take four times the room."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Network:
    """A network on a device, and what it expects.

    Attributes:
        levels: From (1, 3, h, w) float32 images to levels, each (1, C, h', w').
        mean: Of each channel, of values in [0, 1].
        std: Deviation of each channel.
        side: Side of the square images that it was trained on, in pixels.
    """

    levels: Callable[[Any], Sequence[Any]]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    side: int


class TorchBackbone:
    """A frozen network whose levels are the grids of an image.

    Images larger than `LARGEST_SIDE` are scaled down and padded to whole cells. A network that takes images of one size alone
    gets them scaled to that size, with their aspect, and padded. On a CPU each call uses one thread, so that results do not
    depend on how many run at once; on a GPU calls take turns.

    Args:
        name: Under which a project remembers it.
        digest: SHA-256 of the files of its weights.
        network: The network.
        device: `cpu`, `cuda` or `cuda:N`.
        mixed_precision: Compute in half precision on a GPU.

    Raises:
        InputError: Its outputs are not grids of whole strides.
    """

    def __init__(
        self, name: str, digest: str, network: Network, *, device: str = "cpu", mixed_precision: bool = False
    ) -> None:
        import torch

        self.name = name
        self.digest = digest
        self.identity = f"{name} sha256:{digest}"
        self._network = network
        self._device = device
        self._mixed = mixed_precision and device.startswith("cuda")
        self._threads = torch.get_num_threads()
        self._turn: Any = threading.Lock() if device.startswith("cuda") else nullcontext()
        try:
            shapes = [level.shape for level in self._forward(np.zeros((network.side, network.side, 3), np.uint8))]
        except (RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
            said = " ".join(str(error).split())[:200]
            raise InputError(f"{name} cannot be run on images of {network.side} pixels: {said}") from None
        strides = [network.side / shape[-2] for shape in shapes]
        coarse = [stride >= FINEST_STRIDE for stride in strides]
        self._kept = [at for at, keep in enumerate(coarse) if keep or not any(coarse)]
        if not self._kept or any(stride != round(stride) for stride in strides):
            raise InputError(f"{name} has outputs of strides {strides}; a backbone's cells must be of whole pixels.")
        self._strides = [round(strides[at]) for at in self._kept]
        self.channels: tuple[int, ...] = tuple(int(shapes[at][0]) for at in self._kept)
        self._multiple = math.lcm(*self._strides)
        self._side = None if self._takes_any_size() else network.side

    def __call__(self, pixels: NDArray[np.uint8]) -> list[Grid]:
        """Compute the grids of an image, (H, W, 3) RGB: one of each level, its values float32."""
        canvas, fitted = fit_canvas(pixels, self._multiple, self._side)
        levels = self._forward(canvas)
        return [
            Grid(values=levels[at], reach=(fitted[0] / stride, fitted[1] / stride))
            for at, stride in zip(self._kept, self._strides, strict=True)
        ]

    def _takes_any_size(self) -> bool:
        """Whether the network takes other sizes, not square, than the one that it was trained on."""
        height, width = 3 * self._multiple, 5 * self._multiple
        try:
            levels = self._forward(np.zeros((height, width, 3), np.uint8))
        except (RuntimeError, ValueError, AssertionError, IndexError):
            return False
        expected = [(height // stride, width // stride) for stride in self._strides]
        return [levels[at].shape[1:] for at in self._kept] == expected

    def _forward(self, canvas: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Run the network on a canvas, (h, w, 3): its levels, each (C, h', w') float32."""
        import torch

        planes = torch.from_numpy(np.ascontiguousarray(canvas.transpose(2, 0, 1)[None]))
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (self._network.mean, self._network.std))
        images = (planes.float() / 255 - mean) / std
        if self._device == "cpu":
            torch.set_num_threads(
                1
            )  # the number of threads changes the last bits; several images are worked on at a time
        try:
            with self._turn, torch.inference_mode(), torch.autocast("cuda", torch.float16, enabled=self._mixed):
                levels = self._network.levels(images.to(self._device))
                return [level[0].float().cpu().numpy() for level in levels]
        finally:
            if self._device == "cpu":
                torch.set_num_threads(self._threads)


def chosen_levels(count: int) -> list[int]:
    """Choose three of a network's levels, counted from 0: the last, and those at a half and three quarters of the depth.

    Of four stages at strides 4 to 32 these are the last three.

    Example:
        >>> chosen_levels(12), chosen_levels(4), chosen_levels(5), chosen_levels(1)
        ([5, 8, 11], [1, 2, 3], [2, 3, 4], [0])
    """
    return sorted({math.ceil(count / 2) - 1, math.ceil(3 * count / 4) - 1, count - 1})


def open_backbone(name: str, ready: Ready, *, device: str = "auto", mixed_precision: bool = False) -> TorchBackbone:
    """Load a backbone of timm or transformers from its files.

    Args:
        name: Under which a project remembers it.
        ready: Its files.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        mixed_precision: Compute in half precision on a GPU.

    Raises:
        InputError: The files are not those of a backbone, or there is no such device.
        MissingExtraError: Its library is not installed.
    """
    from a2lc.weights.files import need_library

    need_library(ready.weights.library)
    if ready.weights.library == "timm":
        from a2lc.features.timm_network import open_network
    else:
        from a2lc.features.transformers_network import open_network
    device = choose_device(device)
    network = open_network(ready, device)
    return TorchBackbone(name, folder_digest(ready.folder), network, device=device, mixed_precision=mixed_precision)
