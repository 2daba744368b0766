"""Image files read strictly: a file is read right or refused with the reason, never converted silently.

The only code that decodes and encodes images.
"""

from __future__ import annotations

import io
import math
import os
import struct
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from a2lc.errors import ImageFileError
from a2lc.files import atomic_path

__all__ = [
    "ID_SUFFIXES",
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "ImageBytes",
    "Stretch",
    "colour_codes",
    "exif_orientation",
    "is_lossy",
    "one_at_a_time",
    "open_image",
    "orientation_of",
    "png_bytes",
    "read_deep",
    "read_ids",
    "read_rgb",
    "read_snapped",
    "row_blocks",
    "stored_size",
    "stretched",
    "turned_upright",
    "write_ids",
    "write_rgb",
]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
"""Suffixes of files that are taken for images."""

ID_SUFFIXES = frozenset({".png", ".bmp", ".tif", ".tiff", ".npy", ".gif", ".jpg", ".jpeg", ".webp"})
"""Suffixes of files that are taken for label or mask maps; lossy ones are found so that they can be refused."""

MAX_PIXELS = 8192 * 8192
"""Images above this are refused before they are decoded: 192 MiB of 24-bit pixels."""

_T = TypeVar("_T")
_LARGE = 1 << 24
_ALONE: list[ThreadPoolExecutor] = []
_NAME = "a2lc-large"


def _forget_threads() -> None:
    """A forked process has none of its parent's threads."""
    _ALONE.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)


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


_LOSSY = frozenset({"JPEG", "MPO", "WEBP"})
_TIFF = frozenset({".tif", ".tiff"})
_EXIF_ORIENTATION = 0x0112
_DEEP = (
    "Say how they become 8: --stretch LOW:HIGH, and --bands R,G,B if there are more than three; or save it with 8 bits."
)
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
        """What messages call it."""
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
            " If it is a TIFF of many bands or bits, pass --bands and --stretch."
            if path.suffix.lower() in _TIFF
            else ""
        )
        raise ImageFileError(f"{path}: not an image that can be read ({_size_of(path):,} bytes).{hint}") from None
    except FileNotFoundError:
        raise
    except (OSError, ValueError, SyntaxError, struct.error) as error:
        raise ImageFileError(f"{path}: cannot be read as an image: {error}.") from None
    width, height = image.size
    if width * height > max_pixels:
        image.close()
        raise ImageFileError(
            f"{path}: {width} x {height} = {width * height:,} pixels is over the limit of {max_pixels:,}. "
            "Raise --max-pixels if the file is what it should be."
        )
    return image


def _decode(image: Image.Image, path: Path | ImageBytes) -> None:
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
        return image.format in _LOSSY


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
    if path.suffix.lower() not in _TIFF:
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
            raise ImageFileError(f"{path}: more than 8 bits a channel (mode {image.mode}). {_DEEP}")
        if _png_header(path)[0] == 16:
            raise ImageFileError(f"{path}: 16 bits a channel. {_DEEP}")
        if image.format == "TIFF" and (pages := _pages(image, path)) > 1:
            raise ImageFileError(
                f"{path}: holds {pages} pages of one size. If they are bands, pass --bands R,G,B; or save one image a file."
            )
        orientation = exif_orientation(image) if image.format == "TIFF" else 1

        def decode() -> NDArray[np.uint8]:
            _decode(image, path)
            pixels = _pixels_of(ImageOps.exif_transpose(image) if upright else image)
            if not upright and orientation != 1 and exif_orientation(image) == 1:
                # Pillow turns a TIFF while it decodes it, and no other format: turned back, it is as stored.
                pixels = turned_upright(pixels, {6: 8, 8: 6}.get(orientation, orientation))
            return pixels

        return one_at_a_time(image.width * image.height, decode)


def _channels_of(image: Image.Image) -> NDArray[np.uint8]:
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


@dataclass(frozen=True)
class Stretch:
    """Which values of a band become 0 and 255.

    Attributes:
        low: The value that becomes 0, or, with `percent`, the share of pixels below it in percent.
        high: The value that becomes 255, likewise.
        percent: Both are percentiles of each band of each image.
    """

    low: float
    high: float
    percent: bool = False

    def __str__(self) -> str:
        """As the command line takes it."""
        unit = "%" if self.percent else ""
        return f"{self.low:.12g}{unit}:{self.high:.12g}{unit}"


