"""Intake: every bad input is told with the file and the way out, and leaves nothing behind."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from a2lc.classes.decoding import decode_labels
from a2lc.classes.table import ClassTable
from a2lc.creation.importer import create_project
from a2lc.errors import ImageFileError, InputError, LabelRangeError, MissingFileError, ShapeError, UnknownNameError
from a2lc.formats.voc import voc_classes, voc_palette
from a2lc.images.options import ReadingOptions
from a2lc.project.project import Project

STUMP = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"


def refused(data, snapshot, error, message, rules=None, classes=None, **sources) -> str:
    """The import raises exactly this, the user's files are as they were, and nothing is left on disk."""
    before = snapshot(data.root)
    with pytest.raises(error, match=message) as caught:
        data.create(rules, classes, **sources)
    assert type(caught.value) is error
    assert "\n" not in str(caught.value)
    assert snapshot(data.root) == before
    assert data.left_on_disk() == []
    return str(caught.value)


def opened(data):
    return Project(data.project)


# ---- a good data set ---------------------------------------------------------------------------------------------


def test_everything_is_imported_and_the_users_files_stay(make_dataset, snapshot):
    data = make_dataset(masks=True, truth=True)
    before = snapshot(data.root)
    summary = data.create()
    assert snapshot(data.root) == before
    assert data.left_on_disk() == ["out.a2lc"]
    assert (summary.images, summary.validation_images, summary.masks, summary.skipped) == (3, 0, 3, {})
    with opened(data) as project:
        assert [i.image_id for i in project.images] == ["a", "b", "c"]
        assert [(i.height, i.width) for i in project.images] == [(6, 9)] * 3
        assert project.masks.mask_ids.tolist() == [300] * 3
        for image in project.images:
            labels = data.labels_of(image.image_id)
            np.testing.assert_array_equal(project.first_labels(image), labels)
            np.testing.assert_array_equal(project.corrected_labels(image), labels)
            np.testing.assert_array_equal(project.mask_map(image), (labels == 1) * 300)
            np.testing.assert_array_equal(project.truth.pixels(image), np.roll(labels, 1, axis=1))
            assert project.pixels(image).shape == (6, 9, 3)
        truth = np.stack([np.roll(data.labels_of(n), 1, axis=1) for n in "abc"])
        labels = np.stack([data.labels_of(n) for n in "abc"])
        both = (labels != 255) & (truth != 255)
        assert summary.quality.pixel_accuracy == pytest.approx((labels == truth)[both].mean())
        assert summary.quality.unlabelled == ((labels == 255) & (truth != 255)).sum()


def test_table_of_masks_counts_labels_and_truth(make_dataset):
    data = make_dataset(("a",), truth=True)
    masks = np.arange(54, dtype=np.uint16).reshape(6, 9) % 4
    data.map("masks", "a", masks)
    data.create()
    labels, truth = data.labels_of("a").astype(int), np.roll(data.labels_of("a"), 1, axis=1).astype(int)
    with opened(data) as project:
        table = project.masks
        assert table.mask_ids.tolist() == [1, 2, 3]
        for row, mask in enumerate([1, 2, 3]):
            inside = masks == mask
            assert table.area[row] == inside.sum()
            pairs = {
                (-1 if v == 255 else v): int((labels[inside] == v).sum()) for v in np.unique(labels[inside]).tolist()
            }
            mine = table.pair_row == row
            assert dict(zip(table.pair_label[mine].tolist(), table.pair_pixels[mine].tolist(), strict=True)) == pairs
            best = max(pairs.values())
            assert table.label[row] == min((v for v in pairs if pairs[v] == best), key=lambda v: v if v >= 0 else 999)
        found = project.truth.table
        assert found.pixels.sum() == 54
        for row in range(-1, 3):
            for label in (0, 1, 2, 255):
                for true in (0, 1, 2, 255):
                    expected = ((masks == row + 1) & (labels == label) & (truth == true)).sum()
                    as_stored = [-1 if v == 255 else v for v in (label, true)]
                    some = (found.row == row) & (found.label == as_stored[0]) & (found.truth == as_stored[1])
                    assert found.pixels[some].sum() == expected


