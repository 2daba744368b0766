"""Which files belong to which image: plain folders with and without splits, and VOC."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from a2lc.errors import InputError, MissingFileError
from a2lc.formats.base import Sources, find_files
from a2lc.formats.folder import read_folder
from a2lc.formats.registry import FORMATS
from a2lc.formats.voc import VOC_NAMES, read_voc, voc_classes, voc_palette


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def ids(samples):
    return [sample.image_id for sample in samples]


def test_formats():
    assert {"folder", "voc"} <= set(FORMATS)


# ---- files -------------------------------------------------------------------------------------------------------


def test_names_are_paths_without_suffix_sorted(tmp_path):
    touch(tmp_path, "b.PNG", "sub/a.jpg", "a.v2.jpeg", "notes.txt", ".hidden.png", ".git/x.png")
    (tmp_path / "folder.png").mkdir()
    found = find_files(tmp_path, {".png", ".jpg", ".jpeg"}, "images")
    assert found == {"a.v2": tmp_path / "a.v2.jpeg", "b": tmp_path / "b.PNG", "sub/a": tmp_path / "sub" / "a.jpg"}


def test_same_stem_twice_is_named(tmp_path):
    touch(tmp_path, "a.png", "a.jpg", "b.png")
    message = r"1 images in .* have the same name apart from the suffix: a\.jpg and a\.png. Keep one of each"
    with pytest.raises(InputError, match=message):
        find_files(tmp_path, {".png", ".jpg"}, "images")


def test_missing_and_empty_folders(tmp_path):
    with pytest.raises(MissingFileError, match=r"No folder of masks at .*none"):
        find_files(tmp_path / "none", {".png"}, "masks")
    touch(tmp_path, "readme.md")
    with pytest.raises(MissingFileError, match=r"There are no labels in .*; expected files ending in \.jpg, \.png"):
        find_files(tmp_path, {".png", ".jpg"}, "labels")


# ---- plain folders -----------------------------------------------------------------------------------------------


def folder(root, **more):
    return Sources(images=root / "images", labels=root / "labels", **more)


def test_folders_beside_each_other(tmp_path):
    touch(tmp_path, "images/x/a.jpg", "images/b.jpg", "labels/x/a.png", "labels/b.png", "masks/b.png", "masks/x/a.tif")
    found = read_folder(folder(tmp_path, masks=tmp_path / "masks"))
    assert ids(found.train) == ["b", "x/a"]
    assert found.train[1].masks == tmp_path / "masks/x/a.tif"
    assert (found.validation, found.unmatched, found.notes, found.root) == ([], {}, [], tmp_path / "images")


def test_no_labels_named(tmp_path):
    touch(tmp_path, "images/train/a.png", "images/train/b.png", "masks/train/a.png", "masks/train/b.png")
    found = read_folder(Sources(images=tmp_path / "images", masks=tmp_path / "masks"))
    assert [(s.image_id, s.labels) for s in found.train] == [("a", None), ("b", None)]
    assert found.train[1].masks == tmp_path / "masks/train/b.png"
    assert found.unmatched == {}


def test_partial_labels(tmp_path):
    touch(tmp_path, "images/a.png", "images/b.png", "images/c.png", "labels/b.png", "labels/x.png")
    found = read_folder(folder(tmp_path), partial=True)
    assert [(s.image_id, s.labels and s.labels.name) for s in found.train] == [("a", None), ("b", "b.png"), ("c", None)]
    assert list(found.unmatched) == ["labels files without an image"]


def test_missing_image_folder(tmp_path):
    with pytest.raises(MissingFileError, match=r"No folder of images at .*images"):
        read_folder(folder(tmp_path))


def test_splits_are_found(tmp_path):
    touch(
        tmp_path, "images/train/a.png", "images/Val/b.png", "labels/train/a.png", "masks/train/a.png",
        "truth/train/a.png",
        "truth/Val/b.png",
    )  # fmt: skip
    found = read_folder(folder(tmp_path, masks=tmp_path / "masks", ground_truth=tmp_path / "truth"))
    assert ids(found.train) == ["a"]
    assert found.train[0].ground_truth == tmp_path / "truth/train/a.png"
    assert ids(found.validation) == ["b"]
    assert found.validation[0].ground_truth == tmp_path / "truth/Val/b.png"
    assert (found.root.name, found.validation_root.name) == ("train", "Val")
    assert "splits found" in found.notes[0]


def test_validation_without_ground_truth_of_its_own_is_left_alone(tmp_path):
    touch(tmp_path, "images/train/a.png", "images/val/b.png", "labels/train/a.png")
    found = read_folder(folder(tmp_path))
    assert (ids(found.train), ids(found.validation)) == (["a"], [])


@pytest.mark.parametrize("extra", ["images/other/c.png", "images/c.png"])
def test_folders_that_are_no_splits_are_parts_of_names(tmp_path, extra):
    touch(tmp_path, "images/train/a.png", "labels/train/a.png", extra, extra.replace("images", "labels"))
    found = read_folder(folder(tmp_path))
    assert "train/a" in ids(found.train)
    assert len(found.train) == 2


def test_hidden_files_do_not_hide_splits(tmp_path):
    touch(tmp_path, "images/train/a.png", "images/.DS_Store", "labels/train/a.png")
    assert ids(read_folder(folder(tmp_path)).train) == ["a"]


def test_same_name_in_training_and_validation(tmp_path):
    touch(tmp_path, "images/train/a.png", "images/val/a.png", "labels/train/a.png", "t/train/a.png", "t/val/a.png")
    with pytest.raises(
        InputError, match=r"1 images have the same name in training and validation, such as a. A model must"
    ):
        read_folder(folder(tmp_path, ground_truth=tmp_path / "t"))


@pytest.mark.parametrize(
    ("given", "named"), [("validation_images", "the images"), ("validation_ground_truth", "the ground")]
)
def test_half_a_validation_set(tmp_path, given, named):
    touch(tmp_path, "images/a.png", "labels/a.png", "v/b.png")
    with pytest.raises(InputError, match=f"For validation, set both .*only {named}"):
        read_folder(folder(tmp_path, **{given: tmp_path / "v"}))


def test_what_has_no_partner_is_listed_with_where_it_was_expected(tmp_path):
    touch(tmp_path, "images/a.png", "images/b.png", "labels/b.png", "labels/c.png", "masks/a.png")
    found = read_folder(folder(tmp_path, masks=tmp_path / "masks"))
    assert found.train == []
    assert found.unmatched["images without labels"] == [f"a (expected {tmp_path / 'labels' / 'a'}.png)"]
    assert found.unmatched["labels files without an image"] == [f"c (at {tmp_path / 'labels' / 'c.png'})"]
    assert found.unmatched["images without masks"] == [f"b (expected {tmp_path / 'masks' / 'b'}.png)"]


# ---- VOC ---------------------------------------------------------------------------------------------------------


def voc(root, lists, labelled=("a", "b", "c", "d")):
    touch(root, *(f"JPEGImages/{n}.jpg" for n in "abcd"), *(f"SegmentationClass/{n}.png" for n in labelled))
    for name, stems in lists.items():
        touch(root, f"ImageSets/Segmentation/{name}.txt")
        (root / "ImageSets" / "Segmentation" / f"{name}.txt").write_text("\n".join(stems) + "\n")
    return Sources(format="voc", images=root)


def test_voc_lists(tmp_path):
    found = read_voc(voc(tmp_path, {"train": ["b", "a"], "val": ["c"], "trainval": ["a", "b", "c"]}))
    assert sorted(ids(found.train)) == ["a", "b"]
    assert ids(found.validation) == ["c"]
    assert found.train[0].labels.parent == tmp_path / "SegmentationClass"
    assert found.validation[0].ground_truth == tmp_path / "SegmentationClass/c.png"
    assert found.unmatched == {}, "maps of other splits are the layout, not a fault"


def test_voc_trainval_alone_and_no_lists(tmp_path):
    found = read_voc(voc(tmp_path / "one", {"trainval": ["a", "d"]}))
    assert (ids(found.train), found.validation) == (["a", "d"], [])
    found = read_voc(voc(tmp_path / "two", {}, labelled=("a", "c")))
    assert ids(found.train) == ["a", "c"]
    assert "the 2 images that have labels are used" in found.notes[0]


def test_voc_labels_from_elsewhere(tmp_path):
    sources = voc(tmp_path, {"train": ["a"]})
    touch(tmp_path, "pseudo/a.png")
    found = read_voc(
        Sources(
            format="voc", images=tmp_path, labels=tmp_path / "pseudo", ground_truth=sources.images / "SegmentationClass"
        )
    )
    assert found.train[0].labels == tmp_path / "pseudo/a.png"
    assert found.train[0].ground_truth == tmp_path / "SegmentationClass/a.png"


def test_voc_list_names_an_image_that_is_not_there(tmp_path):
    with pytest.raises(
        MissingFileError, match=r"1 images listed in .*Segmentation are not in .*JPEGImages, the first is z"
    ):
        read_voc(voc(tmp_path, {"train": ["a", "z"]}))


def test_voc_label_is_missing(tmp_path):
    found = read_voc(voc(tmp_path, {"train": ["a", "b"]}, labelled=("a",)))
    assert ids(found.train) == ["a"]
    assert "b (expected" in found.unmatched["images without labels"][0]


def test_voc_lists_that_overlap(tmp_path):
    with pytest.raises(InputError, match=r"1 images are in both train\.txt and val\.txt, such as b"):
        read_voc(voc(tmp_path, {"train": ["a", "b"], "val": ["b", "c"]}))


def test_voc_root_without_images(tmp_path):
    with pytest.raises(MissingFileError, match=r"no folder JPEGImages in "):
        read_voc(Sources(format="voc", images=tmp_path))


def test_voc_classes_and_palette():
    table = voc_classes()
    assert table.names == VOC_NAMES
    assert (len(VOC_NAMES), VOC_NAMES[0], VOC_NAMES[15], table.ignore) == (21, "background", "person", 255)
    # Colours of the development kit.
    assert [table.colours[i] for i in (0, 1, 2, 8, 15, 20)] == [
        (0, 0, 0), (128, 0, 0), (0, 128, 0), (64, 0, 0), (192, 128, 128), (0, 64, 128),
    ]  # fmt: skip
    palette = voc_palette()
    assert len(palette) == 768
    assert tuple(palette[765:]) == (224, 224, 192)
    assert len({tuple(palette[3 * i : 3 * i + 3]) for i in range(256)}) == 256


def test_palette_of_voc_files_is_ours(tmp_path):
    image = Image.fromarray(np.arange(21, dtype=np.uint8)[None])
    image.putpalette(voc_palette())
    image.save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as back:
        assert back.convert("RGB").getpixel((15, 0)) == (192, 128, 128)


def test_voc_without_labels(tmp_path):
    sources = voc(tmp_path, {"train": ["a", "c"]}, labelled=())
    assert [(s.image_id, s.labels) for s in read_voc(sources).train] == [("a", None), ("c", None)]


def test_voc_whose_labels_are_the_ground_truth_starts_without(tmp_path):
    sources = voc(tmp_path, {"train": ["a"], "val": ["b"]})
    found = read_voc(replace(sources, ground_truth=tmp_path / "SegmentationClass"))
    assert [(s.image_id, s.labels) for s in found.train] == [("a", None)]
    assert found.train[0].ground_truth == tmp_path / "SegmentationClass/a.png"
    assert ids(found.validation) == ["b"]


def test_voc_with_some_labels(tmp_path):
    sources = voc(tmp_path, {}, labelled=("b",))
    assert ids(read_voc(sources).train) == ["b"]
    found = read_voc(sources, partial=True)
    assert [(s.image_id, s.labels is None) for s in found.train] == [
        ("a", True),
        ("b", False),
        ("c", True),
        ("d", True),
    ]
    assert "all 4 images are used" in found.notes[0]
