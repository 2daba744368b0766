"""Images that are made into files of the project: fetched, unpacked, turned, stretched, cut; and put together again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from a2lc.classes.table import ClassTable
from a2lc.creation.importer import create_project
from a2lc.creation.preparation import tile_edges
from a2lc.errors import ImageFileError, InputError, MissingExtraError, MissingFileError, ShapeError
from a2lc.formats.base import Sources
from a2lc.images import remote
from a2lc.images.label_maps import read_snapped, write_ids
from a2lc.images.multiband import Stretch, read_deep, stretched
from a2lc.images.opening import orientation_of, stored_size, turned_upright
from a2lc.images.options import ReadingOptions
from a2lc.images.remote import list_address, read_list
from a2lc.images.rgb import read_rgb, write_rgb
from a2lc.project.project import Project

CLASSES = ClassTable.from_names(["road", "sky", "tree"])
HEIGHT, WIDTH = 50, 70


def picture(seed, height=HEIGHT, width=WIDTH):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def labels_of(seed, height=HEIGHT, width=WIDTH):
    rng = np.random.default_rng([seed, 1])
    labels = np.kron(rng.integers(0, 3, (-(-height // 10), -(-width // 10))), np.ones((10, 10)))[:height, :width]
    labels = labels.astype(np.uint8)
    labels[:3, :4] = 255
    return labels


@pytest.fixture
def data(tmp_path):
    for seed, name in enumerate(["a", "b"]):
        write_rgb(tmp_path / "images" / f"{name}.png", picture(seed))
        write_ids(tmp_path / "labels" / f"{name}.png", labels_of(seed))
    return tmp_path


def make(data, rules=None, **more):
    given = {"images": data / "images", "labels": data / "labels", **more}
    return create_project(data / "p.a2lc", Sources(**given), CLASSES, rules)


# ---- tiles -------------------------------------------------------------------------------------------------------


@given(st.integers(1, 5000), st.integers(1, 600))
def test_tile_edges(length, tile):
    edges = tile_edges(length, tile)
    sizes = np.diff(edges)
    assert edges[0] == 0 and edges[-1] == length
    assert sizes.max() <= tile and sizes.min() >= 1 and sizes.max() - sizes.min() <= 1
    assert len(sizes) == -(-length // tile)


def test_tiles_hold_all_pixels(data):
    masks = np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH) // 100 + 1
    for name in "ab":
        write_ids(data / "masks" / f"{name}.png", masks)
    summary = make(data, ReadingOptions(tile=32), masks=data / "masks", ground_truth=data / "labels")
    assert summary.images == 2 * 2 * 3  # rows and columns
    assert any("tile of 70 x 50" in note for note in summary.notes)
    with Project(data / "p.a2lc") as project:
        for seed, name in enumerate("ab"):
            whole = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
            labels = np.full((HEIGHT, WIDTH), 77, dtype=np.uint8)
            ids = np.zeros((HEIGHT, WIDTH), dtype=np.uint16)
            truth = np.full((HEIGHT, WIDTH), 77, dtype=np.uint8)
            for image in project.images:
                tile = project.prepared[image.image_id].tile
                if tile.of != name:
                    continue
                assert (image.width, image.height) == (tile.width, tile.height) and max(tile.width, tile.height) <= 32
                place = np.s_[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]
                whole[place] = project.pixels(image)
                labels[place] = project.raw_labels(image)
                ids[place] = project.mask_map(image)
                truth[place] = project.truth.pixels(image)
            assert (whole == picture(seed)).all() and (labels == labels_of(seed)).all()
            assert (ids == masks).all() and (truth == labels_of(seed)).all()


def test_small_images_stay_where_they_are(data):
    write_rgb(data / "images" / "b.png", picture(1, 20, 30))
    write_ids(data / "labels" / "b.png", labels_of(1, 20, 30))
    assert make(data, ReadingOptions(tile=64)).images == 2 + 1
    with Project(data / "p.a2lc") as project:
        assert project.image_path(project.record("b")) == data / "images" / "b.png"
        assert "b" not in project.prepared and "a/r00c01" in project.prepared


def test_a_map_of_another_size_is_not_cut(data):
    write_ids(data / "labels" / "b.png", labels_of(1, 48, 70))
    with pytest.raises(InputError, match=r"b\.png is 70 x 48, but its image is 70 x 50"):
        make(data, ReadingOptions(tile=32))
    assert not (data / "p.a2lc").exists()


# ---- EXIF ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(2, 9))
def test_baked_images_are_upright(data, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = orientation >= 5
    stored = picture(1, *((WIDTH, HEIGHT) if upright else (HEIGHT, WIDTH)))
    (data / "images" / "b.png").unlink()
    Image.fromarray(stored).save(data / "images" / "b.png", exif=exif)
    before = (data / "images" / "b.png").read_bytes()
    summary = make(data, ReadingOptions(exif="bake"))
    assert any("turned upright" in note for note in summary.notes)
    with Project(data / "p.a2lc") as project:
        record = project.record("b")
        assert (record.width, record.height) == (WIDTH, HEIGHT)
        assert (project.pixels(record) == read_rgb(data / "images" / "b.png", upright=True)).all()
        assert project.image_path(record).is_relative_to(project.folder)
        assert (project.pixels(project.record("a")) == picture(0)).all()
    assert (data / "images" / "b.png").read_bytes() == before


# ---- bands and bits ------------------------------------------------------------------------------------------------


def deep(seed, bands, dtype=np.uint16):
    return np.random.default_rng(seed).integers(100, 3000, (HEIGHT, WIDTH, bands)).astype(dtype)


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_multiband_tiff(data, planar):
    values = deep(0, 5)
    (data / "images" / "b.png").unlink()
    stored = values if planar == "contig" else np.moveaxis(values, 2, 0)
    tifffile.imwrite(data / "images" / "b.tif", stored, photometric="minisblack", planarconfig=planar)
    with pytest.raises(InputError, match="`bands`"):
        make(data)
    make(data, ReadingOptions(bands=(4, 3, 2), stretch=Stretch(0, 3000)))
    with Project(data / "p.a2lc") as project:
        expected = np.rint(255 * np.clip(values[..., [3, 2, 1]] / 3000, 0, 1)).astype(np.uint8)
        assert (project.pixels(project.record("b")) == expected).all()
        assert project.config.sources.bands == [4, 3, 2] and project.config.sources.stretch == "0:3000"
        assert project.prepared["b"].how == ("bands 4,3,2, stretched 0:3000",)


def test_grey_png_of_16_bits(data):
    values = deep(0, 1)[..., 0]
    Image.fromarray(values).save(data / "images" / "b.png")
    with pytest.raises(InputError, match=r"b\.png: more than 8 bits per channel .*`stretch`"):
        make(data)
    make(data, ReadingOptions(stretch=Stretch(2, 98, percent=True)))
    with Project(data / "p.a2lc") as project:
        low, high = np.percentile(values, [2, 98])
        grey = np.rint(255 * np.clip((values - low) / (high - low), 0, 1)).astype(np.uint8)
        assert (project.pixels(project.record("b")) == grey[..., None]).all()


def test_stretch_of_real_numbers_keeps_what_is_not_finite_dark():
    values = np.array([[[0.0], [np.nan], [1.0], [np.inf], [2.0]]], dtype=np.float32)
    found, _ = stretched(values, None, Stretch(0, 2), "x.tif")
    assert found[0, :, 0].tolist() == [0, 0, 128, 0, 255]


@pytest.mark.parametrize(
    ("bands", "stretch", "said"),
    [
        ((1, 2, 9), Stretch(0, 1), "has bands 1..5"),
        (None, Stretch(0, 1), "5 bands. Set"),
        ((1, 2, 3), None, r"`stretch` 1\d\d:29\d\d for all images"),
    ],
)
def test_stretch_needs_to_be_told(bands, stretch, said):
    with pytest.raises(ImageFileError, match=said):
        stretched(deep(0, 5), bands, stretch, "x.tif")


def test_ordinary_images_are_not_deep(tmp_path):
    Image.fromarray(picture(0)).save(tmp_path / "a.tif")
    Image.fromarray(picture(0)).save(tmp_path / "a.png")
    assert read_deep(tmp_path / "a.tif") is None and read_deep(tmp_path / "a.png") is None
    assert read_deep(tmp_path / "a.tif", every=True).shape == (HEIGHT, WIDTH, 3)


def test_damaged_tiff_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", deep(0, 5), photometric="minisblack", planarconfig="contig")
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "b.tif").write_bytes(content[: len(content) // 2])
    with pytest.raises(ImageFileError, match=r"b\.tif"):
        read_deep(tmp_path / "b.tif")
    with pytest.raises(ImageFileError, match="over the limit of 10 pixels"):
        read_deep(tmp_path / "a.tif", max_pixels=10)


# ---- addresses -----------------------------------------------------------------------------------------------------


def put(address, content):
    import fsspec

    with fsspec.open(address, "wb") as file:
        file.write(content)


@pytest.fixture
def listed(data):
    """Images in fsspec's own memory, listed in a file."""
    addresses = []
    for name in "ab":
        address = f"memory://bucket-{data.name}/pics/{name}.png"
        put(address, (data / "images" / f"{name}.png").read_bytes())
        addresses.append(address)
    (data / "list.txt").write_text("# two pictures\n\n" + "\n".join(addresses) + "\n", encoding="utf-8")
    return data