def test_components_where_no_masks_are_given(make_dataset):
    data = make_dataset(("a",))
    summary = data.create()
    assert summary.masks == 4, "three stripes and a lone tree; void has no mask"
    with opened(data) as project:
        (image,) = project.images
        mask_map = project.mask_map(image)
        assert mask_map[0, 8] == 0
        assert (mask_map[1, 1], (mask_map == mask_map[1, 1]).sum()) == (4, 1)


def test_all_void_labels_have_no_masks(make_dataset):
    data = make_dataset(("a",))
    data.map("labels", "a", np.full((6, 9), 255, dtype=np.uint8))
    with pytest.raises(
        InputError, match="no masks in 1 images, so there is nothing to ask about: the labels carry no class"
    ):
        data.create()


# ---- without labels, or with some ---------------------------------------------------------------------------------


def test_without_labels_every_pixel_is_void_and_there_are_no_masks(make_dataset, snapshot):
    data = make_dataset(("a", "b"), truth=True)
    before = snapshot(data.root)
    summary = data.create(labels=None)
    assert snapshot(data.root) == before
    assert (summary.images, summary.unlabelled, summary.masks) == (2, 2, 0)
    assert summary.quality.coverage == 0
    with opened(data) as project:
        assert project.config.sources.labels is None
        assert not project.config.sources.partial
        assert len(project.masks) == 0
        for image in project.images:
            assert project.first_labels(image).shape == (6, 9)
            assert (project.first_labels(image) == 255).all()
            assert (project.corrected_labels(image) == 255).all()
            assert not project.mask_map(image).any()
            np.testing.assert_array_equal(
                project.truth.pixels(image), np.roll(data.labels_of(image.image_id), 1, axis=1)
            )
        assert project.truth.table.pixels.sum() == 2 * 54, "truth outside masks is kept for the figures"


def test_masks_without_labels(make_dataset):
    data = make_dataset(masks=True)
    summary = data.create(labels=None)
    assert (summary.unlabelled, summary.masks) == (3, 3)
    with opened(data) as project:
        assert project.masks.label.tolist() == [-1] * 3
        assert project.masks.area.tolist() == [19] * 3


def test_part_of_the_images_has_labels(make_dataset):
    data = make_dataset()
    data.path("labels", "b").unlink()
    summary = data.create(ReadingOptions(partial=True))
    assert (summary.images, summary.unlabelled) == (3, 1)
    with opened(data) as project:
        assert project.config.sources.partial
        assert [image.image_id for image in project.images] == ["a", "b", "c"]
        assert (project.first_labels(project.record("b")) == 255).all()
        np.testing.assert_array_equal(project.first_labels(project.record("c")), data.labels_of("c"))
        assert set(project.masks.image.tolist()) == {0, 2}, "components of the labels there are"


def test_all_labels_with_partial_are_a_project_as_any(make_dataset):
    data = make_dataset()
    assert data.create(ReadingOptions(partial=True)).unlabelled == 0


def test_partial_is_of_labels_alone(make_dataset, snapshot):
    data = make_dataset(masks=True, truth=True)
    data.path("ground_truth", "b").unlink()
    data.path("labels", "b").unlink()
    data.map("labels", "zzz", data.labels_of("zzz"))
    text = refused(data, snapshot, InputError, "1 images without ground truth: b", ReadingOptions(partial=True))
    assert "1 labels files without an image: zzz" in text
    assert "`partial` to accept" not in text


@pytest.mark.parametrize("ignore", [255, 65535, 7])
def test_void_labels_are_files_as_the_user_would_write_them(make_dataset, ignore):
    data = make_dataset(("a",), classes=ClassTable.from_names(["road", "tree", "car"], ignore))
    data.create(labels=None)
    with opened(data) as project:
        assert (project.raw_labels(project.images[0]) == ignore).all()
        assert (project.first_labels(project.images[0]) == 255).all()


def test_ignore_value_that_is_read_as_a_class(make_dataset, snapshot):
    data = make_dataset(("a",))
    data.path("labels", "a").unlink()
    data.map("labels", "b", data.labels_of("b"))
    data.image("b")
    message = r"^`value_map` 255=1 leaves no value for images without labels, because 255 is the ignore value\. Use"
    refused(data, snapshot, InputError, message, ReadingOptions(value_map={255: 1}, partial=True))
    summary = data.create(ReadingOptions(value_map={255: 1, 99: 255}, partial=True))
    assert summary.unlabelled == 1
    with opened(data) as project:
        assert (project.first_labels(project.record("a")) == 255).all()
        assert project.first_labels(project.record("b"))[0, 8] == 1


