"""Show a mask to people: locate it, choose the region around it, and encode that as JPEG."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from a2lc.errors import InputError
from a2lc.project.project import Project
from a2lc.records import ImageRecord, Query

__all__ = ["BoundedCache", "Box", "Geometry", "Pictures", "RegionError", "context_box", "mask_runs"]

Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels, ends exclusive."""

JPEG_QUALITY = 88
_LEAST_CONTEXT = 96
_DECODERS = 2

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class RegionError(InputError):
    """The region of an image is empty or not inside the image."""


class BoundedCache(Generic[K, V]):
    """Keep values by key and drop the least recently used ones above a limit of bytes. Threads may share it.

    A value that several threads ask for at once is made by one of them.
    """

    def __init__(self, limit: int, size: Callable[[V], int]) -> None:
        """Create an empty cache.

        Args:
            limit: Maximum bytes of all values together; a larger value is made each time.
            size: Returns the bytes of a value.
        """
        self.limit = limit
        self.bytes = 0
        self._size = size
        self._values: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._lock = threading.Lock()
        self._making: dict[K, tuple[threading.Lock, int]] = {}

    def __len__(self) -> int:
        """Return how many values are kept."""
        return len(self._values)

    def get(self, key: K, make: Callable[[], V]) -> V:
        """Return the value of a key, and make it if it is missing. If `make` raises, nothing is kept."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key][0]
            own, users = self._making.get(key, (threading.Lock(), 0))
            self._making[key] = own, users + 1
        try:
            with own:
                with self._lock:
                    if key in self._values:  # made by another thread in the meantime
                        self._values.move_to_end(key)
                        return self._values[key][0]
                value = make()
                self._put(key, value)
                return value
        finally:
            with self._lock:
                own, users = self._making.pop(key)
                if users > 1:
                    self._making[key] = own, users - 1

    def _put(self, key: K, value: V) -> None:
        size = self._size(value)
        if size > self.limit:
            return
        with self._lock:
            self._values[key] = value, size
            self.bytes += size
            while self.bytes > self.limit:
                _, (_, gone) = self._values.popitem(last=False)
                self.bytes -= gone


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Location of a mask in its image.

    Attributes:
        box: Smallest box around the mask.
        crop: The region that is shown: the mask with its surroundings.
        runs: Lengths of runs of pixels in the crop, row by row: outside the mask, inside, outside, and so on. The first may
            be 0.
        area: Pixels of the mask.
    """

    box: Box
    crop: Box
    runs: tuple[int, ...]
    area: int


