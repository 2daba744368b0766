"""Open image files safely: sizes, suffixes, EXIF orientation, and the pixel limit."""

from __future__ import annotations

import io
import os
import struct
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from a2lc.errors import ImageFileError
from a2lc.images.limits import MAX_PIXELS

__all__ = [
    "LOSSY",
    "TIFF",
    "ImageBytes",
    "decode_image",
    "exif_orientation",
    "forget_threads",
    "is_lossy",
    "one_at_a_time",
    "open_image",
    "orientation_of",
    "png_header",
    "row_blocks",
    "stored_size",
    "turned_upright",
]


_T = TypeVar("_T")


_LARGE = 1 << 24


_ALONE: list[ThreadPoolExecutor] = []


_NAME = "a2lc-large"


def forget_threads() -> None:
    """Drop the threads of the parent process, which a forked process does not have."""
    _ALONE.clear()


def one_at_a_time(pixels: int, work: Callable[[], _T]) -> _T:
    """Do work on an image; on those of more than 16 million pixels in one thread of the whole process.

    A few at once would take gigabytes, and so would what the C library keeps for each thread that ever held one.
    """
    if pixels <= _LARGE or threading.current_thread().name.startswith(_NAME):
        return work()
    with _LIFTED:
        if not _ALONE:
            _ALONE.append(ThreadPoolExecutor(max_workers=1, thread_name_prefix=_NAME))
    return _ALONE[0].submit(work).result()


LOSSY = frozenset({"JPEG", "MPO", "WEBP"})


TIFF = frozenset({".tif", ".tiff"})


_EXIF_ORIENTATION = 0x0112


_LIFTED = threading.Lock()


@dataclass(frozen=True, kw_only=True, repr=False)
class ImageBytes:
    """An image file that lies in a table, an archive or a text: read as if it were a file.

    Attributes:
        where: What messages call it.
        data: The bytes of the file.
    """

    where: str
    data: bytes

    def __str__(self) -> str:
        """Return what messages call it."""
        return self.where

    @property
    def suffix(self) -> str:
        """Of what it is called."""
        return PurePosixPath(self.where).suffix


def _size_of(path: Path | ImageBytes) -> int:
    return len(path.data) if isinstance(path, ImageBytes) else path.stat().st_size


def _openable(path: Path | ImageBytes) -> Path | io.BytesIO:
    return io.BytesIO(path.data) if isinstance(path, ImageBytes) else path