def read_deep(path: Path, max_pixels: int = MAX_PIXELS, *, every: bool = False) -> NDArray[Any] | None:
    """All bands of an image of more than 8 bits, or of other than 1, 3 or 4 bands, as stored.

    Args:
        path: A TIFF, or a grey PNG of 16 bits.
        max_pixels: Larger ones are refused.
        every: Also read a TIFF that `read_rgb` takes.

    Returns:
        (H, W, B), of the type they are stored in; None for an image that `read_rgb` takes.

    Raises:
        ImageFileError: It cannot be read.
    """
    if path.suffix.lower() not in _TIFF:
        depth, colour_type = _png_header(path)
        if depth != 16:
            return None
        if colour_type not in (0, 4):
            raise ImageFileError(f"{path}: colour PNG of 16 bits a channel; save it as TIFF, which is read exactly.")
        with open_image(path, max_pixels) as image:
            _decode(image, path)
            return np.array(image).astype(np.uint16)[..., None]
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            # Bands may be pages of one series, or samples of one page; other series are overviews.
            series = file.series[0]
            axes, shape = series.axes, series.shape
            area = math.prod(sorted(shape)[-2:])
            if area > max_pixels or math.prod(shape) > 64 * max_pixels:
                raise ImageFileError(f"{path}: {shape} is over the limit of {max_pixels:,} pixels. Raise --max-pixels.")
            if not {"Y", "X"} <= set(axes) or len(axes) > 3:
                raise ImageFileError(f"{path}: has axes {axes}; expected one image of rows, columns and bands.")
            if len(axes) == 3 and axes[0] == "Q":
                axes = _shaped_axes(axes, shape, path)
            if not every and series.dtype == np.uint8 and _ordinary(axes, shape):
                return None
            values = series.asarray()
    except ImageFileError:
        raise
    except Exception as error:  # a damaged file makes tifffile raise what its parsers raise
        raise ImageFileError(f"{path}: cannot be read as TIFF: {type(error).__name__}: {error}.") from None
    values = values[..., None] if values.ndim == 2 else np.moveaxis(values, _band_axis(axes), -1)
    if values.dtype.kind not in "uif":
        raise ImageFileError(f"{path}: values of type {values.dtype}; expected whole or real numbers.")
    return np.ascontiguousarray(values)


def _shaped_axes(axes: str, shape: Sequence[int], path: Path) -> str:
    """Axes of an array of three dimensions that tifffile wrote as pages, without being told which are bands.

    It takes the last two for rows and columns; an array of rows, columns and bands lies in such a file just so. Bands are
    fewer than rows and columns: the first or the last axis, whichever is shorter than both others.

    Raises:
        ImageFileError: None is.
    """
    first, middle, last = shape
    if first < min(middle, last):
        return axes
    if last < min(first, middle):
        return "YXQ"
    raise ImageFileError(
        f"{path}: {first} x {middle} x {last} without a word on which are bands. Write it again with "
        "photometric='minisblack', and planarconfig='contig' for rows x columns x bands, or 'separate' for bands first."
    )


def _ordinary(axes: str, shape: Sequence[int]) -> bool:
    """Whether a TIFF is one grey or coloured picture: samples of one page, not pages."""
    if len(axes) == 2:
        return True
    band = _band_axis(axes)
    return shape[band] == 1 or (axes[band] == "S" and shape[band] in (3, 4))


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


def _band_axis(axes: str) -> int:
    return next(place for place, axis in enumerate(axes) if axis not in "YX")


