"""Run lengths against plain loops written from the formats' descriptions, and against known bytes."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2lc.errors import InputError
from a2lc.formats.rle import Box, box_of_mask, brush_of_mask, decode_brush, encode_brush, mask_of_box, mask_of_brush

KNOWN_VALUES = [1, 1, 1, 1, 2, 3, 5, 6, 7, 8, 4, 4, 4, 4, 4, 4, 4, 4]
KNOWN_BYTES = [0, 0, 0, 18, 57, 27, 252, 96, 32, 1, 0, 6, 0, 40, 0, 192, 3, 128, 17, 56, 32]
"""From test_rle_encoding of HumanSignal/label-studio-converter, tests/test_brush.py."""


def plain_decode(data):
    """Bit by bit, as rle-pack describes the stream."""
    bits = "".join(f"{byte:08b}" for byte in data)
    at = 0

    def read(size):
        nonlocal at
        at += size
        return int(bits[at - size : at], 2)

    count, word = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    out = []
    while len(out) < count:
        repeated = read(1)
        length = read(sizes[read(2)]) + 1
        out += [read(word)] * length if repeated else [read(word) for _ in range(length)]
    return out


def plain_encode(records, count, word=8, sizes=(3, 4, 8, 16)):
    """A stream of records: (repeated, which size, values)."""
    bits = f"{count:032b}{word - 1:05b}" + "".join(f"{size - 1:04b}" for size in sizes)
    for repeated, which, values in records:
        bits += f"{repeated:b}{which:02b}{len(values) - 1:0{sizes[which]}b}"
        bits += "".join(f"{value:0{word}b}" for value in (values[:1] if repeated else values))
    bits += "0" * (-len(bits) % 8)
    return [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]


masks = st.integers(1, 9).flatmap(
    lambda height: st.integers(1, 11).flatmap(
        lambda width: st.lists(st.booleans(), min_size=height * width, max_size=height * width).map(
            lambda flat: np.array(flat, dtype=bool).reshape(height, width)
        )
    )
)


# ---- Label Studio's brush ---------------------------------------------------------------------------------------


def test_brush_gives_the_bytes_that_label_studios_own_test_has():
    assert encode_brush(np.array(KNOWN_VALUES, dtype=np.uint8)) == KNOWN_BYTES
    assert decode_brush(KNOWN_BYTES, 18).tolist() == KNOWN_VALUES


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(1, 300)), max_size=12))
def test_brush_stream_is_what_a_plain_loop_reads(runs):
    values = [value for value, length in runs for _ in range(length)]
    data = encode_brush(np.array(values, dtype=np.uint8))
    assert plain_decode(data) == values
    assert decode_brush(data, len(values)).tolist() == values
    json.dumps(data)  # whole numbers of Python


@pytest.mark.parametrize("length", [1, 2, 8, 9, 16, 17, 256, 257, 65536, 65537, 131072, 131073])
def test_brush_cuts_runs_at_every_size_of_lengths(length):
    values = np.full(length + 1, 255, dtype=np.uint8)
    values[-1] = 0
    data = encode_brush(values)
    assert plain_decode(data) == values.tolist()
    np.testing.assert_array_equal(decode_brush(data, length + 1), values)


@pytest.mark.parametrize("word", [1, 3, 8])
def test_brush_reads_literals_other_word_sizes_and_other_sizes_of_lengths(word, rng):
    most = 1 << word
    first, second = rng.integers(0, most, 5).tolist(), rng.integers(0, most, 3).tolist()
    repeated = [int(rng.integers(0, most))] * 40
    records = [(0, 0, first), (1, 2, repeated), (0, 3, second)]
    data = plain_encode(records, 48, word, sizes=(5, 2, 7, 3))
    wanted = first + repeated + second
    assert plain_decode(data) == wanted
    assert decode_brush(data, 48).tolist() == wanted


@given(masks)
def test_brush_of_a_mask_comes_back(mask):
    data = brush_of_mask(mask)
    flat = plain_decode(data)
    assert flat == [255 * int(pixel) for pixel in mask.ravel() for _ in range(4)]
    np.testing.assert_array_equal(mask_of_brush(data, *mask.shape), mask)


def test_brush_is_the_alpha_channel_and_nothing_else():
    pixels = np.zeros((2, 3, 4), dtype=np.uint8)
    pixels[..., :3] = 255
    pixels[0, 2, 3] = 1
    pixels[1, 0, 3] = 255
    found = mask_of_brush(encode_brush(pixels.ravel()), 2, 3)
    assert found.tolist() == [[False, False, True], [True, False, False]]


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (KNOWN_BYTES[:10], "ends after 4 of 18"),
        (KNOWN_BYTES[:5], "at least 7 bytes"),
        ([*KNOWN_BYTES[:3], 19, *KNOWN_BYTES[4:]], "has 19 values, but the image needs 18"),
        ([*KNOWN_BYTES[:20], 256], "contains bytes"),
        ([*KNOWN_BYTES[:20], 1.5], "whole numbers"),
        ([*KNOWN_BYTES[:20], True], "whole numbers"),
        ("AAAA", "whole numbers"),
        (plain_encode([(1, 0, [7] * 8), (1, 2, [7] * 20)], 18), "ends after 8 of 18"),
        ([0, 0, 0, 18, 0xFF, 0xFF, 0xFF, 0, 0], "values of 32 bits"),
    ],
)
def test_brush_says_what_is_wrong(data, match):
    with pytest.raises(InputError, match=match):
        decode_brush(data, 18)


# ---- CVAT's boxes -----------------------------------------------------------------------------------------------


def plain_box(box, height, width):
    """As CVAT's users read it: runs row by row in the box, background first."""
    mask = [[False] * width for _ in range(height)]
    place, value = 0, False
    for run in box.runs:
        for _ in range(run):
            mask[box.top + place // box.width][box.left + place % box.width] = value
            place += 1
        value = not value
    assert place == box.width * box.height
    return mask


@given(masks.filter(lambda mask: mask.any()))
def test_box_of_a_mask_comes_back(mask):
    box = box_of_mask(mask)
    assert plain_box(box, *mask.shape) == mask.tolist()
    assert all(run > 0 for run in box.runs[1:]) and box.runs[0] >= 0
    rows, columns = np.nonzero(mask)
    assert (box.top, box.left) == (rows.min(), columns.min())
    assert (box.height, box.width) == (np.ptp(rows) + 1, np.ptp(columns) + 1)
    np.testing.assert_array_equal(mask_of_box(box, *mask.shape), mask)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"runs": (0, 5)}, "covers 5 pixels, but its box has 2 x 3 = 6"),
        ({"runs": (7, -1)}, "covers 6 pixels"),
        ({"left": 4}, "columns 4..5"),
        ({"top": -1}, "rows -1..1"),
        ({"width": 0, "runs": ()}, "of an image of 5 x 4"),
    ],
)
def test_box_says_what_is_wrong(change, match):
    box = {"left": 3, "top": 1, "width": 2, "height": 3, "runs": (0, 6)}
    assert mask_of_box(Box(**box), 4, 5).sum() == 6
    with pytest.raises(InputError, match=match):
        mask_of_box(Box(**box | change), 4, 5)
