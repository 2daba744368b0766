"""Every command of the page on formats is run in its order, on files that the formats' own writers and hands made."""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from a2lc.classes.table import ClassTable
from a2lc.cli.app import _main
from a2lc.creation.importer import create_project
from a2lc.export import export_project
from a2lc.formats.base import Sources
from a2lc.formats.registry import BUILT_IN, markdown_table
from a2lc.project.project import Project

PAGE = Path(__file__).resolve().parents[2] / "docs" / "formats.md"
TEXT = PAGE.read_text(encoding="utf-8")
COMMANDS = [
    line for block in re.findall(r"```sh\n(.*?)```", TEXT, flags=re.DOTALL) for line in block.splitlines() if line
]
CLASSES = ClassTable.from_names(["road", "car", "tree"])


def pixels(seed, height=8, width=12):
    values = np.random.default_rng(seed).integers(0, 3, (2, 3)).repeat(height // 2, 0).repeat(width // 3, 1)
    values[0, :2] = 255
    return values.astype(np.uint8)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """All that the page names."""
    monkeypatch.chdir(tmp_path)
    picture = np.zeros((8, 12, 3), np.uint8)
    for place, name in enumerate(("a", "b c")):
        save(tmp_path / f"own/images/{name}.png", picture)
        save(tmp_path / f"own/labels/{name}.png", pixels(place))
    create_project(tmp_path / "own.a2lc", Sources(images=Path("own/images"), labels=Path("own/labels")), CLASSES)
    made = {"coco": "coco", "panoptic": "coco-panoptic", "hub": "huggingface", "cvat": "cvat-mask", "xml": "cvat-xml"}
    made |= {"studio": "label-studio", "fiftyone": "fiftyone"}
    with Project(tmp_path / "own.a2lc") as project:
        for place, format in made.items():
            export_project(project, tmp_path / place, format)
    for place in ("coco", "cvat", "studio"):
        shutil.copytree("own/images", f"{place}/images")
    shutil.copytree("own/images", "fiftyone/data")
    shutil.copy("panoptic/panoptic.json", "coco")
    shutil.move("panoptic/panoptic", "coco/panoptic")
    shutil.copy("xml/annotations.xml", "cvat")
    shutil.move("studio/tasks.json", "studio/project-1.json")
    for place, stem in enumerate(("aachen/aachen_1", "bonn/bonn_1")):
        save(tmp_path / f"cityscapes/leftImg8bit/train/{stem}_leftImg8bit.png", picture)
        labels = np.array([7, 26, 21, 4], np.uint8)[np.minimum(pixels(place), 3)]
        save(tmp_path / f"cityscapes/gtFine/train/{stem}_gtFine_labelIds.png", labels)
        save(tmp_path / f"ADEChallengeData2016/images/training/ADE_{place}.jpg", picture)
        save(tmp_path / f"ADEChallengeData2016/annotations/training/ADE_{place}.png", pixels(place) + np.uint8(1))
    save(tmp_path / "labelme/a.png", picture)
    shape = {"label": "car", "shape_type": "rectangle", "points": [[1, 1], [7, 6]]}
    about = {"imagePath": "a.png", "imageData": None, "imageHeight": 8, "imageWidth": 12, "shapes": [shape]}
    (tmp_path / "labelme/a.json").write_text(json.dumps(about))
    return tmp_path


def test_every_command_runs(home):
    for line in COMMANDS:
        words = shlex.split(line)
        assert words[0] == "a2lc"
        assert _main(words[1:]) == 0, line
    with Project(home / "coco.a2lc") as project, Project(home / "again.a2lc") as again:
        for image in project.images:
            np.testing.assert_array_equal(project.corrected_labels(image), again.corrected_labels(image.image_id))


def test_the_table_is_generated_from_the_registry():
    """Run `python -c "from a2lc.formats.registry import markdown_table; print(markdown_table())"` to make it again."""
    table = re.search(r"<!-- formats -->\n(.*?)<!-- /formats -->", TEXT, flags=re.DOTALL)
    assert table is not None and table[1] == markdown_table()


def test_the_page_names_all_formats():
    for name in BUILT_IN:
        assert f"--format {name}" in TEXT or name in {"folder", "voc"}
        assert f"**{name}**" in TEXT