def test_images_are_fetched_once_and_again_when_cleared(listed, monkeypatch):
    make(listed, images=listed / "list.txt")
    assert not (listed / ".p.a2lc.fetched").exists()
    with Project(listed / "p.a2lc") as project:
        record = project.record("b")
        path = project.image_path(record)
        assert path == project.folder / "images" / "b.png"
        assert record.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        path.unlink()
        assert (project.pixels(record) == picture(1)).all() and path.is_file()
        path.unlink()
        put(f"memory://bucket-{listed.name}/pics/b.png", (listed / "images" / "a.png").read_bytes())
        with pytest.raises(ImageFileError, match="returns a different image from the one"):
            project.pixels(record)


def test_a_killed_import_does_not_fetch_again(listed, monkeypatch):
    fetched = []
    real = remote.fetch

    def counting(address):
        fetched.append(address)
        if len(fetched) == 2:
            raise KeyboardInterrupt
        return real(address)

    monkeypatch.setattr(remote, "fetch", counting)
    with pytest.raises(KeyboardInterrupt):
        make(listed, images=listed / "list.txt")
    assert not (listed / "p.a2lc").exists()
    first = {address for address in fetched[:1]}
    make(listed, images=listed / "list.txt")
    assert len(fetched) == 3 and fetched[2] not in first