def test_labels_that_carry_no_class_are_still_refused(make_dataset, snapshot):
    data = make_dataset(("a", "b"))
    data.map("labels", "a", np.full((6, 9), 255, dtype=np.uint8))
    data.path("labels", "b").unlink()
    message = "no masks in 2 images, so there is nothing to ask about: the labels carry no class"
    refused(data, snapshot, InputError, message, ReadingOptions(partial=True))


def test_project_of_before_says_nothing_of_partial(make_dataset):
    data = make_dataset()
    data.create()
    path = data.project / "project.yaml"
    lines = path.read_text().splitlines(keepends=True)
    assert "  partial: false\n" in lines
    path.write_text("".join(line for line in lines if "partial" not in line))
    with opened(data) as project:
        assert not project.config.sources.partial


def test_png_labels_are_copied_byte_for_byte(make_dataset):
    data = make_dataset(("grey", "palette", "wide", "few"))
    image = Image.fromarray(data.labels_of("palette"))
    image.putpalette(voc_palette())
    image.save(data.path("labels", "palette"))
    data.map("labels", "wide", data.labels_of("wide").astype(np.uint16))
    few = Image.fromarray(data.labels_of("few") % 4 % 3)
    few.putpalette([0] * 768)
    few.save(data.path("labels", "few"), bits=2)
    data.create()
    for name in ("grey", "palette", "wide", "few"):
        assert (data.project / "labels" / f"{name}.png").read_bytes() == data.path("labels", name).read_bytes()
    with opened(data) as project:
        np.testing.assert_array_equal(project.first_labels(project.record("palette")), data.labels_of("palette"))
        np.testing.assert_array_equal(project.first_labels(project.record("wide")), data.labels_of("wide"))


def test_other_formats_become_png_with_the_same_values(make_dataset):
    data = make_dataset(("rgb",))
    data.map("labels", "rgb", np.repeat(data.labels_of("rgb")[..., None], 3, axis=2))
    data.image("tif")
    data.map("labels", "tif", data.labels_of("tif"), suffix=".tif")
    data.create()
    with opened(data) as project:
        for image in project.images:
            np.testing.assert_array_equal(project.first_labels(image), data.labels_of(image.image_id))


def test_folders_below_folders(make_dataset):
    data = make_dataset(("seq1/a", "seq1/b", "seq2/a"))
    data.create()
    with opened(data) as project:
        assert [i.image_id for i in project.images] == ["seq1/a", "seq1/b", "seq2/a"]
        np.testing.assert_array_equal(project.corrected_labels("seq2/a"), data.labels_of("seq2/a"))
        assert project.image_path(project.images[2]).is_file()


def test_a_data_set_beside_the_project_moves_with_it(make_dataset):
    data = make_dataset(("a",))
    data.create()
    moved = data.root.parent.parent / "moved"
    data.root.parent.rename(moved)
    with Project(moved / "out.a2lc") as project:
        assert project.pixels(project.images[0]).shape == (6, 9, 3)


def test_empty_folder_is_taken_and_a_stale_partial_one_removed(make_dataset):
    data = make_dataset(("a",))
    data.project.mkdir()
    stale = data.project.with_name(".out.a2lc.partial")
    (stale / "labels").mkdir(parents=True)
    (stale / "labels" / "old.png").write_bytes(b"old")
    data.create()
    assert data.left_on_disk() == ["out.a2lc"]
    assert not (data.project / "labels" / "old.png").exists()


def test_an_import_killed_while_writing_leaves_nothing(make_dataset, snapshot, monkeypatch):
    data = make_dataset()
    before = snapshot(data.root)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("a2lc.creation.importer.Ledger", full)
    with pytest.raises(OSError, match="No space left"):
        data.create()
    assert data.left_on_disk() == []
    assert snapshot(data.root) == before


