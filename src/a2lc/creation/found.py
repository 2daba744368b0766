"""What the foundation models found in an image, as kept on disk."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from a2lc.creation.masks import image_pixels, superpixels_of
from a2lc.creation.pseudo_settings import Job, PseudoSettings
from a2lc.errors import InputError
from a2lc.foundation.compose import Composed, compose
from a2lc.foundation.packed import PackedMasks
from a2lc.foundation.segmenter import Segmenter
from a2lc.io.files import write_bytes
from a2lc.records import ImageRecord

__all__ = ["Found", "compose_found", "count_masks", "groups_of", "ids_in", "room_for", "write_found"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Found:
    """What the models found in an image, the best first.

    Attributes:
        boxes: (N, 4) float32: left, top, right, bottom in pixels.
        classes: (N,) int32.
        scores: (N,) float32, of the class.
        class_scores: (N, K) float16, NaN of classes that stood in another prompt.
        masks: N masks, which may overlap.
    """

    boxes: NDArray[np.float32]
    classes: NDArray[np.int32]
    scores: NDArray[np.float32]
    class_scores: NDArray[np.float16]
    masks: PackedMasks

    def above(self, threshold: float) -> Found:
        """Those of at least a score."""
        keep = np.flatnonzero(self.scores >= np.float32(threshold))
        return Found(
            boxes=self.boxes[keep],
            classes=self.classes[keep],
            scores=self.scores[keep],
            class_scores=self.class_scores[keep],
            masks=self.masks.select(keep),
        )


def count_masks(segmenter: Segmenter, pixels: NDArray[np.uint8], boxes: NDArray[np.float32]) -> PackedMasks:
    """Return the masks of the objects in boxes."""
    if not len(boxes):
        return PackedMasks.pack([], *pixels.shape[:2])
    return segmenter.masks_for_boxes(pixels, boxes)


@contextmanager
def room_for(batch: int) -> Iterator[None]:
    """Say what to do where a GPU has too little memory."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError:
        lower = f"Lower `batch` (now {batch})" if batch > 1 else "Use smaller weights, or set `device` to cpu"
        raise InputError(f"The GPU does not have enough memory. {lower}, and repeat the command to resume.") from None


def groups_of(images: Sequence[ImageRecord], size: int) -> list[list[ImageRecord]]:
    """Images of one size together, at most so many."""
    groups: list[list[ImageRecord]] = []
    for image in sorted(images, key=lambda image: (image.height, image.width, image.index)):
        last = groups[-1] if groups else []
        if not last or len(last) == size or (last[0].height, last[0].width) != (image.height, image.width):
            groups.append([])
        groups[-1].append(image)
    return groups


def ids_in(group: Sequence[ImageRecord]) -> set[int]:
    """Return the indices of images."""
    return {image.index for image in group}


def write_found(path: Path, key: str, floor: float, found: Found) -> int:
    """Write what was found in an image, whole or not at all; bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        key=np.array(key),
        floor=np.array(floor, dtype=np.float64),
        size=np.array([found.masks.height, found.masks.width], dtype=np.int32),
        boxes=found.boxes,
        classes=found.classes,
        scores=found.scores,
        class_scores=found.class_scores,
        mask_boxes=found.masks.boxes,
        mask_offsets=found.masks.offsets,
        mask_bits=found.masks.bits,
    )
    write_bytes(path, buffer.getvalue())
    return buffer.tell()


def read_found(path: Path, key: str, settings: PseudoSettings) -> Found | None:
    """Read what is kept of an image at the settings' threshold; None if it is of other settings, weights or pixels.

    Which boxes stay of those that overlap depends on better ones alone, so what was found at a lower threshold holds what
    would be found at this one.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["key"]) != key or float(file["floor"]) > settings.box_threshold:
                return None
            height, width = file["size"].tolist()
            masks = PackedMasks(height, width, file["mask_boxes"], file["mask_offsets"], file["mask_bits"])
            found = Found(
                boxes=file["boxes"],
                classes=file["classes"],
                scores=file["scores"],
                class_scores=file["class_scores"],
                masks=masks,
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None  # not there, or damaged: it is found again
    return found.above(settings.box_threshold)


def compose_found(job: Job, image: ImageRecord, pixels: NDArray[np.uint8] | None = None) -> tuple[Found, Composed]:
    """Return the detections in an image, and the labels and masks composed of them."""
    settings, classes = job.settings, job.project.classes
    found = read_found(job.path(image), job.key(image), settings)
    if found is None:
        raise InputError(f"{job.path(image)} has changed in the meantime. Repeat the command.")
    superpixels = None
    if settings.cover != "none":
        pixels = image_pixels(job.project, image) if pixels is None else pixels
        superpixels = superpixels_of(pixels, settings.cover, settings.cover_count)
    try:
        composed = compose(
            found.masks,
            found.classes,
            found.scores,
            priorities=np.array([classes.priority(index) for index in range(classes.num_classes)]),
            ignore_index=classes.ignore_index,
            dtype=classes.dtype,
            rule=settings.overlap,
            superpixels=superpixels,
            background=job.background,
        )
    except InputError as error:
        raise InputError(f"{job.project.image_path(image)}: {error}") from None
    return found, composed
