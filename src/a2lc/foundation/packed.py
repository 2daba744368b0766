"""Masks of objects, packed: a bit a pixel, cut to the box they fill (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = ["PackedMasks"]


@dataclass(frozen=True, eq=False)
class PackedMasks:
    """Masks of one image, which may lie over each other; a hundred of an image of 2 megapixels take a few hundred kB.

    Attributes:
        height: Of the image, pixels.
        width: Of the image, pixels.
        boxes: (N, 4) int32: first row, first column, row after the last, column after the last; all 0 of an empty mask.
        offsets: (N + 1,) int64: where the bytes of each mask begin.
        bits: (B,) uint8: eight pixels a byte, row by row of the box.
    """

    height: int
    width: int
    boxes: NDArray[np.int32]
    offsets: NDArray[np.int64]
    bits: NDArray[np.uint8]

    def __len__(self) -> int:
        """How many masks."""
        return len(self.boxes)

    @classmethod
    def pack(cls, masks: Sequence[NDArray[np.bool_]], height: int, width: int) -> PackedMasks:
        """Pack masks of (H, W) bool.

        Example:
            >>> mask = np.zeros((3, 5), dtype=bool)
            >>> mask[1, 2:4] = True
            >>> packed = PackedMasks.pack([mask], 3, 5)
            >>> packed.boxes.tolist(), packed.bits.tolist(), bool((packed.mask(0) == mask).all())
            ([[1, 2, 2, 4]], [192], True)
        """
        boxes, parts = [], []
        for mask in masks:
            assert mask.shape == (height, width) and mask.dtype == np.bool_
            rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            box = (int(rows[0]), int(cols[0]), int(rows[-1]) + 1, int(cols[-1]) + 1) if len(rows) else (0, 0, 0, 0)
            boxes.append(box)
            parts.append(np.packbits(mask[box[0] : box[2], box[1] : box[3]]))
        return cls._of(height, width, boxes, parts)

    @classmethod
    def _of(
        cls, height: int, width: int, boxes: Sequence[Sequence[int]], parts: Sequence[NDArray[np.uint8]]
    ) -> PackedMasks:
        return cls(
            height,
            width,
            np.array(boxes, dtype=np.int32).reshape(-1, 4),
            np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64),
            np.concatenate([np.empty(0, dtype=np.uint8), *parts]),
        )

    @classmethod
    def concat(cls, parts: Sequence[PackedMasks], height: int, width: int) -> PackedMasks:
        """Masks of the same image, one after the other."""
        boxes = [box for part in parts for box in part.boxes.tolist()]
        return cls._of(height, width, boxes, [bits for part in parts for bits in part._parts()])

    def _parts(self) -> list[NDArray[np.uint8]]:
        return [self.bits[first:last] for first, last in pairwise(self.offsets.tolist())]

    def select(self, which: NDArray[np.integer]) -> PackedMasks:
        """Return some of the masks, in the order given."""
        bits = self._parts()
        return self._of(self.height, self.width, self.boxes[which].tolist(), [bits[i] for i in which.tolist()])

    def crop(self, index: int) -> tuple[tuple[slice, slice], NDArray[np.bool_]]:
        """Where in the image a mask's box lies, and the mask within it."""
        top, left, bottom, right = self.boxes[index].tolist()
        bits = self.bits[self.offsets[index] : self.offsets[index + 1]]
        inside = np.unpackbits(bits, count=(bottom - top) * (right - left)).reshape(bottom - top, right - left)
        return (slice(top, bottom), slice(left, right)), inside.astype(np.bool_)

    def mask(self, index: int) -> NDArray[np.bool_]:
        """(H, W) bool."""
        found = np.zeros((self.height, self.width), dtype=np.bool_)
        place, inside = self.crop(index)
        found[place] = inside
        return found

    def areas(self) -> NDArray[np.int64]:
        """(N,) pixels of each mask."""
        counts = [int(np.bitwise_count(bits).sum()) for bits in self._parts()]
        return np.array(counts, dtype=np.int64)
