"""Every command of the cookbook is run, in the order of its page, on made-up files of the kind that the page is about."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from a2lc.classes.table import read_classes
from a2lc.cli.app import _main
from a2lc.creation.importer import create_project
from a2lc.export import export_project
from a2lc.formats.base import Sources
from a2lc.images.label_maps import read_ids, write_ids
from a2lc.images.rgb import write_rgb
from a2lc.project.project import Project
from a2lc.records import Source

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "cookbook"
PAGES = sorted(path.name for path in FOLDER.glob("*.md") if path.name != "README.md")
HEIGHT, WIDTH = 48, 72
NAMES = ("one", "two", "three")
CLASSES = [
    {"id": 0, "name": "road", "color": [128, 64, 128]},
    {"id": 1, "name": "car", "color": [0, 0, 142]},
    {"id": 2, "name": "tree", "color": [107, 142, 35]},
    {"id": 3, "name": "pavement", "color": [244, 35, 232]},
]


def commands(page):
    blocks = re.findall(r"```sh\n(.*?)```", (FOLDER / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.strip()]


def picture(seed):
    """Blocks of colour with a little noise: something that superpixels can follow."""
    rng = np.random.default_rng(seed)
    blocks = np.kron(rng.integers(20, 230, (4, 6, 3)), np.ones((12, 12, 1)))
    return (blocks + rng.integers(-9, 10, blocks.shape)).astype(np.uint8)


def labels_of(seed, kinds=4):
    rng = np.random.default_rng([seed, 7])
    labels = np.kron(rng.integers(0, kinds, (4, 6)), np.ones((12, 12))).astype(np.uint8)
    labels[:3, :5] = 255
    return labels


def write_set(root, change=lambda labels: labels, images="images", maps="masks", classes=True):
    for seed, name in enumerate(NAMES):
        write_rgb(root / images / f"{name}.png", picture(seed))
        if maps is not None:
            write_ids(root / maps / f"{name}.png", change(labels_of(seed)))
    if classes:
        (root / "classes.json").write_text(json.dumps({"classes": CLASSES, "ignore": 255}))


def masks(root):
    write_set(root / "streets")
    table = np.zeros((256, 3), dtype=np.uint8)
    table[:4], table[255] = [row["color"] for row in CLASSES], (224, 224, 192)
    for seed, name in enumerate(NAMES):
        write_rgb(root / "streets" / "masks" / f"{name}.png", table[labels_of(seed)])
    write_set(root / "binary", lambda labels: np.where(labels == 1, 255, 0).astype(np.uint8))
    write_set(root / "odd", lambda labels: np.where(labels == 255, 34, labels).astype(np.uint8))
    write_set(root / "jpeg", maps=None, classes=False)
    (root / "jpeg" / "masks").mkdir()
    rows = [{"id": 0, "name": "road"}, {"id": 120, "name": "car"}, {"id": 240, "name": "tree"}]
    (root / "jpeg" / "classes.json").write_text(json.dumps({"classes": rows, "ignore": 255}))
    for seed, name in enumerate(NAMES):
        values = (np.minimum(labels_of(seed), 2) * 120).astype(np.uint8)
        Image.fromarray(values).save(root / "jpeg" / "masks" / f"{name}.jpg", quality=95)
    write_set(root / "turned")
    exif = Image.Exif()
    exif[0x0112] = 6
    (root / "turned" / "images" / "one.png").unlink()
    Image.fromarray(np.ascontiguousarray(np.rot90(picture(0)))).save(root / "turned" / "images" / "one.jpg", exif=exif)


def written(root, *formats):
    """A project's labels as other tools have them."""
    write_set(root / "set")
    sources = Sources(images=root / "set" / "images", labels=root / "set" / "masks")
    create_project(root / "given.a2lc", sources, read_classes(root / "set" / "classes.json"))
    shutil.copytree(root / "set" / "images", root / "photos")
    with Project(root / "given.a2lc") as project:
        for format in formats:
            export_project(project, root / "out" / format, format)


def cvat(root):
    written(root, "cvat-xml", "cvat-mask")
    (root / "cvat").mkdir()
    shutil.copy(root / "out" / "cvat-xml" / "annotations.xml", root / "cvat")
    shutil.copy(root / "out" / "cvat-mask" / "annotations.zip", root / "cvat" / "masks.zip")
    assert zipfile.is_zipfile(root / "cvat" / "masks.zip")


def coco(root):
    written(root, "coco", "coco-panoptic")
    (root / "coco").mkdir()
    shutil.copy(root / "out" / "coco" / "annotations.json", root / "coco" / "instances.json")
    shutil.copytree(root / "out" / "coco-panoptic", root / "panoptic")