def test_validation_images_only_measure(make_dataset):
    data = make_dataset(("a",), truth=True)
    data.image("v")
    data.path("images", "v").rename(data.path("val_images", "v"))
    data.map("val_truth", "v", data.labels_of("v"))
    places = {"validation_images": data.root / "val_images", "validation_ground_truth": data.root / "val_truth"}
    summary = data.create(**places)
    assert (summary.images, summary.validation_images) == (1, 1)
    with opened(data) as project:
        assert [i.image_id for i in project.images] == ["a"]
        (held_out,) = project.validation_images
        assert held_out.index == 1
        np.testing.assert_array_equal(project.truth.pixels(held_out), data.labels_of("v"))
        assert project.pixels(held_out).shape == (6, 9, 3)
        assert not (data.project / "labels" / "v.png").exists()


def test_splits_of_made_up_scenes(tiny_project):
    assert len(tiny_project.images) == 4
    assert len(tiny_project.validation_images) == 2
    assert all((i.height, i.width) == (48, 64) for i in tiny_project.all_images)
    assert tiny_project.has_ground_truth
    areas = np.bincount(tiny_project.masks.image, weights=tiny_project.masks.area, minlength=4)
    for image in tiny_project.images:
        assert areas[image.index] == (tiny_project.mask_map(image) > 0).sum()


def test_voc_is_imported(make_dataset):
    data = make_dataset(())
    for name in "abc":
        data.image(name, suffix=".jpg")
        data.path("images", name, ".jpg").rename(data.path("JPEGImages", name, ".jpg"))
        image = Image.fromarray(data.labels_of(name) % 21 if name != "a" else data.labels_of(name))
        image.putpalette(voc_palette())
        image.save(data.path("SegmentationClass", name))
    lists = data.root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\nb\n")
    (lists / "val.txt").write_text("c\n")
    summary = data.create(classes=voc_classes(), format="voc", images=data.root, labels=None)
    assert (summary.images, summary.validation_images) == (2, 1)
    with opened(data) as project:
        np.testing.assert_array_equal(project.first_labels(project.record("a")), data.labels_of("a"))
        assert project.pixels(project.record("c")).shape == (6, 9, 3)


# ---- files that do not belong together ---------------------------------------------------------------------------


def test_missing_labels(make_dataset, snapshot):
    data = make_dataset(tuple("abcdefgh"))
    for name in "bcdefgh":
        data.path("labels", name).unlink()
    message = (
        r"^1 images have all their files\. 7 images without labels: b \(expected .*labels/b\.png\), c .* and 2 more\. "
    )
    text = refused(data, snapshot, InputError, message)
    assert text.endswith("set `skip_bad` to continue without them, or `partial` to accept those without labels.")
    summary = data.create(ReadingOptions(skip_bad=True))
    assert summary.images == 1
    assert "7 images without labels" in summary.notes[0]


def test_missing_image(make_dataset, snapshot):
    data = make_dataset()
    data.path("images", "b").unlink()
    refused(
        data,
        snapshot,
        InputError,
        r"2 images have all their files\. 1 labels files without an image: b \(at .*b\.png\)",
    )


@pytest.mark.parametrize("kind", ["masks", "ground_truth"])
def test_missing_masks_or_truth(make_dataset, snapshot, kind):
    data = make_dataset(masks=True, truth=True)
    data.path(kind, "c").unlink()
    refused(data, snapshot, InputError, rf"1 images without {kind.replace('_', ' ')}: c \(expected .*{kind}/c\.png\)")


def test_no_pair_at_all(make_dataset, snapshot):
    data = make_dataset(("a",))
    data.path("labels", "a").rename(data.path("labels", "a_mask"))
    refused(
        data,
        snapshot,
        InputError,
        r"0 images have all their files\. 1 images without labels: a .*without an image: a_mask",
    )
    refused(data, snapshot, InputError, "No image in .*images has all its files", ReadingOptions(skip_bad=True))


@pytest.mark.parametrize("kind", ["images", "labels"])
def test_same_stem_twice(make_dataset, snapshot, kind):
    data = make_dataset()
    data.path(kind, "b").rename(data.path(kind, "b", ".tif"))
    data.path(kind, "b").write_bytes(data.path(kind, "c").read_bytes())
    refused(
        data,
        snapshot,
        InputError,
        rf"1 {kind}.* in .*{kind} have the same name apart from the suffix: b\.png and b\.tif",
    )