def stretched(
    values: NDArray[Any], bands: Sequence[int] | None, stretch: Stretch | None, path: Path
) -> tuple[NDArray[np.uint8], str]:
    """An image of any number of bands and bits as RGB of 8 bits, by a stretch that is said.

    Args:
        values: (H, W, B) as stored.
        bands: The bands that become red, green and blue, or the one that becomes grey, from 1; by default the first three,
            or the only one.
        stretch: Which values become 0 and 255; needed but for bands of 8 bits. Values that are not finite become 0.
        path: What messages name.

    Returns:
        (H, W, 3), and what was done in words.

    Raises:
        ImageFileError: There is no such band, or nothing says how many bits become 8.
    """
    count = values.shape[2]
    if bands is None:
        if count not in (1, 3, 4):
            raise ImageFileError(f"{path}: {count} bands. Say which are red, green and blue, such as --bands 4,3,2.")
        bands = (1,) if count == 1 else (1, 2, 3)
    if len(bands) not in (1, 3) or not all(1 <= band <= count for band in bands):
        raise ImageFileError(f"{path}: has bands 1..{count}, and --bands {','.join(map(str, bands))} asks for others.")
    chosen = values[..., [band - 1 for band in bands]]
    finite = np.isfinite(chosen) if chosen.dtype.kind == "f" else None
    said = f"bands {','.join(map(str, bands))}"
    if stretch is None:
        if chosen.dtype != np.uint8:
            found = chosen[finite] if finite is not None else chosen
            low, high = (found.min(), found.max()) if found.size else (0, 1)
            raise ImageFileError(
                f"{path}: values of type {chosen.dtype}, {low:g}..{high:g}. Say which become black and white: "
                f"--stretch {low:g}:{high:g} for all images, or --stretch 2%:98% for each."
            )
        eight = chosen
    else:
        eight = np.zeros(chosen.shape, dtype=np.uint8)
        for place in range(len(bands)):
            band = chosen[..., place].astype(np.float64)
            good = np.isfinite(band)
            low, high = stretch.low, stretch.high
            if stretch.percent:
                low, high = np.percentile(band[good], [low, high]) if good.any() else (0.0, 1.0)
            scaled = (np.where(good, band, low) - low) / max(high - low, np.finfo(np.float64).tiny)
            eight[..., place] = np.rint(255 * np.clip(scaled, 0, 1))
        said += f", stretched {stretch}"
    return np.ascontiguousarray(np.broadcast_to(eight, (*eight.shape[:2], 3))), said


