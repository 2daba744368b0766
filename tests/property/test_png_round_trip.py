"""What is written as PNG is read back as it was."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from a2lc.classes.table import ClassTable
from a2lc.images.label_maps import read_ids, write_ids
from a2lc.images.rgb import read_rgb, write_rgb

shapes = st.tuples(st.integers(1, 9), st.integers(1, 13))


@given(ids=arrays(np.uint8, shapes))
def test_ids_of_8_bits(tmp_path_factory, ids):
    path = tmp_path_factory.mktemp("png") / "ids.png"
    write_ids(path, ids)
    back = read_ids(path)
    np.testing.assert_array_equal(back, ids)
    assert back.dtype == np.uint8


@given(ids=arrays(np.uint16, shapes))
def test_ids_of_16_bits(tmp_path_factory, ids):
    path = tmp_path_factory.mktemp("png") / "ids.png"
    write_ids(path, ids)
    back = read_ids(path)
    np.testing.assert_array_equal(back, ids)
    assert back.dtype == np.uint16


@given(ids=arrays(np.uint8, shapes), classes=st.integers(1, 40))
def test_ids_with_a_palette(tmp_path_factory, ids, classes):
    path = tmp_path_factory.mktemp("png") / "ids.png"
    palette = ClassTable.from_names([f"c{i}" for i in range(classes)]).palette()
    write_ids(path, ids, palette)
    np.testing.assert_array_equal(read_ids(path), ids)
    with Image.open(path) as image:
        assert image.mode == "P"
        shown = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(shown, np.array(palette, dtype=np.uint8).reshape(256, 3)[ids])


@given(data=st.data(), bits=st.sampled_from([1, 2, 4]))
def test_grey_of_few_bits_gives_the_stored_values(tmp_path_factory, data, bits):
    """Pillow stretches grey PNGs of 2 and 4 bits to 0..255; the ids are what was stored."""
    import struct
    import zlib

    ids = data.draw(arrays(np.uint8, shapes, elements=st.integers(0, 2**bits - 1)))
    rows = b""
    for row in ids:
        text = "".join(format(v, f"0{bits}b") for v in row)
        text += "0" * (-len(text) % 8)
        rows += b"\0" + bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", ids.shape[1], ids.shape[0], bits, 0, 0, 0, 0)
    path = tmp_path_factory.mktemp("png") / "few.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )
    np.testing.assert_array_equal(read_ids(path), ids)


@given(pixels=arrays(np.uint8, st.tuples(st.integers(1, 7), st.integers(1, 9), st.just(3))))
def test_rgb(tmp_path_factory, pixels):
    path = tmp_path_factory.mktemp("png") / "image.png"
    write_rgb(path, pixels)
    np.testing.assert_array_equal(read_rgb(path), pixels)