@pytest.mark.parametrize("pattern", ["", "/", "/*.png", "/**/*.png"])
def test_folders_and_patterns_elsewhere(listed, pattern):
    put(f"memory://bucket-{listed.name}/pics/notes.md", b"text")
    address = f"memory://bucket-{listed.name}/pics{pattern}"
    assert make(listed, images=None, address=address).images == 2
    with Project(listed / "p.a2lc") as project:
        assert (project.pixels(project.record("b")) == picture(1)).all()
        assert project.prepared["b"].address.startswith("memory://")


@pytest.mark.parametrize("address", ["memory://nothing-here", "nosuch://x/y", "memory://bucket/x/*.png"])
def test_addresses_that_lead_nowhere(data, address):
    with pytest.raises((InputError, MissingExtraError)) as caught:
        make(data, images=None, address=address)
    assert address in str(caught.value) and "\n" not in str(caught.value)


def test_what_cannot_be_fetched_is_named(listed):
    (listed / "list.txt").write_text("memory://nowhere/a.png\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"memory://nowhere/a\.png: cannot be downloaded"):
        make(listed, images=listed / "list.txt", labels=None)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("s3://b/x/one.jpg\ns3://b/x/two.png\n", ["one", "two"]),
        ("s3://b/x/one.jpg\ns3://b/y/one.jpg\n", ["x/one", "y/one"]),
        ("https://h/x/one.jpg?sign=a/b.png\n", ["one"]),
        ("https://h/x/a%20b.jpg\n", ["a b"]),
        ("../up/a.png\n../up/b.png\n", ["a", "b"]),
        ("a.png\n", ["a"]),
        ("https://h/../../etc/a.png\nhttps://h/b.png", ["b", "etc/a"]),
    ],
)
def test_names_of_addresses(tmp_path, text, names):
    (tmp_path / "list.txt").write_text(text, encoding="utf-8")
    assert sorted(read_list(tmp_path / "list.txt")) == names


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe\x00", "not a text file"),
        (b"# none\n", "contains no URL"),
        (b"s3://b/x.txt\n", "do not end in an image suffix"),
        (b"s3://b/x.png\ns3://b/x.jpg\n", "have the same name as another image"),
    ],
)
def test_bad_lists(tmp_path, content, said):
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(InputError, match=said):
        read_list(tmp_path / "list.txt")
    with pytest.raises(MissingFileError):
        read_list(tmp_path / "none.txt")


