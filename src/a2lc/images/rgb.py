"""Read images as 8-bit RGB and write them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from a2lc.errors import ImageFileError
from a2lc.images.limits import MAX_PIXELS
from a2lc.images.opening import (
    ImageBytes,
    decode_image,
    exif_orientation,
    one_at_a_time,
    open_image,
    png_header,
    row_blocks,
    turned_upright,
)
from a2lc.io.files import atomic_path

__all__ = ["channels_of", "png_bytes", "read_rgb", "write_rgb"]


_DEEP = (
    "Set how values become 8 bits: `stretch` LOW:HIGH, and `bands` R,G,B if there are more than three. "
    "Or save it with 8 bits."
)


def read_rgb(path: Path | ImageBytes, *, upright: bool = False, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Read an image as RGB.

    Args:
        path: File, or the bytes of one, of 8 bits a channel: RGB, grey, palette, CMYK, or with alpha, which is dropped.
        upright: Turn the image as its EXIF orientation says.
        max_pixels: Larger ones are refused.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ImageFileError: It cannot be read, or has other than 8 bits a channel.
    """
    with open_image(path, max_pixels) as image:
        if image.mode in {"I", "F"} or image.mode.startswith("I;"):
            raise ImageFileError(f"{path}: more than 8 bits per channel (mode {image.mode}). {_DEEP}")
        if png_header(path)[0] == 16:
            raise ImageFileError(f"{path}: 16 bits per channel. {_DEEP}")
        if image.format == "TIFF" and (pages := _pages(image, path)) > 1:
            raise ImageFileError(
                f"{path}: contains {pages} pages of one size. If they are bands, set `bands` to R,G,B; otherwise "
                "save one image per file."
            )
        orientation = exif_orientation(image) if image.format == "TIFF" else 1

        def decode() -> NDArray[np.uint8]:
            decode_image(image, path)
            pixels = _pixels_of(ImageOps.exif_transpose(image) if upright else image)
            if not upright and orientation != 1 and exif_orientation(image) == 1:
                # Pillow turns a TIFF while it decodes it, and no other format: turned back, it is as stored.
                pixels = turned_upright(pixels, {6: 8, 8: 6}.get(orientation, orientation))
            return pixels

        return one_at_a_time(image.width * image.height, decode)


def channels_of(image: Image.Image) -> NDArray[np.uint8]:
    """(H, W, 3) the first three channels of an RGB or RGBA image as they are."""
    return _pixels_of(image if image.mode == "RGB" else Image.merge("RGB", image.split()[:3]))


def _pixels_of(image: Image.Image) -> NDArray[np.uint8]:
    """(H, W, 3) RGB of a decoded image, some rows at a time: Pillow hands over a whole image by way of two copies."""
    width, height = image.size
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    for rows in row_blocks((height, width)):
        strip = image.crop((0, rows.start, width, min(rows.stop, height)))
        pixels[rows] = np.asarray(strip if strip.mode == "RGB" else strip.convert("RGB"))
    return pixels


def _pages(image: Image.Image, path: Path | ImageBytes) -> int:
    """Pages of a TIFF that have the size of the first: bands, or several images; overviews and masks do not count."""
    size, count = image.size, 1
    try:
        for place in range(1, min(getattr(image, "n_frames", 1), 64)):
            image.seek(place)
            tags: Any = image.tag_v2  # type: ignore[attr-defined]
            count += image.size == size and tags.get(254, 0) in (0, 2)
        image.seek(0)
    except Exception as error:  # a damaged list of pages raises what Pillow's parser raises
        raise ImageFileError(f"{path}: its pages cannot be read: {type(error).__name__}: {error}.") from None
    return count


def png_bytes(pixels: NDArray[Any]) -> bytes:
    """Return the bytes of a PNG of ids, (H, W) uint8 or uint16, or of an (H, W, 3) uint8 image."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="PNG")
    return buffer.getvalue()


def write_rgb(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write an (H, W, 3) uint8 image as PNG, whole or not at all."""
    with atomic_path(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG")
