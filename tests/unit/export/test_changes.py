"""The pack for the owner of a data set: only what changed, with pictures."""

from __future__ import annotations

import csv
import json
from html.parser import HTMLParser
from urllib.parse import unquote

import numpy as np
import pytest

from a2lc.classes.edits import merged
from a2lc.classes.table import ClassTable
from a2lc.creation.importer import create_project
from a2lc.export import changes as module
from a2lc.export import export_project
from a2lc.formats.base import Sources
from a2lc.images.label_maps import read_ids, write_ids
from a2lc.images.options import ReadingOptions
from a2lc.images.rgb import read_rgb, write_rgb
from a2lc.ledger import KEEP, VOID
from a2lc.project.project import Project
from a2lc.records import Source

HOSTILE = "<script>|x"
CLASSES = ClassTable.from_json({"classes": [{"name": "road"}, {"name": HOSTILE}, {"name": "tree"}]})
HEIGHT, WIDTH = 40, 60
NAMES = ["a", "sub dir/b & <i>", "ü"]


def labels_of(index):
    labels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    labels[10:30, 10:25], labels[5, 50] = 1, 2
    labels[:, -3:] = 255
    return np.roll(labels, index, axis=0)


def make(tmp_path, tile=None, images=True):
    for index, name in enumerate(NAMES):
        write_rgb(
            tmp_path / "images" / f"{name}.png",
            np.random.default_rng(index).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8),
        )
        write_ids(tmp_path / "labels" / f"{name}.png", labels_of(index))
    sources = Sources(images=tmp_path / "images" if images else None, labels=tmp_path / "labels")
    create_project(tmp_path / "p.a2lc", sources, CLASSES, ReadingOptions(tile=tile))
    return Project(tmp_path / "p.a2lc")


def change(project, rows, new):
    project.ledger.open_round(0, method="alc", config={}, model="m", seed=0, versions={})
    masks = project.masks
    project.ledger.add_corrections(
        0,
        Source.AUTOMATIC,
        masks.image[rows],
        masks.mask_ids[rows],
        masks.label[rows],
        np.full(len(rows), new),
        confidences=np.full(len(rows), 0.75),
        model="m",
    )


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.images, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag == "img":
            self.images.append(dict(attributes)["src"])

    def handle_data(self, data):
        self.text += data


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("images", [True, False], ids=["images", "labels alone"])
def test_pack(tmp_path, images):
    with make(tmp_path, images=images) as project:
        wanted = [
            row for row in range(len(project.masks)) if project.masks.label[row] == 1 and project.masks.image[row] != 0
        ]
        change(project, np.array(wanted), 2)
        summary = export_project(project, tmp_path / "pack", changes_only=True)
        whole = export_project(project, tmp_path / "whole")
    assert summary.images == summary.changed_images == whole.changed_images == 2
    assert summary.changed_masks == len(wanted) == 2 and summary.changed_pixels == whole.changed_pixels == 2 * 300
    pack = tmp_path / "pack"
    for kind in ("labels", "provenance"):
        found = {path.relative_to(pack / kind).as_posix() for path in (pack / kind).rglob("*.png")}
        assert found == {f"{name}.png" for name in NAMES[1:]}
        for name in NAMES[1:]:
            ours, full = (read_ids(tmp_path / where / kind / f"{name}.png") for where in ("pack", "whole"))
            assert (ours == full).all()
    rows = rows_of(pack / "changes.csv")
    assert [{key: row[key] for key in row if key != "crop"} for row in rows] == rows_of(
        tmp_path / "whole" / "changes.csv"
    )
    page = Page((pack / "index.html").read_text(encoding="utf-8"))
    assert [unquote(source) for source in page.images] == [row["crop"] for row in rows]
    assert "script" not in page.tags and "i" not in page.tags and HOSTILE in page.text
    for row in rows:
        picture = read_rgb(pack / row["crop"])
        assert picture.shape[1] > 3 * picture.shape[0] / 2
    text = (pack / "README.md").read_text(encoding="utf-8")
    assert "2 masks in 2 images" in text and "| <script>\\|x | tree | automatic | 2 | 600 |" in text
    assert json.loads((pack / "manifest.json").read_text())["changes_only"] is True


