"""COCO: run lengths of both kinds, polygons, overlaps by the stated rule, panoptic ids; and files that lie."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as pycoco

from a2lc.classes.table import ClassTable
from a2lc.creation.importer import create_project
from a2lc.errors import A2LCError, InputError
from a2lc.formats.base import Sources
from a2lc.formats.coco import panoptic_ids
from a2lc.formats.rle import coco_counts, decode_coco, mask_of_counts
from a2lc.images.options import ReadingOptions
from a2lc.project.project import Project

H, W = 9, 14
CATEGORIES = [{"id": 3, "name": "dog"}, {"id": 90, "name": "tree"}, {"id": 182, "name": "sky"}]


def box(left, top, right, bottom):
    mask = np.zeros((H, W), dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def plain_runs(mask):
    """Column by column, background first, a pixel at a time."""
    runs, value = [0], False
    for column in range(mask.shape[1]):
        for row in range(mask.shape[0]):
            if mask[row, column] != value:
                runs.append(0)
                value = not value
            runs[-1] += 1
    return runs


def compressed(mask):
    return pycoco.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"].decode()


def row(number, category, segmentation, image=1, **other):
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "segmentation": segmentation,
        "iscrowd": 0,
    } | other


def write(root, annotations, images=None, categories=CATEGORIES, **other):
    (root / "images").mkdir(parents=True, exist_ok=True)
    images = images or [{"id": 1, "file_name": "a b.png", "width": W, "height": H}]
    for image in images:
        Image.fromarray(np.zeros((H, W, 3), np.uint8)).save(root / "images" / str(image["file_name"]).split("/")[-1])
    data = {"images": images, "annotations": annotations, "categories": categories} | other
    (root / "x.json").write_text(json.dumps(data))


def read(root, classes=None, rules=None, format="coco", name="p.a2lc", **other):
    sources = Sources(format=format, images=root / "images", labels=root / "x.json", **other)
    return create_project(root / name, sources, classes, rules)


def labels(root, name="p.a2lc"):
    with Project(root / name) as project:
        return project.raw_labels(project.images[0])


# ---- run lengths ------------------------------------------------------------------------------------------------


def test_compressed_run_lengths_as_pycocotools_has_them(rng):
    for _ in range(200):
        height, width = rng.integers(1, 40, 2)
        mask = rng.random((height, width)) < rng.choice([0.01, 0.3, 0.5, 0.99])
        text = compressed(mask)
        counts = coco_counts(text, height, width)
        assert counts.tolist() == plain_runs(mask)
        np.testing.assert_array_equal(mask_of_counts(counts, height, width), mask)
    wide = np.zeros((2000, 3000), dtype=bool)
    wide[1500:, 2999] = True  # runs of millions: several signs a number, and a negative difference
    wide[0, 0] = True
    np.testing.assert_array_equal(mask_of_counts(coco_counts(compressed(wide), 2000, 3000), 2000, 3000), wide)


@pytest.mark.parametrize("text", ["\x00", "zz", "P", "ü", "oooooooooo0", "0P", "52203\n"])
def test_strings_that_are_none(text):
    with pytest.raises(InputError, match="compressed RLE"):
        decode_coco(text)


@pytest.mark.parametrize("counts", [[], [5], [3, -1, 4], [10**30], [True, 5], "", "52203", 7, None, [2.0, 4], {"a": 1}])
def test_counts_that_do_not_fill_the_image(counts):
    with pytest.raises(InputError, match="RLE"):
        coco_counts(counts, 2, 3)


# ---- reading ----------------------------------------------------------------------------------------------------


def test_all_three_kinds_of_segmentation(tmp_path):
    polygon = [[1.0, 1.0, 6.0, 1.0, 6.0, 5.0, 1.0, 5.0], [8.5, 2.0, 12.0, 2.5, 9.0, 8.0]]
    masks = [box(0, 0, 3, 2), box(0, 6, 14, 9)]
    write(
        tmp_path,
        [
            row(1, 3, polygon),
            row(2, 90, {"size": [H, W], "counts": plain_runs(masks[0])}),
            row(3, 182, {"size": [H, W], "counts": compressed(masks[1])}),
        ],
    )
    summary = read(tmp_path)
    assert summary.num_classes == 3
    drawn = pycoco.decode(pycoco.merge(pycoco.frPyObjects(polygon, H, W))).astype(bool)
    expected = np.full((H, W), 255)
    # Larger ones first: 42, 24 or so, 6 pixels.
    assert masks[1].sum() > drawn.sum() > masks[0].sum()
    for mask, value in ((masks[1], 182), (drawn, 3), (masks[0], 90)):
        expected[mask] = value
    np.testing.assert_array_equal(labels(tmp_path), expected)


def plain_painter(shapes, priorities):
    """The stated rule, a pixel at a time: no crowd over others, priority, small on top, later on top."""
    out = np.full((H, W), 255)
    for r in range(H):
        for c in range(W):
            best = None
            for place, (mask, category, crowd) in enumerate(shapes):
                if mask[r, c]:
                    key = (not crowd, priorities.get(category, 0), -mask.sum(), place)
                    if best is None or key >= best:
                        best, out[r, c] = key, category
    return out


@pytest.mark.parametrize("seed", range(12))
def test_overlaps_by_the_stated_rule(tmp_path, seed):
    rng = np.random.default_rng(seed)
    shapes = []
    for _ in range(12):
        left, top = rng.integers(0, W - 3), rng.integers(0, H - 3)
        mask = box(left, top, left + rng.integers(1, 8), top + rng.integers(1, 5))
        shapes.append((mask, int(rng.choice([3, 90, 182])), bool(rng.random() < 0.2)))
    rows = [
        row(i, category, {"size": [H, W], "counts": compressed(mask)}, iscrowd=int(crowd))
        for i, (mask, category, crowd) in enumerate(shapes)
    ]
    write(tmp_path, rows)
    priorities = {90: 5} if seed % 2 else {}
    table = ClassTable(
        ("sky", "dog", "tree"), ((1, 1, 1), (2, 2, 2), (3, 3, 3)), (182, 3, 90), 255, (), (0, 0, priorities.get(90, 0))
    )
    read(tmp_path, table)
    np.testing.assert_array_equal(labels(tmp_path), plain_painter(shapes, priorities))


def test_classes_are_joined_by_name(tmp_path):
    write(tmp_path, [row(1, 90, {"size": [H, W], "counts": compressed(box(0, 0, 3, 2))})])
    read(tmp_path, ClassTable.from_names(["sky", "tree"]))
    assert labels(tmp_path)[0, 0] == 1 and labels(tmp_path)[8, 8] == 255
    with pytest.raises(InputError, match="1 of its categories are not in `classes`: tree"):
        read(tmp_path, ClassTable.from_names(["sky", "dog"]), name="q.a2lc")


def test_void_is_what_the_user_says(tmp_path):
    write(tmp_path, [row(1, 90, {"size": [H, W], "counts": compressed(box(0, 0, 3, 2))})])
    read(tmp_path, rules=ReadingOptions(ignore=7))
    with Project(tmp_path / "p.a2lc") as project:
        first = project.first_labels(project.images[0])
        assert first[0, 0] == 1 and first[8, 8] == 255
    given = ClassTable.from_names(["sky", "tree"])
    read(tmp_path, given, ReadingOptions(ignore=7), name="q.a2lc")
    assert labels(tmp_path, "q.a2lc")[8, 8] == 7


def test_wide_ids_and_images_without_annotations(tmp_path):
    images = [
        {"id": 9, "file_name": "sub/b.png", "width": W, "height": H},
        {"id": 1, "file_name": "a.png", "width": W, "height": H},
    ]
    categories = [{"id": 300, "name": "x"}, {"id": 255, "name": "y"}]
    write(tmp_path, [row(1, 300, {"size": [H, W], "counts": compressed(box(1, 1, 3, 3))})], images, categories)
    (tmp_path / "images/sub").mkdir()
    (tmp_path / "images/b.png").rename(tmp_path / "images/sub/b.png")
    read(tmp_path)
    with Project(tmp_path / "p.a2lc") as project:
        assert [image.image_id for image in project.images] == ["sub/b", "a"]
        assert project.classes.ignore == 65535
        assert (project.first_labels(project.images[0]) == 255).all()
        assert project.first_labels(project.images[1])[1, 1] == 0


def test_images_that_the_file_does_not_name(tmp_path):
    write(tmp_path, [row(1, 3, {"size": [H, W], "counts": compressed(box(1, 1, 3, 3))})])
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(tmp_path / "images/other.png")
    summary = read(tmp_path)
    assert summary.images == 1 and any("other" in note for note in summary.notes)
    assert read(tmp_path, rules=ReadingOptions(partial=True), name="q.a2lc").unlabelled == 1
    (tmp_path / "images/a b.png").unlink()
    with pytest.raises(InputError, match="1 label maps without an image: a b"):
        read(tmp_path, name="r.a2lc")


def test_ground_truth_may_be_such_a_file(tmp_path):
    write(tmp_path / "truth", [row(1, 90, {"size": [H, W], "counts": compressed(box(0, 0, 14, 9))})])
    write(tmp_path, [row(1, 3, {"size": [H, W], "counts": compressed(box(0, 0, 7, 9))})])
    summary = read(tmp_path, ground_truth=tmp_path / "truth/x.json")
    assert summary.with_truth == 1 and summary.quality.pixel_accuracy == 0


GOOD = {"size": [H, W], "counts": [9 * 14]}
LIES = [
    ([row(1, 3, [[0, 0, 1e300, 0, 5, 5]])], None, "far outside the image"),
    ([row(1, 3, [[0, 0, float("nan"), 0, 5, 5]])], None, "not finite"),
    ([row(1, 3, [[0, 0, float("inf"), 0, 5, 5]])], None, "not finite"),
    ([row(1, 3, [[0, 0, 1, 0, 5]])], None, "an x and a y for each point"),
    ([row(1, 3, [[0, 0, "1", 0, 5, 5]])], None, "not a number"),
    ([row(1, 3, [[10**400, 0, 1, 0, 5, 5]])], None, "too large"),
    ([row(1, 3, [[0, 0, 9e5, 9e5] * 40])], None, "outline of"),
    ([row(1, 3, "abc")], None, "neither a run-length encoding nor a list"),
    ([row(1, 3, {"size": [10**9, 10**9], "counts": [10**18]})], None, "its RLE has size"),
    ([row(1, 3, {"size": [H, W], "counts": "zzzz"})], None, "compressed RLE"),
    ([row(1, 3, {"size": [H, W], "counts": [1, 2]})], None, "do not fill"),
    ([row(1, 3, {"size": [H, W]})], None, "neither text nor a list"),
    ([row(1, 7, GOOD)], None, "category 7, which the file does not define"),
    ([row(1, 3, GOOD, image=5)], None, "belong to no image, such as 5"),
    ([row(1, "3", GOOD)], None, "category_id is of type str"),
    ([row(1, 3, GOOD)], {"width": 10**6, "height": 10**6}, "over the limit"),
    ([row(1, 3, GOOD)], {"width": -1}, "expected whole numbers"),
    ([row(1, 3, GOOD)], {"width": "14"}, "expected whole numbers"),
    ([row(1, 3, GOOD)], {"file_name": "../../etc/passwd"}, "points outside the image folder"),
    ([row(1, 3, GOOD)], {"file_name": "/etc/passwd"}, "points outside the image folder"),
    ([row(1, 3, GOOD)], {"file_name": "..\\..\\x.png"}, "points outside the image folder"),
    ([row(1, 3, GOOD)], {"file_name": "C:\\x.png"}, "points outside the image folder"),
    ([row(1, 3, GOOD)], {"file_name": "a" * 5000}, "too long"),
    ([row(1, 3, GOOD)], {"file_name": "a\x00.png"}, "that are not allowed"),
    ([row(1, 3, GOOD)], {"file_name": None}, "expected the name of an image"),
    ([row(1, 3, GOOD)], {"id": None}, "id of an image is of type NoneType"),
]


@pytest.mark.parametrize(("annotations", "image", "message"), LIES, ids=[lie[2] + str(i) for i, lie in enumerate(LIES)])
def test_files_that_lie_are_refused(tmp_path, annotations, image, message):
    write(tmp_path, annotations)
    data = json.loads((tmp_path / "x.json").read_text())
    data["images"][0] |= image or {}
    (tmp_path / "x.json").write_text(json.dumps(data))
    with pytest.raises(A2LCError, match=message) as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 900
    assert not (tmp_path / "p.a2lc").exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "[" * 100_000,
        '{"images": 3}',
        '{"images": [1]}',
        '{"images": [], "annotations": [], "categories": {}}',
    ],
)
def test_json_that_is_no_coco(tmp_path, text):
    (tmp_path / "images").mkdir()
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(tmp_path / "images/a.png")
    (tmp_path / "x.json").write_text(text)
    for format in ("coco", "coco-panoptic"):
        with pytest.raises(A2LCError):
            read(tmp_path, format=format)


def test_two_images_or_categories_of_one_name(tmp_path):
    images = [{"id": i, "file_name": f"a.{end}", "width": W, "height": H} for i, end in enumerate(("jpg", "png"))]
    write(tmp_path, [], images)
    with pytest.raises(InputError, match="1 images have the same name"):
        read(tmp_path)
    write(tmp_path, [], categories=[{"id": 1, "name": "x"}, {"id": 2, "name": "x"}])
    with pytest.raises(InputError, match="two categories have the name 'x'"):
        read(tmp_path)


# ---- panoptic ---------------------------------------------------------------------------------------------------


def segments(root, ids, infos, name="a b"):
    (root / "x").mkdir(parents=True, exist_ok=True)
    pixels = np.stack([ids & 255, ids >> 8 & 255, ids >> 16 & 255], axis=2).astype(np.uint8)
    Image.fromarray(pixels).save(root / "x" / f"{name}.png")
    rows = [{"image_id": 1, "file_name": f"{name}.png", "segments_info": infos}]
    write(root, rows, categories=CATEGORIES)


def test_panoptic_ids_need_32_bits(tmp_path):
    ids = np.zeros((H, W), dtype=np.uint32)
    ids[:, 4:8], ids[:4, 8:], ids[6, 1] = 256 * 255 + 7, 65536 * 200 + 255, 1
    infos = [
        {"id": 256 * 255 + 7, "category_id": 182},
        {"id": 65536 * 200 + 255, "category_id": 3},
        {"id": 1, "category_id": 3},
    ]
    segments(tmp_path, ids, infos)
    read(tmp_path, format="coco-panoptic")
    expected = np.full((H, W), 255)
    expected[ids == 256 * 255 + 7] = 182
    expected[(ids == 65536 * 200 + 255) | (ids == 1)] = 3
    np.testing.assert_array_equal(labels(tmp_path), expected)


def test_panoptic_ids_by_plain_loops(rng):
    pixels = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    plain = [[int(p[0]) + 256 * int(p[1]) + 65536 * int(p[2]) for p in line] for line in pixels]
    assert panoptic_ids(pixels).tolist() == plain


@pytest.mark.slow
def test_large_maps_are_read_in_parts(tmp_path, rng):
    size = {"width": 2300, "height": 2100}
    ids = np.kron(rng.integers(0, 4, (21, 23), dtype=np.uint32), np.ones((100, 100), dtype=np.uint32)) * 70_000
    infos = [{"id": 70_000 * (place + 1), "category_id": row["id"]} for place, row in enumerate(CATEGORIES)]
    segments(tmp_path, ids, infos)
    data = json.loads((tmp_path / "x.json").read_text())
    data["images"][0] |= size
    (tmp_path / "x.json").write_text(json.dumps(data))
    Image.new("RGB", (2300, 2100)).save(tmp_path / "images/a b.png")
    read(tmp_path, format="coco-panoptic")
    np.testing.assert_array_equal(labels(tmp_path), np.array([255, 3, 90, 182])[ids // 70_000])
    ids[2099, 2299] = 5
    segments(tmp_path, ids, infos)
    with pytest.raises(InputError, match="segment 5 is not in the JSON"):
        read(tmp_path, format="coco-panoptic", name="q.a2lc")


@pytest.mark.parametrize(
    ("infos", "message"),
    [
        ([], "segment 5 is not in the JSON file"),
        ([{"id": 5, "category_id": 99}], "category 99, which the file does not define"),
        ([{"id": 5, "category_id": 3}, {"id": 5, "category_id": 90}], "two segments have the id 5"),
        ([{"id": 5, "category_id": 3}, {"id": 0, "category_id": 3}], "or one has the id 0"),
        ([{"id": "5", "category_id": 3}], "id of a segment is of type str"),
    ],
)
def test_panoptic_that_contradicts_itself(tmp_path, infos, message):
    segments(tmp_path, np.full((H, W), 5, np.uint32), infos)
    with pytest.raises(InputError, match=message):
        read(tmp_path, format="coco-panoptic")


def test_panoptic_files_outside(tmp_path):
    segments(tmp_path, np.full((H, W), 5, np.uint32), [{"id": 5, "category_id": 3}])
    data = json.loads((tmp_path / "x.json").read_text())
    data["annotations"][0]["file_name"] = "../images/a b.png"
    (tmp_path / "x.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match="points outside the image folder"):
        read(tmp_path, format="coco-panoptic")
    data["annotations"][0]["file_name"] = "gone.png"
    (tmp_path / "x.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match="no such file"):
        read(tmp_path, format="coco-panoptic")


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ([{"id": 3, "name": "dog\nFAULT"}, {"id": 4, "name": "sky"}], r"'dog\\nFAULT' contains line breaks"),
        ([{"id": 3, "name": "dog\x1b[31m"}, {"id": 4, "name": "sky"}], r"x1b\[31m' contains line breaks or control"),
        ([{"id": -1, "name": "dog"}, {"id": 90, "name": "sky"}], "category 'dog' has the number -1"),
        ([{"id": 3, "name": "dog"}, {"id": 65535, "name": "sky"}], "category 'sky' has the number 65535"),
    ],
)
def test_categories_that_no_class_can_be(tmp_path, categories, message):
    write(tmp_path, [row(1, categories[0]["id"], [[0, 0, 5, 0, 5, 5]])], categories=categories)
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)


def test_json_nested_too_deeply(tmp_path):
    write(tmp_path, [])
    (tmp_path / "x.json").write_text("[" * 100_000)
    with pytest.raises(InputError) as caught:
        read(tmp_path)
    assert "Label Studio" not in str(caught.value)