def read_snapped(
    path: Path,
    known: Sequence[int],
    distance: int,
    *,
    colours: Sequence[tuple[tuple[int, int, int], int]] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> tuple[NDArray[Any], int]:
    """Read a label map whose values were blurred by lossy compression, each pixel as the nearest known value or colour.

    Args:
        path: JPEG or WebP.
        known: Values that may be there, 0..255.
        distance: How far a value, or a channel of a colour, may lie from a known one.
        colours: Pairs of RGB colour and the value it stands for, for coloured files.
        max_pixels: Larger ones are refused.

    Returns:
        (H, W) values, of 8 bits unless a colour stands for a larger one, and how many pixels were moved.

    Raises:
        ImageFileError: It cannot be read, or a pixel lies farther from all that is known.
    """
    pixels = read_rgb(path, max_pixels=max_pixels)
    grey = bool(((pixels[..., 0] == pixels[..., 1]) & (pixels[..., 0] == pixels[..., 2])).all())
    if grey or colours is None:
        if not grey:
            raise ImageFileError(
                f"{path}: colour-coded, and blurred. Pass --colours to read it through the colours of the classes file."
            )
        places = np.array([value for value in known if value <= 255], dtype=np.int16)[:, None]
        stands, pixels = places[:, 0].astype(np.uint16), pixels[..., :1]
    else:
        places = np.array([colour for colour, _ in colours], dtype=np.int16)
        stands = np.array([value for _, value in colours], dtype=np.uint16)
    shape = pixels.shape[:2]
    values = np.empty(shape, dtype=stands.dtype)
    far_pixels = moved = farthest = 0
    for rows in row_blocks(shape):
        # Colours of a blurred map are many, but far fewer than its pixels.
        block = pixels[rows].astype(np.int16)
        found, where = np.unique(block.reshape(-1, block.shape[2]), axis=0, return_inverse=True)
        nearest = np.empty(len(found), dtype=np.int64)
        away = np.empty(len(found), dtype=np.int64)
        for start in range(0, len(found), 4096):
            gaps = np.abs(found[start : start + 4096, None, :].astype(np.int32) - places[None]).max(axis=2)
            nearest[start : start + 4096] = gaps.argmin(axis=1)
            away[start : start + 4096] = gaps.min(axis=1)
        counts = np.bincount(where.ravel(), minlength=len(found))
        far_pixels += int(counts[away > distance].sum())
        moved += int(counts[away > 0].sum())
        farthest = max(farthest, int(away.max(initial=0)))
        values[rows] = stands[nearest][where.ravel()].reshape(block.shape[:2])
    if far_pixels:
        raise ImageFileError(
            f"{path}: {far_pixels:,} pixels lie up to {farthest} from every known value, and --snap allows {distance}. Allow "
            "more, or find the maps as they were before they were compressed."
        )
    return values.astype(np.uint8) if not stands.size or stands.max() <= 255 else values, moved


def read_ids(
    path: Path | ImageBytes,
    *,
    colours: Sequence[tuple[tuple[int, int, int], int]] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> NDArray[Any]:
    """Read a label or mask map: one whole number a pixel.

    Palette files give their indices, grey ones their values at the stored depth, 16-bit ones all 16 bits. Three
    equal channels are one. Coloured files are read through `colours` or refused.

    Args:
        path: PNG, BMP or TIFF, a file or the bytes of one; or a file of NumPy's, `.npy`, of whole numbers.
        colours: Pairs of RGB colour and the value it stands for, to read coloured files.
        max_pixels: Larger ones are refused.

    Returns:
        (H, W) uint8 or uint16.

    Raises:
        ImageFileError: It cannot be read without a guess; the message says why and what to do.
    """
    if isinstance(path, Path) and path.suffix.lower() == ".npy":
        return _read_npy(path, max_pixels)
    with open_image(path, max_pixels) as image:
        if image.format in _LOSSY:
            raise ImageFileError(
                f"{path}: {image.format} blurs values at every edge, so it cannot hold ids. Save the map as PNG, or pass "
                "--snap N to read each pixel as the known value within N of it."
            )
        if image.format == "GIF":
            raise ImageFileError(
                f"{path}: GIF writers renumber palettes, so its ids are not sure. Save the map as PNG."
            )
        if getattr(image, "n_frames", 1) > 1:
            raise ImageFileError(f"{path}: holds {getattr(image, 'n_frames', 1)} frames; expected one map a file.")
        depth, colour_type = _png_header(path)
        if image.format == "TIFF":
            tags: Any = image.tag_v2  # type: ignore[attr-defined]
            bits = tags.get(258, (1,))
            depth = int(bits[0] if isinstance(bits, tuple) else bits)
            if tags.get(262) == 0:
                raise ImageFileError(
                    f"{path}: a TIFF whose 0 is white: its ids would come out inverted. Save it as PNG."
                )
        if depth == 16 and image.format == "PNG" and colour_type != 0:
            raise ImageFileError(
                f"{path}: colour with 16 bits a channel cannot be read exactly. Save ids as 16-bit grey."
            )
        mode = image.mode
        _decode(image, path)
        if mode == "P":
            return np.array(image)
        if mode == "1":
            return np.array(image, dtype=np.uint8)
        if mode == "L":
            values = np.array(image)
            # Pillow stretches grey PNGs and TIFFs of 2 and 4 bits to 0..255; the ids are what was stored.
            return values // {2: 85, 4: 17}.get(depth, 1) if depth else values
        if mode.startswith("I;16") or mode == "I":
            wide = np.array(image).astype(np.int64)
            if wide.size and (wide.min() < 0 or wide.max() > 65535):
                worst = int(wide.min() if wide.min() < 0 else wide.max())
                raise ImageFileError(f"{path}: value {worst} does not fit 16 bits.")
            return wide.astype(np.uint16)
        if mode in {"RGB", "RGBA"}:
            if mode == "RGBA":
                low, high = image.getchannel("A").getextrema()
                if low != high:
                    raise ImageFileError(
                        f"{path}: has transparent parts; what they mean is not known. Save without alpha."
                    )
            pixels = _channels_of(image)
            if (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all():
                return np.ascontiguousarray(pixels[..., 0])
            if colours is None:
                raise ImageFileError(
                    f"{path}: colour-coded ({mode}). Pass --colours to read it through the colours of the classes file, "
                    "or save it with one id a pixel."
                )
            return _from_colours(pixels, colours, path)
        raise ImageFileError(
            f"{path}: mode {mode} cannot hold ids. Save it as 8-bit or 16-bit grey, or with a palette."
        )


def _read_npy(path: Path, max_pixels: int) -> NDArray[Any]:
    """An array of whole numbers of two dimensions; its header is checked before memory is taken, and nothing is unpickled."""
    with path.open("rb") as file:
        if file.read(6) != b"\x93NUMPY":
            raise ImageFileError(f"{path}: not a file of one NumPy array.")
    try:
        # A map: a header that promises more than the file holds is refused here, and nothing is read yet.
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # its header is parsed as Python is, and a damaged one raises what that raises
        text = " ".join(str(error).split())[:200]
        raise ImageFileError(
            f"{path}: cannot be read as an array of NumPy's: {text or type(error).__name__}."
        ) from None
    shape = " x ".join(map(str, getattr(stored, "shape", ())))
    if not isinstance(stored, np.ndarray) or stored.ndim != 2 or stored.dtype.kind not in "uib" or not stored.size:
        kind = getattr(stored, "dtype", type(stored).__name__)
        raise ImageFileError(
            f"{path}: array of {shape or 'no shape'}, {kind}; expected rows x columns of whole numbers."
        )
    if stored.size > max_pixels:
        raise ImageFileError(f"{path}: {shape} is over the limit of {max_pixels:,} pixels. Raise --max-pixels.")
    low, high = int(stored.min()), int(stored.max())
    if low < 0 or high > 65535:
        raise ImageFileError(f"{path}: value {low if low < 0 else high} does not fit 16 bits.")
    return np.array(stored, dtype=np.uint16 if high > 255 else np.uint8)


def _from_colours(
    pixels: NDArray[np.uint8], colours: Sequence[tuple[tuple[int, int, int], int]], path: Path | ImageBytes
) -> NDArray[Any]:
    known = np.array([red << 16 | green << 8 | blue for (red, green, blue), _ in colours], dtype=np.uint32)
    values = np.array([value for _, value in colours], dtype=np.uint16)
    order = np.argsort(known)
    known, values = known[order], values[order]
    mapped = np.empty(pixels.shape[:2], dtype=np.uint16)
    others: Counter[int] = Counter()
    for rows in row_blocks(pixels.shape):
        code = colour_codes(pixels[rows])
        place = np.minimum(np.searchsorted(known, code), len(known) - 1)
        found = known[place] == code
        if not found.all():
            other, counts = np.unique(code[~found], return_counts=True)
            others.update(dict(zip(other.tolist(), counts.tolist(), strict=True)))
        mapped[rows] = values[place]
    if others:
        ((worst, count),) = others.most_common(1)
        raise ImageFileError(
            f"{path}: colour ({worst >> 16}, {worst >> 8 & 255}, {worst & 255}) on {count:,} pixels is none of the classes' "
            f"colours ({len(others)} such colours). Add it to the classes file."
        )
    return mapped


def colour_codes(pixels: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Red << 16 | green << 8 | blue of (..., 3) pixels, in 32 bits: arithmetic in 8 overflows silently with NumPy 2."""
    code: NDArray[np.uint32] = pixels[..., 0].astype(np.uint32) << np.uint32(16)
    code |= pixels[..., 1].astype(np.uint32) << np.uint32(8)
    code |= pixels[..., 2].astype(np.uint32)
    return code


def row_blocks(shape: Sequence[int]) -> Iterator[slice]:
    """Rows of an image, some at a time: what is computed of four million pixels does not fill the memory."""
    rows = max(1, (1 << 22) // max(1, shape[1]))
    for start in range(0, shape[0], rows):
        yield slice(start, start + rows)


def _png_header(path: Path | ImageBytes) -> tuple[int, int]:
    """Bit depth and colour type of a PNG; (0, -1) for other files."""
    if isinstance(path, ImageBytes):
        head = path.data[:26]
    else:
        with path.open("rb") as file:
            head = file.read(26)
    if len(head) < 26 or head[:8] != b"\x89PNG\r\n\x1a\n":
        return 0, -1
    return head[24], head[25]


def write_ids(path: Path, ids: NDArray[Any], palette: Sequence[int] | None = None) -> None:
    """Write a map of ids as PNG, whole or not at all: 8 bits, with a palette if given, or 16 bits grey.

    Args:
        path: Where to.
        ids: (H, W) uint8 or uint16.
        palette: 768 numbers, RGB by id; only for uint8.
    """
    image = Image.fromarray(np.ascontiguousarray(ids))
    if palette is not None and ids.dtype == np.uint8:
        image.putpalette(list(palette))
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG")


def png_bytes(pixels: NDArray[Any]) -> bytes:
    """The bytes of a PNG of ids, (H, W) uint8 or uint16, or of an (H, W, 3) uint8 image."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="PNG")
    return buffer.getvalue()


def write_rgb(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write an (H, W, 3) uint8 image as PNG, whole or not at all."""
    with atomic_path(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG")