def test_panels_show_image_before_and_after(tmp_path):
    with make(tmp_path) as project:
        row = int(np.flatnonzero((project.masks.label == 1) & (project.masks.image == 0))[0])
        change(project, np.array([row]), 2)
        export_project(project, tmp_path / "pack", changes_only=True)
        pixels = project.pixels(project.record("a"))
    (crop,) = (tmp_path / "pack" / "crops" / "a").iterdir()
    picture = read_rgb(crop)
    # 20 x 15 pixels with room of 12: rows 0..39, columns 0..36, enlarged to 192 and more.
    height, width, times = 40, 37, 5
    assert picture.shape == (height * times + 20, 3 * width * times + 8, 3)
    panels = [picture[20:, place * (width * times + 4) :][:, : width * times][::times, ::times] for place in range(3)]
    assert (panels[0][2, 2] == pixels[2, 2]).all()
    for panel, kind in ((panels[1], 1), (panels[2], 2)):
        expected = (0.4 * pixels[20, 15] + 0.6 * np.array(CLASSES.colours[kind])).astype(np.uint8)
        assert (np.abs(panel[20, 15].astype(int) - expected) <= 1).all()
    assert (panels[1][10, 15] == 255).all(), "an outline"
    outside = (0.4 * pixels[2, 2] + 0.6 * np.array(CLASSES.colours[0])).astype(np.uint8)
    assert (panels[2][2, 2] == outside).all()


def test_tiles_are_one_image(tmp_path):
    with make(tmp_path, tile=32) as project:
        inside = [i for i, image in enumerate(project.images) if project.prepared[image.image_id].tile.of == "a"]
        rows = np.flatnonzero((project.masks.label == 1) & np.isin(project.masks.image, inside))
        change(project, rows, 2)
        summary = export_project(project, tmp_path / "pack", changes_only=True)
    assert summary.images == 1 and summary.changed_pixels == 300
    whole = read_ids(tmp_path / "pack" / "labels" / "a.png")
    assert (whole == np.where(labels_of(0) == 1, 2, labels_of(0))).all()
    assert (
        len(rows_of(tmp_path / "pack" / "changes.csv"))
        == len(rows)
        == len(list((tmp_path / "pack" / "crops").rglob("*.png")))
    )


def test_the_largest_changes_have_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(module.CropWriter.__init__, "__defaults__", (1,))
    with make(tmp_path) as project:
        rows = np.flatnonzero(project.masks.label > 0)
        change(project, rows, 0)
        export_project(project, tmp_path / "pack", changes_only=True)
        largest = max(rows_of(tmp_path / "pack" / "changes.csv"), key=lambda row: int(row["pixels"]))
    (crop,) = (tmp_path / "pack" / "crops").rglob("*.png")
    assert largest["crop"] == crop.relative_to(tmp_path / "pack").as_posix()
    assert f"The {len(rows) - 1} smallest changes have no picture." in (tmp_path / "pack" / "README.md").read_text()


def test_nothing_changed(tmp_path):
    with make(tmp_path) as project:
        summary = export_project(project, tmp_path / "pack", changes_only=True)
    assert summary.images == 0 and rows_of(tmp_path / "pack" / "changes.csv") == []
    assert not (tmp_path / "pack" / "labels").exists()


def test_classes_that_were_merged_are_told(tmp_path):
    with make(tmp_path) as project:
        change(project, np.flatnonzero((project.masks.label == 1) & (project.masks.image == 0)), 2)
        project.edit_classes(merged(project.view, ["tree"], "road"))
        summary = export_project(project, tmp_path / "pack", changes_only=True)
    text = (tmp_path / "pack" / "README.md").read_text(encoding="utf-8")
    assert (
        "Classes" not in text
        and "3 pixels have another value because classes were edited: merge tree into road" in text
    )
    for name in NAMES:
        kinds = read_ids(tmp_path / "pack" / "provenance" / f"{name}.png")
        came = labels_of(NAMES.index(name))
        assert (kinds[came == 2] == 3).all() and (kinds == 3).sum() == 1
        assert not (read_ids(tmp_path / "pack" / "labels" / f"{name}.png") == 2).any()
    assert summary.images == len(NAMES)
    assert {row["new_class"] for row in rows_of(tmp_path / "pack" / "changes.csv")} == {"road"}


def test_labels_below_the_mask_have_lines_and_pictures(tmp_path):
    with make(tmp_path) as project:
        project.ledger.open_round(0, method="m", config={}, model="m", seed=0, versions={})
        said = np.full((HEIGHT, WIDTH), KEEP)
        said[30:34, 30:40], said[12, 12] = 2, VOID
        record = project.record("a")
        none = np.empty(0, dtype=np.int64)
        layer = {record.index: project.layers.write(0, record, said)}
        project.ledger.add_corrections(0, Source.AUTOMATIC, none, none, none, none, model="m", layer=layer)
        summary = export_project(project, tmp_path / "pack", changes_only=True)
    rows = rows_of(tmp_path / "pack" / "changes.csv")
    assert {(row["mask_id"], row["pixels"], row["old_class"], row["new_class"], row["source"]) for row in rows} == {
        ("", "40", "road", "tree", "automatic"),
        ("", "1", HOSTILE, "void", "automatic"),
    }
    assert all((tmp_path / "pack" / row["crop"]).is_file() for row in rows)
    assert summary.changed_pixels == 41 and summary.changed_masks == 0
    assert "41 pixels have pixel-level labels" in (tmp_path / "pack" / "README.md").read_text(encoding="utf-8")