@pytest.mark.parametrize("kind", ["images", "labels"])
def test_empty_folder(make_dataset, snapshot, kind):
    data = make_dataset(())
    (data.root / "images").mkdir()
    (data.root / "labels").mkdir()
    if kind == "labels":
        data.image("a")
    refused(data, snapshot, MissingFileError, rf"There are no {kind}.* in .*{kind}; expected files ending in ")


def test_folder_that_is_not_there(make_dataset, snapshot):
    data = make_dataset()
    refused(data, snapshot, MissingFileError, r"No folder of masks files at .*nowhere", masks=data.root / "nowhere")


def test_same_image_in_training_and_validation(make_dataset, snapshot):
    data = make_dataset(truth=True)
    places = {"validation_images": data.root / "images", "validation_ground_truth": data.root / "ground_truth"}
    refused(data, snapshot, InputError, "3 images have the same name in training and validation, such as a", **places)


def test_unknown_format(make_dataset, snapshot):
    refused(
        make_dataset(), snapshot, UnknownNameError, r"Unknown format 'foldr'. Did you mean 'folder'\?", format="foldr"
    )


# ---- where the project goes --------------------------------------------------------------------------------------


def test_folder_that_is_not_empty(make_dataset, snapshot):
    data = make_dataset()
    data.project.mkdir()
    (data.project / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match=r"out\.a2lc exists and is not empty. Choose a new folder"):
        data.create()
    assert snapshot(data.project) == {"mine.txt": b"mine"}


def test_folder_that_is_a_file(make_dataset):
    data = make_dataset()
    data.project.write_text("mine")
    with pytest.raises(InputError, match=r"out\.a2lc exists and is not empty"):
        data.create()
    assert data.project.read_text() == "mine"


def test_a_project_is_not_made_twice(make_dataset, snapshot):
    data = make_dataset()
    data.create()
    before = snapshot(data.project)
    with pytest.raises(InputError, match=r"out\.a2lc contains a project already. Continue with it \(a2lc run\)"):
        data.create()
    assert snapshot(data.project) == before


# ---- sizes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["labels", "masks", "ground_truth"])
@pytest.mark.parametrize(
    ("size", "hint"),
    [
        ((9, 6), "; rotated by 90 degrees"),
        ((3, 3), ""),
        ((12, 18), "; scaled up by 2: resize WHAT with nearest-neighbour interpolation"),
        ((2, 3), "; scaled down by 3: resize WHAT with nearest-neighbour interpolation"),
        ((4, 6), "; scaled down by 1.5: resize WHAT with nearest-neighbour interpolation"),
    ],
)
def test_another_size_than_the_image(make_dataset, snapshot, kind, size, hint):
    data = make_dataset(masks=True, truth=True)
    data.map(kind, "b", np.zeros(size, dtype=np.uint8))
    what = kind.replace("_", " ")
    message = rf"^1 files differ in size from their image: .*b\.png is 9 x 6, but .*b\.png \({what}\) is {size[1]} x {size[0]}"
    message += re.escape(hint.replace("WHAT", what)) + r"\.$"
    refused(data, snapshot, ShapeError, message)


