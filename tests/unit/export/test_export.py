"""Exports: what changed, what did not, and where each pixel comes from."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from a2lc.classes.table import ClassTable
from a2lc.creation.importer import create_project
from a2lc.errors import InputError, UnknownNameError
from a2lc.export import export_project
from a2lc.export.corrected import corrected_file_values, provenance
from a2lc.formats.base import Sources
from a2lc.images.options import ReadingOptions
from a2lc.ledger import FIRST, VOID
from a2lc.ledger.undo import deciders, undo_rows
from a2lc.project.project import Project
from a2lc.records import Answer, AnswerKind, Query, Source

CLASSES = ClassTable(("grass", "cow", "barn"), ((0, 128, 0), (128, 64, 0), (90, 90, 90)), (7, 11, 26), 255)


@pytest.fixture
def project(tmp_path):
    """Three images of four masks each; labels as palette, grey with an undeclared value, and 16-bit files."""
    rng = np.random.default_rng(1)
    folders = {name: tmp_path / name for name in ("images", "labels", "masks")}
    for folder in folders.values():
        folder.mkdir()
    masks = np.kron(np.array([[1, 2], [3, 4]], dtype=np.uint8), np.ones((5, 8), dtype=np.uint8))
    masks[0] = 0
    for name in ("a", "b", "c"):
        Image.fromarray(rng.integers(0, 255, (10, 16, 3), dtype=np.uint8)).save(folders["images"] / f"{name}.png")
        Image.fromarray(masks).save(folders["masks"] / f"{name}.png")
        labels = np.choose(masks, [255, 7, 11, 26, 7]).astype(np.uint8)
        labels[9, 15] = 11  # within mask 4, of class 7
        if name == "b":
            labels[0, :3] = 34
        image = Image.fromarray(labels.astype(np.uint16) if name == "c" else labels)
        if name == "a":
            image.putpalette([i for index in range(256) for i in (index, 255 - index, 9)])
        image.save(folders["labels"] / f"{name}.png", optimize=True)
    sources = Sources(images=folders["images"], labels=folders["labels"], masks=folders["masks"])
    create_project(tmp_path / "p.a2lc", sources, CLASSES, ReadingOptions(value_map={34: 255}))
    with Project(tmp_path / "p.a2lc") as opened:
        yield opened


def correct(project):
    """Round 1: a person makes mask 1 of b a cow and mask 2 of b void; mask 4 of c becomes a barn automatically."""
    ledger = project.ledger
    ledger.open_round(1, method="a2lc", config={}, model="m", seed=0, versions={})
    queries = [Query(round=1, image=1, mask_ids=(mask,), proposed=0, score=1.0) for mask in (1, 2)]
    ledger.add_queries(1, queries, 0.0, {})
    made = (Answer(query_id=1, annotator="ann", kind=AnswerKind.CORRECT, classes=(1,)), 1.0, [(1, 1, FIRST, 1)])
    void = (Answer(query_id=2, annotator="ann", kind=AnswerKind.VOID), 1.0, [(1, 2, FIRST, VOID)])
    ledger.add_answers(1, [made, void])
    one = np.array([2]), np.array([4]), np.array([FIRST]), np.array([2])
    ledger.add_corrections(1, Source.AUTOMATIC, *one, confidences=np.array([0.75]), model="a2lc round 1")


def stored(path):
    return np.array(Image.open(path))


def test_unchanged_images_are_copied_byte_for_byte(project, tmp_path):
    summary = export_project(project, tmp_path / "out")
    assert (summary.images, summary.changed_images, summary.changed_masks, summary.changed_pixels) == (3, 0, 0, 0)
    for name in ("a", "b", "c"):
        assert (tmp_path / f"out/labels/{name}.png").read_bytes() == (tmp_path / f"labels/{name}.png").read_bytes()
        assert not stored(tmp_path / f"out/provenance/{name}.png").any()


def test_only_pixels_of_changed_masks_change(project, tmp_path):
    correct(project)
    summary = export_project(project, tmp_path / "out")
    assert (tmp_path / "out/labels/a.png").read_bytes() == (tmp_path / "labels/a.png").read_bytes()
    masks = stored(tmp_path / "masks/b.png")
    before, after = stored(tmp_path / "labels/b.png"), stored(tmp_path / "out/labels/b.png")
    assert (after[masks == 1] == 11).all() and (after[masks == 2] == 255).all()
    np.testing.assert_array_equal(after[(masks != 1) & (masks != 2)], before[(masks != 1) & (masks != 2)])
    assert (before[0, :3] == 34).all() and (after[0, :3] == 34).all()
    sixteen = stored(tmp_path / "out/labels/c.png")
    assert sixteen.dtype == np.uint16 and (sixteen[masks == 4] == 26).all()
    assert (summary.changed_images, summary.changed_masks) == (2, 3)
    assert summary.changed_pixels == int((after != before).sum()) + int((masks == 4).sum())
    origin = stored(tmp_path / "out/provenance/b.png")
    np.testing.assert_array_equal(origin, np.where((masks == 1) | (masks == 2), 1, 0))
    np.testing.assert_array_equal(stored(tmp_path / "out/provenance/c.png"), np.where(masks == 4, 2, 0))


def test_changes_csv_and_manifest(project, tmp_path):
    correct(project)
    export_project(project, tmp_path / "out")
    with (tmp_path / "out/changes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["image_id"], r["mask_id"], r["old_class"], r["new_class"], r["source"]) for r in rows] == [
        ("b", "1", "grass", "cow", "manual"),
        ("b", "2", "cow", "void", "manual"),
        ("c", "4", "grass", "barn", "automatic"),
    ]
    assert rows[0]["annotator"] == "ann" and rows[2]["confidence"] == "0.75" and rows[2]["pixels"] == "40"
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["summary"]["changed_masks"] == 3 and set(manifest["images"]) == {"a", "b", "c"}


def test_voc_writes_palettes_and_the_list(project, tmp_path):
    correct(project)
    Image.fromarray(np.zeros((2, 2), np.uint8))
    export_project(project, tmp_path / "voc", "voc")
    assert (tmp_path / "voc/ImageSets/Segmentation/train.txt").read_text() == "a\nb\nc\n"
    # a came with a palette and has no change: the same bytes.
    assert (tmp_path / "voc/SegmentationClass/a.png").read_bytes() == (tmp_path / "labels/a.png").read_bytes()
    with Image.open(tmp_path / "voc/SegmentationClass/b.png") as image:
        assert image.mode == "P"
        assert image.getpalette()[3 * 11 : 3 * 11 + 3] == [128, 64, 0]
    folder = tmp_path / "folder"
    export_project(project, folder)
    for name in ("b", "c"):
        np.testing.assert_array_equal(
            stored(tmp_path / f"voc/SegmentationClass/{name}.png"), stored(folder / f"labels/{name}.png")
        )


def test_voc_refuses_values_it_cannot_hold(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "images/a.png")
    Image.fromarray(np.full((4, 4), 300, np.uint16)).save(tmp_path / "labels/a.png")
    wide = ClassTable(("x",), ((1, 2, 3),), (300,), 65535)
    create_project(tmp_path / "w.a2lc", Sources(images=tmp_path / "images", labels=tmp_path / "labels"), wide)
    with Project(tmp_path / "w.a2lc") as project:
        with pytest.raises(InputError, match="VOC label maps hold values up to 255"):
            export_project(project, tmp_path / "out", "voc")
        export_project(project, tmp_path / "out")
        assert (stored(tmp_path / "out/labels/a.png") == 300).all()


def test_voc_reads_high_values_as_they_were_mapped(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "images/a.png")
    labels = np.full((4, 4), 7, np.uint16)
    labels[0] = 1000
    Image.fromarray(labels).save(tmp_path / "labels/a.png")
    sources = Sources(images=tmp_path / "images", labels=tmp_path / "labels")
    create_project(tmp_path / "w.a2lc", sources, CLASSES, ReadingOptions(value_map={1000: 255}))
    with Project(tmp_path / "w.a2lc") as project:
        export_project(project, tmp_path / "voc", "voc")
        with pytest.raises(InputError, match="inside the project"):
            export_project(project, tmp_path / "w.a2lc" / "out")
    assert stored(tmp_path / "voc/SegmentationClass/a.png")[0].tolist() == [255] * 4


def test_rounds_and_undo(project, tmp_path):
    correct(project)
    project.ledger.open_round(2, method="a2lc", config={}, model="m", seed=0, versions={})
    again = np.array([0]), np.array([1]), np.array([FIRST]), np.array([2])
    project.ledger.add_corrections(2, Source.AUTOMATIC, *again, confidences=np.array([1.0]), model="a2lc round 2")
    assert export_project(project, tmp_path / "one", through=1).changed_masks == 3
    assert export_project(project, tmp_path / "two").changed_masks == 4
    keys, old, new = undo_rows(project.corrections(), [], 2, "automatic")
    image, mask = (keys >> np.uint64(32)).astype(int), (keys & np.uint64(2**32 - 1)).astype(int)
    project.ledger.add_undo(2, "automatic", 2, image, mask, old, new)
    export_project(project, tmp_path / "undone")
    assert (tmp_path / "undone/changes.csv").read_text() == (tmp_path / "one/changes.csv").read_text()


def test_provenance_of_a_mask_set_back_to_an_earlier_correction(project):
    correct(project)
    project.ledger.open_round(2, method="a2lc", config={}, model="m", seed=0, versions={})
    change = np.array([2]), np.array([4]), np.array([2]), np.array([1])
    project.ledger.add_corrections(2, Source.IMPORT, *change)
    keys, old, new = undo_rows(project.corrections(), [], 2, "all")
    assert new.tolist() == [2]
    image, mask = (keys >> np.uint64(32)).astype(int), (keys & np.uint64(2**32 - 1)).astype(int)
    project.ledger.add_undo(2, "all", 2, image, mask, old, new)
    rows, state = project.corrections(), project.state()
    kinds = provenance(rows, deciders(rows, project.ledger.undos(), state, project.masks.keys))
    assert kinds[project.masks.rows(np.array([2]), np.array([4]))[0]] == 2


def test_a_failed_export_leaves_nothing(project, tmp_path, monkeypatch):
    monkeypatch.setattr("a2lc.export.write.write_changes", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_project(project, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


def test_refusals(project, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").touch()
    with pytest.raises(InputError, match="exists and is not empty"):
        export_project(project, tmp_path / "full")
    with pytest.raises(UnknownNameError, match="Did you mean 'folder'"):
        export_project(project, tmp_path / "out", "folders")
    with pytest.raises(InputError, match=r"There is no round 7 .* it has no round yet"):
        export_project(project, tmp_path / "out", through=7)


def test_values_beyond_eight_bits_widen_the_map():
    raw = np.array([[1, 2]], dtype=np.uint8)
    masks = np.array([[1, 2]])
    new = corrected_file_values(raw, masks, np.array([1, 2]), np.array([300, -1]))
    assert new.dtype == np.uint16 and new.tolist() == [[300, 2]]
    assert corrected_file_values(raw, masks, np.array([1, 2]), np.array([7, -1])).dtype == np.uint8
