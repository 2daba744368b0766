"""Label maps as NumPy's files, and FiftyOne's folders."""

import json

import numpy as np
import pytest
from PIL import Image

from a2lc.classes.table import ClassTable
from a2lc.creation.importer import create_project
from a2lc.errors import A2LCError, ImageFileError, InputError, MissingFileError
from a2lc.formats.base import Sources
from a2lc.images.label_maps import read_ids
from a2lc.project.project import Project

MAP = np.array([[0, 1, 2], [300, 255, 65535]])


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32, np.int64, bool, ">i4"])
def test_arrays_of_whole_numbers(tmp_path, kind):
    stored = MAP % 2 if kind is bool else MAP % 256 if kind is np.uint8 else MAP
    np.save(tmp_path / "a.npy", np.asfortranarray(stored.astype(kind)))
    found = read_ids(tmp_path / "a.npy")
    assert found.dtype == (np.uint8 if stored.max() < 256 else np.uint16)
    np.testing.assert_array_equal(found, stored)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 3, 1), np.uint8), "2 x 3 x 1"),
        (np.zeros((2, 3)), "float64"),
        (np.zeros(0, np.uint8), "expected rows"),
        (np.array([[-1]]), "value -1 does not fit"),
        (np.array([[70000]]), "value 70000 does not fit"),
        (np.array([["a"]]), "<U1"),
        (np.zeros((200, 60), np.uint8), "over the limit"),
        (np.array([[{}]], dtype=object), "cannot be read"),
    ],
)
def test_arrays_that_are_no_maps(tmp_path, array, message):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(ImageFileError, match=message):
        read_ids(tmp_path / "a.npy", max_pixels=10_000)


def test_damaged_arrays(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((100, 100), np.uint8))
    whole = (tmp_path / "a.npy").read_bytes()
    for data in (
        b"",
        whole[:5],
        whole[:60],
        whole[:500],
        whole.replace(b"(100, 100)", b"(10**9, 9)"),
        b"PK\x03\x04" + whole,
    ):
        (tmp_path / "a.npy").write_bytes(data)
        with pytest.raises(ImageFileError, match=r"a\.npy"):
            read_ids(tmp_path / "a.npy")
    with (tmp_path / "a.npy").open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (999_999, 999_999)}
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(ImageFileError, match=r"a\.npy"):
        read_ids(tmp_path / "a.npy")


def test_a_project_of_arrays(tmp_path, make_dataset):
    data = make_dataset(("a", "b"))
    for name in ("a", "b"):
        (data.root / f"labels/{name}.png").unlink()
        np.save(data.root / f"labels/{name}.npy", data.labels_of(name).astype(np.int64))
    data.create()
    with Project(data.project) as project:
        np.testing.assert_array_equal(project.raw_labels(project.images[0]), data.labels_of("a"))


def fiftyone(root, targets, values, images=True):
    (root / "f/labels/sub").mkdir(parents=True, exist_ok=True)
    (root / "f/data/sub").mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(root / "f/labels/sub/a.png")
    if images:
        Image.fromarray(np.zeros((*values.shape, 3), np.uint8)).save(root / "f/data/sub/a.jpg")
    (root / "f/mask_targets.json").write_text(json.dumps(targets))


def test_fiftyone_folders(tmp_path):
    values = np.array([[0, 1, 1, 7], [0, 1, 7, 7]], np.uint8)
    fiftyone(tmp_path, {"1": "car", "7": "tree"}, values)
    create_project(tmp_path / "p.a2lc", Sources(format="fiftyone", images=tmp_path / "f"))
    with Project(tmp_path / "p.a2lc") as project:
        np.testing.assert_array_equal(project.first_labels(project.images[0]), [[255, 0, 0, 1], [255, 0, 1, 1]])
    given = ClassTable.from_names(["tree", "car"])
    create_project(tmp_path / "q.a2lc", Sources(format="fiftyone", images=tmp_path / "f"), given)
    with Project(tmp_path / "q.a2lc") as project:
        np.testing.assert_array_equal(project.raw_labels(project.images[0]), [[255, 1, 1, 0], [255, 1, 0, 0]])
    fiftyone(tmp_path, {"0": "sky", "1": "car", "7": "tree"}, values)
    create_project(tmp_path / "r.a2lc", Sources(format="fiftyone", images=tmp_path / "f"))
    with Project(tmp_path / "r.a2lc") as project:
        assert (
            project.classes.names == ("sky", "car", "tree") and (project.raw_labels(project.images[0]) == values).all()
        )


def test_fiftyone_faults(tmp_path):
    values = np.array([[0, 1, 1, 9]], np.uint8)
    fiftyone(tmp_path, {"1": "car", "7": "tree"}, values)
    sources = Sources(format="fiftyone", images=tmp_path / "f")
    with pytest.raises(A2LCError, match="value 9 on 1 pixels"):
        create_project(tmp_path / "p.a2lc", sources)
    with pytest.raises(A2LCError, match=r"value 9 on 1 pixels is not in mask_targets\.json or in `classes`"):
        create_project(tmp_path / "p.a2lc", sources, ClassTable.from_names(["car"]))
    for text in ("[]", '{"a": "x"}', '{"1": 2}', '{"99999": "x"}'):
        (tmp_path / "f/mask_targets.json").write_text(text)
        with pytest.raises(InputError, match=r"mask_targets\.json"):
            create_project(tmp_path / "p.a2lc", sources)
    (tmp_path / "f/mask_targets.json").unlink()
    with pytest.raises(MissingFileError, match=r"no mask_targets\.json"):
        create_project(tmp_path / "p.a2lc", sources)