def turned(data, name, orientation, map_size=None):
    """An image stored 9 x 6 with an EXIF orientation, and labels of a size (height, width)."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    data.image(name, exif=exif)
    if map_size:
        data.map("labels", name, np.zeros(map_size, dtype=np.uint8))


@pytest.mark.parametrize(
    ("orientation", "size", "hint"),
    [
        (6, (9, 6), "; its maps are 6 x 9, as the upright image: `exif` apply"),
        (8, (6, 9), "; its maps are 9 x 6, as the stored image: `exif` ignore"),
        (6, (4, 4), ""),
        (3, (6, 9), ""),
    ],
)
def test_exif_orientation_is_refused_with_the_choice(make_dataset, snapshot, orientation, size, hint):
    data = make_dataset(("a", "b"))
    turned(data, "b", orientation, size)
    shown = "6 x 9" if orientation >= 5 else "9 x 6"
    message = (
        rf"1 of 2 images are rotated by their EXIF orientation: .*b\.png: stored 9 x 6, shown {shown} "
        rf"\(EXIF orientation {orientation}\){re.escape(hint)}\. Set `exif` apply .*, or `exif` ignore to read them as stored"
    )
    refused(data, snapshot, ShapeError, message)


def test_exif_apply_reads_the_image_upright(make_dataset):
    data = make_dataset(("a",))
    turned(data, "a", 6, (9, 6))
    data.create(ReadingOptions(exif="apply"))
    with opened(data) as project:
        (image,) = project.images
        assert (image.height, image.width) == (9, 6)
        assert project.pixels(image).shape == (9, 6, 3)
        assert project.first_labels(image).shape == (9, 6)


def test_exif_ignore_reads_the_image_as_stored(make_dataset):
    data = make_dataset(("a",))
    turned(data, "a", 6, (6, 9))
    data.create(ReadingOptions(exif="ignore"))
    with opened(data) as project:
        (image,) = project.images
        assert (image.height, image.width) == (6, 9)
        assert project.pixels(image).shape == (6, 9, 3)


@pytest.mark.parametrize(("exif", "size"), [("apply", (6, 9)), ("ignore", (9, 6))])
def test_maps_that_do_not_fit_the_choice(make_dataset, snapshot, exif, size):
    data = make_dataset(("a",))
    turned(data, "a", 6, size)
    refused(data, snapshot, ShapeError, "1 files differ in size .*rotated by 90 degrees", ReadingOptions(exif=exif))


def test_orientation_1_needs_no_choice(make_dataset):
    data = make_dataset(("a",))
    turned(data, "a", 1)
    assert data.create().images == 1


# ---- values ------------------------------------------------------------------------------------------------------


def with_value(data, names, value, kind="labels"):
    for name in names:
        labels = data.labels_of(name).astype(np.uint16)
        labels[5, :4] = value
        data.map(kind, name, labels)


@pytest.mark.parametrize("kind", ["labels", "ground_truth"])
def test_values_outside_the_classes(make_dataset, snapshot, kind):
    data = make_dataset(tuple("abcdefg"), truth=True)
    with_value(data, "abcdefg", 34, kind)
    message = (
        rf"The {kind.replace('_', ' ')} contain values that are neither a class nor the ignore value \(255\): value 34 "
        r"on 28 pixels of 7 files "
        r"\(.*a\.png, .*b\.png, .*c\.png, .*d\.png, .*e\.png and 2 more\)\. Classes are 0, 1, 2\. .*`value_map` 34=255$"
    )
    refused(data, snapshot, LabelRangeError, message)


def test_several_unknown_values_the_most_frequent_first(make_dataset, snapshot):
    data = make_dataset(("a", "b"))
    with_value(data, "a", 9)
    with_value(data, "b", 9)
    labels = data.labels_of("b").astype(np.uint16)
    labels[0, 0] = 40000
    labels[5, :4] = 9
    data.map("labels", "b", labels)
    refused(
        data,
        snapshot,
        LabelRangeError,
        r"value 9 on 8 pixels of 2 files .* \| value 40000 on 1 pixels of 1 files .*`value_map` 9=255$",
    )


def test_map_mends_them_and_keeps_the_file_as_it_was(make_dataset):
    data = make_dataset(("a",))
    with_value(data, "a", 34)
    data.create(ReadingOptions(value_map={34: 255, 2: 0}))
    with opened(data) as project:
        (image,) = project.images
        expected = data.labels_of("a")
        expected[5, :4] = 255
        expected[expected == 2] = 0
        np.testing.assert_array_equal(project.first_labels(image), expected)
        assert project.raw_labels(image)[5, 0] == 34
        assert project.config.sources.value_map == {34: 255, 2: 0}
        # The masks are those of the labels as read: what became road joins the road's component where it touches.
        assert project.mask_map(image)[5, 0] == 0


@pytest.mark.parametrize(
    ("value_map", "message"),
    [
        ({34: 77}, r"`value_map` 34=77: 77 is neither a class \(0, 1, 2\) nor the ignore value \(255\)"),
        ({-1: 0}, r"`value_map` -1=0: values must be in 0\.\.65535"),
        ({70000: 0}, r"`value_map` 70000=0: values must be in 0\.\.65535"),
    ],
)
def test_map_to_nothing(make_dataset, snapshot, value_map, message):
    refused(make_dataset(), snapshot, InputError, message, ReadingOptions(value_map=value_map))


def test_maps_swap_values_all_at_once():
    table = ClassTable.from_names(["a", "b"])
    found, unknown = decode_labels(np.array([[0, 1, 7, 255]]), table, {0: 1, 1: 0})
    assert found.tolist() == [[1, 0, 255, 255]]
    assert unknown == {7: 1}


def test_decoding_by_file_values_and_a_wide_ignore():
    table = ClassTable.from_json({"classes": [{"id": 300, "name": "a"}, {"id": 7, "name": "b"}], "ignore": 65535})
    found, unknown = decode_labels(np.array([[300, 7, 65535, 0]], dtype=np.uint16), table, {})
    assert (found.tolist(), unknown, found.dtype) == ([[0, 1, 255, 255]], {0: 1}, np.uint8)


def binary(data, names="abc"):
    for name in names:
        data.map("labels", name, (data.labels_of(name) == 1).astype(np.uint8) * 255)


def test_0_and_255_alone_are_not_guessed_at(make_dataset, snapshot):
    data = make_dataset()
    binary(data)
    message = r"only 0 and 255.*`value_map` 255=1 reads it as 'tree'\) or no class \(`value_map` 255=255\)"
    refused(data, snapshot, LabelRangeError, message)
    data.create(ReadingOptions(value_map={255: 1}))
    with opened(data) as project:
        np.testing.assert_array_equal(project.first_labels(project.images[0]), data.labels_of("a") == 1)


def test_0_and_255_as_void(make_dataset):
    data = make_dataset()
    binary(data)
    data.create(ReadingOptions(value_map={255: 255}))
    with opened(data) as project:
        assert set(np.unique(project.first_labels(project.images[0]))) == {0, 255}


def test_0_and_255_with_a_single_class(make_dataset, snapshot):
    """A mask of one class, 255 where it is: read as it stands, everything but the object would be the object."""
    data = make_dataset()
    binary(data)
    one = ClassTable.from_names(["tumour"])
    refused(data, snapshot, LabelRangeError, "only 0 and 255, and 255 is the ignore value", classes=one)
    assert data.create(ReadingOptions(value_map={255: 255}), one).images == 3


def test_0_and_255_beside_other_values_are_classes_and_void(make_dataset):
    data = make_dataset()
    binary(data, "ab")
    assert data.create().images == 3


def test_colour_coded_labels(make_dataset, snapshot):
    data = make_dataset(("a",))
    table = ClassTable.from_json(
        {"classes": [{"id": i, "name": n, "color": [i * 9, 50, 1]} for i, n in enumerate(["road", "tree", "car"])]}
    )
    palette = np.array(table.palette(), dtype=np.uint8).reshape(256, 3)
    data.map("labels", "a", palette[data.labels_of("a")])
    refused(
        data,
        snapshot,
        ImageFileError,
        r"1 of 1 images cannot be used: .*colour-coded \(RGB\)\. Set `colours`",
        classes=table,
    )
    data.create(ReadingOptions(colours=True), table)
    with opened(data) as project:
        np.testing.assert_array_equal(project.first_labels(project.images[0]), data.labels_of("a"))


# ---- files that cannot be used -----------------------------------------------------------------------------------


def spoil(data, what, name="b"):
    """Make a file of one image unusable; what its message says."""
    if what == "jpeg labels":
        data.path("labels", name).unlink()
        data.map("labels", name, data.labels_of(name), suffix=".jpg")
        return "JPEG blurs values at every edge"
    if what == "truncated image":
        path = data.image(name, size=(60, 90))
        data.map("labels", name, np.zeros((60, 90), dtype=np.uint8))
        path.write_bytes(path.read_bytes()[:9000])
        return r"b\.png: (truncated or )?damaged"
    if what == "truncated labels":
        path = data.map("labels", name, np.random.default_rng(0).integers(0, 3, size=(6, 9), dtype=np.uint8))
        path.write_bytes(path.read_bytes()[:50])
        return r"labels/b\.png: "
    if what == "no image":
        data.path("images", name).write_text("<html>404</html>")
        return r"images/b\.png: not a readable image \(16 bytes\)"
    if what == "enormous image":
        data.image(name, size=(8, 9))
        return r"images/b\.png: 9 x 8 = 72 pixels is over the limit of 60\. Raise `max_pixels`"
    if what == "16-bit image":
        Image.fromarray(np.zeros((6, 9), dtype=np.uint16)).save(data.path("images", name))
        return "more than 8 bits per channel"
    if what == "transparent labels":
        pixels = np.zeros((6, 9, 4), dtype=np.uint8)
        pixels[0, 0, 3] = 9
        data.map("labels", name, pixels)
        return "has transparent pixels"
    raise AssertionError(what)


SPOILT = [
    "jpeg labels", "truncated image", "truncated labels", "no image", "enormous image", "16-bit image",
    "transparent labels",
]  # fmt: skip


@pytest.mark.parametrize("what", SPOILT)
def test_unusable_file_is_named_and_refused(make_dataset, snapshot, what):
    data = make_dataset()
    reason = spoil(data, what)
    rules = ReadingOptions(max_pixels=60) if what == "enormous image" else None
    message = rf"^1 of 3 images cannot be used: .*{reason}.* Fix them, or set `skip_bad` to continue without them\.$"
    refused(data, snapshot, ImageFileError, message, rules)


@pytest.mark.parametrize("what", SPOILT)
def test_the_rest_goes_on_with_skip_bad(make_dataset, snapshot, what):
    data = make_dataset()
    reason = spoil(data, what)
    before = snapshot(data.root)
    summary = data.create(ReadingOptions(skip_bad=True, max_pixels=60 if what == "enormous image" else 10**6))
    assert snapshot(data.root) == before
    assert summary.images == 2
    assert list(summary.skipped) == ["b"]
    assert re.search(reason, summary.skipped["b"])
    with opened(data) as project:
        assert [(i.index, i.image_id) for i in project.images] == [(0, "a"), (1, "c")]
        assert set(project.masks.image.tolist()) == {0, 1}
    listed = (data.project / "skipped.csv").read_text().splitlines()
    assert listed[0] == "image,reason"
    assert listed[1].startswith('"b","')


def test_nothing_left_to_import(make_dataset, snapshot):
    data = make_dataset(("b",))
    spoil(data, "no image")
    refused(
        data,
        snapshot,
        InputError,
        "There are no images to import: all were skipped as unreadable",
        ReadingOptions(skip_bad=True),
    )


def test_many_unusable_files_are_counted(make_dataset, snapshot):
    data = make_dataset(tuple("abcdefgh"))
    for name in "abcdefg":
        data.path("images", name).write_bytes(STUMP)
    refused(data, snapshot, ImageFileError, r"^7 of 8 images cannot be used: .*a\.png.*\| and 2 more Fix them")


def test_more_masks_than_16_bits_hold(make_dataset, snapshot):
    """Connected components of a chequered label map of 512 x 516 pixels."""
    data = make_dataset((), height=512, width=516)
    data.image("a")
    labels = np.full((512, 516), 255, dtype=np.uint8)
    labels[::2, ::2] = 1
    data.map("labels", "a", labels)
    assert data.labels_of("a").shape == labels.shape
    refused(data, snapshot, ImageFileError, r"a\.png: 66048 masks; at most 65535 fit a 16-bit mask map")


def test_same_project_from_the_same_files(make_dataset, tmp_path):
    data = make_dataset(masks=True, truth=True)
    tables = []
    for name in ("one", "two"):
        create_project(tmp_path / name, data.sources(), data.classes)
        with Project(tmp_path / name) as project:
            tables.append((project.masks, project.truth.table, project.all_images))
    for field in ("image", "mask_ids", "area", "label", "pair_row", "pair_label", "pair_pixels"):
        np.testing.assert_array_equal(getattr(tables[0][0], field), getattr(tables[1][0], field))
    for field in ("row", "label", "truth", "pixels"):
        np.testing.assert_array_equal(getattr(tables[0][1], field), getattr(tables[1][1], field))
    assert tables[0][2] == tables[1][2]