# ---- labels alone, and ground truth of some ------------------------------------------------------------------------


def test_labels_without_images(data):
    summary = make(data, images=None, ground_truth=data / "labels")
    assert summary.images == 2 and summary.quality.miou == 1
    with Project(data / "p.a2lc") as project:
        assert not project.has_images
        assert (project.pixels(project.record("a")) == 128).all()
        with pytest.raises(InputError, match="a has no image"):
            project.image_path(project.record("a"))
        assert (project.corrected_labels("a") == np.where(labels_of(0) == 255, 255, labels_of(0))).all()


def test_ground_truth_of_some_images(data):
    wrong = labels_of(0).copy()
    wrong[20:30, 20:30] = (wrong[20:30, 20:30] + 1) % 3
    write_ids(data / "truth" / "a.png", wrong)
    with pytest.raises(InputError, match=r"1 images without ground truth: b .*`partial_truth`"):
        make(data, ground_truth=data / "truth")
    summary = make(data, ReadingOptions(partial_truth=True), ground_truth=data / "truth")
    assert (summary.images, summary.with_truth) == (2, 1)
    alone = data / "alone"
    for kind in ("images", "labels"):
        (alone / kind).mkdir(parents=True)
        (alone / kind / "a.png").write_bytes((data / kind / "a.png").read_bytes())
    sources = Sources(images=alone / "images", labels=alone / "labels", ground_truth=data / "truth")
    only = create_project(data / "q.a2lc", sources, CLASSES)
    assert summary.quality.miou == only.quality.miou < 1
    with Project(data / "p.a2lc") as project:
        assert project.config.sources.partial_ground_truth
        assert (project.truth.pixels(project.record("b")) == 255).all()


# ---- lossy labels ---------------------------------------------------------------------------------------------------


def test_snapped_labels_are_the_nearest(tmp_path):
    values = (labels_of(0) % 3) * 100
    Image.fromarray(values.astype(np.uint8)).save(tmp_path / "a.jpg", quality=90)
    blurred = np.array(Image.open(tmp_path / "a.jpg")).astype(int)
    found, moved = read_snapped(tmp_path / "a.jpg", [0, 100, 200], 49)
    expected = np.array([0, 100, 200])[np.abs(blurred[..., None] - [0, 100, 200]).argmin(axis=2)]
    assert (found == expected).all() and moved == (blurred != expected).sum() > 0
    with pytest.raises(ImageFileError, match=r"`snap` allows 0"):
        read_snapped(tmp_path / "a.jpg", [0, 100, 200], 0)


def test_snapped_colours(tmp_path):
    table = [((250, 10, 10), 3), ((10, 10, 250), 300)]
    values = (labels_of(0) % 2).astype(int)
    pixels = np.array([colour for colour, _ in table], dtype=np.uint8)[values]
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=95, subsampling=0)
    found, _ = read_snapped(tmp_path / "a.jpg", [], 120, colours=table)
    assert found.dtype == np.uint16 and (found == np.array([3, 300])[values]).mean() > 0.99
    with pytest.raises(ImageFileError, match="Set `colours`"):
        read_snapped(tmp_path / "a.jpg", [0, 1], 10)


