"""Every format: what was written is read again to the bit, and what others read of it is the same."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Set
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from a2lc.classes.table import ClassTable, class_colour, read_classes
from a2lc.creation.importer import create_project
from a2lc.errors import InputError
from a2lc.export import EXPORTS, export_project
from a2lc.export.corrected import corrected_images, replay_of
from a2lc.formats.base import Sources
from a2lc.formats.registry import FORMATS
from a2lc.images.options import ReadingOptions
from a2lc.ledger import FIRST, VOID
from a2lc.project.project import Project
from a2lc.records import Source
from a2lc.rounds.loop import Loop

NAMES = ("b", "a b/ü 1", "deep/er/c.d")
HEIGHT, WIDTH = 13, 21


def table(count: int, ignore: int | None = None, step: int = 1, first: int = 0) -> ClassTable:
    """Names with spaces; ids that may be sparse."""
    values = tuple(first + step * place for place in range(count))
    names = tuple(f"class {place}" if place % 2 else f"Straße {place}" for place in range(count))
    ignore = ignore if ignore is not None else (255 if max(values) < 255 else 65535)
    return ClassTable(names, tuple(class_colour(place) for place in range(count)), values, ignore)


TABLES = {
    "few": table(5),
    "sparse": table(6, step=17, first=3),
    "zero is void": table(4, ignore=0, first=1),
    "with background": ClassTable(
        ("sky", "background", "car"), ((0, 0, 0), (9, 9, 9), (9, 9, 9)), (4, 0, 2), 255, (), (0, 1, 0)
    ),
    "300": table(300),
}


def drawn(rng: np.random.Generator, classes: ClassTable) -> np.ndarray:
    """(H, W) blocks of random classes with a void corner, and a one-pixel mask."""
    blocks = rng.integers(0, classes.num_classes, (4, 5))
    values = np.array(classes.file_values)[np.kron(blocks, np.ones((4, 5), dtype=int))[:HEIGHT, :WIDTH]]
    full = np.full((HEIGHT, WIDTH), values[0, 0])
    full[: values.shape[0], : values.shape[1]] = values
    full[:3, -4:] = classes.ignore
    full[7, 11] = classes.file_values[-1]
    return full.astype(np.uint16 if max(*classes.file_values, classes.ignore) > 255 else np.uint8)


def make_set(root: Path, classes: ClassTable, names: tuple[str, ...] = NAMES) -> None:
    rng = np.random.default_rng(7)
    for name in names:
        for kind in ("images", "labels"):
            (root / kind / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{name}.png")
        # As no writer here compresses: a copy is told from a map that was written anew.
        Image.fromarray(drawn(rng, classes)).save(root / "labels" / f"{name}.png", compress_level=1)


def correct(project: Project, seed: int = 1) -> None:
    """Every third mask gets another class, one of them none."""
    rng = np.random.default_rng(seed)
    masks = project.masks
    rows = np.arange(0, len(masks), 3)
    old = np.full(len(rows), FIRST)
    new = rng.integers(0, project.classes.num_classes, len(rows))
    new[0] = VOID
    project.ledger.open_round(1, method="a2lc", config={}, model="m", seed=0, versions={})
    place = masks.image[rows], masks.mask_ids[rows]
    sure = np.ones(len(rows))
    project.ledger.add_corrections(1, Source.AUTOMATIC, *place, old, new, confidences=sure, model="m")


@pytest.fixture
def made(tmp_path):
    """A corrected project of a user's folder."""
    opened = []

    def make(classes: ClassTable, names: tuple[str, ...] = NAMES, corrected: bool = True) -> Project:
        make_set(tmp_path / "user", classes, names)
        sources = Sources(images=tmp_path / "user/images", labels=tmp_path / "user/labels")
        create_project(tmp_path / "p.a2lc", sources, classes)
        project = Project(tmp_path / "p.a2lc")
        opened.append(project)
        if corrected:
            correct(project)
        return project

    yield make
    for project in opened:
        project.close()


