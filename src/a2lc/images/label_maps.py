"""Read and write label maps: whole numbers, one per pixel."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from a2lc.errors import ImageFileError
from a2lc.images.limits import MAX_PIXELS
from a2lc.images.opening import LOSSY, ImageBytes, decode_image, forget_threads, open_image, png_header, row_blocks
from a2lc.images.rgb import channels_of, read_rgb
from a2lc.io.files import atomic_path

__all__ = ["colour_codes", "read_ids", "read_snapped", "write_ids"]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget_threads)


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
                f"{path}: colour-coded, with blurred colours. Set `colours` to read it through the colours of the "
                "classes file."
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
            f"{path}: {far_pixels:,} pixels differ by up to {farthest} from every known value, but `snap` allows "
            f"{distance}. Raise `snap`, or find the maps as they were before compression."
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
        if image.format in LOSSY:
            raise ImageFileError(
                f"{path}: {image.format} blurs values at every edge, so it cannot store ids. Save the map as PNG, "
                "or set `snap` to N to read each pixel as the known value within N of it."
            )
        if image.format == "GIF":
            raise ImageFileError(
                f"{path}: GIF writers renumber palettes, so its ids are not reliable. Save the map as PNG."
            )
        if getattr(image, "n_frames", 1) > 1:
            raise ImageFileError(f"{path} contains {getattr(image, 'n_frames', 1)} frames; expected one map per file.")
        depth, colour_type = png_header(path)
        if image.format == "TIFF":
            tags: Any = image.tag_v2  # type: ignore[attr-defined]
            bits = tags.get(258, (1,))
            depth = int(bits[0] if isinstance(bits, tuple) else bits)
            if tags.get(262) == 0:
                raise ImageFileError(
                    f"{path}: a TIFF in which 0 is white, so its ids would be inverted. Save it as PNG."
                )
        if depth == 16 and image.format == "PNG" and colour_type != 0:
            raise ImageFileError(
                f"{path}: colour with 16 bits per channel cannot be read exactly. Save ids as 16-bit grey."
            )
        mode = image.mode
        decode_image(image, path)
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
                        f"{path}: has transparent pixels, whose meaning is unknown. Save it without alpha."
                    )
            pixels = channels_of(image)
            if (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all():
                return np.ascontiguousarray(pixels[..., 0])
            if colours is None:
                raise ImageFileError(
                    f"{path}: colour-coded ({mode}). Set `colours` to read it through the colours of the classes "
                    "file, or save it with one id per pixel."
                )
            return _from_colours(pixels, colours, path)
        raise ImageFileError(
            f"{path}: mode {mode} cannot store ids. Save it as 8-bit or 16-bit grey, or with a palette."
        )


def _read_npy(path: Path, max_pixels: int) -> NDArray[Any]:
    """Read a 2-D array of whole numbers; its header is checked before memory is taken, and nothing is unpickled."""
    with path.open("rb") as file:
        if file.read(6) != b"\x93NUMPY":
            raise ImageFileError(f"{path}: not a file with one NumPy array.")
    try:
        # A map: a header that promises more than the file holds is refused here, and nothing is read yet.
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # its header is parsed as Python is, and a damaged one raises what that raises
        text = " ".join(str(error).split())[:200]
        raise ImageFileError(f"{path}: cannot be read as a NumPy array: {text or type(error).__name__}.") from None
    shape = " x ".join(map(str, getattr(stored, "shape", ())))
    if not isinstance(stored, np.ndarray) or stored.ndim != 2 or stored.dtype.kind not in "uib" or not stored.size:
        kind = getattr(stored, "dtype", type(stored).__name__)
        raise ImageFileError(f"{path}: array of {shape or 'no shape'}, {kind}; expected rows x columns of integers.")
    if stored.size > max_pixels:
        raise ImageFileError(f"{path}: {shape} is over the limit of {max_pixels:,} pixels. Raise `max_pixels`.")
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
            f"{path}: colour ({worst >> 16}, {worst >> 8 & 255}, {worst & 255}) on {count:,} pixels is not a "
            f"colour of any class ({len(others)} such colours). Add it to the classes file."
        )
    return mapped


def colour_codes(pixels: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Red << 16 | green << 8 | blue of (..., 3) pixels, in 32 bits: arithmetic in 8 overflows silently with NumPy 2."""
    code: NDArray[np.uint32] = pixels[..., 0].astype(np.uint32) << np.uint32(16)
    code |= pixels[..., 1].astype(np.uint32) << np.uint32(8)
    code |= pixels[..., 2].astype(np.uint32)
    return code


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
