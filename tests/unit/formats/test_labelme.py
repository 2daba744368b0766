"""labelme: shapes as labelme draws them, its two labels with underscores, and files that lie."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image, ImageDraw

from a2lc.classes.table import ClassTable
from a2lc.creation.importer import create_project
from a2lc.errors import A2LCError, InputError
from a2lc.formats.base import Sources
from a2lc.images.options import ReadingOptions
from a2lc.project.project import Project

H, W = 11, 17


def encoded(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def shape(label, kind, points, **other):
    return {"label": label, "shape_type": kind, "points": points, "flags": {}} | other


def write(root, shapes, name="a b", image=True, **other):
    path = root / "set" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    if image:
        Image.fromarray(np.zeros((H, W, 3), np.uint8)).save(path.with_suffix(".png"))
    data = {"version": "5.4.1", "imagePath": f"{name}.png", "imageHeight": H, "imageWidth": W, "imageData": None}
    path.write_text(json.dumps(data | {"shapes": shapes} | other))


def read(root, classes=None, name="p.a2lc", rules=None, **other):
    summary = create_project(root / name, Sources(format="labelme", images=root / "set", **other), classes, rules)
    with Project(root / name) as project:
        return {i.image_id: project.raw_labels(i) for i in project.images}, project.classes, summary


def test_shapes_as_labelme_draws_them(tmp_path):
    mask = np.array([[1, 0, 1], [1, 1, 1]], dtype=bool)
    shapes = [
        shape("tree", "polygon", [[0.5, 0.5], [9.5, 1], [4, 8.2]]),
        shape("car", "rectangle", [[12, 6], [8, 2]]),
        shape("sky", "circle", [[12, 7], [14.5, 7]]),
        shape("tree", "mask", [[2, 9], [4, 10]], mask=encoded(mask)),
        shape("car", "point", [[1, 1]]),
        shape("nobody", "linestrip", [[1, 1], [5, 5]]),
        shape("car", None, [[14, 0], [16, 0], [16, 2]]),
    ]
    write(tmp_path, shapes)
    found, classes, summary = read(tmp_path)
    assert classes.names == ("car", "sky", "tree")
    # As labelme.utils.shape_to_mask: Pillow's outlines and fillings.
    canvas = Image.new("L", (W, H), 255)
    pen = ImageDraw.Draw(canvas)
    pen.polygon([(0.5, 0.5), (9.5, 1), (4, 8.2)], outline=2, fill=2)
    pen.rectangle([8, 2, 12, 6], outline=0, fill=0)
    pen.ellipse([9.5, 4.5, 14.5, 9.5], outline=1, fill=1)
    expected = np.array(canvas)
    expected[9:11, 2:5][mask] = 2
    canvas = Image.fromarray(expected)
    ImageDraw.Draw(canvas).polygon([(14, 0), (16, 0), (16, 2)], outline=0, fill=0)
    np.testing.assert_array_equal(found["a b"], np.array(canvas))
    assert any("1 linestrip, 1 point" in note for note in summary.notes)


def test_priority_above_order(tmp_path):
    write(tmp_path, [shape("a", "rectangle", [[0, 0], [9, 9]]), shape("b", "rectangle", [[2, 2], [5, 5]])])
    found, _, _ = read(tmp_path)
    assert found["a b"][3, 3] == 1
    table = ClassTable(("a", "b"), ((1, 1, 1), (2, 2, 2)), (0, 1), 255, (), (1, 0))
    found, _, _ = read(tmp_path, table, "q.a2lc")
    assert found["a b"][3, 3] == 0


@pytest.mark.parametrize("name", ["_background_", "background"])
def test_void_and_background(tmp_path, name):
    shapes = [
        shape("car", "rectangle", [[0, 0], [9, 9]]),
        shape("__ignore__", "rectangle", [[2, 2], [5, 5]]),
        shape("_background_", "rectangle", [[7, 7], [8, 8]]),
    ]
    write(tmp_path, shapes)
    found, classes, _ = read(tmp_path)
    assert classes.names == ("car",)
    assert found["a b"][3, 3] == found["a b"][7, 7] == found["a b"][10, 16] == 255 and found["a b"][0, 0] == 0
    found, _, _ = read(tmp_path, ClassTable.from_names(["car", name]), "q.a2lc")
    assert found["a b"][3, 3] == 255 and found["a b"][7, 7] == found["a b"][10, 16] == 1


def test_labels_without_a_class(tmp_path):
    write(tmp_path, [shape("bus", "rectangle", [[0, 0], [9, 9]])])
    with pytest.raises(InputError, match="not in `classes`: bus"):
        read(tmp_path, ClassTable.from_names(["car"]))


def test_image_data_where_there_is_no_image(tmp_path):
    pixels = np.full((H, W, 3), 50, np.uint8)
    one = [shape("car", "rectangle", [[0, 0], [9, 9]])]
    write(tmp_path, one, image=False, imageData=encoded(pixels), imageHeight=None, imageWidth=None)
    _, _, summary = read(tmp_path)
    assert any("read from imageData" in note for note in summary.notes)
    with Project(tmp_path / "p.a2lc") as project:
        assert (project.pixels(project.images[0]) == 50).all()


def test_files_in_a_folder_of_their_own(tmp_path):
    write(tmp_path, [shape("car", "rectangle", [[0, 0], [9, 9]])], "sub/x")
    (tmp_path / "json/sub").mkdir(parents=True)
    data = json.loads((tmp_path / "set/sub/x.json").read_text())
    data["imagePath"] = "..\\..\\elsewhere\\x.jpg"
    (tmp_path / "set/sub/x.json").unlink()
    (tmp_path / "json/sub/label 1.json").write_text(json.dumps(data))
    found, _, _ = read(tmp_path, labels=tmp_path / "json")
    assert set(found) == {"sub/x"}
    data["imagePath"] = "../../../../etc/passwd"
    (tmp_path / "json/sub/label 1.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match="label maps without an image: sub/label 1"):
        read(tmp_path, labels=tmp_path / "json", name="q.a2lc")


RECTANGLE = [[0, 0], [9, 9]]
LIES = [
    ({"shapes": 3}, "contains no list of objects 'shapes'"),
    ({"shapes": [3]}, "contains no list of objects 'shapes'"),
    ({"shapes": [shape(3, "rectangle", RECTANGLE)]}, "label of a shape is of type int"),
    ({"shapes": [shape("a", "cuboid", RECTANGLE)]}, "'cuboid', which is not supported"),
    ({"shapes": [shape("a", "rectangle", [[0, 0]])]}, "expected two"),
    ({"shapes": [shape("a", "polygon", RECTANGLE)]}, "expected three or more"),
    ({"shapes": [shape("a", "polygon", [[0, 0], [float("nan"), 1], [1, 1]])]}, "not finite"),
    ({"shapes": [shape("a", "polygon", [[0, 0], [1e30, 1], [1, 1]])]}, "far outside"),
    ({"shapes": [shape("a", "polygon", [[0, 0, 1]])]}, "not pairs"),
    ({"shapes": [shape("a", "polygon", "x")]}, "not pairs"),
    ({"shapes": [shape("a", "mask", RECTANGLE)]}, "mask is not text"),
    ({"shapes": [shape("a", "mask", RECTANGLE, mask="!!!")]}, "is not base64"),
    ({"shapes": [shape("a", "mask", RECTANGLE, mask="AAAA")]}, "not a readable image"),
    ({"shapes": [shape("a", "mask", RECTANGLE, mask=encoded(np.ones((3, 4), bool)))]}, "its box has 10 x 10"),
    (
        {"shapes": [shape("a", "mask", [[-2, 0], [1, 2]], mask=encoded(np.ones((3, 4), bool)))]},
        "is not inside the image",
    ),
    ({"imageWidth": 10**7, "imageHeight": 10**7}, "over the limit"),
    ({"imageWidth": None, "imageHeight": None}, "expected whole numbers"),
    ({"imageWidth": W + 1}, r"\(labels\) is"),
]


@pytest.mark.parametrize(("other", "message"), LIES, ids=[str(i) + lie[1] for i, lie in enumerate(LIES)])
def test_files_that_lie_are_refused(tmp_path, other, message):
    write(tmp_path, **{"shapes": [shape("a", "rectangle", RECTANGLE)]} | other)
    with pytest.raises(A2LCError, match=message):
        read(tmp_path)


def test_bombs_in_base64(tmp_path):
    buffer = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(buffer, format="PNG")
    bomb = base64.b64encode(buffer.getvalue()).decode()
    write(tmp_path, [shape("a", "mask", [[0, 0], [9_999, 9_999]], mask=bomb)])
    with pytest.raises(A2LCError, match="over the limit"):
        read(tmp_path)


def test_images_without_a_file(tmp_path):
    write(tmp_path, [shape("a", "rectangle", RECTANGLE)])
    Image.fromarray(np.zeros((H, W, 3), np.uint8)).save(tmp_path / "set/other.png")
    found, _, summary = read(tmp_path)
    assert set(found) == {"a b"} and any("were left out: other" in note for note in summary.notes)
    found, _, _ = read(tmp_path, name="q.a2lc", rules=ReadingOptions(partial=True))
    assert set(found) == {"a b", "other"}
