"""CVAT: shapes by z-order, label maps by colour, background and void; and exports that lie."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as pycoco

from a2lc.classes.table import ClassTable
from a2lc.creation.importer import create_project
from a2lc.errors import A2LCError, InputError
from a2lc.formats.base import Sources
from a2lc.images.options import ReadingOptions
from a2lc.project.project import Project

H, W = 9, 14
GIVEN = ClassTable.from_names(["sky", "car", "tree"])


def image_file(root, name="a b"):
    path = root / "images" / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((H, W, 3), np.uint8)).save(path)


def create(root, format, labels, classes=None, name="p.a2lc", images=True, **other):
    sources = Sources(format=format, images=root / "images" if images else None, labels=labels, **other)
    create_project(root / name, sources, classes)
    with Project(root / name) as project:
        return project.raw_labels(project.images[0]), project.classes


# ---- XML --------------------------------------------------------------------------------------------------------


def xml(root, shapes, size=f'width="{W}" height="{H}"', name="a b.png", labels=("sky", "car", "tree")):
    image_file(root)
    rows = "".join(f"<label><name>{label}</name><color>#01020{i}</color></label>" for i, label in enumerate(labels))
    text = (
        f"<annotations><version>1.1</version><meta><task><labels>{rows}</labels></task></meta>"
        f'<image id="0" name="{name}" {size}>{shapes}</image></annotations>'
    )
    (root / "annotations.xml").write_text(text)
    return root / "annotations.xml"


def polygon(points):
    runs = pycoco.frPyObjects([[float(part) for pair in points for part in pair]], H, W)
    return pycoco.decode(runs[0]).astype(bool)


def test_shapes_by_priority_then_z_order_then_file(tmp_path):
    shapes = (
        '<polygon label="car" z_order="2" points="1,1;9,1;9,7;1,7"/>'
        '<box label="tree" z_order="1" xtl="3" ytl="0" xbr="12" ybr="4"/>'
        '<mask label="sky" z_order="2" rle="1, 2, 1" left="2" top="2" width="2" height="2"/>'
        '<points label="car" points="1,1"/><tag label="car"/>'
    )
    path = xml(tmp_path, shapes)
    found, classes = create(tmp_path, "cvat-xml", path)
    assert classes.names == ("sky", "car", "tree") and classes.colours[1] == (1, 2, 1)
    expected = np.full((H, W), 255)
    expected[polygon([(3, 0), (12, 0), (12, 4), (3, 4)])] = 2
    expected[polygon([(1, 1), (9, 1), (9, 7), (1, 7)])] = 1
    expected[2, 3] = expected[3, 2] = 0
    np.testing.assert_array_equal(found, expected)
    first = ClassTable(("sky", "car", "tree"), ((1, 1, 1),) * 3, (0, 1, 2), 255, (), (0, 0, 1))
    found, _ = create(tmp_path, "cvat-xml", path, first, "q.a2lc")
    assert (found[polygon([(3, 0), (12, 0), (12, 4), (3, 4)])] == 2).all()


def test_turned_boxes_and_ellipses(tmp_path):
    shapes = (
        '<box label="car" xtl="2" ytl="3" xbr="12" ybr="5" rotation="90"/>'
        '<ellipse label="tree" cx="3" cy="3" rx="2.5" ry="1.5"/>'
    )
    found, _ = create(tmp_path, "cvat-xml", xml(tmp_path, shapes))
    # About its middle (7, 4): now columns 6 to 8, rows -1 to 9.
    expected = np.full((H, W), 255)
    expected[:, 6:8] = 1
    rows, columns = np.mgrid[:H, :W] + 0.5
    inside = ((columns - 3) / 2.5) ** 2 + ((rows - 3) / 1.5) ** 2
    assert (found[inside < 0.7] == 2).all() and not (found[inside > 1.5] == 2).any()
    np.testing.assert_array_equal(found == 1, expected == 1)


def test_void_is_a_label_or_nothing(tmp_path):
    shapes = '<box label="car" xtl="0" ytl="0" xbr="14" ybr="9"/><box label="void" xtl="0" ytl="0" xbr="2" ybr="2"/>'
    path = xml(tmp_path, shapes, labels=("car", "void"))
    found, classes = create(tmp_path, "cvat-xml", path)
    assert classes.names == ("car",) and (found[:2, :2] == 255).all() and found[3, 3] == 0
    found, _ = create(tmp_path, "cvat-xml", path, ClassTable.from_names(["void", "car"]), "q.a2lc")
    assert (found[:2, :2] == 0).all() and found[3, 3] == 1


def test_xml_in_a_zip(tmp_path):
    path = xml(tmp_path, '<box label="car" xtl="0" ytl="0" xbr="14" ybr="9"/>')
    with zipfile.ZipFile(tmp_path / "e.zip", "w") as archive:
        archive.write(path, "annotations.xml")
    found, _ = create(tmp_path, "cvat-xml", tmp_path / "e.zip")
    assert (found == 1).all()


XML_LIES = [
    ('<mask label="car" rle="5" left="0" top="0" width="99" height="1"/>', {}, "columns 0..98"),
    ('<mask label="car" rle="9999999999" left="0" top="0" width="2" height="1"/>', {}, "covers 9,999,999,999 pixels"),
    ('<mask label="car" rle="-1,3" left="0" top="0" width="2" height="1"/>', {}, "covers 2 pixels"),
    ('<mask label="car" rle="x" left="0" top="0" width="2" height="1"/>', {}, "not all whole numbers"),
    ('<mask label="car" rle="2"/>', {}, "not all whole numbers"),
    ('<polygon label="car" points="1,1;nan,2;3,3"/>', {}, "a coordinate is 'nan'"),
    ('<polygon label="car" points="1,1;1e99,2;3,3"/>', {}, "far outside"),
    ('<polygon label="car" points="1,1;2"/>', {}, "an x and a y for each point"),
    ('<polygon label="car"/>', {}, "a coordinate is ''"),
    ('<box label="car" xtl="a" ytl="0" xbr="1" ybr="1"/>', {}, "xtl of a box is 'a'"),
    ('<box label="bus" xtl="0" ytl="0" xbr="1" ybr="1"/>', {}, "label 'bus', which the file does not define"),
    ('<cuboid label="car"/>', {}, "<cuboid>, which is not supported"),
    ("", {"size": 'width="1000000" height="1000000"'}, "over the limit"),
    ("", {"size": 'width="x" height="1"'}, "not whole numbers"),
    ("", {"size": ""}, "not whole numbers"),
    ("", {"name": "../../x.png"}, "points outside the image folder"),
    ("", {"name": "/etc/passwd"}, "points outside the image folder"),
    ("", {"name": ""}, "expected the name of an image"),
]


@pytest.mark.parametrize(
    ("shapes", "other", "message"), XML_LIES, ids=[str(i) + lie[2] for i, lie in enumerate(XML_LIES)]
)
def test_xml_that_lies_is_refused(tmp_path, shapes, other, message):
    path = xml(tmp_path, shapes or '<box label="car" xtl="0" ytl="0" xbr="14" ybr="9"/>', **other)
    with pytest.raises(InputError, match=message):
        create(tmp_path, "cvat-xml", path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotations><track/></annotations>", "contains tracks"),
        ("<other/>", "its root is <other>"),
        ("<annotations>", "not complete XML"),
        ("<annotations></annotations>", "contains no categories|contains no images"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotations/>', "document type"),
        ("", "not complete XML"),
    ],
)
def test_xml_that_is_none(tmp_path, text, message):
    image_file(tmp_path)
    (tmp_path / "x.xml").write_text(text)
    with pytest.raises(InputError, match=message):
        create(tmp_path, "cvat-xml", tmp_path / "x.xml")


# ---- label maps -------------------------------------------------------------------------------------------------

COLOURS = {"background": (0, 0, 0), "car": (10, 20, 30), "tree": (0, 0, 200)}


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def label_map():
    pixels = np.zeros((H, W, 3), np.uint8)
    pixels[2:6, 1:9] = COLOURS["car"]
    pixels[5:, 3:5] = COLOURS["tree"]
    return pixels


def files(**more):
    lines = [f"{name}:{','.join(map(str, colour))}::" for name, colour in COLOURS.items()]
    return {
        "labelmap.txt": "# label:color_rgb:parts:actions\n" + "\n".join(lines) + "\n",
        "SegmentationClass/a b.png": png(label_map()),
        "ImageSets/Segmentation/default.txt": "a b\n",
    } | more


def packed(path, content):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def expected(background):
    found = np.full((H, W), background)
    found[2:6, 1:9] = 1
    found[5:, 3:5] = 2
    return found


@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_background_is_void_unless_a_class(tmp_path, kind):
    image_file(tmp_path)
    path = packed(tmp_path / "e.zip", files())
    if kind == "folder":
        with zipfile.ZipFile(path) as archive:
            archive.extractall(tmp_path / "e")
        path = tmp_path / "e"
    found, classes = create(tmp_path, "cvat-mask", path, GIVEN)
    np.testing.assert_array_equal(found, expected(255))
    with_class = ClassTable.from_names(["background", "car", "tree"])
    found, _ = create(tmp_path, "cvat-mask", path, with_class, "q.a2lc")
    np.testing.assert_array_equal(found, expected(0))
    found, classes = create(tmp_path, "cvat-mask", path, name="r.a2lc")
    assert classes.names == ("car", "tree") and classes.colours == (COLOURS["car"], COLOURS["tree"])
    np.testing.assert_array_equal(found, np.choose(np.minimum(expected(3), 3), [9, 0, 1, 255]))


def test_void_files_tell_void_from_background(tmp_path):
    image_file(tmp_path)
    void = np.zeros((H, W), np.uint8)
    void[0, :4] = 255
    inside = packed(tmp_path / "in.zip", files(**{"void/a b.png": png(void)}))
    beside = packed(tmp_path / "beside.zip", files())
    answer = expected(0)
    answer[0, :4] = 255
    table = ClassTable.from_names(["background", "car", "tree"])
    np.testing.assert_array_equal(create(tmp_path, "cvat-mask", inside, table)[0], answer)
    (tmp_path / "void").mkdir()
    (tmp_path / "void/a b.png").write_bytes(png(void))
    np.testing.assert_array_equal(create(tmp_path, "cvat-mask", beside, table, "q.a2lc")[0], answer)
    found, classes = create(tmp_path, "cvat-mask", beside, name="r.a2lc")
    assert classes.names == ("background", "car", "tree")
    np.testing.assert_array_equal(found, answer)


def test_images_in_the_export(tmp_path):
    path = packed(tmp_path / "e.zip", files(**{"JPEGImages/a b.png": png(np.full((H, W, 3), 77, np.uint8))}))
    create(tmp_path, "cvat-mask", path, GIVEN, images=False)
    with Project(tmp_path / "p.a2lc") as project:
        assert (project.pixels(project.images[0]) == 77).all() and "a b" in project.prepared


MASK_LIES = [
    ({"SegmentationClass/a b.png": png(np.full((H, W, 3), 9, np.uint8))}, r"colour \(9, 9, 9\) is not a label"),
    ({"SegmentationClass/a b.png": b"no"}, "not a readable image"),
    ({"labelmap.txt": "car:1,2::"}, "expected name:red,green,blue"),
    ({"labelmap.txt": "car:1,2,300::"}, "expected name:red,green,blue"),
    ({"labelmap.txt": "car:10,20,30::\ntree:10,20,30::"}, "two labels have the colour"),
    ({"labelmap.txt": b"\xff\xfe\xff"}, "not UTF-8"),
    ({"void/a b.png": png(np.zeros((2, 2), np.uint8))}, "has a different size"),
    ({"../../evil.png": b""}, "points outside"),
]


@pytest.mark.parametrize(("more", "message"), MASK_LIES, ids=[lie[1] for lie in MASK_LIES])
def test_exports_that_lie_are_refused(tmp_path, more, message):
    image_file(tmp_path)
    path = packed(tmp_path / "e.zip", files() | more)
    with pytest.raises(A2LCError, match=message):
        create(tmp_path, "cvat-mask", path)


def test_labels_without_a_class(tmp_path):
    image_file(tmp_path)
    path = packed(tmp_path / "e.zip", files())
    with pytest.raises(InputError, match="label 'tree', which is not in `classes`"):
        create(tmp_path, "cvat-mask", path, ClassTable.from_names(["car"]))


def test_bombs_are_refused(tmp_path):
    image_file(tmp_path)
    big = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(big, format="PNG")
    path = packed(tmp_path / "e.zip", files() | {"SegmentationClass/a b.png": big.getvalue()})
    with pytest.raises(A2LCError, match="over the limit"):
        create(tmp_path, "cvat-mask", path)
    sources = Sources(format="cvat-mask", images=tmp_path / "images", labels=packed(tmp_path / "f.zip", files()))
    with pytest.raises(A2LCError, match="over the limit of 100"):
        create_project(tmp_path / "q.a2lc", sources, GIVEN, ReadingOptions(max_pixels=100))


@pytest.mark.parametrize("names", [["a:b"], ["#a"], ["x" * 65], ["a\ufffeb"]])
def test_names_that_cvat_would_misread(tmp_path, names, make_dataset):
    from a2lc.export import export_project

    data = make_dataset(("a",))
    data.create(classes=ClassTable.from_names([*names, "other", "third"]))
    with Project(data.project) as project, pytest.raises(InputError, match=r"Rename it in project\.yaml"):
        export_project(project, tmp_path / "out", "cvat-mask")
