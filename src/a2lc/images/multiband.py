"""Read images of many bands or more than 8 bits, and stretch them to 8-bit RGB."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.errors import ImageFileError, InputError
from a2lc.images.limits import MAX_PIXELS
from a2lc.images.opening import TIFF, decode_image, open_image, png_header

__all__ = ["Stretch", "read_deep", "stretched"]


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

    @classmethod
    def parse(cls, text: str) -> Stretch:
        """Return the stretch that a text describes: the inverse of `str`.

        Raises:
            InputError: It is not LOW:HIGH, both with a percent sign or none.

        Example:
            >>> Stretch.parse("2%:98%")
            Stretch(low=2.0, high=98.0, percent=True)
        """
        low, _, high = text.partition(":")
        percent = low.endswith("%") and high.endswith("%")
        try:
            first, last = (float(part.rstrip("%") if percent else part) for part in (low, high))
        except ValueError:
            first = last = math.nan
        if not (math.isfinite(first) and math.isfinite(last) and first < last) or (
            percent and not 0 <= first < last <= 100
        ):
            raise InputError(f"`stretch` {text}: expected LOW:HIGH with LOW below HIGH, such as 0:3000 or 2%:98%.")
        return cls(first, last, percent)

    def __str__(self) -> str:
        """Return the text that the command line takes."""
        unit = "%" if self.percent else ""
        return f"{self.low:.12g}{unit}:{self.high:.12g}{unit}"


def read_deep(path: Path, max_pixels: int = MAX_PIXELS, *, every: bool = False) -> NDArray[Any] | None:
    """Read all bands of an image of more than 8 bits, or of other than 1, 3 or 4 bands, as stored.

    Args:
        path: A TIFF, or a grey PNG of 16 bits.
        max_pixels: Larger ones are refused.
        every: Also read a TIFF that `read_rgb` takes.

    Returns:
        (H, W, B), of the type they are stored in; None for an image that `read_rgb` takes.

    Raises:
        ImageFileError: It cannot be read.
    """
    if path.suffix.lower() not in TIFF:
        depth, colour_type = png_header(path)
        if depth != 16:
            return None
        if colour_type not in (0, 4):
            raise ImageFileError(
                f"{path}: colour PNG with 16 bits per channel. Save it as TIFF, which is read exactly."
            )
        with open_image(path, max_pixels) as image:
            decode_image(image, path)
            return np.array(image).astype(np.uint16)[..., None]
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            # Bands may be pages of one series, or samples of one page; other series are overviews.
            series = file.series[0]
            axes, shape = series.axes, series.shape
            area = math.prod(sorted(shape)[-2:])
            if area > max_pixels or math.prod(shape) > 64 * max_pixels:
                raise ImageFileError(f"{path}: {shape} is over the limit of {max_pixels:,} pixels. Raise `max_pixels`.")
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
        raise ImageFileError(f"{path}: values of type {values.dtype}; expected integers or floats.")
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
        f"{path}: an array of {first} x {middle} x {last} in which the axis of the bands is ambiguous. Write "
        "it again with photometric='minisblack', and planarconfig='contig' for rows x columns x bands, or "
        "'separate' for bands first."
    )


def _ordinary(axes: str, shape: Sequence[int]) -> bool:
    """Whether a TIFF is one grey or coloured picture: samples of one page, not pages."""
    if len(axes) == 2:
        return True
    band = _band_axis(axes)
    return shape[band] == 1 or (axes[band] == "S" and shape[band] in (3, 4))


def _band_axis(axes: str) -> int:
    return next(place for place, axis in enumerate(axes) if axis not in "YX")


def stretched(
    values: NDArray[Any], bands: Sequence[int] | None, stretch: Stretch | None, path: Path
) -> tuple[NDArray[np.uint8], str]:
    """Return an image of any number of bands and bits as RGB of 8 bits, by the stretch that is given.

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
            raise ImageFileError(
                f"{path}: {count} bands. Set `bands` to those that are red, green and blue, such as 4,3,2."
            )
        bands = (1,) if count == 1 else (1, 2, 3)
    if len(bands) not in (1, 3) or not all(1 <= band <= count for band in bands):
        raise ImageFileError(f"{path}: has bands 1..{count}, but `bands` is {','.join(map(str, bands))}.")
    chosen = values[..., [band - 1 for band in bands]]
    finite = np.isfinite(chosen) if chosen.dtype.kind == "f" else None
    said = f"bands {','.join(map(str, bands))}"
    if stretch is None:
        if chosen.dtype != np.uint8:
            found = chosen[finite] if finite is not None else chosen
            low, high = (found.min(), found.max()) if found.size else (0, 1)
            raise ImageFileError(
                f"{path}: values of type {chosen.dtype}, {low:g}..{high:g}. Set which values become black and "
                f"white: `stretch` {low:g}:{high:g} for all images, or `stretch` 2%:98% for each image separately."
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
