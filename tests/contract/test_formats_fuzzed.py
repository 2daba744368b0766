"""Files of every format, damaged at random: read, or refused with one line, and nothing else."""

import base64
import json
import random
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from a2lc.classes.table import ClassTable
from a2lc.creation.importer import create_project
from a2lc.errors import A2LCError
from a2lc.export import export_project
from a2lc.formats.base import Sources
from a2lc.images.rgb import png_bytes
from a2lc.project.project import Project

CLASSES = ClassTable.from_names(["road", "background", "car"])
WORDS = [
    b"-1",
    b"1e999",
    b"null",
    b'"x"',
    b"999999999999999999999",
    b"[]",
    b"{}",
    b"true",
    b"../../x",
    b"\x00",
    b"\xff",
]
TEXTS = {
    "coco": "annotations.json",
    "coco-panoptic": "panoptic.json",
    "cvat-xml": "annotations.xml",
    "cvat-mask": "annotations.zip",
    "label-studio": "tasks.json",
    "fiftyone": "mask_targets.json",
    "huggingface": "data/train-00000.parquet",
    "labelme": "a.json",
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Small exports of all formats whose labels lie in one file, and their images."""
    root = tmp_path_factory.mktemp("fuzz")
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        for kind, pixels in (("images", rng.integers(0, 255, (6, 9, 3))), ("labels", rng.integers(0, 3, (6, 9)))):
            (root / kind).mkdir(exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(root / kind / f"{name}.png")
    create_project(root / "p.a2lc", Sources(images=root / "images", labels=root / "labels"), CLASSES)
    with Project(root / "p.a2lc") as project:
        for format in set(TEXTS) - {"labelme"}:
            export_project(project, root / format, format)
    (root / "labelme").mkdir()
    mask = base64.b64encode(png_bytes(np.eye(3, dtype=np.uint8))).decode()
    shapes = [
        {"label": "road", "shape_type": "polygon", "points": [[0, 0], [5, 0], [5.5, 4]]},
        {"label": "car", "shape_type": "rectangle", "points": [[1, 1], [4, 3]]},
        {"label": "car", "shape_type": "circle", "points": [[3, 3], [4, 3]]},
        {"label": "road", "shape_type": "mask", "points": [[2, 2], [4, 4]], "mask": mask},
    ]
    about = {"version": "5", "imagePath": "a.png", "imageData": None, "imageHeight": 6, "imageWidth": 9}
    (root / "labelme/a.json").write_text(json.dumps(about | {"shapes": shapes}))
    return root


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Cut, bits flipped, a piece doubled, or a word in place of another."""
    kind = rng.randrange(4)
    at = rng.randrange(len(data))
    if kind == 0:
        return data[:at]
    if kind == 1:
        found = bytearray(data)
        for _ in range(rng.randrange(1, 6)):
            found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)
        return bytes(found)
    if kind == 2:
        return data[:at] + data[max(0, at - 20) :]
    end = at
    while end < len(data) and data[end : end + 1].isalnum():
        end += 1
    start = at
    while start and data[start - 1 : start].isalnum():
        start -= 1
    return data[:start] + rng.choice(WORDS) + data[end:]


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("format", sorted(TEXTS))
def test_damaged_files_are_read_or_refused(format, seed, written, tmp_path):
    rng = random.Random(f"{format} {seed}")
    shutil.copytree(written / format, tmp_path / "out")
    path = tmp_path / "out" / TEXTS[format]
    if format == "cvat-mask" and seed % 2:
        damage_inside(path, rng)
    else:
        path.write_bytes(damaged(path.read_bytes(), rng))
    labels = tmp_path / "out" if format in {"fiftyone", "labelme"} else path
    sources = Sources(format=format, images=written / "images", labels=labels)
    if format == "huggingface":
        sources = Sources(format=format, images=tmp_path / "out")
    try:
        create_project(tmp_path / "p.a2lc", sources, CLASSES if seed % 3 else None)
    except A2LCError as error:
        assert "\n" not in str(error)
        assert not (tmp_path / "p.a2lc").exists()


def damage_inside(path: Path, rng: random.Random) -> None:
    """One file in the archive, whose checksums are right then."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(sorted(content))
    content[name] = damaged(content[name], rng)
    with zipfile.ZipFile(path, "w") as archive:
        for each, data in content.items():
            archive.writestr(each, data)
