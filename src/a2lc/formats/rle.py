"""Run lengths of masks as other tools write them: Label Studio's brush, CVAT's boxes, and COCO's (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from a2lc.errors import InputError

__all__ = [
    "Box",
    "box_of_mask",
    "brush_of_mask",
    "coco_counts",
    "decode_brush",
    "decode_coco",
    "encode_brush",
    "mask_of_box",
    "mask_of_brush",
    "mask_of_counts",
]

_SIZES = np.array([3, 4, 8, 16], dtype=np.int64)  # bits for a length, of which each record takes one
_WORD = 8  # bits for a value
_HEADER = 32 + 5 + 4 * 4


@dataclass(frozen=True, kw_only=True)
class Box:
    """A mask in its bounding box, as CVAT writes it.

    Attributes:
        left: First column.
        top: First row.
        width: Columns.
        height: Rows.
        runs: Lengths of runs row by row inside the box: background, mask, background, and so on. The first may be 0.
    """

    left: int
    top: int
    width: int
    height: int
    runs: tuple[int, ...]


def encode_brush(values: NDArray[np.uint8]) -> list[int]:
    """Bytes as a bit stream of runs.

    The stream: 32 bits number of values, 5 bits word size less 1, four times 4 bits the sizes of lengths less 1, then
    records. A record: 1 bit whether it is one value repeated, 2 bits which size its length has, the length less 1, and
    that value, or that many values. Zeros fill the last byte.

    Args:
        values: (n,), n below 2³².

    Returns:
        The bytes of the stream.

    Source:
        `encode_rle` of label-studio-converter's brush.py, after rle-pack of thi.ng/umbrella.

    Example:
        >>> encode_brush(np.array([1, 1, 1, 1, 2], dtype=np.uint8))
        [0, 0, 0, 5, 57, 27, 252, 96, 32, 1, 0]
    """
    starts = np.flatnonzero(np.diff(values, prepend=np.uint8(0)) != 0)
    if len(values) and (not len(starts) or starts[0]):
        starts = np.concatenate([[0], starts])
    lengths = np.diff(np.append(starts, len(values)))
    most = 1 << int(_SIZES[-1])
    pieces = -(-lengths // most)
    sizes = np.full(int(pieces.sum()), most, dtype=np.int64)
    sizes[np.cumsum(pieces) - 1] = lengths - (pieces - 1) * most
    said = np.repeat(values[starts].astype(np.int64), pieces)
    kind = np.searchsorted(1 << _SIZES, sizes)
    bits = _SIZES[kind]
    repeated = (sizes > 1).astype(np.int64)
    # One number a record, its most significant bit first; none is longer than 27 bits.
    codes = (((repeated << 2 | kind) << bits | (sizes - 1)) << _WORD) | said
    widths = 3 + bits + _WORD
    places = _HEADER + np.concatenate([[0], np.cumsum(widths)]).astype(np.int64)
    stream = np.zeros(int(places[-1]), dtype=np.uint8)
    header = (len(values) << 5 | _WORD - 1) << 16
    for shift, size in zip((12, 8, 4, 0), _SIZES.tolist(), strict=True):
        header |= (size - 1) << shift
    stream[:_HEADER] = [header >> (_HEADER - 1 - bit) & 1 for bit in range(_HEADER)]
    for bit in range(int(widths.max(initial=0))):
        have = widths > bit
        stream[places[:-1][have] + bit] = codes[have] >> (widths[have] - 1 - bit) & 1
    return [int(byte) for byte in np.packbits(stream)]


def decode_brush(data: Sequence[int], count: int) -> NDArray[np.uint8]:
    """Decode a stream as `encode_brush` describes it, with any word size up to 8 bits and any sizes of lengths.

    Args:
        data: Bytes of the stream.
        count: Values it must hold, so that a damaged stream asks for no memory.

    Returns:
        (count,)

    Raises:
        InputError: It holds another number of values, ends early, or is no such stream.
    """
    if not isinstance(data, list | tuple) or not all(type(byte) is int for byte in data):
        raise InputError("a brush RLE is a list of whole numbers")
    if data and (min(data) < 0 or max(data) > 255):
        raise InputError(f"a brush RLE contains bytes, 0..255, but this one {min(data)}..{max(data)}")
    end = 8 * len(data)
    if end < _HEADER:
        raise InputError(f"a brush RLE has at least 7 bytes, but this one {len(data)}")
    raw = np.frombuffer(bytes(data) + bytes(8), dtype=np.uint8)  # so that reading ahead at the end reads something
    found, word = int(_bits(raw, 0, 32)), int(_bits(raw, 32, 5)) + 1
    if found != count:
        raise InputError(f"the brush RLE has {found:,} values, but the image needs {count:,}, 4 per pixel")
    if word > 8:
        raise InputError(f"the brush RLE has values of {word} bits; expected 8")
    sizes = np.array([_bits(raw, 37 + 4 * place, 4) + 1 for place in range(4)])
    out = np.zeros(count, dtype=np.uint8)
    done = int(_decode_records(raw, end, word, sizes, out))
    if done < count:
        raise InputError(f"the brush RLE ends after {done:,} of {count:,} values; the file was truncated or changed")
    return out


@njit(cache=True, nogil=True)
def _bits(raw: NDArray[np.uint8], at: int, size: int) -> int:
    """Up to 32 bits from a place on, the most significant first."""
    window = 0
    for byte in range(at >> 3, (at >> 3) + 5):
        window = window << 8 | raw[byte]
    return window >> (40 - (at & 7) - size) & ((1 << size) - 1)


@njit(cache=True, nogil=True)
def _decode_records(
    raw: NDArray[np.uint8], end: int, word: int, sizes: NDArray[np.int64], out: NDArray[np.uint8]
) -> int:
    """Decode records into `out`; how many values there were comes back, fewer than it holds if the stream is at fault."""
    at, done = _HEADER, 0
    while done < out.size:
        head = _bits(raw, at, 3) if at + 3 <= end else 0
        size = sizes[head & 3]
        if at + 3 + size > end:
            return done
        length = _bits(raw, at + 3, size) + 1
        at += 3 + size
        repeated = head & 4 != 0
        values = 1 if repeated else length
        if at + values * word > end or done + length > out.size:
            return done
        if repeated:
            out[done : done + length] = _bits(raw, at, word)
        else:
            for place in range(length):
                out[done + place] = _bits(raw, at + place * word, word)
        at += values * word
        done += length
    return done


def brush_of_mask(mask: NDArray[np.bool_]) -> list[int]:
    """Return a mask as Label Studio's brush has it: 255 or 0 in all four channels of each pixel, row by row.

    Args:
        mask: (H, W)
    """
    return encode_brush(np.repeat(mask.ravel().astype(np.uint8) * np.uint8(255), 4))


def mask_of_brush(data: Sequence[int], height: int, width: int) -> NDArray[np.bool_]:
    """(H, W) pixels that Label Studio's brush covers: those whose alpha, the last of four channels, is not 0.

    Raises:
        InputError: It is no brush RLE of an image of that size.
    """
    return decode_brush(data, height * width * 4).reshape(height, width, 4)[..., 3] > 0


def box_of_mask(mask: NDArray[np.bool_]) -> Box:
    """Return a mask of at least one pixel in its bounding box.

    Args:
        mask: (H, W)

    Example:
        >>> box_of_mask(np.array([[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0]], dtype=bool)).runs
        (0, 2, 1, 1)
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    inside = mask[top : int(rows[-1]) + 1, left : int(columns[-1]) + 1]
    flat = inside.ravel()
    edges = np.flatnonzero(np.diff(flat, prepend=False) != 0)
    runs = np.diff(np.concatenate([[0], edges, [flat.size]]))
    if len(edges) and runs[-1] == 0:
        runs = runs[:-1]
    height, width = inside.shape
    return Box(left=left, top=top, width=width, height=height, runs=tuple(int(run) for run in runs))