def places(format: str, user: Path, out: Path) -> Sources:
    """Where what was written is read from."""
    images = user / "images"
    named = {
        "coco": "annotations.json",
        "coco-panoptic": "panoptic.json",
        "cvat-xml": "annotations.xml",
        "cvat-mask": "annotations.zip",
        "label-studio": "tasks.json",
    }
    if format == "folder":
        return Sources(images=images, labels=out / "labels")
    if format == "voc":
        return Sources(images=images, labels=out / "SegmentationClass")
    if format == "huggingface":
        return Sources(format=format, images=out)
    if format == "ade20k":
        return Sources(format=format, images=user, labels=out)
    return Sources(format=format, images=images, labels=out / named.get(format, "."))


GENERAL = sorted(set(EXPORTS) - {"cityscapes"})
QUICK = {
    "folder",
    "coco",
    "cvat-xml",
}  # maps, polygons or runs, and an archive: the others are held to the same, marked slow


def also_slow(*quick: str, without: Set[str] = frozenset()) -> list:
    """Formats as parameters, those that are not named marked slow."""
    names = [name for name in GENERAL if name not in without]
    return [pytest.param(name, marks=() if name in quick else pytest.mark.slow) for name in names]


@pytest.mark.parametrize(
    ("format", "kind"),
    [
        pytest.param(name, kind, marks=() if kind == "few" or name in QUICK else pytest.mark.slow)
        for name in GENERAL
        for kind in sorted(TABLES)
    ],
)
def test_round_trip_to_the_bit(format, kind, made, tmp_path):
    classes = TABLES[kind]
    project = made(classes)
    out = tmp_path / "out"
    if kind == "300" and format in {"voc", "ade20k"}:
        with pytest.raises(InputError, match="up to 255"):
            export_project(project, out, format)
        return
    summary = export_project(project, out, format)
    assert summary.changed_pixels > 0 and summary.images == len(NAMES)
    given = read_classes(out / "classes.json")
    if format == "ade20k" and 0 in classes.file_values:
        given = ClassTable(classes.names, classes.colours, tuple(range(1, classes.num_classes + 1)), 0)
    create_project(tmp_path / "again.a2lc", places(format, tmp_path / "user", out), given)
    with Project(tmp_path / "again.a2lc") as again:
        assert [image.image_id for image in again.images] == [image.image_id for image in project.images]
        for image in project.images:
            expected = project.corrected_labels(image)
            assert expected.shape == (HEIGHT, WIDTH) and (expected == classes.ignore_index).any()
            np.testing.assert_array_equal(again.corrected_labels(image.image_id), expected)


@pytest.mark.parametrize("format", also_slow("coco", without={"folder", "voc"}))
def test_classes_that_the_format_brings_along(format, made, tmp_path):
    """Read without --classes, every pixel has a class of the same name."""
    project = made(TABLES["few"])
    export_project(project, tmp_path / "out", format)
    create_project(tmp_path / "again.a2lc", places(format, tmp_path / "user", tmp_path / "out"))
    with Project(tmp_path / "again.a2lc") as again:
        for image in project.images:
            names = [
                np.array([*opened.classes.names, "void"])[
                    np.minimum(opened.corrected_labels(image.image_id), opened.classes.num_classes)
                ]
                for opened in (project, again)
            ]
            np.testing.assert_array_equal(*names)


def test_every_format_is_read_and_written():
    assert set(FORMATS) - {"labelme"} == set(EXPORTS)
    for name, form in EXPORTS.items():
        assert form.writes and form.labels and all(form.reads), name


@pytest.mark.parametrize("format", ["folder", "huggingface"])
def test_untouched_files_keep_their_bytes(format, made, tmp_path):
    project = made(TABLES["few"], corrected=False)
    export_project(project, tmp_path / "out", format)
    for name in NAMES:
        own = (tmp_path / f"user/labels/{name}.png").read_bytes()
        if format == "folder":
            assert (tmp_path / f"out/labels/{name}.png").read_bytes() == own
        else:
            rows = parquet_rows(tmp_path / "out")
            assert rows[name] == ((tmp_path / f"user/images/{name}.png").read_bytes(), own)


