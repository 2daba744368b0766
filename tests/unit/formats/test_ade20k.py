"""ADE20K: 0 is void, names come from objectInfo150.txt, and the full data set is refused with a reason."""

import numpy as np
import pytest
from PIL import Image

from a2lc.classes.table import ClassTable, read_classes
from a2lc.creation.importer import create_project
from a2lc.errors import ConfigError, ImageFileError
from a2lc.export import export_project
from a2lc.formats.ade20k import full_ade_ids
from a2lc.formats.base import Sources
from a2lc.ledger import FIRST, VOID
from a2lc.project.project import Project
from a2lc.records import Source

INFO = (
    "Idx\tRatio\tTrain\tVal\tStuff\tName\n1\t0.1576\t11664\t1172\t1\twall\n2\t0.1072\t6046\t612\t1\tbuilding, edifice\n"
)


def values(seed=0):
    found = np.ones((8, 11), np.uint8)
    found[:, 5:] = 2
    found[3, 2] = 2
    found[:2, 8:] = 0
    return np.roll(found, seed, axis=0)


def write(root, split="training", names=("ADE_train_1", "x/b")):
    for place, name in enumerate(names):
        for kind, pixels in (("images", np.full((8, 11, 3), place, np.uint8)), ("annotations", values(place))):
            path = root / kind / split / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)


def make(tmp_path, classes=None, **other):
    sources = Sources(format="ade20k", images=tmp_path / "ade", **other)
    return create_project(tmp_path / "p.a2lc", sources, classes)


def test_names_and_void(tmp_path):
    write(tmp_path / "ade")
    write(tmp_path / "ade", "validation", ("ADE_val_1",))
    (tmp_path / "ade/objectInfo150.txt").write_text(INFO)
    summary = make(tmp_path)
    assert summary.validation_images == 1
    with Project(tmp_path / "p.a2lc") as project:
        assert project.classes.names == ("wall", "building") and project.classes.synonyms == ((), ("edifice",))
        np.testing.assert_array_equal(project.first_labels(project.images[0]), np.choose(values(), [255, 0, 1]))


def test_changed_pixels_alone_and_void_is_zero(tmp_path):
    write(tmp_path / "ade")
    make(tmp_path)
    with Project(tmp_path / "p.a2lc") as project:
        assert project.classes.num_classes == 150 and project.classes.names[149] == "class 150"
        mask = int(project.mask_map(project.images[0])[3, 2])
        project.ledger.open_round(1, method="a2lc", config={}, model="m", seed=0, versions={})
        row = np.array([0]), np.array([mask]), np.array([FIRST]), np.array([VOID])
        project.ledger.add_corrections(1, Source.AUTOMATIC, *row, confidences=np.array([1.0]), model="m")
        export_project(project, tmp_path / "out", "ade20k")
    expected = values()
    expected[3, 2] = 0
    stored = Image.open(tmp_path / "out/annotations/training/ADE_train_1.png")
    assert stored.mode == "L"
    np.testing.assert_array_equal(np.array(stored), expected)
    name = "annotations/training/x/b.png"
    assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "ade" / name).read_bytes()
    rows = (tmp_path / "out/objectInfo150.txt").read_text().splitlines()
    assert rows[0].split("\t") == ["Idx", "Ratio", "Train", "Val", "Stuff", "Name"] and len(rows) == 151


def test_a_class_of_zero_is_refused(tmp_path):
    write(tmp_path / "ade")
    with pytest.raises(ConfigError, match="Class 'wall' has id 0, which means void in ADE20K files"):
        make(tmp_path, ClassTable.from_names(["wall", "building", "sky"]))
    given = ClassTable(("wall", "building"), ((1, 1, 1), (2, 2, 2)), (1, 2), 255)
    make(tmp_path, given)
    with Project(tmp_path / "p.a2lc") as project:
        assert (project.first_labels(project.images[0])[:2, 8:] == 255).all()


def test_the_full_data_set_is_refused_with_its_rule(tmp_path):
    write(tmp_path / "ade")
    Image.fromarray(np.full((8, 11, 3), (120, 7, 9), np.uint8)).save(
        tmp_path / "ade/annotations/training/ADE_train_1.png"
    )
    with pytest.raises(ImageFileError, match=r"red / 10 \* 256 \+ green"):
        make(tmp_path)


def test_full_ids_do_not_overflow():
    pixels = np.array([[[250, 255, 0], [10, 0, 0]]], dtype=np.uint8)
    assert full_ade_ids(pixels).tolist() == [[25 * 256 + 255, 256]]


@pytest.mark.parametrize("line", ["one\ttwo\t3", "1\t2\t3\t4\t5\t", "x"])
def test_a_damaged_list_of_names(tmp_path, line):
    write(tmp_path / "ade")
    (tmp_path / "ade/objectInfo150.txt").write_text(f"Idx\tRatio\tTrain\tVal\tStuff\tName\n{line}\n")
    with pytest.raises(ConfigError, match="expected a number, tab-separated columns, and a name"):
        make(tmp_path)


def test_classes_of_an_export_are_those_of_its_files(tmp_path):
    """A project with a class of id 0 is written with ids from 1, and its classes.json says so: it can be read again."""
    for place in range(2):
        for kind, pixels in (("images", np.full((8, 11, 3), place, np.uint8)), ("labels", values(place))):
            (tmp_path / kind).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / kind / f"i{place}.png")
    classes = ClassTable.from_names(["road", "sky", "tree"])
    create_project(tmp_path / "p.a2lc", Sources(images=tmp_path / "images", labels=tmp_path / "labels"), classes)
    with Project(tmp_path / "p.a2lc") as project:
        export_project(project, tmp_path / "out", "ade20k")
        before = [project.first_labels(image) for image in project.images]
    written = read_classes(tmp_path / "out" / "classes.json")
    assert written.names == classes.names and written.file_values == (1, 2, 3) and written.ignore == 0
    again = Sources(format="ade20k", images=tmp_path, labels=tmp_path / "out")
    create_project(tmp_path / "q.a2lc", again, written)
    with Project(tmp_path / "q.a2lc") as project:
        for image, expected in zip(project.images, before, strict=True):
            np.testing.assert_array_equal(project.first_labels(image), expected)