def mask_of_box(box: Box, height: int, width: int) -> NDArray[np.bool_]:
    """(H, W) the mask of a box in an image.

    Raises:
        InputError: The box does not lie in the image, or its runs do not fill it.
    """
    right, bottom = box.left + box.width, box.top + box.height
    if box.left < 0 or box.top < 0 or box.width < 1 or box.height < 1 or right > width or bottom > height:
        raise InputError(
            f"a mask covers columns {box.left}..{right - 1} and rows {box.top}..{bottom - 1} of an image of "
            f"{width} x {height}"
        )
    if any(run < 0 for run in box.runs) or sum(box.runs) != box.width * box.height:
        raise InputError(
            f"the RLE of a mask covers {sum(box.runs):,} pixels, but its box has {box.width} x {box.height} = "
            f"{box.width * box.height:,}"
        )
    values: NDArray[Any] = np.arange(len(box.runs)) % 2 == 1
    mask = np.zeros((height, width), dtype=bool)
    mask[box.top : bottom, box.left : right] = np.repeat(values, box.runs).reshape(box.height, box.width)
    return mask


_MOST_SIGNS = 7  # of one number: 35 bits hold every run of an image


def decode_coco(text: str) -> NDArray[np.int64]:
    """Run lengths from COCO's compressed string, as it says them: whether they fill an image is not looked at.

    A number is written in signs of 6 bits from "0" on: 5 bits each, the least significant first, the sixth where more
    follow, and the sign in the last one. From the fourth number on, it is the difference to the one two before.

    Raises:
        InputError: It is no such string.

    Source:
        `rleFrString` of pycocotools' maskApi.c. This one refuses what that one reads as whatever comes.

    Example:
        >>> decode_coco("52203")
        array([5, 2, 2, 2, 5])
    """
    if not text:
        return np.zeros(0, dtype=np.int64)
    try:
        signs = np.frombuffer(text.encode("ascii"), dtype=np.uint8).astype(np.int64) - 48
    except UnicodeEncodeError:
        raise InputError("a compressed RLE contains characters that COCO never writes") from None
    if signs.min() < 0 or signs.max() > 63 or signs[-1] & 32:
        raise InputError("a compressed RLE contains characters that COCO never writes, or ends within a number")
    last = np.flatnonzero(signs & 32 == 0)
    starts = np.concatenate([[0], last[:-1] + 1])
    sizes = last + 1 - starts
    if sizes.max() > _MOST_SIGNS:
        raise InputError("a compressed RLE contains a number larger than any image")
    place = np.arange(len(signs)) - np.repeat(starts, sizes)
    numbers = np.add.reduceat((signs & 31) << (5 * place), starts)
    numbers -= np.where(signs[last] & 16, np.int64(1) << (5 * sizes), 0)
    # Differences to the number two before, from the fourth on: sums of every other one, but for the very first.
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers


def coco_counts(said: Any, height: int, width: int) -> NDArray[np.int64]:
    """Run lengths of a COCO mask, column by column, the first of them background.

    Args:
        said: `counts` of a segmentation: a list of run lengths, or the compressed string.
        height: Of the image.
        width: Of the image.

    Raises:
        InputError: They are no run lengths, or do not fill the image.
    """
    if isinstance(said, str):
        counts = decode_coco(said)
    elif isinstance(said, list) and all(type(count) is int for count in said):
        if any(not 0 <= count <= height * width for count in said):
            raise InputError(f"an RLE has a run below 0 or above the {height * width:,} pixels of its image")
        counts = np.array(said, dtype=np.int64)
    else:
        raise InputError("the counts of an RLE are neither text nor a list of whole numbers")
    if (counts < 0).any() or (counts > height * width).any() or int(counts.sum()) != height * width:
        raise InputError(
            f"the runs of an RLE do not fill the {width} x {height} = {height * width:,} pixels of its image"
        )
    return counts


def mask_of_counts(counts: NDArray[np.int64], height: int, width: int) -> NDArray[np.bool_]:
    """(H, W) the mask of run lengths that fill an image, as `coco_counts` gives them.

    Example:
        >>> mask_of_counts(np.array([1, 2, 1]), 2, 2).astype(int)
        array([[0, 1],
               [1, 0]])
    """
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(width, height).T
