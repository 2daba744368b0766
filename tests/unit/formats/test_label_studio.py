"""Label Studio: tasks joined with images, regions over each other, annotations before predictions; and lies."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as pycoco

from a2lc.classes.table import ClassTable
from a2lc.creation.importer import create_project
from a2lc.errors import A2LCError, InputError
from a2lc.formats.base import Sources
from a2lc.formats.rle import brush_of_mask
from a2lc.project.project import Project

H, W = 10, 20


def box(left, top, right, bottom):
    mask = np.zeros((H, W), dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def region(label, mask=None, **other):
    value = {"format": "rle", "brushlabels": [label] if label else []}
    if mask is not None:
        value["rle"] = brush_of_mask(mask)
    found = {"type": "brushlabels", "original_width": W, "original_height": H, "image_rotation": 0, "value": value}
    return found | other


def task(address="/data/upload/3/0123abcd-a%20b.png", regions=(), **other):
    return {"id": 7, "data": {"image": address}, "annotations": [{"result": list(regions)}]} | other


def read(root, tasks, classes=None, name="p.a2lc", names=("a b",)):
    for one in names:
        (root / "images" / one).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((H, W, 3), np.uint8)).save(root / "images" / f"{one}.png")
    (root / "x.json").write_text(json.dumps(tasks))
    sources = Sources(format="label-studio", images=root / "images", labels=root / "x.json")
    summary = create_project(root / name, sources, classes)
    with Project(root / name) as project:
        return {image.image_id: project.raw_labels(image) for image in project.images}, summary


@pytest.mark.parametrize(
    "address",
    [
        "/data/upload/3/0123abcd-a%20b.png",
        "/data/local-files/?d=some/place/a%20b.png",
        "https://host/x/a%20b.jpg?token=1",
        "s3://bucket/deep/er/a b.png",
        "a b.png",
    ],
)
def test_addresses_mean_images(tmp_path, address):
    found, _ = read(tmp_path, [task(address, [region("car", box(2, 1, 9, 8))])])
    assert set(found) == {"a b"}


def test_the_longest_end_of_a_path_decides(tmp_path):
    tasks = [task("/data/local-files/?d=root/x/a.png", [region("car", box(0, 0, 5, 5))], id=1)]
    names = ("x/a", "y/a")
    found, summary = read(tmp_path, tasks, names=names)
    assert set(found) == {"x/a"} and any("were left out: y/a" in note for note in summary.notes)
    with pytest.raises(InputError, match="two images end in 'a'"):
        read(tmp_path, [task("a.png", [region("car", box(0, 0, 5, 5))])], names=names, name="q.a2lc")
    with pytest.raises(InputError, match="belongs to another task as well"):
        read(tmp_path, tasks * 2, names=names, name="q.a2lc")


def test_later_regions_lie_on_top_and_priority_above_all(tmp_path):
    regions = [region("car", box(2, 1, 9, 8)), region("sky", box(0, 0, 20, 5)), region("", box(0, 0, 20, 10))]
    found, _ = read(tmp_path, [task(regions=regions)], ClassTable.from_names(["car", "sky"]))
    expected = np.full((H, W), 255)
    expected[box(2, 1, 9, 8)] = 0
    expected[box(0, 0, 20, 5)] = 1
    np.testing.assert_array_equal(found["a b"], expected)
    table = ClassTable(("car", "sky"), ((1, 1, 1), (2, 2, 2)), (0, 1), 255, (), (3, 0))
    found, _ = read(tmp_path, [task(regions=regions)], table, "q.a2lc")
    assert (found["a b"][box(2, 1, 9, 8)] == 0).all()


def test_the_last_annotation_counts_and_predictions_only_without(tmp_path):
    one, two = [region("car", box(0, 0, 9, 9))], [region("sky", box(0, 0, 9, 9))]
    annotations = [{"result": one}, {"result": two}, {"result": one, "was_cancelled": True}]
    predictions = [{"result": one}]
    table = ClassTable.from_names(["car", "sky"])
    found, _ = read(tmp_path, [task(annotations=annotations, predictions=predictions)], table)
    assert found["a b"][0, 0] == 1
    found, summary = read(tmp_path, [task(annotations=[], predictions=predictions)], table, "q.a2lc")
    assert found["a b"][0, 0] == 0 and any("from their predictions" in note for note in summary.notes)
    with pytest.raises(InputError, match="contains no images"):
        read(tmp_path, [task(annotations=annotations[2:])], table, "r.a2lc")


def test_polygons_boxes_and_ellipses_in_percent(tmp_path):
    def shaped(kind, label, **value):
        return region(label) | {"type": f"{kind}labels", "value": value | {f"{kind}labels": [label]}}

    points = [[10, 10], [60, 10], [60, 80]]
    regions = [
        shaped("polygon", "car", points=points),
        shaped("rectangle", "sky", x=70, y=0, width=20, height=50, rotation=0),
        shaped("rectangle", "tree", x=10, y=50, width=20, height=20, rotation=90),
        shaped("ellipse", "sky", x=85, y=80, radiusX=10, radiusY=15, rotation=0),
        {"type": "relation"},
        region("x") | {"type": "keypointlabels", "value": {"x": 1, "keypointlabels": ["x"]}},
    ]
    found, _ = read(tmp_path, [task(regions=regions)], ClassTable.from_names(["car", "sky", "tree"]))
    expected = np.full((H, W), 255)
    flat = [part for x, y in points for part in (x * W / 100, y * H / 100)]
    expected[pycoco.decode(pycoco.frPyObjects([flat], H, W)[0]).astype(bool)] = 0
    expected[box(14, 0, 18, 5)] = 1
    expected[5:9, :2] = 2  # turned about its upper left corner (2, 5): columns 0 to 2, rows 5 to 9
    ellipse = found["a b"] == 1
    ellipse[box(14, 0, 18, 5)] = False
    assert ellipse[8, 16] and ellipse[8, 17] and not ellipse[:6].any() and 6 <= ellipse.sum() <= 12
    expected[ellipse] = 1
    np.testing.assert_array_equal(found["a b"], expected)


def test_void_and_nothing_drawn(tmp_path):
    tasks = [
        task("a.png", [region("car", box(0, 0, 9, 9)), region("void", box(0, 0, 2, 2))]),
        task("b.png", [], id=8),
    ]
    found, _ = read(tmp_path, tasks, names=("a", "b"))
    assert found["a"][0, 0] == 255 and found["a"][3, 3] == 0
    assert found["b"].shape == (H, W) and (found["b"] == 255).all()


LIES = [
    ([3], "expected a list of tasks"),
    ([{"image": "a"}], "not as JSON-MIN"),
    ([task(3)], "has no 'image'"),
    ([task(regions=[region("car", box(0, 0, 2, 2), original_width=10**7, original_height=10**7)])], "over the limit"),
    ([task(regions=[region("car", box(0, 0, 2, 2), original_width=W + 1)])], "the brush RLE has 800 values"),
    ([task(regions=[region("car", box(0, 0, 2, 2), original_width=None)])], "expected whole numbers"),
    ([task(regions=[region("car", box(0, 0, 2, 2), image_rotation=90)])], "rotated by 90 degrees"),
    ([task(regions=[region("car")])], "expected 'rle'"),
    (
        [task(regions=[region("car") | {"value": {"format": "rle", "rle": [300], "brushlabels": ["car"]}}])],
        "bytes, 0..255",
    ),
    (
        [task(regions=[region("car") | {"value": {"format": "rle", "rle": "x", "brushlabels": ["car"]}}])],
        "list of whole",
    ),
    ([task(regions=[region("car") | {"value": {"brushlabels": ["car", "sky"]}}])], "more than one label"),
    ([task(regions=[region("car") | {"value": {"brushlabels": [3]}}])], "expected a name"),
    ([task(annotations=3)], "not a list of objects"),
    ([task(annotations=[{"result": 3}])], "not a list of objects"),
    ([task("/data/upload/other.png", [region("car", box(0, 0, 2, 2))])], "label maps without an image: other"),
]


@pytest.mark.parametrize(("tasks", "message"), LIES, ids=[str(i) + lie[1] for i, lie in enumerate(LIES)])
def test_exports_that_lie_are_refused(tmp_path, tasks, message):
    with pytest.raises(A2LCError, match=message):
        read(tmp_path, tasks)


def test_labels_without_a_class(tmp_path):
    with pytest.raises(InputError, match="not in `classes`: bus"):
        read(tmp_path, [task(regions=[region("bus", box(0, 0, 2, 2))])], ClassTable.from_names(["car"]))
