"""Every kind of file a user may hand in as an image or a map: read right, or refused with the reason."""

from __future__ import annotations

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from a2lc.errors import ImageFileError
from a2lc.images.label_maps import read_ids, write_ids
from a2lc.images.opening import exif_orientation, open_image, stored_size
from a2lc.images.rgb import read_rgb, write_rgb

IDS = np.array([[0, 1, 2, 3, 255], [3, 2, 1, 0, 7]], dtype=np.uint8)  # H=2, W=5


def save(path, image, **more):
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **more)
    return path


def raw_png(path, width, height, depth, colour_type, rows: bytes, extra: bytes = b""):
    """A PNG with a header Pillow would not write."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )
    return path


# ---- maps that are read ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_grey(tmp_path, suffix):
    found = read_ids(save(tmp_path / f"a.{suffix}", IDS))
    np.testing.assert_array_equal(found, IDS)
    assert found.dtype == np.uint8


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_palette_gives_indices_and_never_colours(tmp_path, suffix):
    image = Image.fromarray(IDS)
    image.putpalette([(37 * i + c * 91) % 256 for i in range(256) for c in range(3)])
    np.testing.assert_array_equal(read_ids(save(tmp_path / f"a.{suffix}", image)), IDS)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palette_of_few_bits(tmp_path, bits):
    ids = (IDS.astype(int) % 2**bits).astype(np.uint8)
    image = Image.fromarray(ids)
    image.putpalette([200, 10, 30] * 256)
    path = save(tmp_path / "a.png", image, bits=bits)
    assert path.read_bytes()[24] == bits
    np.testing.assert_array_equal(read_ids(path), ids)


def test_palette_with_transparency(tmp_path):
    image = Image.fromarray(IDS)
    image.putpalette([9, 8, 7] * 256)
    np.testing.assert_array_equal(read_ids(save(tmp_path / "a.png", image, transparency=0)), IDS)


def test_grey_of_1_bit(tmp_path):
    bits = np.array([[True, False, True], [False, False, True]])
    found = read_ids(save(tmp_path / "a.png", bits))
    assert found.tolist() == [[1, 0, 1], [0, 0, 1]]
    assert found.dtype == np.uint8


def test_grey_of_2_and_4_bits_is_not_stretched(tmp_path):
    two = raw_png(tmp_path / "two.png", 4, 1, 2, 0, b"\0" + bytes([0b00_01_10_11]))
    assert read_ids(two).tolist() == [[0, 1, 2, 3]]
    four = raw_png(tmp_path / "four.png", 4, 1, 4, 0, b"\0" + bytes([0x01, 0x9F]))
    assert read_ids(four).tolist() == [[0, 1, 9, 15]]


def test_grey_of_8_bits_that_looks_stretched_is_left_alone(tmp_path):
    stretched = np.array([[0, 85, 170, 255]], dtype=np.uint8)
    np.testing.assert_array_equal(read_ids(save(tmp_path / "a.png", stretched)), stretched)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_grey_of_16_bits_keeps_all_16(tmp_path, suffix):
    wide = np.array([[0, 255, 256], [26001, 65534, 65535]], dtype=np.uint16)
    found = read_ids(save(tmp_path / f"a.{suffix}", wide))
    np.testing.assert_array_equal(found, wide)
    assert found.dtype == np.uint16


def test_32_bit_tiff_that_fits_16(tmp_path):
    found = read_ids(save(tmp_path / "a.tif", np.array([[0, 70, 65535]], dtype=np.int32)))
    assert found.tolist() == [[0, 70, 65535]]
    assert found.dtype == np.uint16


@pytest.mark.parametrize(("value", "named"), [(65536, "65536"), (-3, "-3")])
def test_32_bit_tiff_that_does_not(tmp_path, value, named):
    path = save(tmp_path / "a.tif", np.array([[0, value, 5]], dtype=np.int32))
    with pytest.raises(ImageFileError, match=rf"a\.tif: value {named} does not fit 16 bits"):
        read_ids(path)


def test_three_equal_channels_are_one(tmp_path):
    found = read_ids(save(tmp_path / "a.png", np.repeat(IDS[..., None], 3, axis=2)))
    np.testing.assert_array_equal(found, IDS)


@pytest.mark.parametrize("alpha", [255, 0, 128])
def test_constant_alpha_says_nothing(tmp_path, alpha):
    pixels = np.repeat(IDS[..., None], 4, axis=2)
    pixels[..., 3] = alpha
    np.testing.assert_array_equal(read_ids(save(tmp_path / "a.png", pixels)), IDS)


# ---- maps read through colours -----------------------------------------------------------------------------------

COLOURS = [((128, 64, 128), 7), ((255, 0, 0), 24), ((0, 0, 1), 300)]
CODED = np.array([[(128, 64, 128), (255, 0, 0)], [(0, 0, 1), (0, 0, 1)]], dtype=np.uint8)


@pytest.mark.parametrize("alpha", [False, True])
def test_colours(tmp_path, alpha):
    pixels = np.dstack([CODED, np.full((2, 2), 200, dtype=np.uint8)]) if alpha else CODED
    assert read_ids(save(tmp_path / "a.png", pixels), colours=COLOURS).tolist() == [[7, 24], [300, 300]]


def test_colours_without_a_table(tmp_path):
    with pytest.raises(ImageFileError, match=r"a\.png: colour-coded \(RGB\). Set `colours` .* or save it with one id"):
        read_ids(save(tmp_path / "a.png", CODED))


def test_a_colour_that_no_class_has(tmp_path):
    pixels = CODED.copy()
    pixels[0, 0] = (128, 64, 127)
    pixels[1] = (1, 2, 3)
    message = r"a\.png: colour \(1, 2, 3\) on 2 pixels is not a colour of any class \(2 such colours\). Add it"
    with pytest.raises(ImageFileError, match=message):
        read_ids(save(tmp_path / "a.png", pixels), colours=COLOURS)


# ---- maps that are refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_that_varies(tmp_path, mode):
    grey = Image.fromarray(IDS)
    alpha = Image.fromarray(np.where(IDS == 0, 0, 255).astype(np.uint8))
    image = Image.merge("RGBA", [grey] * 3 + [alpha]) if mode == "RGBA" else Image.merge("LA", [grey, alpha])
    reason = "has transparent pixels, whose meaning is unknown" if mode == "RGBA" else "mode LA cannot store ids"
    with pytest.raises(ImageFileError, match=rf"a\.png: {reason}. Save "):
        read_ids(save(tmp_path / "a.png", image))


@pytest.mark.parametrize(("colour_type", "channels"), [(2, 3), (6, 4), (4, 2)], ids=["RGB", "RGBA", "LA"])
def test_16_bit_colour(tmp_path, colour_type, channels):
    path = raw_png(tmp_path / "a.png", 2, 1, 16, colour_type, b"\0" + bytes(range(2 * 2 * channels)))
    with pytest.raises(ImageFileError, match=r"a\.png: colour with 16 bits per channel .* Save ids as 16-bit grey"):
        read_ids(path)


@pytest.mark.parametrize(("suffix", "kind"), [("jpg", "JPEG"), ("png", "JPEG"), ("webp", "WEBP")])
def test_lossy_formats_by_content_not_by_suffix(tmp_path, suffix, kind):
    path = save(tmp_path / f"a.{suffix}", IDS if kind == "JPEG" else np.dstack([IDS] * 3), format=kind)
    with pytest.raises(ImageFileError, match=rf"a\.{suffix}: {kind} blurs values at every edge.* Save the map as PNG"):
        read_ids(path)


def test_gif_is_refused_for_its_palette_is_renumbered(tmp_path):
    path = save(tmp_path / "a.gif", Image.fromarray(np.array([[0, 1], [2, 7]], dtype=np.uint8)))
    with pytest.raises(ImageFileError, match=r"a\.gif: GIF writers renumber palettes.*Save the map as PNG"):
        read_ids(path)


def tiff(path, bits, photometric, data):
    """A smallest TIFF, written by hand: Pillow does not write these depths."""
    import struct

    tags = [
        (256, 4),
        (257, 1),
        (258, bits),
        (259, 1),
        (262, photometric),
        (273, 8),
        (277, 1),
        (278, 1),
        (279, len(data)),
    ]
    body = data + b"\0" * (len(data) % 2)
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", t, 4, 1, v) for t, v in tags) + b"\0" * 4
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(body)) + body + directory)
    return path


@pytest.mark.parametrize(
    ("bits", "data", "ids"),
    [(2, b"\x1b", [0, 1, 2, 3]), (4, b"\x01\x2f", [0, 1, 2, 15]), (8, b"\x00\x01\x02\xff", [0, 1, 2, 255])],
)
def test_grey_tiffs_give_what_is_stored(tmp_path, bits, data, ids):
    assert read_ids(tiff(tmp_path / "a.tif", bits, 1, data)).tolist() == [ids]
    with pytest.raises(ImageFileError, match="in which 0 is white"):
        read_ids(tiff(tmp_path / "b.tif", bits, 0, data))


def test_floating_point_tiff(tmp_path):
    with pytest.raises(ImageFileError, match=r"a\.tif: mode F cannot store ids. Save it as 8-bit or 16-bit grey"):
        read_ids(save(tmp_path / "a.tif", IDS.astype(np.float32)))


@pytest.mark.parametrize(
    ("read", "suffix"), [(read_ids, "png"), (read_ids, "tif"), (read_rgb, "png"), (read_rgb, "tif"), (read_rgb, "jpg")]
)
def test_truncated(tmp_path, rng, read, suffix):
    pixels = rng.integers(0, 256, size=(40, 60, 3), dtype=np.uint8)
    if read is read_ids:
        pixels = pixels[..., 0]
    path = save(tmp_path / f"a.{suffix}", pixels)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(ImageFileError, match=rf"a\.{suffix}: (truncated or damaged|cannot be read|damaged)"):
        read(path)


@pytest.mark.parametrize("read", [read_ids, read_rgb, stored_size])
@pytest.mark.parametrize("content", [b"", b"hello", b"<svg/>", b"\x89PNG\r\n\x1a\n", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"])
def test_not_an_image(tmp_path, read, content):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(ImageFileError, match=r"a\.png: (not a readable image \([\d,]+ bytes\)|cannot be read)"):
        read(path)


@pytest.mark.parametrize("read", [read_ids, read_rgb, stored_size])
def test_missing_file_stays_a_missing_file(tmp_path, read):
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none.png")


@pytest.mark.parametrize("read", [read_ids, read_rgb, stored_size])
def test_limit_of_pixels(tmp_path, read):
    path = save(tmp_path / "a.png", IDS)
    message = r"a\.png: 5 x 2 = 10 pixels is over the limit of 9. Raise `max_pixels`"
    with pytest.raises(ImageFileError, match=message):
        read(path, max_pixels=9)
    read(path, max_pixels=10)


@pytest.mark.parametrize("side", [14_000, 60_000])
def test_a_bomb_is_refused_before_it_is_decoded(tmp_path, side):
    """A few bytes that claim 196 million or 3.6 thousand million pixels."""
    path = raw_png(tmp_path / "bomb.png", side, side, 8, 0, b"")
    with pytest.raises(ImageFileError, match=r"bomb\.png: .* pixels.*Raise `max_pixels`"):
        read_ids(path)


def test_a_raised_limit_is_the_only_limit(tmp_path, monkeypatch):
    """Pillow has a limit of its own, at twice MAX_IMAGE_PIXELS: --max-pixels must reach past it."""
    path = save(tmp_path / "a.png", IDS)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4)
    np.testing.assert_array_equal(read_ids(path, max_pixels=10), IDS)
    assert Image.MAX_IMAGE_PIXELS == 4


# ---- images ------------------------------------------------------------------------------------------------------


def test_rgb(tmp_path, rng):
    pixels = rng.integers(0, 256, size=(4, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(read_rgb(save(tmp_path / "a.png", pixels)), pixels)
    with_alpha = np.dstack([pixels, np.full((4, 7), 9, dtype=np.uint8)])
    np.testing.assert_array_equal(read_rgb(save(tmp_path / "b.png", with_alpha)), pixels)
    assert read_rgb(save(tmp_path / "c.png", pixels[..., 0])).tolist() == np.dstack([pixels[..., 0]] * 3).tolist()
    assert read_rgb(save(tmp_path / "d.jpg", Image.fromarray(pixels).convert("CMYK"))).shape == (4, 7, 3)


@pytest.mark.parametrize("kind", ["grey png", "rgb png", "tiff", "float"])
def test_more_than_8_bits_a_channel(tmp_path, kind):
    path = tmp_path / ("a.png" if "png" in kind else "a.tif")
    if kind == "rgb png":
        raw_png(path, 2, 1, 16, 2, b"\0" + bytes(12))
    else:
        save(path, np.zeros((2, 3), dtype=np.float32 if kind == "float" else np.uint16))
    with pytest.raises(
        ImageFileError,
        match=r"(more than 8 bits per channel \(mode .*\)|16 bits per channel). Set how values become 8 bits: `stretch`",
    ):
        read_rgb(path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation):
    pixels = np.zeros((4, 8, 3), dtype=np.uint8)
    pixels[:2, :4] = 255  # one bright corner, and H != W
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.png", pixels, exif=exif)
    assert stored_size(path) == (8, 4, orientation)
    np.testing.assert_array_equal(read_rgb(path), pixels)
    turned = read_rgb(path, upright=True)
    flips = {
        1: pixels, 2: pixels[:, ::-1], 3: pixels[::-1, ::-1], 4: pixels[::-1],
        5: pixels.swapaxes(0, 1), 6: np.rot90(pixels, -1), 7: pixels[::-1, ::-1].swapaxes(0, 1), 8: np.rot90(pixels),
    }  # fmt: skip
    np.testing.assert_array_equal(turned, flips[orientation])


@pytest.mark.parametrize("value", [0, 9, 300])
def test_orientation_that_is_none(tmp_path, value):
    exif = Image.Exif()
    exif[0x0112] = value
    path = save(tmp_path / "a.png", IDS, exif=exif)
    with open_image(path) as image:
        assert exif_orientation(image) == 1


# ---- writing -----------------------------------------------------------------------------------------------------


def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    write_ids(path, IDS)
    before = path.read_bytes()

    def fail(self, file, **_):
        file.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        write_ids(path, IDS + 1)
    with pytest.raises(OSError, match="disk full"):
        write_rgb(path, np.zeros((2, 2, 3), dtype=np.uint8))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("place", ["before", "behind", "none"])
def test_exif_of_a_png_wherever_it_is(tmp_path, place):
    import struct
    import zlib

    path = tmp_path / "a.png"
    Image.new("RGB", (5, 3)).save(path)
    data = path.read_bytes()
    exif = Image.Exif()
    exif[0x0112] = 6
    body = exif.tobytes()[6:]  # without the marker that JPEG has
    chunk = struct.pack(">I", len(body)) + b"eXIf" + body + struct.pack(">I", zlib.crc32(b"eXIf" + body))
    if place != "none":
        at = data.index(b"IDAT" if place == "before" else b"IEND") - 4
        path.write_bytes(data[:at] + chunk + data[at:])
    assert stored_size(path) == (5, 3, 1 if place == "none" else 6)


def test_large_work_is_done_one_at_a_time(monkeypatch):
    """By one thread, which may ask for more of it; errors come through."""
    import threading
    from concurrent.futures import ThreadPoolExecutor

    from a2lc.images import opening

    monkeypatch.setattr(opening, "_LARGE", 10)
    names, running, most = set(), [0], [0]

    def work():
        running[0] += 1
        most[0] = max(most[0], running[0])
        names.add(threading.current_thread().name)
        inner = opening.one_at_a_time(99, lambda: threading.current_thread().name)
        assert inner == threading.current_thread().name, "handed on by the thread that does it"
        running[0] -= 1
        return inner

    with ThreadPoolExecutor(max_workers=4) as pool:
        assert len(set(pool.map(lambda _: opening.one_at_a_time(99, work), range(16)))) == 1
    assert most == [1] and len(names) == 1 and names != {threading.current_thread().name}
    assert opening.one_at_a_time(3, lambda: threading.current_thread()) is threading.current_thread()
    with pytest.raises(ZeroDivisionError):
        opening.one_at_a_time(99, lambda: 1 / 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are of POSIX systems")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_reads_large_images_too(monkeypatch):
    """Loaders of training data are forked: a thread of their parent is not there."""
    from a2lc.images import opening

    monkeypatch.setattr(opening, "_LARGE", 10)
    assert opening.one_at_a_time(99, lambda: 5) == 5
    child = os.fork()
    if not child:
        os._exit(opening.one_at_a_time(99, lambda: 7))
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7