def open_image(path: Path | ImageBytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Open an image file without decoding it, its size checked.

    Raises:
        ImageFileError: It is no image, or larger than `max_pixels`.
    """
    try:
        # The size is checked here, against the project's own limit, before a pixel is decoded.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            try:
                image = Image.open(_openable(path))
            except Image.DecompressionBombError:
                # Pillow's limit is one for the whole process; the project's own, below, may be higher.
                with _LIFTED:
                    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
                    try:
                        image = Image.open(_openable(path))
                    finally:
                        Image.MAX_IMAGE_PIXELS = limit
    except UnidentifiedImageError:
        hint = (
            " If it is a TIFF with many bands or more than 8 bits, set `bands` and `stretch`."
            if path.suffix.lower() in TIFF
            else ""
        )
        raise ImageFileError(f"{path}: not a readable image ({_size_of(path):,} bytes).{hint}") from None
    except FileNotFoundError:
        raise
    except (OSError, ValueError, SyntaxError, struct.error) as error:
        raise ImageFileError(f"{path}: cannot be read as an image: {error}.") from None
    width, height = image.size
    if width * height > max_pixels:
        image.close()
        raise ImageFileError(
            f"{path}: {width} x {height} = {width * height:,} pixels is over the limit of {max_pixels:,}. Raise "
            "`max_pixels` if the file is valid."
        )
    return image


def decode_image(image: Image.Image, path: Path | ImageBytes) -> None:
    """Decode an opened image, and refuse one that is damaged."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image.load()
    except (OSError, ValueError, SyntaxError, IndexError, struct.error, EOFError) as error:
        raise ImageFileError(f"{path}: truncated or damaged: {error}.") from None
    except Exception as error:  # Pillow's decoders raise what their parsers raise: a damaged file must not end a run
        raise ImageFileError(f"{path}: damaged: {type(error).__name__}: {error}.") from None


def exif_orientation(image: Image.Image) -> int:
    """EXIF orientation 1..8 of an opened image; 1, upright, where there is none or it is not valid."""
    if image.format == "PNG" and not _may_have_exif(image):
        return 1
    try:
        value = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # an unreadable EXIF block says nothing about orientation
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _may_have_exif(image: Image.Image) -> bool:
    """Whether a PNG has a chunk with EXIF data: Pillow would decode the whole image to find one behind the pixels."""
    if "exif" in image.info or "Raw profile type exif" in image.info or not isinstance(image, ImageFile.ImageFile):
        return True
    try:
        with open(image.filename, "rb") as file:
            file.seek(8)
            while len(head := file.read(8)) == 8:
                length, kind = struct.unpack(">I4s", head)
                if kind in {b"eXIf", b"zTXt", b"tEXt"}:
                    return True
                file.seek(length + 4, os.SEEK_CUR)
    except OSError:
        return True
    return False


def is_lossy(path: Path, max_pixels: int = MAX_PIXELS) -> bool:
    """Whether an image file is of a format that blurs values.

    Raises:
        ImageFileError: It is no image, or larger than `max_pixels`.
    """
    if path.suffix.lower() == ".npy":
        return False
    with open_image(path, max_pixels) as image:
        return image.format in LOSSY


def stored_size(path: Path, max_pixels: int = MAX_PIXELS) -> tuple[int, int, int]:
    """Width and height as stored, and the EXIF orientation.

    Raises:
        ImageFileError: It is no image, or larger than `max_pixels`.
    """
    with open_image(path, max_pixels) as image:
        width, height = image.size
        if image.format == "TIFF":
            # Pillow gives the size that a TIFF is shown in, and of all other formats the one it is stored in.
            tags: Any = image.tag_v2  # type: ignore[attr-defined]
            width, height = tags.get(256, width), tags.get(257, height)
        return int(width), int(height), exif_orientation(image)


def orientation_of(path: Path, max_pixels: int = MAX_PIXELS) -> int:
    """EXIF orientation 1..8 of an image file, also of a TIFF of more bands or bits than `open_image` takes.

    Raises:
        ImageFileError: It is no image, or larger than `max_pixels`.
    """
    if path.suffix.lower() not in TIFF:
        return stored_size(path, max_pixels)[2]
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            tag = file.pages.first.tags.get(_EXIF_ORIENTATION)
            value = 1 if tag is None else int(tag.value)
    except FileNotFoundError:
        raise
    except Exception:  # what is wrong with a damaged file is said by whoever reads its pixels
        return stored_size(path, max_pixels)[2]
    return value if 1 <= value <= 8 else 1


def turned_upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """(H, W, ..) pixels as they are stored, turned or mirrored as an EXIF orientation 1..8 says (pure).

    Example:
        >>> turned_upright(np.array([[1, 2, 3]]), 6)
        array([[1],
               [2],
               [3]])
    """
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def row_blocks(shape: Sequence[int]) -> Iterator[slice]:
    """Rows of an image, some at a time: what is computed of four million pixels does not fill the memory."""
    rows = max(1, (1 << 22) // max(1, shape[1]))
    for start in range(0, shape[0], rows):
        yield slice(start, start + rows)


def png_header(path: Path | ImageBytes) -> tuple[int, int]:
    """Bit depth and colour type of a PNG; (0, -1) for other files."""
    if isinstance(path, ImageBytes):
        head = path.data[:26]
    else:
        with path.open("rb") as file:
            head = file.read(26)
    if len(head) < 26 or head[:8] != b"\x89PNG\r\n\x1a\n":
        return 0, -1
    return head[24], head[25]
