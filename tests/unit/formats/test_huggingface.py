"""Parquet: splits, names, void, rows in row groups; and tables that lie."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from a2lc.classes.table import ClassTable
from a2lc.creation.importer import create_project
from a2lc.errors import A2LCError, InputError, MissingFileError
from a2lc.formats.base import Sources
from a2lc.images.options import ReadingOptions
from a2lc.project.project import Project

H, W = 7, 12


def png(pixels, **save):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=save.pop("format", "PNG"), **save)
    return buffer.getvalue()


def values(seed):
    found = np.zeros((H, W), np.uint8)
    found[:, 5:] = 1
    found[seed % H, 1] = 1
    found[0, -2:] = 255
    return found


def rows(count, paths="{}.jpg", start=0, column="label"):
    return [
        {
            "image": {"bytes": png(np.full((H, W, 3), i, np.uint8), format="JPEG"), "path": paths and paths.format(i)},
            column: {"bytes": png(values(i)), "path": None},
        }
        for i in range(start, start + count)
    ]


def write(root, name, content, group=2, names=("road", "tree")):
    path = root / "data" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    column = next(key for key in content[0] if key != "image") if len(content[0]) > 1 else None
    schema = pa.schema([("image", image), *([(column, image)] if column else [])])
    pq.write_table(pa.Table.from_pylist(content, schema=schema), path, row_group_size=group)
    if names is not None:
        (root / "id2label.json").write_text(json.dumps({str(i): n for i, n in enumerate(names)}))
    return path


def read(root, classes=None, rules=None, name="p.a2lc", **other):
    return create_project(root / name, Sources(format="huggingface", images=root, **other), classes, rules)


@pytest.mark.parametrize("column", ["label", "annotation", "mask"])
def test_splits_columns_and_names(tmp_path, column):
    write(tmp_path, "train-00000-of-00002.parquet", rows(5, "img {}.jpg", column=column))
    write(tmp_path, "train-00001-of-00002.parquet", rows(3, "img {}.jpg", 5, column))
    write(tmp_path, "validation-00000-of-00001.parquet", rows(2, "img {}.jpg", 0, column))
    write(tmp_path, "test-00000-of-00001.parquet", rows(1, "t{}.jpg", 0, column))
    summary = read(tmp_path)
    assert summary.images == 8 and summary.validation_images == 2 and summary.num_classes == 2
    assert any("split test were left out" in note for note in summary.notes)
    with Project(tmp_path / "p.a2lc") as project:
        assert [image.image_id for image in project.images] == [f"img {i}" for i in range(8)]
        # The same name in both splits is not the same image.
        assert [image.image_id for image in project.validation_images] == ["validation/img 0", "validation/img 1"]
        for place, image in enumerate(project.images):
            np.testing.assert_array_equal(project.raw_labels(image), values(place))
            assert project.image_path(image).read_bytes() == rows(1, start=place)[0]["image"]["bytes"]
            assert (project.folder / "labels" / f"{image.image_id}.png").read_bytes() == png(values(place))


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (None, ["train-000000", "train-000001"]),
        ("/elsewhere/x/{}.png", ["0", "1"]),
        ("C:\\x\\{}.png", ["0", "1"]),
        ("../{}.png", ["0", "1"]),
        ("sub/{}.png", ["sub/0", "sub/1"]),
        ("same.png", ["train-000000", "train-000001"]),
        ("x{}\x00.png", ["train-000000", "train-000001"]),
    ],
)
def test_names_that_are_none(tmp_path, paths, names):
    write(tmp_path, "train.parquet", rows(2, paths))
    read(tmp_path)
    with Project(tmp_path / "p.a2lc") as project:
        assert [image.image_id for image in project.images] == names


def test_wide_labels_palettes_and_users_classes(tmp_path):
    content = rows(2)
    wide = values(0).astype(np.uint16) * 300
    wide[0, -2:] = 65535
    content[0]["label"]["bytes"] = png(wide)
    content[1]["label"]["bytes"] = png(np.where(values(1) == 1, 300, 65535).astype(np.uint16))
    write(tmp_path, "train.parquet", content, names=None)
    given = ClassTable(("road", "tree"), ((1, 1, 1), (2, 2, 2)), (0, 300), 65535)
    read(tmp_path, given)
    with Project(tmp_path / "p.a2lc") as project:
        np.testing.assert_array_equal(project.first_labels(project.images[0]), values(0))
    with pytest.raises(A2LCError, match="`classes` is missing"):
        read(tmp_path, name="q.a2lc")


def test_no_shift_is_ever_made(tmp_path):
    """A set whose ids need do_reduce_labels has values that id2label.json does not name: they are told."""
    content = rows(2)
    for row in content:
        row["label"]["bytes"] = png(np.where(values(0) == 255, 0, values(0) + 1).astype(np.uint8))
    write(tmp_path, "train.parquet", content)
    with pytest.raises(A2LCError, match="value 2 on"):
        read(tmp_path)


def test_missing_label_maps(tmp_path):
    content = rows(3)
    content[1]["label"] = None
    write(tmp_path, "train.parquet", content)
    with pytest.raises(InputError, match="images without labels: 1"):
        read(tmp_path)
    assert read(tmp_path, rules=ReadingOptions(partial=True)).unlabelled == 1


def test_tables_that_lie(tmp_path):
    with pytest.raises(MissingFileError, match=r"no \*\.parquet"):
        read(tmp_path)
    path = write(tmp_path, "train.parquet", rows(2))
    whole = path.read_bytes()
    for data in (b"", b"PAR1", whole[:200], whole[: len(whole) // 2], whole[-300:]):
        path.write_bytes(data)
        with pytest.raises(InputError, match="not a complete Parquet file"):
            read(tmp_path)
    pq.write_table(pa.table({"image": ["a"], "label": ["b"]}), path)
    with pytest.raises(InputError, match="column 'image' is not an image"):
        read(tmp_path)
    pq.write_table(pa.table({"label": ["b"]}), path)
    with pytest.raises(InputError, match="column 'image' is not an image"):
        read(tmp_path)
    for bad, message in ((b"no image", "not a readable image"), (None, "has no bytes")):
        content = rows(2)
        content[0]["label"]["bytes"] = bad
        write(tmp_path, "train.parquet", content)
        with pytest.raises(A2LCError, match=message):
            read(tmp_path)
    write(tmp_path, "train.parquet", rows(2))
    with pytest.raises(InputError, match="`labels` cannot be used"):
        read(tmp_path, labels=tmp_path)


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"a": "b"}', '{"0": 3}', '{"-1": "x"}', '{"70000": "x"}', '{"0": "a", "1": "a"}']
)
def test_names_of_classes_that_lie(tmp_path, text):
    write(tmp_path, "train.parquet", rows(2))
    (tmp_path / "id2label.json").write_text(text)
    with pytest.raises(A2LCError, match=r"id2label\.json"):
        read(tmp_path)


def test_labels_without_images_keep_their_names(tmp_path):
    """Our own export of labels alone has names in the paths of the label maps."""
    given = rows(2, "{}.jpg")
    for row, name in zip(given, ("x/one.png", "two.png"), strict=True):
        row["image"] = None
        row["label"]["path"] = name
    write(tmp_path, "train.parquet", given)
    read(tmp_path)
    with Project(tmp_path / "p.a2lc") as project:
        assert [image.image_id for image in project.images] == ["x/one", "two"]