def test_snapping_is_told(data):
    for seed, name in enumerate("ab"):
        (data / "labels" / f"{name}.png").unlink()
        Image.fromarray((labels_of(seed) % 3 * 100).astype(np.uint8)).save(data / "labels" / f"{name}.jpg", quality=90)
    table = ClassTable(("road", "sky", "tree"), CLASSES.colours, (0, 100, 200), 255)
    sources = Sources(images=data / "images", labels=data / "labels")
    with pytest.raises(InputError, match=r"blurs values at every edge.*`snap` to N"):
        create_project(data / "p.a2lc", sources, table)
    summary = create_project(data / "p.a2lc", sources, table, ReadingOptions(snap=40))
    assert any("pixels of lossy label files were changed to the nearest known value" in note for note in summary.notes)
    with Project(data / "p.a2lc") as project:
        assert set(np.unique(project.raw_labels(project.record("a")))) <= {0, 100, 200}
        assert json.loads((project.folder / "tables" / "reading.json").read_text())["ids"] == [0, 100, 200]


# ---- what a failed import leaves, and what is left out -----------------------------------------------------------


def test_another_list_never_takes_the_images_of_a_failed_import(data):
    """Both lists name an image `one`: what was fetched for the first is not what the second names."""
    for name, seed in (("first", 10), ("second", 11)):
        write_rgb(data / name / "one.png", picture(seed))
        (data / f"{name}.txt").write_text(f"{name}/one.png\n", encoding="utf-8")
    (data / "first.txt").write_text("first/one.png\nfirst/gone.png\n", encoding="utf-8")
    for name in ("one", "gone"):
        write_ids(data / "maps" / f"{name}.png", labels_of(0))
    with pytest.raises(ImageFileError, match="cannot be downloaded"):
        make(data, images=data / "first.txt", labels=data / "maps")
    make(data, ReadingOptions(skip_bad=True), images=data / "second.txt", labels=data / "maps")
    with Project(data / "p.a2lc") as project:
        (record,) = project.images
        assert project.image_path(record) == project.folder / "images" / "one.png"
        assert (project.pixels(record) == picture(11)).all()


def test_a_file_that_changed_since_a_failed_import_is_fetched_again(data):
    (data / "list.txt").write_text("images/a.png\nimages/gone.png\n", encoding="utf-8")
    (data / "labels" / "b.png").rename(data / "labels" / "gone.png")
    with pytest.raises(ImageFileError, match="cannot be downloaded"):
        make(data, images=data / "list.txt")
    write_rgb(data / "images" / "a.png", picture(99))
    (data / "list.txt").write_text("images/a.png\n", encoding="utf-8")
    make(data, ReadingOptions(skip_bad=True), images=data / "list.txt")
    with Project(data / "p.a2lc") as project:
        assert (project.pixels(project.images[0]) == picture(99)).all()


def test_addresses_on_this_machine_are_whole_paths(data, monkeypatch):
    (data / "list.txt").write_text("images/a.png\nimages/b.png\n", encoding="utf-8")
    monkeypatch.chdir(data)
    create_project(data / "p.a2lc", Sources(images=Path("list.txt"), labels=Path("labels")), CLASSES, ReadingOptions())
    monkeypatch.chdir(data.parent)
    with Project(data / "p.a2lc") as project:
        assert project.prepared["a"].address == str(data / "images" / "a.png")
        project.image_path(project.record("a")).unlink()
        assert (project.pixels(project.record("a")) == picture(0)).all()


def turned_jpeg(path, orientation, seed):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture(seed)).save(path, exif=exif, quality=95)