def context_box(box: Box, width: int, height: int) -> Box:
    """Return the region to show around a mask: its own size more on each side, and at least 96 pixels.

    The region stays inside the image, and its longer side is at most twice the shorter one if the image allows it.

    Args:
        box: Smallest box around the mask.
        width: Width of the image.
        height: Height of the image.

    Example:
        >>> context_box((400, 300, 410, 600), 1000, 900)
        (180, 0, 630, 900)
    """
    x = _with_context(box[0], box[2], width)
    y = _with_context(box[1], box[3], height)
    # Only the shorter one grows.
    x = _at_least(x, -(-(y[1] - y[0]) // 2), width)
    y = _at_least(y, -(-(x[1] - x[0]) // 2), height)
    return x[0], y[0], x[1], y[1]


def _with_context(start: int, stop: int, size: int) -> tuple[int, int]:
    more = max(_LEAST_CONTEXT, stop - start)
    return max(0, start - more), min(size, stop + more)


def _at_least(span: tuple[int, int], wanted: int, size: int) -> tuple[int, int]:
    """Extend a span to `wanted` around its middle, at most to the whole image, and move it inside."""
    start, stop = span
    wanted = min(wanted, size)
    if stop - start >= wanted:
        return span
    start = max(0, min(start - (wanted - (stop - start)) // 2, size - wanted))
    return start, start + wanted


def mask_runs(inside: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the lengths of runs of equal values, row by row; the first run is of False.

    Args:
        inside: (H, W), at least one pixel.

    Returns:
        (R,) lengths that sum to H * W; only the first may be 0.

    Example:
        >>> mask_runs(np.array([[True, True], [False, True]]))
        array([0, 2, 1, 1])
    """
    flat = inside.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    bounds = np.concatenate([[0] if not flat[0] else [0, 0], changes, [len(flat)]])
    return np.diff(bounds).astype(np.int64)


class Pictures:
    """Read images and masks of a project to show them. Threads may share it; decoded files are cached."""

    def __init__(self, project: Project, *, image_bytes: int = 40 << 20, mask_bytes: int = 12 << 20) -> None:
        """Create empty caches.

        Args:
            project: Opened.
            image_bytes: Maximum bytes of cached images.
            mask_bytes: Maximum bytes of cached mask maps.
        """
        self.project = project
        self._images: BoundedCache[int, NDArray[np.uint8]] = BoundedCache(image_bytes, _nbytes)
        self._masks: BoundedCache[int, NDArray[np.uint16]] = BoundedCache(mask_bytes, _nbytes)
        self._geometry: BoundedCache[tuple[int, tuple[int, ...]], Geometry] = BoundedCache(4 << 20, _geometry_bytes)
        # Bounds the memory of images that are being decoded, beside that of the caches.
        self._decoders = threading.BoundedSemaphore(_DECODERS)

    def record(self, index: int) -> ImageRecord:
        """Return an image by its index.

        Raises:
            IndexError: There is no such image.
        """
        if not 0 <= index < len(self.project.all_images):
            raise IndexError(
                f"There is no image {index}: the project has {len(self.project.all_images)}, numbered from 0."
            )
        return self.project.all_images[index]

    def pixels(self, index: int) -> NDArray[np.uint8]:
        """Return (H, W, 3) RGB, 0..255, of an image, upright as the project reads it. Do not write to it.

        Raises:
            IndexError: There is no such image.
            MissingFileError: Its file is missing.
            ImageFileError: Its file cannot be read any more.
            InputError: Its file has another size than at import.
        """
        record = self.record(index)

        def read() -> NDArray[np.uint8]:
            with self._decoders:
                pixels = self.project.pixels(record)
            if pixels.shape[:2] != (record.height, record.width):
                raise InputError(
                    f"{record.file} has {pixels.shape[1]} x {pixels.shape[0]} pixels, but had {record.width} x "
                    f"{record.height} when the project was created. Restore the original file."
                )
            return pixels

        return self._images.get(index, read)

    def mask_map(self, index: int) -> NDArray[np.uint16]:
        """Return (H, W) mask ids of an image, 0 for no mask. Do not write to it.

        Raises:
            IndexError: There is no such image.
            MissingFileError: The project folder is damaged.
        """
        record = self.record(index)
        return self._masks.get(index, lambda: self.project.mask_map(record))

    def inside(self, image: int, mask_ids: Sequence[int], box: Box | None = None) -> NDArray[np.bool_]:
        """Return (H, W) whether each pixel of an image, or of a box of it, belongs to any of the masks."""
        ids = self.mask_map(image)
        if box is not None:
            ids = ids[box[1] : box[3], box[0] : box[2]]
        if len(mask_ids) == 1:
            return np.asarray(ids == mask_ids[0])
        return np.isin(ids, list(mask_ids), kind="table")

    def geometry(self, query: Query) -> Geometry:
        """Locate the masks of a question, taken as one.

        Raises:
            InputError: The image has none of them.
        """
        return self.geometry_of(query.image, query.mask_ids)

    def geometry_of(self, image: int, mask_ids: Sequence[int]) -> Geometry:
        """Locate masks of an image, taken as one.

        Raises:
            IndexError: There is no such image.
            InputError: The image has none of the masks.
        """
        ids = tuple(int(mask) for mask in mask_ids)
        return self._geometry.get((image, ids), lambda: self._measured(image, ids))

    def _measured(self, image: int, mask_ids: tuple[int, ...]) -> Geometry:
        record = self.record(image)
        inside = self.inside(image, mask_ids)
        rows = np.flatnonzero(inside.any(axis=1))
        if not len(rows):
            raise InputError(
                f"Image {record.image_id} has no mask {', '.join(map(str, mask_ids))}: the project folder is damaged."
            )
        y0, y1 = int(rows[0]), int(rows[-1]) + 1
        columns = np.flatnonzero(inside[y0:y1].any(axis=0))
        box = int(columns[0]), y0, int(columns[-1]) + 1, y1
        crop = context_box(box, record.width, record.height)
        part = inside[crop[1] : crop[3], crop[0] : crop[2]]
        return Geometry(box=box, crop=crop, runs=tuple(mask_runs(part).tolist()), area=int(np.count_nonzero(part)))

    def jpeg(self, index: int, box: Box | None = None, *, size: int) -> bytes:
        """Encode a region of an image as JPEG.

        Args:
            index: Index of the image.
            box: The region; the whole image if not given.
            size: Maximum pixels of the longer side; the picture is reduced to it, never enlarged.

        Raises:
            IndexError: There is no such image.
            RegionError: The region does not lie inside the image, or has no pixels.
            MissingFileError: The image's file is missing.
            ImageFileError: It cannot be read any more.
        """
        record = self.record(index)
        x0, y0, x1, y1 = box or (0, 0, record.width, record.height)
        if not (0 <= x0 < x1 <= record.width and 0 <= y0 < y1 <= record.height):
            raise RegionError(
                f"Region {x0},{y0} to {x1},{y1} does not lie inside image {index}, which is {record.width} x {record.height} "
                "pixels."
            )
        picture = Image.fromarray(np.ascontiguousarray(self.pixels(index)[y0:y1, x0:x1]))
        # Keeps the proportions, enlarges nothing, and leaves at least one pixel.
        picture.thumbnail((size, size), Image.Resampling.LANCZOS, reducing_gap=3.0)
        written = io.BytesIO()
        # Full colour resolution: people tell classes apart by colour at borders a few pixels wide.
        picture.save(written, format="JPEG", quality=JPEG_QUALITY, subsampling=0)
        return written.getvalue()


def _nbytes(values: NDArray[Any]) -> int:
    return values.nbytes


def _geometry_bytes(geometry: Geometry) -> int:
    return 400 + 40 * len(geometry.runs)  # 8 bytes of a reference and 28 of an integer, rounded up
