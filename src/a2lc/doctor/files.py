"""What single files are: looked at, never changed, and never refused without saying what is there."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from a2lc.errors import ImageFileError, InputError
from a2lc.images.label_maps import colour_codes
from a2lc.images.multiband import read_deep
from a2lc.images.opening import open_image, orientation_of, row_blocks, stored_size
from a2lc.images.rgb import read_rgb
from a2lc.images.sources import DrawnMap, MapSource, PackedImage
from a2lc.io.files import sha256

__all__ = ["ImageFacts", "MapFacts", "look_at_image", "look_at_map"]

_MOST_COLOURS = 1024
"""Colours of one map that are remembered, the most frequent first: a photograph has more than anyone reads."""

_JPEG = frozenset({"JPEG", "MPO", "WEBP"})


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """What an image file is.

    Attributes:
        size: Width and height as stored; None if it cannot be read.
        orientation: EXIF orientation, 1 for upright.
        mode: Pillow's name for how pixels are stored.
        refused: Why it cannot be used as it is; None if it can.
        deep: Bands, lowest and highest value of an image of more than 8 bits or other than 1, 3 or 4 bands.
        digest: SHA-256 of the file.
        pixels: SHA-256 of size and decoded pixels, so that a copy in another container is seen.
    """

    size: tuple[int, int] | None = None
    orientation: int = 1
    mode: str = ""
    refused: str | None = None
    deep: tuple[int, float, float] | None = None
    digest: str = ""
    pixels: str = ""


@dataclass(frozen=True, kw_only=True)
class MapFacts:
    """What a label or mask map is.

    Attributes:
        size: Width and height; None if it cannot be read.
        kind: `ids`, `palette`, `wide` (16 bits), `colours`, `lossy`, `drawn` (from annotations), `other`.
        refused: Why it cannot be read as it is; None if it can.
        values: Pixels of each value, where values can be read.
        colours: Pixels of each colour, as red << 16 | green << 8 | blue, where it is coloured.
        palette: Colour of each used index, where it has a palette.
        smooth: Share of pixels of unknown values that lie between two other values, as smoothing makes them.
        digest: SHA-256 of the values, empty where there are fewer than two.
    """

    size: tuple[int, int] | None = None
    kind: str = "other"
    refused: str | None = None
    values: dict[int, int] = field(default_factory=dict)
    colours: dict[int, int] = field(default_factory=dict)
    palette: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    smooth: float = 0.0
    digest: str = ""


def look_at_image(source: Path | PackedImage, max_pixels: int) -> ImageFacts:
    """Read an image file as far as it can be read.

    Images that lie elsewhere are not fetched: only what there is on this machine is looked at.
    """
    if isinstance(source, PackedImage):
        return ImageFacts(size=None, mode="packed")
    digest = ""
    try:
        digest = sha256(source)
        deep = read_deep(source, max_pixels)
        if deep is not None:
            height, width, bands = deep.shape
            finite = deep[np.isfinite(deep)] if deep.dtype.kind == "f" else deep
            low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
            return ImageFacts(
                size=(width, height),
                orientation=orientation_of(source, max_pixels),
                mode=str(deep.dtype),
                refused=f"{source}: {bands} bands of type {deep.dtype}, values {low:g}..{high:g}.",
                deep=(bands, low, high),
                digest=digest,
            )
        with open_image(source, max_pixels) as image:
            mode = image.mode
        width, height, orientation = stored_size(source, max_pixels)
        pixels = read_rgb(source, max_pixels=max_pixels)
    except (InputError, OSError) as error:
        return ImageFacts(refused=_said(error, source), digest=digest)
    # The shape counts: pictures of one colour and of different sizes are not the same.
    code = hashlib.sha256(repr(pixels.shape).encode())
    code.update(np.ascontiguousarray(pixels).data)
    return ImageFacts(size=(width, height), orientation=orientation, mode=mode, digest=digest, pixels=code.hexdigest())


def look_at_map(
    source: MapSource, read: Callable[[MapSource], NDArray[Any]], known: Collection[int] | None, max_pixels: int
) -> MapFacts:
    """Read a label map as far as it can be read.

    Args:
        source: The file, or what draws it.
        read: Reads it as the import would.
        known: Values that mean something; None if nobody said.
        max_pixels: Larger ones are not decoded.
    """
    try:
        values = read(source)
    except (InputError, OSError) as error:
        if isinstance(source, DrawnMap):
            return MapFacts(kind="drawn", refused=_said(error, source))
        return _refused_map(source, _said(error, source), max_pixels)
    if isinstance(source, DrawnMap):
        return _of_values(values, "drawn", known, {})
    kind, palette = "ids", {}
    if source.suffix.lower() != ".npy":
        with open_image(source, max_pixels) as image:
            if image.mode == "P":
                kind, palette = "palette", _palette(image, values)
    if values.dtype == np.uint16:
        kind = "wide"
    return _of_values(values, kind, known, palette)


def _said(error: Exception, source: object) -> str:
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, FileNotFoundError):
        return f"{source}: missing, or a broken link."
    return f"{source}: {getattr(error, 'strerror', None) or error}."


def _of_values(
    values: NDArray[Any], kind: str, known: Collection[int] | None, palette: dict[int, tuple[int, int, int]]
) -> MapFacts:
    counts: Counter[int] = Counter()
    marks = None if known is None else np.fromiter(known, dtype=np.int64)
    strange = between = 0
    for rows in row_blocks(values.shape):
        block = values[rows]
        found, pixels = np.unique(block, return_counts=True)
        counts.update(dict(zip(found.tolist(), pixels.tolist(), strict=True)))
        if marks is not None and not np.isin(found, marks).all():
            unknown = ~np.isin(block, marks)
            strange += int(unknown.sum())
            between += int(_between(block)[unknown].sum())
    code = hashlib.sha256(repr((values.shape, values.dtype)).encode())
    if len(counts) > 1:
        code.update(np.ascontiguousarray(values).data)
    return MapFacts(
        size=(values.shape[1], values.shape[0]),
        kind=kind,
        values=dict(sorted(counts.items())),
        palette=palette,
        smooth=between / max(strange, 1),
        digest=code.hexdigest() if len(counts) > 1 else "",
    )


def _between(values: NDArray[Any]) -> NDArray[np.bool_]:
    """(H, W) pixels whose value lies strictly between those of two neighbours on opposite sides."""
    wide = np.pad(values.astype(np.int64), 1, mode="edge")
    here = wide[1:-1, 1:-1]
    left, right, up, down = wide[1:-1, :-2], wide[1:-1, 2:], wide[:-2, 1:-1], wide[2:, 1:-1]
    found: NDArray[np.bool_] = ((left - here) * (right - here) < 0) | ((up - here) * (down - here) < 0)
    return found


def _palette(image: Image.Image, values: NDArray[Any]) -> dict[int, tuple[int, int, int]]:
    flat = image.getpalette("RGB") or []
    used = [value for value in np.unique(values).tolist() if 3 * value + 2 < len(flat)]
    return {value: (flat[3 * value], flat[3 * value + 1], flat[3 * value + 2]) for value in used}


def _refused_map(source: Path, reason: str, max_pixels: int) -> MapFacts:
    """Return what is known of a map that cannot be read as ids: its colours, or that it is lossy."""
    try:
        with open_image(source, max_pixels) as image:
            size, lossy, mode = image.size, image.format in _JPEG, image.mode
        if lossy:
            pixels = read_rgb(source, max_pixels=max_pixels)
            return MapFacts(size=size, kind="lossy", refused=reason, colours=_colours(pixels))
        if mode in {"RGB", "RGBA"} and "transparent" not in reason:
            pixels = read_rgb(source, max_pixels=max_pixels)
            return MapFacts(size=size, kind="colours", refused=reason, colours=_colours(pixels))
    except (ImageFileError, OSError):
        return MapFacts(refused=reason)
    return MapFacts(size=size, refused=reason)


def _colours(pixels: NDArray[np.uint8]) -> dict[int, int]:
    counts: Counter[int] = Counter()
    for rows in row_blocks(pixels.shape):
        found, number = np.unique(colour_codes(pixels[rows]), return_counts=True)
        # A photograph has a million colours; the frequent ones are what tells something.
        order = np.argsort(-number, kind="stable")[: 16 * _MOST_COLOURS]
        counts.update(dict(zip(found[order].tolist(), number[order].tolist(), strict=True)))
    return dict(counts.most_common(_MOST_COLOURS))