@pytest.mark.parametrize("others", ["bad", "good"])
def test_copies_of_images_that_are_left_out_are_deleted(data, others):
    """An upright copy is made before its labels are found to be damaged."""
    for name in "ab":
        (data / "images" / f"{name}.png").unlink()
        turned_jpeg(data / "images" / f"{name}.jpg", 3, 0)
    (data / "labels" / "b.png").write_bytes(b"damaged")
    if others == "bad":
        write_rgb(data / "images" / "c.png", picture(2))
        write_ids(data / "labels" / "c.png", labels_of(2))
        (data / "labels" / "a.png").write_bytes(b"damaged")
    summary = make(data, ReadingOptions(exif="bake", skip_bad=True))
    assert summary.images == 1 and "b" in summary.skipped
    folder = data / "p.a2lc" / "images"
    kept = sorted(path.name for path in folder.rglob("*")) if folder.exists() else []
    assert kept == (["a.png"] if others == "good" else [])
    assert [note for note in summary.notes if "turned upright" in note][:1] == (
        ["1 images: turned upright; the project keeps them in its own images/"] if others == "good" else []
    )


# ---- turned images that are made into others ---------------------------------------------------------------------


def turned_tiff(path, orientation, values):
    tifffile.imwrite(path, values, extratags=[(274, 3, 1, orientation, True)])


TURNS = {
    "tile": ({"tile": 32}, "jpg"),
    "tile of a TIFF": ({"tile": 32}, "tif"),
    "bands": ({"bands": (3, 2, 1)}, "tif"),
    "stretch": ({"stretch": Stretch(0, 65535)}, "deep"),
    "stretch and tile": ({"stretch": Stretch(0, 65535), "tile": 32}, "deep"),
}


def plant_turned(data, kind, orientation):
    """One image `a`, stored 70 x 50, that EXIF shows turned; its pixels as stored."""
    for name in "ab":
        (data / "images" / f"{name}.png").unlink()
    (data / "labels" / "b.png").unlink()
    whole = picture(0)
    if kind == "jpg":
        turned_jpeg(data / "images" / "a.jpg", orientation, 0)
        return read_rgb(data / "images" / "a.jpg")
    if kind == "tif":
        turned_tiff(data / "images" / "a.tif", orientation, whole)
        return whole
    turned_tiff(data / "images" / "a.tif", orientation, whole[..., 0].astype(np.uint16) * 257)
    return np.repeat(whole[..., :1], 3, axis=2)


def whole_of(project):
    """The image put together from what the project has of it."""
    found = None
    for record in project.images:
        pixels = project.pixels(record)
        how = project.prepared.get(record.image_id)
        if how is None or how.tile is None:
            return pixels
        tile = how.tile
        if found is None:
            edges = [project.prepared[one.image_id].tile for one in project.images]
            found = np.zeros((max(e.top + e.height for e in edges), max(e.left + e.width for e in edges), 3), np.uint8)
        found[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width] = pixels
    return found


@pytest.mark.parametrize("exif", ["apply", "bake", "ignore"])
@pytest.mark.parametrize("orientation", [6, *(pytest.param(turn, marks=pytest.mark.slow) for turn in (2, 3, 8))])
@pytest.mark.parametrize("case", TURNS)
def test_what_is_made_of_a_turned_image(data, case, orientation, exif):
    options, kind = TURNS[case]
    stored = plant_turned(data, kind, orientation)
    if case == "bands":
        stored = stored[..., ::-1]
    expected = stored
    if exif != "ignore":
        expected = {
            2: stored[:, ::-1],
            3: stored[::-1, ::-1],
            6: np.rot90(stored, -1),
            8: np.rot90(stored, 1),
        }[orientation]
    write_ids(data / "labels" / "a.png", labels_of(0, *expected.shape[:2]))
    make(data, ReadingOptions(exif=exif, **options))
    with Project(data / "p.a2lc") as project:
        assert np.array_equal(whole_of(project), expected)