def parquet_rows(out: Path) -> dict[str, tuple[bytes, bytes]]:
    import pyarrow.parquet as pq

    rows = [row for path in sorted(out.rglob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    return {r["image"]["path"].removesuffix(".png"): (r["image"]["bytes"], r["label"]["bytes"]) for r in rows}


@pytest.fixture(scope="session")
def answered(scored):
    """Folder of a project after a round. Not to be written to."""
    with scored.project("answered.a2lc") as project:
        Loop(project, scored.plan(project, method="alc")).run(1)
        return project.folder


@pytest.mark.parametrize("format", also_slow("coco"))
def test_after_rounds_of_answers(format, answered, tmp_path):
    """Labels that a whole loop corrected: answers, automatic corrections, masks that people confirmed."""
    with Project(shutil.copytree(answered, tmp_path / "answered.a2lc")) as project:
        summary = export_project(project, tmp_path / "out", format)
        assert summary.changed_pixels > 0
        given = project.classes
        if format == "ade20k":
            given = ClassTable(given.names, given.colours, tuple(range(1, given.num_classes + 1)), 0)
        (tmp_path / "user/images").mkdir(parents=True)
        for image in project.images:
            path = tmp_path / "user/images" / image.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(project.image_path(image).read_bytes())
        create_project(tmp_path / "again.a2lc", places(format, tmp_path / "user", tmp_path / "out"), given)
        with Project(tmp_path / "again.a2lc") as again:
            for image in project.images:
                np.testing.assert_array_equal(again.corrected_labels(image.image_id), project.corrected_labels(image))


# ---- tiles ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", also_slow(*QUICK))
def test_tiles_are_put_together(format, tmp_path):
    classes = TABLES["few"]
    make_set(tmp_path / "user", classes)
    sources = Sources(images=tmp_path / "user/images", labels=tmp_path / "user/labels")
    create_project(tmp_path / "p.a2lc", sources, classes)
    create_project(
        tmp_path / "tiles.a2lc", sources, classes, ReadingOptions(tile=32)
    )  # no image is cut: nothing changes
    with Project(tmp_path / "tiles.a2lc") as plain:
        assert not plain.prepared
    create_project(tmp_path / "cut.a2lc", sources, classes, ReadingOptions(tile=8))
    with Project(tmp_path / "cut.a2lc") as project:
        assert len(project.images) == 3 * 2 * 3
        correct(project)
        summary = export_project(project, tmp_path / "out", format)
        whole = {name: np.full((HEIGHT, WIDTH), 99) for name in NAMES}
        for image in project.images:
            tile = project.prepared[image.image_id].tile
            place = slice(tile.top, tile.top + tile.height), slice(tile.left, tile.left + tile.width)
            whole[tile.of][place] = project.corrected_labels(image)
        expected = sum(
            int((project.corrected_labels(image) != project.first_labels(image)).sum()) for image in project.images
        )
    assert summary.images == 3 and summary.changed_pixels == expected > 0
    given = classes
    if format == "ade20k":
        given = ClassTable(classes.names, classes.colours, tuple(range(1, 6)), 0)
    create_project(tmp_path / "again.a2lc", places(format, tmp_path / "user", tmp_path / "out"), given)
    with Project(tmp_path / "again.a2lc") as again:
        for name in NAMES:
            np.testing.assert_array_equal(again.corrected_labels(name), whole[name])
            with Image.open(tmp_path / f"out/provenance/{name}.png") as provenance:
                assert provenance.size == (WIDTH, HEIGHT)


@pytest.mark.parametrize("left", [slice(0, -1), slice(0, 3), slice(1, None)], ids=["corner", "row", "first"])
def test_missing_tiles_are_told(tmp_path, left):
    make_set(tmp_path / "user", TABLES["few"], ("b",))
    sources = Sources(images=tmp_path / "user/images", labels=tmp_path / "user/labels")
    create_project(tmp_path / "cut.a2lc", sources, TABLES["few"], ReadingOptions(tile=8))
    with Project(tmp_path / "cut.a2lc") as project:
        project.__dict__["images"] = project.images[left]
        with pytest.raises(InputError, match="b: some of its tiles were left out"):
            export_project(project, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---- without images ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", also_slow("coco", without={"ade20k"}))
def test_labels_without_images(format, tmp_path):
    make_set(tmp_path / "user", TABLES["few"])
    create_project(tmp_path / "p.a2lc", Sources(labels=tmp_path / "user/labels"), TABLES["few"])
    with Project(tmp_path / "p.a2lc") as project:
        correct(project)
        export_project(project, tmp_path / "out", format)
        sources = places(format, tmp_path / "user", tmp_path / "out")
        if format not in {"huggingface"}:
            sources = replace(sources, images=None)
        create_project(tmp_path / "again.a2lc", sources, TABLES["few"])
        with Project(tmp_path / "again.a2lc") as again:
            for image, other in zip(project.images, again.images, strict=True):
                if format != "huggingface":  # names are those of images there
                    assert other.image_id == image.image_id
                np.testing.assert_array_equal(again.corrected_labels(other), project.corrected_labels(image))


def test_what_writers_get_is_what_the_project_says(made):
    project = made(TABLES["sparse"])
    values = np.array([*project.classes.file_values, project.classes.ignore])
    for corrected, image in zip(corrected_images(project, replay_of(project)), project.images, strict=True):
        labels = project.corrected_labels(image)
        np.testing.assert_array_equal(corrected.labels, labels)
        np.testing.assert_array_equal(corrected.values, values[np.minimum(labels, len(values) - 1)])
        np.testing.assert_array_equal(corrected.first, project.raw_labels(image))
        assert corrected.image == project.image_path(image) and corrected.file == f"{image.image_id}.png"


def test_unknown_formats_get_the_nearest(made, tmp_path):
    project = made(TABLES["few"], corrected=False)
    with pytest.raises(InputError, match="Did you mean 'coco-panoptic'"):
        export_project(project, tmp_path / "out", "coco-panoptik")
    with pytest.raises(InputError, match="Did you mean 'label-studio'"):
        create_project(tmp_path / "q.a2lc", Sources(format="labelstudio", images=tmp_path), TABLES["few"])


# ---- the same read by others ------------------------------------------------------------------------------------


def expected_values(project: Project) -> dict[str, np.ndarray]:
    """File values, void as -1."""
    values = np.array([*project.classes.file_values, -1])
    return {
        image.image_id: values[np.minimum(project.corrected_labels(image), project.classes.num_classes)]
        for image in project.images
    }


@pytest.mark.parametrize("kind", ["sparse", "300"])
def test_pycocotools_reads_the_same(kind, made, tmp_path):
    from pycocotools.coco import COCO

    project = made(TABLES[kind])
    export_project(project, tmp_path / "out", "coco")
    coco = COCO(str(tmp_path / "out/annotations.json"))
    assert {row["name"] for row in coco.loadCats(coco.getCatIds())} == set(project.classes.names)
    assert 0 not in coco.getCatIds()  # which readers take for no class
    if kind == "sparse":
        assert coco.getCatIds() == list(project.classes.file_values)
    value = {
        row["id"]: project.classes.file_values[project.classes.index(row["name"])] for row in coco.dataset["categories"]
    }
    expected = expected_values(project)
    for image in coco.loadImgs(coco.getImgIds()):
        found = np.full((image["height"], image["width"]), -1)
        for row in coco.loadAnns(coco.getAnnIds(imgIds=image["id"])):
            mask = coco.annToMask(row).astype(bool)
            assert row["area"] == mask.sum() and (found[mask] == -1).all()
            left, top, width, height = row["bbox"]
            assert mask[top : top + height, left : left + width].sum() == mask.sum()
            found[mask] = value[row["category_id"]]
        np.testing.assert_array_equal(found, expected[image["file_name"].removesuffix(".png")])


@pytest.mark.parametrize("kind", ["sparse", "with background", "300"])
def test_panoptic_read_by_plain_loops(kind, made, tmp_path):
    """As panopticapi's rgb2id does it, a pixel at a time, from scikit-image's reading of the PNG."""
    from skimage.io import imread

    project = made(TABLES[kind])
    export_project(project, tmp_path / "out", "coco-panoptic")
    data = json.loads((tmp_path / "out/panoptic.json").read_text())
    expected = expected_values(project)
    images = {row["id"]: row for row in data["images"]}
    value = {row["id"]: project.classes.file_values[project.classes.index(row["name"])] for row in data["categories"]}
    assert 0 not in value
    for row in data["annotations"]:
        pixels = imread(tmp_path / "out/panoptic" / row["file_name"]).astype(int)
        segments = {segment["id"]: segment for segment in row["segments_info"]}
        found = np.empty(pixels.shape[:2], dtype=int)
        for r in range(found.shape[0]):
            for c in range(found.shape[1]):
                number = pixels[r, c, 0] + 256 * pixels[r, c, 1] + 256 * 256 * pixels[r, c, 2]
                found[r, c] = value[segments[number]["category_id"]] if number else -1
        name = images[row["image_id"]]["file_name"].removesuffix(".png")
        np.testing.assert_array_equal(found, expected[name])
        assert sum(segment["area"] for segment in segments.values()) == (found >= 0).sum()


@pytest.mark.parametrize("kind", ["few", "300"])
def test_parquet_read_by_pyarrow_and_scikit_image(kind, made, tmp_path):
    import pyarrow.parquet as pq
    from skimage.io import imread

    project = made(TABLES[kind])
    export_project(project, tmp_path / "out", "huggingface")
    schema = pq.read_schema(tmp_path / "out/data/train-00000.parquet")
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert features == {"image": {"_type": "Image"}, "label": {"_type": "Image"}}
    names = json.loads((tmp_path / "out/id2label.json").read_text())
    assert names == {str(v): n for v, n in zip(project.classes.file_values, project.classes.names, strict=True)}
    assert "do_reduce_labels=False" in (tmp_path / "out/README.md").read_text()
    expected = expected_values(project)
    for name, (image, label) in parquet_rows(tmp_path / "out").items():
        assert image == (tmp_path / f"user/images/{name}.png").read_bytes()
        found = imread(io.BytesIO(label)).astype(int)
        found[found == project.classes.ignore] = -1
        np.testing.assert_array_equal(found, expected[name])


def test_cvat_maps_read_by_colour(made, tmp_path):
    from skimage.io import imread

    project = made(TABLES["with background"])
    export_project(project, tmp_path / "out", "cvat-mask")
    with zipfile.ZipFile(tmp_path / "out/annotations.zip") as archive:
        lines = archive.read("labelmap.txt").decode().splitlines()
        assert lines[1] == "background:0,0,0::"
        colours = {
            tuple(map(int, line.split(":")[1].split(","))): line.split(":")[0] for line in lines if line[0] != "#"
        }
        assert len(colours) == 3  # black and equal colours of the project were changed
        assert archive.read("ImageSets/Segmentation/default.txt").decode().split("\n")[:-1] == [
            image.image_id for image in project.images
        ]
        for image in project.images:
            pixels = imread(io.BytesIO(archive.read(f"SegmentationClass/{image.image_id}.png")))
            void = imread(tmp_path / f"out/void/{image.image_id}.png")
            labels = project.corrected_labels(image)
            for r in range(HEIGHT):
                for c in range(WIDTH):
                    name = colours[tuple(pixels[r, c].tolist())]
                    assert (void[r, c] == 255) == (labels[r, c] == 255)
                    assert name == ("background" if labels[r, c] == 255 else project.classes.names[labels[r, c]])
    labels = json.loads((tmp_path / "out/labels.json").read_text())
    assert [label["name"] for label in labels] == ["sky", "car"]


def plain_rle(runs: list[int], height: int, width: int) -> np.ndarray:
    """A mask of run lengths row by row, background first."""
    flat, value = [], 0
    for run in runs:
        flat += [value] * run
        value = 1 - value
    return np.array(flat).reshape(height, width)


def test_cvat_xml_read_by_plain_loops(made, tmp_path):
    from xml.etree import ElementTree

    project = made(TABLES["with background"])
    export_project(project, tmp_path / "out", "cvat-xml")
    root = ElementTree.parse(tmp_path / "out/annotations.xml").getroot()
    assert [tag.get("name") for tag in root.iter("image")] == [image.file for image in project.images]
    for tag, image in zip(root.iter("image"), project.images, strict=True):
        found = np.full((int(tag.get("height")), int(tag.get("width"))), 255)
        for mask in tag:
            left, top, width, height = (int(mask.get(key)) for key in ("left", "top", "width", "height"))
            inside = plain_rle([int(run) for run in mask.get("rle").split(",")], height, width)
            found[top : top + height, left : left + width][inside == 1] = project.classes.index(mask.get("label"))
        np.testing.assert_array_equal(found, project.corrected_labels(image))


def plain_brush(data: list[int]) -> list[int]:
    """Label Studio's brush, a bit at a time, as its converter describes it."""
    bits = "".join(f"{byte:08b}" for byte in data)
    at = 0

    def read(size: int) -> int:
        nonlocal at
        at += size
        return int(bits[at - size : at], 2)

    count, word = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    out: list[int] = []
    while len(out) < count:
        repeated = read(1)
        length = read(sizes[read(2)]) + 1
        if repeated:
            out += [read(word)] * length
        else:
            out += [read(word) for _ in range(length)]
    return out


def test_label_studio_read_by_plain_loops(made, tmp_path):
    project = made(TABLES["few"])
    export_project(project, tmp_path / "out", "label-studio")
    tasks = json.loads((tmp_path / "out/tasks.json").read_text())
    config = (tmp_path / "out/label_config.xml").read_text()
    assert all(f'value="{name}"' in config for name in project.classes.names)
    for task, image in zip(tasks, project.images, strict=True):
        found = np.full((HEIGHT, WIDTH), 255)
        for region in task["predictions"][0]["result"]:
            assert f'name="{region["from_name"]}"' in config and f'name="{region["to_name"]}"' in config
            values = np.array(plain_brush(region["value"]["rle"])).reshape(HEIGHT, WIDTH, 4)
            found[values[..., 3] > 0] = project.classes.index(region["value"]["brushlabels"][0])
        np.testing.assert_array_equal(found, project.corrected_labels(image))


def test_fiftyone_masks_and_script(made, tmp_path):
    import ast

    from skimage.io import imread

    project = made(TABLES["300"])
    export_project(project, tmp_path / "out", "fiftyone")
    targets = json.loads((tmp_path / "out/mask_targets.json").read_text())
    rows = [json.loads(line) for line in (tmp_path / "out/samples.jsonl").read_text().splitlines()]
    for row, image in zip(rows, project.images, strict=True):
        found, labels = imread(tmp_path / "out" / row["labels"]), project.corrected_labels(image)
        assert Path(row["image"]).is_file() and (tmp_path / "out" / row["provenance"]).is_file()
        np.testing.assert_array_equal(
            found, np.where(labels == project.classes.ignore_index, 0, labels.astype(int) + 1)
        )
        for value in np.unique(found[found > 0]).tolist():
            assert targets[str(value)] == project.classes.names[value - 1]
    tree = ast.parse((tmp_path / "out/import_fiftyone.py").read_text())
    assert {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names} <= {
        "argparse",
        "fiftyone",
        "json",
    }


def test_fiftyone_script_runs(made, tmp_path):
    """With a stand-in for the package that keeps what it is told."""
    import subprocess
    import sys

    (tmp_path / "stub").mkdir()
    (tmp_path / "stub/fiftyone.py").write_text(
        "import json\n"
        "class Sample(dict):\n"
        "    def __init__(self, filepath): self['filepath'] = filepath\n"
        "def Segmentation(mask_path): return {'mask_path': mask_path}\n"
        "class Dataset:\n"
        "    def __init__(self, name, persistent): self.name = name or 'made'; self.samples = []\n"
        "    def __len__(self): return len(self.samples)\n"
        "    def add_samples(self, samples): self.samples += samples\n"
        "    def save(self):\n"
        "        said = [self.samples, self.mask_targets['a2lc_labels'], self.default_mask_targets]\n"
        "        open('said.json', 'w').write(json.dumps(said))\n"
    )
    project = made(TABLES["few"])
    export_project(project, tmp_path / "out", "fiftyone")
    done = subprocess.run(
        [sys.executable, str(tmp_path / "out/import_fiftyone.py"), "--name", "n"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "stub")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "3 samples in dataset 'n'\n"
    samples, targets, default = json.loads((tmp_path / "said.json").read_text())
    assert targets == default == {str(i + 1): name for i, name in enumerate(project.classes.names)}
    for sample in samples:
        for place in (sample["filepath"], sample["a2lc_labels"]["mask_path"], sample["a2lc_provenance"]["mask_path"]):
            assert Path(place).is_file()
