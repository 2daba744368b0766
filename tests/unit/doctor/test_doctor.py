"""Planted faults, one folder each: the doctor names file, value and pixels, and its command makes the import take them."""

from __future__ import annotations

import json
import shlex
import shutil
import zipfile

import numpy as np
import pytest
import tifffile
from PIL import Image

from a2lc.cli.app import _main
from a2lc.doctor import find_layout, with_images
from a2lc.formats.voc import voc_palette
from a2lc.images.label_maps import write_ids
from a2lc.images.rgb import write_rgb

HEIGHT, WIDTH = 24, 36
NAMES = ("a", "b", "c", "d")
COLOURS = [[128, 64, 128], [70, 130, 180], [220, 20, 60], [107, 142, 35]]
CLASSES = {
    "classes": [
        {"id": index, "name": name, "color": COLOURS[index]}
        for index, name in enumerate(["road", "sky", "person", "tree"])
    ],
    "ignore": 255,
}


def picture(seed):
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def labels_of(seed):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 4, (HEIGHT // 6, WIDTH // 6)).astype(np.uint8)
    coarse.ravel()[:4] = [0, 1, 2, 3]
    labels = np.kron(coarse, np.ones((6, 6), dtype=np.uint8))
    labels[:2, :3] = 255
    return labels


class Set:
    """A clean data set on disk, to plant faults in."""

    def __init__(self, root):
        self.root = root
        for seed, name in enumerate(NAMES):
            write_rgb(root / "images" / f"{name}.png", picture(seed))
            write_ids(root / "labels" / f"{name}.png", labels_of(seed))
        self.classes(CLASSES)

    def classes(self, table):
        (self.root / "classes.json").write_text(json.dumps(table), encoding="utf-8")

    def label(self, name, values, palette=None):
        write_ids(self.root / "labels" / f"{name}.png", values, palette)

    def labels(self, change):
        for seed, name in enumerate(NAMES):
            self.label(name, change(labels_of(seed)))

    def path(self, kind, name, suffix=".png"):
        return self.root / kind / f"{name}{suffix}"

    def rgb_labels(self, table):
        for seed, name in enumerate(NAMES):
            values = labels_of(seed)
            pixels = np.array([*table, *([[224, 224, 192]] * (256 - len(table)))], dtype=np.uint8)[values]
            write_rgb(self.path("labels", name), pixels)


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Set(tmp_path / "set")


def doctor(data, capsys, *more):
    """Exit code and what the doctor says as JSON."""
    capsys.readouterr()
    code = _main(["doctor", str(data.root), "--json", *more])
    return code, json.loads(capsys.readouterr().out)


def finding(found, code):
    matches = [one for one in found["findings"] if one["code"] == code]
    assert matches, f"{code} not among {[one['code'] for one in found['findings']]}"
    return matches[0]


# ---- plants: each changes the set, and says which finding must come, and on what ---------------------------------


def truncated_image(data):
    path = data.path("images", "b")
    path.write_bytes(path.read_bytes()[:900])
    return "image-unreadable", "b.png", None


def truncated_label(data):
    path = data.path("labels", "b")
    path.write_bytes(path.read_bytes()[:60])
    return "labels-unreadable", "b.png", None


def empty_file(data):
    data.path("images", "c").write_bytes(b"")
    return "image-unreadable", "c.png", None


def no_image(data):
    data.path("images", "c").write_text("this is text")
    return "image-unreadable", "c.png", None


def colour_coded(data):
    data.rgb_labels(COLOURS)
    return (
        "labels-colour-coded",
        "a.png",
        ("(128, 64, 128) road", int(sum((labels_of(s) == 0).sum() for s in range(4)))),
    )


def colour_coded_unknown(data):
    data.rgb_labels([*COLOURS[:3], [1, 2, 3]])
    return "labels-colour-coded", "a.png", ("(1, 2, 3)", int(sum((labels_of(s) == 3).sum() for s in range(4))))


def red_channel(data):
    data.rgb_labels([[0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0]])
    for seed, name in enumerate(NAMES):
        values = np.where(labels_of(seed) == 255, 0, labels_of(seed))
        write_rgb(data.path("labels", name), np.stack([values, 0 * values, 0 * values], axis=2))
    return "labels-colour-coded", "a.png", ("(3, 0, 0)", int(sum((labels_of(s) == 3).sum() for s in range(4))))


def binary(data):
    data.labels(lambda values: np.where(values == 1, 255, 0).astype(np.uint8))
    return "labels-binary", None, ("255", int(sum((labels_of(s) == 1).sum() for s in range(4))))


def stretched_ids(data):
    table = {**CLASSES, "ignore": 200}
    data.classes(table)
    data.labels(lambda values: (np.where(values == 255, 0, values) * 85).astype(np.uint8))
    return "labels-values", "a.png", ("85", int(sum((labels_of(s) == 1).sum() for s in range(4))))


def instance_ids(data):
    data.labels(lambda values: np.where(values == 2, 2003, values.astype(np.uint16)))
    return "labels-values", "a.png", ("2003", int(sum((labels_of(s) == 2).sum() for s in range(4))))


def undeclared(data):
    values = labels_of(1)
    values[3:5, 3:7] = 34
    data.label("b", values)
    return "labels-values", "b.png", ("34", 8)


def other_ignore(data):
    data.labels(lambda values: np.where(values == 255, 99, values).astype(np.uint8))
    return "labels-values", "a.png", ("99", 4 * 6)


def counted_from_one(data):
    data.labels(lambda values: np.where(values == 255, 255, values + 1).astype(np.uint8))
    return "labels-values", "a.png", ("4", int(sum((labels_of(s) == 3).sum() for s in range(4))))


def smoothed(data):
    data.classes({"classes": [{"id": 0, "name": "road"}, {"id": 100, "name": "sky"}], "ignore": 255})

    def smooth(values):
        big = Image.fromarray(np.where(values == 1, 100, 0).astype(np.uint8))
        return np.array(big.resize((WIDTH // 2, HEIGHT // 2)).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR))

    data.labels(smooth)
    return "labels-values", "a.png", None


def jpeg_labels(data):
    data.classes({"classes": [{"id": 0, "name": "road"}, {"id": 120, "name": "sky"}, {"id": 240, "name": "tree"}]})
    for seed, name in enumerate(NAMES):
        values = np.minimum(labels_of(seed), 2) * 120
        data.path("labels", name).unlink()
        Image.fromarray(values.astype(np.uint8)).save(data.path("labels", name, ".jpg"), quality=92)
    return "labels-lossy", "a.jpg", None


def exif_upright(data):
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = np.ascontiguousarray(np.rot90(picture(1)))  # shown turned back by 90 degrees
    data.path("images", "b").unlink()
    Image.fromarray(stored).save(data.path("images", "b", ".jpg"), exif=exif)
    return "exif-upright", "b.jpg", None


def exif_stored(data):
    exif = Image.Exif()
    exif[0x0112] = 8
    data.path("images", "b").unlink()
    Image.fromarray(picture(1)).save(data.path("images", "b", ".jpg"), exif=exif)
    return "exif-stored", "b.jpg", None


def exif_upside_down(data):
    exif = Image.Exif()
    exif[0x0112] = 3
    data.path("images", "b").unlink()
    Image.fromarray(picture(1)).save(data.path("images", "b", ".jpg"), exif=exif)
    return "exif", "b.jpg", None


def scaled(data):
    data.label("c", labels_of(2)[::2, ::2])
    return "size", "c.png", None


def turned_map(data):
    data.label("c", np.ascontiguousarray(labels_of(2).T))
    return "size", "c.png", None


def deep_image(data):
    data.path("images", "b").unlink()
    deep = np.random.default_rng(0).integers(100, 3000, (HEIGHT, WIDTH, 5)).astype(np.uint16)
    tifffile.imwrite(data.path("images", "b", ".tif"), deep, photometric="minisblack", planarconfig="contig")
    return "image-deep", "b.tif", None


def transparent(data):
    pixels = np.zeros((HEIGHT, WIDTH, 4), dtype=np.uint8)
    pixels[..., 3] = labels_of(1)
    Image.fromarray(pixels, "RGBA").save(data.path("labels", "b"))
    return "labels-unreadable", "b.png", None


def frames(data):
    data.path("labels", "b").unlink()
    pages = [Image.fromarray(labels_of(1)), Image.fromarray(labels_of(2))]
    pages[0].save(data.path("labels", "b", ".tif"), save_all=True, append_images=pages[1:])
    return "labels-unreadable", "b.tif", None


def missing_label(data):
    data.path("labels", "d").unlink()
    return "images-without-labels", "d", None


def missing_image(data):
    data.path("images", "d").unlink()
    return "labels-files-without-an-image", "d", None


def double_suffix(data):
    for name in NAMES:
        data.path("labels", name).rename(data.path("labels", name, ".jpg.png"))
    return "images-without-labels", "a", None


def upper_case(data):
    data.path("labels", "d").rename(data.path("labels", "D"))
    return "images-without-labels", "d", None


def same_stem(data):
    shutil.copy(data.path("images", "a"), data.path("images", "a", ".bmp"))
    return "layout", None, None


def class_missing(data):
    data.labels(lambda values: np.where(values == 3, 0, values).astype(np.uint8))
    return "class-missing", None, ("'tree' (3)", 0)


def mostly_void(data):
    def void(values):
        values[:20] = 255
        return values

    data.labels(void)
    return "void-share", None, ("255", 4 * 20 * WIDTH)


def all_void(data):
    data.label("b", np.full((HEIGHT, WIDTH), 255, dtype=np.uint8))
    return "all-void", "b.png", None


def leak(data):
    for split, names in (("train", "abc"), ("val", "d")):
        for kind in ("images", "ground_truth"):
            for name in names:
                target = data.root / "two" / kind / split / f"{name}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(data.path("images" if kind == "images" else "labels", name), target)
    shutil.copy(data.path("images", "a"), data.root / "two" / "images" / "val" / "d.png")
    shutil.copytree(data.root / "labels", data.root / "two" / "labels" / "train")
    (data.root / "two" / "labels" / "train" / "d.png").unlink()
    shutil.copy(data.root / "classes.json", data.root / "two" / "classes.json")
    data.root = data.root / "two"
    return "split-leak", "d.png", None


def same_image(data):
    shutil.copy(data.path("images", "a"), data.path("images", "b"))
    return "image-twice", "b.png", None


def same_map(data):
    shutil.copy(data.path("labels", "a"), data.path("labels", "b"))
    return "same-map", "b.png", None


def palette_order(data):
    flat = [0] * 768
    for value, colour in enumerate([COLOURS[1], COLOURS[0], *COLOURS[2:]]):
        flat[3 * value : 3 * value + 3] = colour
    for seed, name in enumerate(NAMES):
        data.label(name, labels_of(seed), flat)
    return (
        "palette-order",
        None,
        ("0 (road) is shown in the colour of sky", int(sum((labels_of(s) == 0).sum() for s in range(4)))),
    )


FAULTS = [
    *(truncated_image, truncated_label, empty_file, no_image, colour_coded, colour_coded_unknown, red_channel, binary),
    *(stretched_ids, instance_ids, undeclared, other_ignore, counted_from_one, smoothed, jpeg_labels, exif_upright),
    *(exif_stored, exif_upside_down, scaled, turned_map, deep_image, transparent, frames, missing_label, missing_image),
    *(double_suffix, upper_case, same_stem),
]
DOUBTS = [class_missing, mostly_void, all_void, leak, same_image, same_map, palette_order]


def snapshot(root):
    return {path.relative_to(root): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("plant", FAULTS + DOUBTS, ids=lambda plant: plant.__name__)
def test_planted(data, capsys, tmp_path, plant):
    code, file, value = plant(data)
    before = snapshot(data.root)
    said, found = doctor(data, capsys)
    one = finding(found, code)
    fault = plant in FAULTS
    assert one["level"] == ("fault" if fault else "doubt")
    assert said == (2 if fault else 0)
    assert one["mend"]
    if file is not None:
        assert any(file in line for line in one["files"]), one
    if value is not None:
        assert any(row["value"].startswith(value[0]) and row["pixels"] == value[1] for row in one["values"]), one
    assert snapshot(data.root) == before, "the doctor changed a file"
    # What the doctor calls a fault is what the import refuses, and its options are what mends it.
    plain = ["init", "plain.a2lc", "--images", str(data.root / "images"), "--labels", str(data.root / "labels")]
    plain += ["--classes", str(data.root / "classes.json")]
    if plant is leak:
        plain += ["--ground-truth", str(data.root / "ground_truth")]
    assert _main(plain) == (2 if fault else 0), capsys.readouterr().err
    assert "Traceback" not in capsys.readouterr().err
    if found["command"] is not None:
        arguments = shlex.split(found["command"])
        assert arguments[0] == "a2lc"
        assert _main(arguments[1:]) == 0, capsys.readouterr().err
        # With the options, the doctor has nothing to say against it either.
        flags = [flag for fault in found["findings"] if fault["level"] == "fault" for flag in fault["flags"]]
        again, after = doctor(data, capsys, *shlex.split(" ".join(flags)))
        assert again == 0, after
    assert snapshot(data.root) == before


@pytest.mark.parametrize("first", ["split", "kind"])
def test_splits_without_ground_truth(data, capsys, tmp_path, first):
    """Pictures of another split are compared, and its labels looked at, in either order of folders."""
    root = tmp_path / "splits"
    for split, names in (("train", "abc"), ("val", "d")):
        for kind in ("images", "labels"):
            for name in names:
                parts = (split, kind) if first == "split" else (kind, split)
                target = root.joinpath(*parts) / f"{name}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(data.path(kind, name), target)
    shutil.copy(data.root / "classes.json", root)
    data.root = root
    code, found = doctor(data, capsys)
    assert code == 0 and found["images"] == 4 and found["label_maps"] == 4, found
    inside = root / ("val/labels" if first == "split" else "labels/val")
    images = root / ("val/images" if first == "split" else "images/val")
    shutil.copy(root / ("train/images" if first == "split" else "images/train") / "a.png", images / "d.png")
    bad = labels_of(3)
    bad[4, 4] = 77
    write_ids(inside / "d.png", bad)
    code, found = doctor(data, capsys)
    assert code == 2
    assert "d.png and " in finding(found, "split-leak")["files"][0]
    assert any(row["value"] == "77" and row["pixels"] == 1 for row in finding(found, "labels-values")["values"])
    (inside / "d.png").unlink()
    code, found = doctor(data, capsys)
    assert "d (expected" in finding(found, "images-without-labels")["files"][0]


def test_how_images_are_stored(data, capsys):
    Image.fromarray(picture(0)).convert("CMYK").save(data.path("images", "a", ".tif"))
    data.path("images", "a").unlink()
    Image.fromarray(picture(1)[..., 0]).save(data.path("images", "b"))
    code, found = doctor(data, capsys)
    assert code == 0
    assert "1 are CMYK, 1 are grey; all are read as RGB" in finding(found, "image-mode")["message"]


def test_no_problems(data, capsys):
    code, found = doctor(data, capsys)
    assert code == 0 and found["faults"] == 0
    assert [one["code"] for one in found["findings"]] == ["void-share"] and found["findings"][0]["level"] == "note"
    assert _main(["doctor", str(data.root)]) == 0
    out = capsys.readouterr().out
    assert "no problems found" in out and "next: a2lc init set.a2lc" in out
    assert _main(shlex.split(out.split("next: a2lc ")[1].splitlines()[0])) == 0


def test_without_a_classes_file(data, capsys):
    (data.root / "classes.json").unlink()
    code, found = doctor(data, capsys)
    one = finding(found, "no-classes")
    assert code == 2 and found["command"] is None and one["level"] == "fault"
    assert "values and pixels: " in one["message"]
    assert _main(["init", "p.a2lc", "--images", "set/images", "--labels", "set/labels"]) == 2
    assert "`classes` is missing" in capsys.readouterr().err
    shutil.rmtree(data.root / "labels")
    code, found = doctor(data, capsys)
    assert code == 2 and finding(found, "no-classes")["message"].endswith("no value could be checked.")


def test_masks_beside_labels_are_mask_maps(data, capsys):
    for seed, name in enumerate(NAMES):
        write_ids(data.root / "masks" / f"{name}.png", (labels_of(seed) != 255).astype(np.uint8))
    code, found = doctor(data, capsys)
    assert code == 0 and "--masks" in found["command"]
    shutil.rmtree(data.root / "labels")
    code, found = doctor(data, capsys)
    assert "--labels" in found["command"] and "--masks" not in found["command"]


def test_empty_mask_maps(data, capsys):
    for name in NAMES:
        write_ids(data.root / "masks" / f"{name}.png", np.zeros((HEIGHT, WIDTH), dtype=np.uint8))
    code, found = doctor(data, capsys)
    assert code == 2 and finding(found, "no-masks") and finding(found, "masks-empty")["count"] == len(NAMES)


def test_labels_that_are_the_truth(data, capsys):
    shutil.copytree(data.root / "labels", data.root / "ground_truth")
    code, found = doctor(data, capsys)
    assert code == 0 and finding(found, "labels-are-truth")["level"] == "doubt"


def test_options_mend(data, capsys):
    undeclared(data)
    assert doctor(data, capsys)[0] == 2
    code, found = doctor(data, capsys, "--map", "34=255")
    assert code == 0 and found["command"].endswith("--map 34=255")


def test_bomb(data, capsys):
    code, found = doctor(data, capsys, "--max-pixels", "100")
    assert code == 2 and "over the limit of 100" in finding(found, "image-unreadable")["message"]


def test_voc_layout(data, capsys):
    root = data.root.parent / "VOC2012"
    shutil.copytree(data.root / "images", root / "JPEGImages")
    for seed, name in enumerate(NAMES):
        write_ids(root / "SegmentationClass" / f"{name}.png", labels_of(seed), voc_palette())
    data.root = root
    code, found = doctor(data, capsys)
    assert code == 0 and "--format voc" in found["command"]
    assert _main(shlex.split(found["command"])[1:]) == 0


def test_nothing_there(tmp_path, capsys):
    assert _main(["doctor", str(tmp_path / "none")]) == 2
    assert "No folder at" in capsys.readouterr().err
    assert _main(["doctor", str(tmp_path)]) == 2
    assert "holds no image, label or annotation file" in capsys.readouterr().err


# ---- projects ----------------------------------------------------------------------------------------------------


@pytest.fixture
def project(data):
    assert (
        _main(
            shlex.split(
                f"init p.a2lc --images {data.root}/images --labels {data.root}/labels --classes {data.root}/classes.json"
            )
        )
        == 0
    )
    return data.root.parent / "p.a2lc"


def of_project(project, capsys):
    capsys.readouterr()
    code = _main(["doctor", str(project), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_whole_project(project, capsys):
    assert of_project(project, capsys)[0] == 0


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda project, data: data.path("images", "a").unlink(), "image-gone"),
        (lambda project, data: write_rgb(data.path("images", "a"), picture(9)), "image-changed"),
        (lambda project, data: (project / "labels" / "a.png").unlink(), "file-gone"),
        (lambda project, data: (project / "masks" / "a.png").write_bytes(b"x"), "file-damaged"),
        (lambda project, data: write_ids(project / "labels" / "a.png", labels_of(0)[:9]), "file-damaged"),
    ],
    ids=["gone", "changed", "file gone", "damaged", "size"],
)
def test_damaged_project(data, project, capsys, damage, code):
    damage(project, data)
    said, found = of_project(project, capsys)
    assert said == 2
    assert "a.png" in finding(found, code)["files"][0]


def test_damaged_ledger(project, capsys):
    path = project / "ledger.sqlite"
    content = bytearray(path.read_bytes())
    for place in range(8192, len(content), 512):
        content[place : place + 64] = b"\xff" * 64
    path.write_bytes(bytes(content))
    code = _main(["doctor", str(project), "--json"])
    captured = capsys.readouterr()
    assert code == 2 and "Traceback" not in captured.err
    assert "ledger" in captured.out + captured.err


@pytest.mark.parametrize("content", [b"", b"{}", b'{"a": [1, 2', b"\xff\xfe"])
def test_annotation_files_that_nobody_knows(data, capsys, content):
    (data.root / "annotations.json").write_bytes(content)
    code, found = doctor(data, capsys)
    assert code == 0
    one = finding(found, "unknown-annotations")
    assert one["level"] == "doubt" and f"annotations.json ({len(content):,} bytes)" in one["files"][0]


@pytest.mark.parametrize(
    ("files", "format"),
    [
        (["leftImg8bit/train/x/a_leftImg8bit.png"], "cityscapes"),
        (["images/training/a.png", "annotations/training/a.png"], "ade20k"),
        (["annotations/training/a.png"], "ade20k"),
        (["data/train-00000.parquet"], "huggingface"),
        (["annotations.xml", "images/a.png"], "cvat-xml"),
        (["labelmap.txt", "SegmentationClass/a.png"], "cvat-mask"),
        (["export.zip"], "cvat-mask"),
        (["images/a.png", "labels/a.png", "images.zip"], "folder"),
        (["leftImg8bit/train/x/a_leftImg8bit.png", "leftImg8bit.zip", "notes.json"], "cityscapes"),
        (["JPEGImages/a.jpg", "SegmentationClass/a.png", "labelmap.txt"], "voc"),
        (["mask_targets.json", "labels/a.png"], "fiftyone"),
        (["images/a.png", "masks/a.png"], "folder"),
        (["train/images/a.png", "train/labels/a.png"], "folder"),
        (["a.png"], "folder"),
        (["notes.md"], None),
        (["provenance/a.png"], None),
    ],
)
def test_layouts(tmp_path, files, format):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = find_layout(tmp_path)
    assert (None if found is None else found.sources.format) == format


@pytest.mark.parametrize(
    ("text", "format"),
    [
        ('{"images": [], "annotations": [], "categories": []}', "coco"),
        ('{"images": [], "annotations": [{"segments_info": []}], "categories": []}', "coco-panoptic"),
        ('{"images": [], "annotations": [', "coco"),
        ('[{"data": {}, "annotations": []}]', "label-studio"),
        ('{"version": "5", "shapes": []}', "labelme"),
    ],
)
def test_layouts_of_json(tmp_path, text, format):
    (tmp_path / "result.json").write_text(text)
    found = find_layout(tmp_path)
    assert found.sources.format == format and "result.json" in found.why


@pytest.mark.parametrize("there", [True, False])
def test_images_of_a_packed_data_set_that_are_not_there(tmp_path, there):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.parquet").write_bytes(b"x")
    images = tmp_path / "images"
    if there:
        images.mkdir()
    layout = with_images(find_layout(tmp_path / "set"), tmp_path / "set", images)
    assert layout.sources.images == tmp_path / "set" and "cannot be used" in layout.why


def test_archives_by_what_they_hold(tmp_path):
    for name, held, format in (
        ("annotations.xml", "annotations.xml", "cvat-xml"),
        ("masks", "SegmentationClass/a.png", "cvat-mask"),
        ("photos", "a.jpg", None),
    ):
        folder = tmp_path / name
        folder.mkdir()
        with zipfile.ZipFile(folder / "some.zip", "w") as archive:
            archive.writestr(held, b"x")
        found = find_layout(folder)
        assert (None if found is None else found.sources.format) == format


def test_void_ids_of_a_format_are_no_fault(data, capsys, tmp_path):
    """Cityscapes has many values that mean void: they are no strangers, and none of them is a class that is missing."""
    root = tmp_path / "cityscapes"
    for seed, name in enumerate(NAMES):
        for kind, values in (
            ("leftImg8bit", None),
            ("gtFine_labelIds", np.array([7, 26, 3, 10, *[1] * 252])[labels_of(seed)]),
        ):
            target = root / kind.split("_")[0] / "train" / "town" / f"{name}_{kind}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            if values is None:
                shutil.copy(data.path("images", name), target)
            else:
                write_ids(target, values.astype(np.uint8))
    data.root = root
    code, found = doctor(data, capsys)
    assert code == 0 and "--format cityscapes" in found["command"]
    assert finding(found, "class-missing")["count"] == 17
    assert _main(shlex.split(found["command"])[1:]) == 0


# ---- what is proposed is what the import takes -------------------------------------------------------------------


def printed(found):
    """The printed command runs."""
    assert found["command"] is not None, found
    assert _main(shlex.split(found["command"])[1:]) == 0


def jpegs(data, values, table):
    data.classes(table)
    for seed, name in enumerate(NAMES):
        ids = np.minimum(labels_of(seed), 3)
        data.path("labels", name).unlink()
        Image.fromarray(np.array(values, dtype=np.uint8)[ids]).save(data.path("labels", name, ".jpg"), quality=95)


def test_no_snap_to_what_is_no_neighbour(data, capsys):
    """Stretched ids in JPEG: the nearest known value of 120 is 3, and that would be a sky of trees."""
    jpegs(data, [0, 60, 120, 180], CLASSES)
    code, found = doctor(data, capsys)
    one = finding(found, "labels-lossy")
    assert code == 2 and found["command"] is None and one["flags"] == []
    assert "known values are 1 apart" in one["message"]
    assert "Values around 0, 60, 120, 180 are frequent: the ids are stretched" in one["message"]


@pytest.mark.parametrize("ignore", [255, 186])
def test_snap_within_half_the_least_distance(data, capsys, ignore):
    """With 186 for void, known values are 6 apart; with 255, 60: the blur of these maps lies between both halves."""
    rows = [{"id": value, "name": f"c{value}"} for value in (0, 60, 120, 180)]
    jpegs(data, [0, 60, 120, 180], {"classes": rows, "ignore": ignore})
    away = 0
    for name in NAMES:
        pixels = np.asarray(Image.open(data.path("labels", name, ".jpg"))).astype(int)
        away = max(away, int(np.abs(pixels[..., None] - [0, 60, 120, 180, ignore]).min(axis=2).max()))
    assert 3 <= away < 30
    _, found = doctor(data, capsys)
    flags = finding(found, "labels-lossy")["flags"]
    assert flags == ([f"--snap {away}"] if 2 * away < (60 if ignore == 255 else 6) else [])
    if flags:
        printed(found)
    else:
        assert found["command"] is None


@pytest.mark.parametrize(
    ("labels", "truth", "flags"),
    [
        (7, 255, ["--map 7=255"]),
        (7, 7, ["--ignore 7"]),
        (7, 9, ["--ignore 7", "--map 9=7"]),
        (255, 9, ["--map 9=255"]),
    ],
    ids=str,
)
def test_ignore_is_settled_before_what_is_read_as_void(data, capsys, labels, truth, flags):
    for seed, name in enumerate(NAMES):
        values = labels_of(seed)
        data.label(name, np.where(values == 255, labels, values).astype(np.uint8))
        values[5:7, 5:7] = 255
        write_ids(data.root / "gt" / f"{name}.png", np.where(values == 255, truth, values).astype(np.uint8))
    code, found = doctor(data, capsys)
    assert code == 2
    given = [flag for one in found["findings"] if one["level"] == "fault" for flag in one["flags"]]
    assert list(dict.fromkeys(given)) == flags
    printed(found)


def deep_tiffs(data, values, name="a", **save):
    data.path("images", name).unlink()
    tifffile.imwrite(data.path("images", name, ".tif"), values, **save)


@pytest.mark.parametrize(
    ("values", "flags"),
    [
        (np.full((HEIGHT, WIDTH), 700, np.uint16), ["--stretch 700:701"]),
        (np.full((HEIGHT, WIDTH), 0.25, np.float32), ["--stretch 0.25:1.25"]),
        (
            np.arange(HEIGHT * WIDTH * 5, dtype=np.uint16).reshape(HEIGHT, WIDTH, 5),
            ["--stretch 0:4319", "--bands 3,2,1"],
        ),
        (np.zeros((HEIGHT, WIDTH, 5), np.uint8), ["--bands 3,2,1"]),
        (np.arange(HEIGHT * WIDTH * 2, dtype=np.uint16).reshape(HEIGHT, WIDTH, 2), ["--stretch 0:1727", "--bands 1"]),
        (np.arange(HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH) + 1234567, ["--stretch 1234567:1235430"]),
    ],
    ids=["constant", "constant real", "5 bands", "5 bands of 8 bits", "2 bands", "large numbers"],
)
def test_deep_images_by_the_printed_command(data, capsys, values, flags):
    for name in NAMES:
        deep_tiffs(data, values, name)
    code, found = doctor(data, capsys)
    assert code == 2 and finding(found, "image-deep")["flags"] == flags
    printed(found)


def test_turned_deep_images(data, capsys):
    """What EXIF says of a TIFF of 16 bits counts as it does of any other image."""
    values = np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH)
    deep_tiffs(data, np.ascontiguousarray(np.rot90(values)), extratags=[(274, 3, 1, 6, True)])
    code, found = doctor(data, capsys)
    assert code == 2 and "a.tif" in finding(found, "exif-upright")["files"][0]
    assert "--bake-exif" in found["command"] and "--stretch 0:863" in found["command"]
    printed(found)


def test_options_that_contradict_each_other_are_no_command(data, capsys):
    """One image fits upright, the other as it is stored: no option does both."""
    exif_upright(data)
    exif = Image.Exif()
    exif[0x0112] = 6
    data.path("images", "c").unlink()
    Image.fromarray(picture(2)).save(data.path("images", "c", ".jpg"), exif=exif)
    code, found = doctor(data, capsys)
    assert code == 2 and found["command"] is None
    assert "exif bake for some files and ignore for others" in finding(found, "options-not-enough")["message"]


def test_leaving_out_all_images_is_no_command(data, capsys):
    for name in NAMES:
        data.path("images", name).write_bytes(b"nothing")
    code, found = doctor(data, capsys)
    assert code == 2 and found["command"] is None
    one = finding(found, "options-not-enough")
    assert (
        one["message"]
        == "Even with `skip_bad`, the import would be refused: No images are left: all of them would be skipped. "
        "(option: --skip-bad)"
    )
    command = ["init", "p.a2lc", "--images", "set/images", "--labels", "set/labels", "--classes", "set/classes.json"]
    assert _main([*command, "--skip-bad"]) == 2


def test_faults_behind_faults(data, capsys):
    """What is wrong with values shows once the colours are read: all options are in the one command."""
    table = {**CLASSES, "classes": [dict(row) for row in CLASSES["classes"][:2]]}
    table["classes"][0]["color"], table["classes"][1]["color"] = [1, 2, 3], [224, 224, 192]
    table["classes"][1]["id"] = 5
    data.classes(table)
    for seed, name in enumerate(NAMES):
        ids = labels_of(seed) % 2
        write_rgb(data.path("labels", name), np.array([[1, 2, 3], [224, 224, 192]], dtype=np.uint8)[ids])
    data.label("d", np.array([0, 9], dtype=np.uint8)[labels_of(3) % 2])
    code, found = doctor(data, capsys)
    assert code == 2 and "--colours" in found["command"]
    printed(found)


def test_a_map_to_no_class_is_refused(data, capsys):
    assert _main(["doctor", str(data.root), "--map", "34=99"]) == 2
    assert "`value_map` 34=99: 99 is neither a class" in capsys.readouterr().err


def test_a_link_to_nothing(data, capsys):
    (data.root / "images" / "e.png").symlink_to(data.root / "nowhere.png")
    write_ids(data.root / "labels" / "e.png", labels_of(0))
    code, found = doctor(data, capsys)
    assert code == 2 and "e.png: missing, or a broken link" in finding(found, "image-unreadable")["message"]
    printed(found)


# ---- label maps among images, and labels beside other images -------------------------------------------------------


@pytest.mark.parametrize("end", ["", "_mask", ".label", "-seg"])
@pytest.mark.parametrize("kind", ["grey", "palette", "coloured", "picture"])
def test_label_maps_among_the_images(data, capsys, end, kind):
    root = data.root.parent / "flat"
    for seed, name in enumerate(NAMES):
        (root / "in").mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(seed)).save(root / "in" / f"{name}.jpg")
        target = root / "in" / f"{name}{end}.png"
        if kind == "picture":
            write_rgb(target, picture(seed + 9))
        elif kind == "coloured":
            write_rgb(target, np.array([*COLOURS, *[[0, 0, 0]] * 252], dtype=np.uint8)[labels_of(seed)])
        else:
            write_ids(target, labels_of(seed), voc_palette() if kind == "palette" else None)
    data.root = root
    code, found = doctor(data, capsys, "--classes", "a,b,c,d")
    said = [one for one in found["findings"] if "look like label maps" in one["message"]]
    assert len(said) == (kind != "picture")
    if said:
        (one,) = said
        assert one["code"] == "layout" and one["count"] == len(NAMES) and one["files"][0].endswith(f"a{end}.png")
        assert "folder of their own" in one["mend"] and one["level"] == ("doubt" if end else "fault")
    assert code == (0 if end else 2)


@pytest.mark.parametrize(
    "format",
    [
        "voc",
        "coco",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("ade20k", "huggingface", "fiftyone", "folder", "cvat-mask", "label-studio")
        ),
    ],
)
def test_our_own_exports_beside_the_images(data, project, capsys, tmp_path, format):
    """What was exported is examined with the images it is about, and the printed command makes a project of both."""
    assert _main(["export", str(project), "--format", format, "--out", "out"]) == 0
    data.root = tmp_path / "out"
    code, found = doctor(data, capsys, "--images", "set/images")
    assert code == 0 and (found["images"], found["label_maps"]) == (len(NAMES), len(NAMES)), found
    printed(found)


@pytest.mark.parametrize("where", ["images", "images/training"])
def test_an_export_of_ade20k_with_its_images(data, project, capsys, tmp_path, where):
    assert _main(["export", str(project), "--format", "ade20k", "--out", "out"]) == 0
    shutil.copytree(data.root / "images", tmp_path / "out" / where)
    data.root = tmp_path / "out"
    code, found = doctor(data, capsys)
    assert code == 0 and (found["images"], found["label_maps"]) == (len(NAMES), len(NAMES)), found
    printed(found)


def test_an_image_that_can_be_copied_no_more(data, capsys, tmp_path):
    (tmp_path / "list.txt").write_text("".join(f"set/images/{name}.png\n" for name in NAMES))
    command = "init p.a2lc --images list.txt --labels set/labels --classes set/classes.json"
    assert _main(shlex.split(command)) == 0
    project = tmp_path / "p.a2lc"
    (project / "images" / "a.png").unlink()
    assert of_project(project, capsys)[0] == 0
    data.path("images", "a").unlink()
    code, found = of_project(project, capsys)
    assert code == 2 and str(data.path("images", "a")) in finding(found, "image-gone")["files"][0]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--bands", "³"], "expected one band or three"),
        (["--bands", "1,2,³"], "expected one band or three"),
        (["--bands", "99999999999999999999"], "expected one band or three"),
        (["--stretch", "0:inf"], "expected LOW:HIGH"),
        (["--stretch", "-inf:5"], "expected LOW:HIGH"),
        (["--stretch", "nan:5"], "expected LOW:HIGH"),
        (["--stretch", "nan%:5%"], "expected LOW:HIGH"),
    ],
)
def test_options_that_are_no_numbers(data, capsys, option, message):
    command = ["init", "p.a2lc", "--images", "set/images", "--labels", "set/labels", "--classes", "set/classes.json"]
    for line in (["doctor", "set"], command):
        assert _main([*line, *option]) == 2
        said = capsys.readouterr().err
        assert message in said and option[1] in said and "Traceback" not in said


@pytest.mark.parametrize("colour", ["1,2,³", "1,2,256", "1,2", "1,2,-3", "1,2,99999999999999999999"])
def test_colours_that_are_no_numbers(project, capsys, colour):
    assert _main(["classes", "add", str(project), "pole", "--color", colour]) == 2
    said = capsys.readouterr().err
    assert "expected three numbers in 0..255" in said and "Traceback" not in said