@pytest.mark.parametrize("case", TURNS)
def test_nothing_is_made_of_a_turned_image_that_nobody_decided(data, case):
    options, kind = TURNS[case]
    plant_turned(data, kind, 6)
    write_ids(data / "labels" / "a.png", labels_of(0, WIDTH, HEIGHT))
    said = r"1 of 1 images are rotated .*stored 70 x 50, shown 50 x 70 \(EXIF orientation 6\); its maps are 50 x 70"
    with pytest.raises(ShapeError, match=said):
        make(data, ReadingOptions(**options))
    # It is no image that is merely left out: what it shows is not known.
    with pytest.raises(ShapeError, match="as the upright image: `exif` apply"):
        make(data, ReadingOptions(skip_bad=True, **options))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations(tmp_path, orientation):
    pixels = picture(3)
    turned_tiff(tmp_path / "a.tif", orientation, pixels)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened))
    assert np.array_equal(turned_upright(pixels, orientation), expected)
    for name in ("a.tif", "a.png"):
        assert stored_size(tmp_path / name) == (WIDTH, HEIGHT, orientation)
        assert orientation_of(tmp_path / name) == orientation
        assert np.array_equal(read_rgb(tmp_path / name), pixels)
        assert np.array_equal(read_rgb(tmp_path / name, upright=True), expected)


# ---- TIFFs of pages ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(40, 60, 5), (5, 40, 60), (40, 60, 2)])
def test_bands_that_tifffile_wrote_as_pages(tmp_path, shape, dtype):
    """Rows, columns and bands, or bands first: the axis shorter than both others is that of the bands."""
    values = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", values)
    expected = values if shape[0] == 40 else np.moveaxis(values, 0, -1)
    found = read_deep(tmp_path / "a.tif")
    assert found.dtype == dtype and np.array_equal(found, expected)


def test_three_pages_are_not_taken_for_the_first(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (3, 40, 60), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack")
    assert np.array_equal(read_deep(tmp_path / "a.tif"), np.moveaxis(values, 0, -1))
    with pytest.raises(ImageFileError, match=r"a\.tif: contains 3 pages of one size\. If they are bands, set `bands`"):
        read_rgb(tmp_path / "a.tif")


def test_overviews_are_no_pages(tmp_path):
    pixels = picture(0)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(pixels, photometric="rgb")
        file.write(pixels[::2, ::2].copy(), photometric="rgb", subfiletype=1)
    assert read_deep(tmp_path / "a.tif") is None
    assert np.array_equal(read_rgb(tmp_path / "a.tif"), pixels)


@pytest.mark.parametrize("shape", [(40, 60, 40), (40, 5, 60)])
def test_bands_that_cannot_be_told_are_refused(tmp_path, shape):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros(shape, dtype=np.uint16), photometric="minisblack")
    with pytest.raises(
        ImageFileError, match=r"in which the axis of the bands is ambiguous\. Write it again with photometric="
    ):
        read_deep(tmp_path / "a.tif")


def test_a_question_mark_on_the_web_is_a_query():
    (image,) = list_address("https://example.org/x/a.png?sign=*[1").values()
    assert image.address == "https://example.org/x/a.png?sign=*[1" and image.suffix == ".png"


def test_a_link_to_nothing_is_named(data):
    (data / "images" / "c.png").symlink_to(data / "nowhere.png")
    with pytest.raises(ImageFileError, match=r"c\.png: missing, or a broken link"):
        make(data, labels=None)
    assert make(data, ReadingOptions(skip_bad=True), labels=None).images == 2


@pytest.mark.parametrize("place", range(0, 64, 4))
def test_damaged_pages_are_one_line(tmp_path, place):
    """Whatever is wrong with the list of a TIFF's pages, it is refused or read, and no parser's error comes through."""
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3, 20, 30), dtype=np.uint8), photometric="minisblack")
    content = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        second = file.pages[1].offset
    content[second + place : second + place + 4] = b"\xff\x7f\x01\xfe"
    (tmp_path / "a.tif").write_bytes(bytes(content))
    for read in (read_rgb, stored_size, orientation_of, read_deep):
        try:
            read(tmp_path / "a.tif")
        except ImageFileError as error:
            assert "a.tif" in str(error) and "\n" not in str(error)
