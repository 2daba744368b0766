"""Masks of boxes, of clicks and of whole images: SAM and SAM 2.

The image is embedded once; boxes, clicks and grids of points are decoded from that, some at a time, so that memory does
not grow with their number.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.errors import InputError
from a2lc.foundation.compose import compose
from a2lc.foundation.packed import PackedMasks
from a2lc.weights.files import Ready, need_transformers
from a2lc.weights.loading import load_model, load_processor, reading_config

__all__ = ["AutomaticSettings", "Embedded", "Segmenter"]

_PIXELS_AT_ONCE = 1 << 26
"""Of decoded masks at full size: 256 MB in single precision."""


@dataclass(frozen=True, kw_only=True)
class AutomaticSettings:
    """How masks of a whole image are found without any class.

    Defaults are those of SamAutomaticMaskGenerator of facebookresearch/segment-anything; crops of the image are not used.

    Attributes:
        points: A side of the grid of points, each of which asks for three masks.
        min_iou: Masks whose quality the model itself puts at this or below are dropped.
        min_stability: Those too whose area depends on the threshold: area at +`offset` over area at -`offset`.
        offset: Of the logits, for the stability.
        nms: Of two masks whose boxes' intersection is more than this share of their union, the better stays.
        min_area: Smaller masks are dropped, pixels.
    """

    points: int = 32
    min_iou: float = 0.88
    min_stability: float = 0.95
    offset: float = 1.0
    nms: float = 0.7
    min_area: int = 16

    def check(self) -> None:
        """Raise if a setting is out of range.

        Raises:
            InputError: One is.
        """
        if not 1 <= self.points <= 256:
            raise InputError(f"`points` is {self.points}; expected 1 to 256 points per side of the grid.")
        for name in ("min_iou", "min_stability", "nms"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"`{name}` is {getattr(self, name)}; expected 0 to 1.")


@dataclass(frozen=True, eq=False)
class Embedded:
    """An image as the model sees it.

    Attributes:
        height: Of the image, pixels.
        width: Of the image, pixels.
        features: What the vision encoder made of it.
        scale: (2,) model pixels an image pixel, across and down.
        resized: Height and width in the model's input, padding not counted.
    """

    height: int
    width: int
    features: Any
    scale: NDArray[np.float64]
    resized: tuple[int, int]


class Segmenter:
    """SAM or SAM 2 of transformers on a device."""

    def __init__(self, ready: Ready, *, device: str = "cpu", autocast: bool = True, at_once: int = 64) -> None:
        """Load the model.

        Args:
            ready: Its files.
            device: `cpu`, `cuda` or `cuda:N`.
            autocast: Half precision on CUDA devices.
            at_once: Boxes or points decoded together, at most.

        Raises:
            InputError: The files are of another model.
            MissingExtraError: transformers is not installed.
        """
        need_transformers()
        from transformers import Sam2Model, Sam2Processor, SamModel, SamProcessor

        kind = reading_config(ready).get("model_type")
        # Published SAM 2 weights carry the memory of the video model too, which images do not need.
        if kind not in {"sam", "sam2", "sam2_video"}:
            raise InputError(
                f"{ready.folder} contains a model of type {kind!r}; a segmenter must be of type 'sam' or 'sam2'."
            )
        model_class: Any = SamModel if kind == "sam" else Sam2Model
        processor_class: Any = SamProcessor if kind == "sam" else Sam2Processor
        self.second = kind != "sam"
        self.processor = load_processor(processor_class, ready)
        self.model = load_model(model_class, ready, device)
        self.device, self.autocast, self.at_once = device, autocast and device.startswith("cuda"), at_once

    def embed(self, image: NDArray[np.uint8]) -> Embedded:
        """Look at an image, (H, W, 3) uint8 RGB."""
        height, width = image.shape[:2]
        inputs = self.processor(images=image, input_data_format="channels_last", return_tensors="pt")
        pixels = inputs["pixel_values"].to(self.device)
        with self._inference():
            features = self.model.get_image_embeddings(pixels)
        if self.second:
            # SAM 2 squeezes the image to its square; SAM keeps the aspect and pads.
            resized = (int(self.processor.target_size),) * 2
        else:
            resized = (int(inputs["reshaped_input_sizes"][0][0]), int(inputs["reshaped_input_sizes"][0][1]))
        scale = np.array([resized[1] / width, resized[0] / height])
        return Embedded(height, width, features, scale, resized)

    def masks_for_boxes(self, image: NDArray[np.uint8] | Embedded, boxes: NDArray[np.floating]) -> PackedMasks:
        """Return the mask of the object in each box.

        Args:
            image: (H, W, 3) uint8 RGB, or what `embed` made of it.
            boxes: (N, 4): left, top, right, bottom in pixels of the image.

        Returns:
            N masks; one may be empty, and may reach beyond its box.
        """
        seen = self._embedded(image)
        parts = []
        step = self._step(seen, 1)
        for start in range(0, len(boxes), step):
            corners = boxes[start : start + step].reshape(-1, 2, 2) * seen.scale
            logits, _ = self._decode(seen, boxes=corners.reshape(-1, 4), several=False)
            parts.append(self._pack(seen, (self._full_size(seen, logits)[:, 0] > 0).cpu().numpy()))
        return PackedMasks.concat(parts, seen.height, seen.width)

    def masks_for_points(
        self, image: NDArray[np.uint8] | Embedded, points: Sequence[Sequence[float]], labels: Sequence[int]
    ) -> NDArray[np.bool_]:
        """Return the mask of the object a person clicked on.

        One click may mean a part or the whole, so the model gives three masks of it and the one it trusts most is taken;
        several clicks leave less to guess, and one mask is decoded.

        Args:
            image: (H, W, 3) uint8 RGB, or what `embed` made of it: clicks on one image need it embedded once.
            points: Clicks, each across and down in pixels of the image.
            labels: 1 for a click on the object, 0 for one beside it.

        Returns:
            (H, W) bool.

        Raises:
            InputError: There is no click on the object, a click has no label, or one lies outside the image.
        """
        seen = self._embedded(image)
        where = np.asarray(points, dtype=np.float64).reshape(-1, 2)
        if len(where) != len(labels) or not set(labels) <= {0, 1} or 1 not in labels:
            raise InputError(
                f"{len(where)} clicks with labels {list(labels)}: expected one label per click, 1 on the object or "
                "0 beside it, and at least one 1."
            )
        if ((where < 0) | (where > (seen.width, seen.height))).any():
            raise InputError(f"A click lies outside the image of {seen.width} x {seen.height} pixels.")
        said = np.asarray(labels, dtype=np.int64)[None]
        logits, quality = self._decode(seen, points=(where * seen.scale)[None], labels=said, several=len(where) == 1)
        best = int(quality[0].argmax())
        found: NDArray[np.bool_] = (self._full_size(seen, logits[:, best : best + 1])[0, 0] > 0).cpu().numpy()
        return found

    def automatic(
        self,
        image: NDArray[np.uint8] | Embedded,
        settings: AutomaticSettings | None = None,
        superpixels: NDArray[np.integer] | None = None,
    ) -> NDArray[np.uint16]:
        """Masks of everything in an image: a grid of points asks, the sure and stable ones stay, small lie on top.

        Args:
            image: (H, W, 3) uint8 RGB, or what `embed` made of it.
            settings: How they are found.
            superpixels: (H, W) 1..n to cover the rest with; None leaves it without a mask.

        Returns:
            (H, W) uint16: 0 where there is no mask, else 1..M.

        Source:
            Kirillov et al., Segment Anything, ICCV 2023, appendix B, without crops and without filling holes.
        """
        import torch
        from torchvision.ops import nms

        settings = settings or AutomaticSettings()
        settings.check()
        seen = self._embedded(image)
        # Each point in the middle of its cell.
        ticks = (np.arange(settings.points) + 0.5) / settings.points
        across, down = np.meshgrid(ticks * seen.width, ticks * seen.height)
        grid = np.stack([across.ravel(), down.ravel()], axis=1)
        parts, scores = [PackedMasks.concat([], seen.height, seen.width)], [np.empty(0, dtype=np.float32)]
        step = self._step(seen, 3)
        for start in range(0, len(grid), step):
            points = grid[start : start + step, None] * seen.scale
            said = np.ones(points.shape[:2], dtype=np.int64)
            logits, quality = self._decode(seen, points=points, labels=said, several=True)
            full, quality = self._full_size(seen, logits).flatten(0, 1), quality.flatten()
            inner = (full > settings.offset).sum(dim=(1, 2))
            outer = (full > -settings.offset).sum(dim=(1, 2))
            stability = inner / outer.clamp(min=1)
            sure = (quality > settings.min_iou) & (stability > settings.min_stability)
            masks = full[sure] > 0
            large = masks.sum(dim=(1, 2)) >= max(1, settings.min_area)
            parts.append(self._pack(seen, masks[large].cpu().numpy()))
            scores.append(quality[sure][large].cpu().numpy())
        found, quality_of = PackedMasks.concat(parts, seen.height, seen.width), np.concatenate(scores)
        corners = torch.from_numpy(found.boxes[:, [1, 0, 3, 2]].astype(np.float32))
        kept = np.sort(nms(corners, torch.from_numpy(quality_of), settings.nms).numpy())
        return compose(
            found.select(kept),
            np.zeros(len(kept), dtype=np.int64),
            quality_of[kept],
            priorities=np.zeros(1, dtype=np.int64),
            ignore_index=255,
            rule="size",
            superpixels=superpixels,
        ).masks

    def _embedded(self, image: NDArray[np.uint8] | Embedded) -> Embedded:
        return image if isinstance(image, Embedded) else self.embed(image)

    def _step(self, seen: Embedded, masks: int) -> int:
        """Boxes or points decoded at once, each giving so many masks."""
        pixels = max(seen.height * seen.width, max(seen.resized) ** 2) * masks
        return max(1, min(self.at_once, _PIXELS_AT_ONCE // pixels))

    def _inference(self) -> Any:
        import contextlib

        import torch

        stack = contextlib.ExitStack()
        stack.enter_context(torch.inference_mode())
        stack.enter_context(torch.autocast("cuda", torch.float16) if self.autocast else nullcontext())
        return stack

    def _decode(
        self,
        seen: Embedded,
        *,
        boxes: NDArray[np.float64] | None = None,
        points: NDArray[np.float64] | None = None,
        labels: NDArray[np.int64] | None = None,
        several: bool,
    ) -> tuple[Any, Any]:
        """Logits (P, M, h, w) and quality (P, M) of masks, float32, of boxes (P, 4) or points (P, C, 2) in model pixels."""
        import torch

        prompt: dict[str, Any] = {}
        if boxes is not None:
            prompt["input_boxes"] = torch.from_numpy(boxes.astype(np.float32))[None].to(self.device)
        if points is not None and labels is not None:
            prompt["input_points"] = torch.from_numpy(points.astype(np.float32))[None].to(self.device)
            prompt["input_labels"] = torch.from_numpy(labels)[None].to(self.device)
        with self._inference():
            out = self.model(image_embeddings=seen.features, multimask_output=several, **prompt)
        return out.pred_masks[0].float(), out.iou_scores[0].float()

    def _full_size(self, seen: Embedded, logits: Any) -> Any:
        """Logits (P, M, H, W) in the image's own size."""
        from torch.nn.functional import interpolate

        if not self.second:
            side = int(self.model.config.vision_config.image_size)
            logits = interpolate(logits, (side, side), mode="bilinear", align_corners=False)
            logits = logits[..., : seen.resized[0], : seen.resized[1]]
        return interpolate(logits, (seen.height, seen.width), mode="bilinear", align_corners=False)

    @staticmethod
    def _pack(seen: Embedded, masks: NDArray[np.bool_]) -> PackedMasks:
        return PackedMasks.pack(list(masks), seen.height, seen.width)
