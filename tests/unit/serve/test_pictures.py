"""Where masks lie, what is shown around them, pictures, and what is kept in memory."""

import io
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from a2lc.errors import ImageFileError, InputError, MissingFileError
from a2lc.images.options import ReadingOptions
from a2lc.project.project import Project
from a2lc.records import Query
from a2lc.serve.pictures import BoundedCache, Pictures, RegionError, context_box, mask_runs


@pytest.fixture
def pictures(tiny_project):
    return Pictures(tiny_project)


def question(image, mask_ids):
    return Query(query_id=1, round=1, image=image, mask_ids=tuple(mask_ids), proposed=0, score=1.0)


# ---- geometry -------------------------------------------------------------------------------------------------------


def slow_geometry(mask_map, mask_ids):
    """Box, area, and the crop's pixels, pixel by pixel."""
    height, width = mask_map.shape
    points = [(x, y) for y in range(height) for x in range(width) if mask_map[y, x] in mask_ids]
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return (min(xs), min(ys), max(xs) + 1, max(ys) + 1), len(points), set(points)


def slow_pixels(runs, crop):
    x0, y0, x1, _ = crop
    flat, value = [], False
    for length in runs:
        flat += [value] * length
        value = not value
    return {(x0 + i % (x1 - x0), y0 + i // (x1 - x0)) for i, inside in enumerate(flat) if inside}, len(flat)


def test_geometry_against_a_plain_loop(pictures, tiny_project):
    for image in tiny_project.images:
        mask_map = tiny_project.mask_map(image)
        ids = [int(i) for i in np.unique(mask_map) if i]
        for chosen in ([i] for i in ids):
            check_geometry(pictures, image, mask_map, chosen)
        check_geometry(pictures, image, mask_map, ids[:3])


def check_geometry(pictures, image, mask_map, chosen):
    found = pictures.geometry(question(image.index, chosen))
    box, area, points = slow_geometry(mask_map, chosen)
    assert (found.box, found.area) == (box, area)
    x0, y0, x1, y1 = found.crop
    assert 0 <= x0 <= box[0] and 0 <= y0 <= box[1] and box[2] <= x1 <= image.width and box[3] <= y1 <= image.height
    drawn, size = slow_pixels(found.runs, found.crop)
    assert drawn == points and size == (x1 - x0) * (y1 - y0)
    assert all(isinstance(number, int) for number in (*found.box, *found.crop, *found.runs, found.area))


@given(st.integers(1, 7), st.integers(1, 7), st.randoms(use_true_random=False))
def test_runs_against_a_plain_loop(height, width, random):
    inside = np.array([[random.random() < 0.5 for _ in range(width)] for _ in range(height)])
    runs, value, expected = mask_runs(inside).tolist(), False, [0]
    for pixel in inside.ravel():
        if pixel == value:
            expected[-1] += 1
        else:
            expected.append(1)
            value = pixel
    assert runs == expected


@st.composite
def boxes(draw):
    width, height = draw(st.integers(1, 3000)), draw(st.integers(1, 3000))
    x0, y0 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    return (x0, y0, draw(st.integers(x0 + 1, width)), draw(st.integers(y0 + 1, height))), width, height


@given(boxes())
def test_what_is_around_a_mask(drawn):
    box, width, height = drawn
    x0, y0, x1, y1 = context_box(box, width, height)
    assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
    for start, stop, low, high, size in ((x0, x1, box[0], box[2], width), (y0, y1, box[1], box[3], height)):
        more = max(96, high - low)
        assert start <= max(0, low - more) and stop >= min(size, high + more), "own size to each side, at least 96"
    assert x1 - x0 <= 2 * (y1 - y0) or y1 - y0 == height
    assert y1 - y0 <= 2 * (x1 - x0) or x1 - x0 == width


def test_a_small_image_is_shown_whole():
    assert context_box((40, 30, 50, 40), 140, 120) == (0, 0, 140, 120)


def test_a_long_mask_gets_a_wider_view():
    x0, y0, x1, y1 = context_box((500, 100, 504, 900), 2000, 1000)
    assert (y0, y1) == (0, 1000) and x1 - x0 == 500 and (x0 + x1) // 2 == 502
    assert context_box((0, 100, 4, 900), 2000, 1000) == (0, 0, 500, 1000), "moved inside the image"


def test_masks_that_are_not_there(pictures):
    with pytest.raises(InputError, match=r"has no mask 60000: the project folder is damaged"):
        pictures.geometry(question(0, [60000]))
    with pytest.raises(IndexError, match=r"no image 99: the project has 6"):
        pictures.geometry(question(99, [1]))
    with pytest.raises(IndexError, match="no image -1"):
        pictures.record(-1)


# ---- pictures -------------------------------------------------------------------------------------------------------


def opened(data):
    return Image.open(io.BytesIO(data))


def test_a_region_is_what_the_image_has_there(pictures, tiny_project):
    pixels = tiny_project.pixels(tiny_project.images[1])
    picture = opened(pictures.jpeg(1, (10, 5, 40, 30), size=2048))
    assert picture.format == "JPEG" and picture.size == (30, 25), "never enlarged"
    assert_allclose(np.asarray(picture).astype(int), pixels[5:30, 10:40], atol=40)
    assert np.abs(np.asarray(picture).astype(int) - pixels[5:30, 10:40]).mean() < 8
    assert "exif" not in picture.info


def test_a_picture_is_made_smaller_in_proportion(pictures):
    assert opened(pictures.jpeg(0, None, size=32)).size == (32, 24)
    assert opened(pictures.jpeg(0, (0, 0, 64, 1), size=16)).size == (16, 1), "never to no pixels at all"


@pytest.mark.parametrize(
    "box", [(0, 0, 65, 48), (0, 0, 64, 49), (-1, 0, 5, 5), (0, -1, 5, 5), (5, 5, 5, 9), (9, 5, 5, 9), (0, 7, 9, 7)]
)
def test_a_region_outside_is_refused(pictures, box):
    with pytest.raises(RegionError, match=r"does not lie inside image 0, which is 64 x 48 pixels"):
        pictures.jpeg(0, box, size=64)


def test_a_lost_image_is_told(pictures, tiny_project):
    path = tiny_project.image_path(tiny_project.images[0])
    path.unlink()
    with pytest.raises(MissingFileError, match=r"is missing. Restore it"):
        pictures.jpeg(0, None, size=64)
    mask = int(tiny_project.masks.mask_ids[0])
    assert pictures.geometry(question(0, [mask])).area == tiny_project.masks.area[0], "masks are still known"
    Image.new("RGB", (48, 64)).save(path)
    with pytest.raises(InputError, match=r"has 48 x 64 pixels, but had 64 x 48"):
        pictures.pixels(0)
    path.write_bytes(b"no image")
    with pytest.raises(ImageFileError, match="not a readable image"):
        pictures.pixels(0)


def test_an_image_is_shown_upright(make_dataset):
    data = make_dataset(("a",))
    pixels = np.zeros((6, 9, 3), dtype=np.uint8)
    pixels[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(pixels).save(data.path("images", "a"), exif=exif)
    data.create(ReadingOptions(exif="apply"))
    with Project(data.project) as project:
        found = Pictures(project).pixels(0)
        assert_array_equal(found, project.pixels(project.images[0]))
        assert project.config.sources.exif == "apply" and found[5, 8, 0] == 255 and found[0, 0, 0] == 0


# ---- memory ---------------------------------------------------------------------------------------------------------


def test_a_cache_stays_in_its_bound():
    cache = BoundedCache(10, len)
    made = []

    def get(key):
        return cache.get(key, lambda: made.append(key) or key * 3)

    for key in "abcd":
        assert get(key) == key * 3
    assert cache.bytes <= 10 and len(cache) == 3
    get("b"), get("e"), get("b")
    assert made == ["a", "b", "c", "d", "e"], "used ones stay, the longest unused went"
    get("c")
    assert made[-1] == "c"
    assert cache.get("big", lambda: "x" * 11) == "x" * 11
    assert len(cache) == 3 and cache.bytes == 9, "what would fill it alone is not kept, and drops nothing"


def test_what_failed_is_not_kept():
    cache = BoundedCache(10, len)

    def broken():
        raise OSError("gone")

    for _ in range(2):
        with pytest.raises(OSError, match="gone"):
            cache.get("a", broken)
    assert cache.get("a", lambda: "there") == "there" and not cache._making


def test_what_many_ask_for_is_made_once():
    cache, made, deadline = BoundedCache(100, len), [], time.monotonic() + 10

    def make():
        made.append(1)
        while cache._making["a"][1] < 8 and time.monotonic() < deadline:
            pass  # until all have asked
        return "value"

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: cache.get("a", make), range(8))) == {"value"}
    assert made == [1] and not cache._making and time.monotonic() < deadline


def test_images_are_decoded_once_and_forgotten_in_time(tiny_project, monkeypatch):
    reads = []
    real = Project.pixels
    monkeypatch.setattr(Project, "pixels", lambda self, image: reads.append(image.index) or real(self, image))
    bound = 2 * 48 * 64 * 3
    pictures = Pictures(tiny_project, image_bytes=bound, mask_bytes=48 * 64 * 2)
    for index in (0, 1, 0, 1, 2, 1, 0):
        pictures.jpeg(index, None, size=64)
        assert pictures._images.bytes <= bound
    assert reads == [0, 1, 2, 0]
    for index in range(4):
        pictures.mask_map(index)
        assert pictures._masks.bytes <= 48 * 64 * 2


def test_threads_get_the_same_pictures(tiny_project):
    pictures = Pictures(tiny_project, image_bytes=48 * 64 * 3, mask_bytes=48 * 64)
    jobs = [(i % 4, (i % 7, i % 5, 30 + i % 9, 20 + i % 11)) for i in range(160)]
    alone = [Pictures(tiny_project).jpeg(index, box, size=64) for index, box in jobs[:40]]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda job: pictures.jpeg(*job, size=64), jobs))
    assert found[:40] == alone and pictures._images.bytes <= 48 * 64 * 3