def other_tools(root):
    written(root, "label-studio")
    shutil.copytree(root / "out" / "label-studio", root / "ls")
    (root / "labelme").mkdir()
    for name in NAMES:
        shutil.copy(root / "photos" / f"{name}.png", root / "labelme")
        shape = {"label": "car", "points": [[3, 4], [40, 5], [20, 30]], "shape_type": "polygon"}
        data = {
            "imagePath": f"{name}.png",
            "imageHeight": HEIGHT,
            "imageWidth": WIDTH,
            "shapes": [shape],
            "imageData": None,
        }
        (root / "labelme" / f"{name}.json").write_text(json.dumps(data))
    shutil.copytree(root / "photos", root / "VOC2012" / "JPEGImages")
    shutil.copytree(root / "set" / "masks", root / "VOC2012" / "SegmentationClass")
    for name in NAMES:
        values = read_ids(root / "set" / "masks" / f"{name}.png")
        places = [("leftImg8bit", root / "photos" / f"{name}.png"), ("gtFine_labelIds", None)]
        for kind, source in places:
            target = root / "cityscapes" / kind.split("_")[0] / "train" / "town" / f"{name}_{kind}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            if source is not None:
                shutil.copy(source, target)
            else:
                write_ids(target, np.array([7, 26, 21, 8, *[0] * 252], dtype=np.uint8)[values])
        for kind in ("images", "annotations"):
            (root / "ade" / kind / "training").mkdir(parents=True, exist_ok=True)
        shutil.copy(root / "photos" / f"{name}.png", root / "ade" / "images" / "training")
        write_ids(
            root / "ade" / "annotations" / "training" / f"{name}.png",
            np.where(values == 255, 0, values + 1).astype(np.uint8),
        )


def images_only(root):
    write_set(root, images="photos", maps=None, classes=False)


def own_model(root):
    write_set(root, images="photos", maps="labels")
    (root / "probs").mkdir()
    for seed, name in enumerate(NAMES):
        scores = np.random.default_rng(seed).random((len(CLASSES), HEIGHT, WIDTH)) + 1e-3
        np.save(root / "probs" / f"{name}.npy", (scores / scores.sum(axis=0)).astype(np.float32))


def large_images(root):
    write_set(root / "scenes", maps="labels")
    for seed, name in enumerate(NAMES):
        (root / "scenes" / "images" / f"{name}.png").unlink()
        deep = np.random.default_rng(seed).integers(0, 3000, (HEIGHT, WIDTH, 5)).astype(np.uint16)
        path = root / "scenes" / "images" / f"{name}.tif"
        tifffile.imwrite(path, deep, photometric="minisblack", planarconfig="contig")
    write_set(root, images="far", maps="labels")
    (root / "list.txt").write_text("".join(f"far/{name}.png\n" for name in NAMES))


def give_back(root):
    classes(root)
    with Project(root / "my.a2lc") as project:
        project.ledger.open_round(0, method="alc", config={}, model="m", seed=0, versions={})
        one = project.masks.image[:1], project.masks.mask_ids[:1], project.masks.label[:1]
        new = (project.masks.label[:1] + 1) % 4
        project.ledger.add_corrections(0, Source.AUTOMATIC, *one, new, confidences=np.ones(1), model="m")


def classes(root):
    write_set(root / "set")
    sources = Sources(images=root / "set" / "images", labels=root / "set" / "masks")
    create_project(root / "my.a2lc", sources, read_classes(root / "set" / "classes.json"))


PREPARE = {
    "masks.md": masks,
    "cvat.md": cvat,
    "coco.md": coco,
    "other-tools.md": other_tools,
    "images-only.md": images_only,
    "own-model.md": own_model,
    "large-images.md": large_images,
    "give-back.md": give_back,
    "classes.md": classes,
}


def test_every_page_is_run_and_listed():
    assert sorted(PREPARE) == PAGES
    index = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(f"({page})" in index for page in PAGES)


@pytest.fixture
def models(tmp_path_factory):
    """A folder with a tiny detector or segmenter, random weights, made when asked for."""

    def make(kind):
        pytest.importorskip("transformers", reason="foundation models need the extra foundation")
        path = Path(__file__).resolve().parents[1] / "unit" / "foundation" / "models.py"
        spec = importlib.util.spec_from_file_location("tiny_foundation_models", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        folder = tmp_path_factory.getbasetemp() / f"cookbook-{kind}"
        if not folder.exists():
            {"detector": module.write_detector, "sam2": module.write_sam2}[kind](folder)
        return folder

    return make


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=pytest.mark.slow if page == "own-model.md" else ()) for page in PAGES]
)
def test_commands_of_page(page, models, tmp_path, monkeypatch, capsys):
    PREPARE[page](tmp_path)
    monkeypatch.chdir(tmp_path)
    before = {
        path: path.read_bytes()
        for path in tmp_path.rglob("*")
        if path.is_file() and "a2lc" not in str(path.relative_to(tmp_path))
    }
    for line in commands(page):
        arguments = shlex.split(line)
        assert arguments[0] == "a2lc", line
        if arguments[1] == "pseudo":
            # The same command, by models made here: there is no network, and no weights.
            arguments += ["--detector", str(models("detector")), "--segmenter", str(models("sam2"))]
        capsys.readouterr()
        code = _main(arguments[1:])
        said = capsys.readouterr()
        # The doctor of a folder with faults says so by its exit status.
        assert code == 0 or (arguments[1] == "doctor" and code == 2), f"{line}\n{said.out}{said.err}"
    changed = [path for path, content in before.items() if not path.is_file() or path.read_bytes() != content]
    assert not changed, "a command changed files that were there"
