"""COCO: run lengths in one JSON, and panoptic segments as PNGs with a JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from a2lc.classes.table import ClassTable
from a2lc.formats.writing import Corrected, register_export
from a2lc.images.rgb import write_rgb
from a2lc.project.project import Project

__all__ = ["CocoWriter", "PanopticWriter"]

_BLOCK = 1 << 20


class _Rows:
    """Rows of a JSON list that grows in a file: there may be a million."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: IO[str] = path.open("w+", encoding="utf-8")
        self.count = 0

    def add(self, row: dict[str, Any]) -> None:
        self.file.write(",\n" if self.count else "\n")
        json.dump(row, self.file, ensure_ascii=False, separators=(",", ":"))
        self.count += 1

    def copy_to(self, target: IO[str]) -> None:
        """Write the list, and take the file away."""
        self.file.seek(0)
        target.write("[")
        while block := self.file.read(_BLOCK):
            target.write(block)
        target.write("\n]")
        self.file.close()
        self.path.unlink()


class _Json:
    """A COCO file: its images and annotations come one by one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.images = _Rows(path.with_name(f".{path.name}.images"))
        self.annotations = _Rows(path.with_name(f".{path.name}.annotations"))

    def add_image(self, corrected: Corrected) -> int:
        """Its id comes back."""
        number = self.images.count + 1
        size = {"width": corrected.width, "height": corrected.height}
        self.images.add({"id": number, "file_name": corrected.file} | size)
        return number

    def finish(self, categories: list[dict[str, Any]]) -> None:
        with self.path.open("w", encoding="utf-8") as file:
            file.write('{"info": {"description": "written by a2lc"},\n"licenses": [],\n"images": ')
            self.images.copy_to(file)
            file.write(',\n"annotations": ')
            self.annotations.copy_to(file)
            file.write(f',\n"categories": {json.dumps(categories, ensure_ascii=False)}}}\n')


def _box(mask: NDArray[np.bool_]) -> list[int]:
    """Left, top, width and height of a mask of at least one pixel."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1]


def _category_ids(classes: ClassTable) -> list[int]:
    """The values of label files, or numbers from 1 where a class has 0, which readers of COCO take for no class."""
    return list(range(1, classes.num_classes + 1)) if 0 in classes.file_values else list(classes.file_values)


def _present(corrected: Corrected, classes: ClassTable) -> list[int]:
    return [int(index) for index in np.unique(corrected.labels) if index != classes.ignore_index]


@register_export(
    "coco", labels="annotations.json", line="annotations.json with run lengths: a region for each class of an image"
)
class CocoWriter:
    """Writes `annotations.json`; category ids are the values of the project's label files, unless a class has 0."""

    def __init__(self, project: Project, folder: Path) -> None:
        self.classes = project.classes
        self.categories = _category_ids(self.classes)
        self.json = _Json(folder / "annotations.json")

    def add(self, corrected: Corrected) -> None:
        """Add an image, and a region for each class on it. Void is what no region covers."""
        from pycocotools import mask as coco

        image = self.json.add_image(corrected)
        for index in _present(corrected, self.classes):
            mask = corrected.labels == index
            runs = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
            self.json.annotations.add(
                {
                    "id": self.json.annotations.count + 1,
                    "image_id": image,
                    "category_id": self.categories[index],
                    "segmentation": {
                        "size": [corrected.height, corrected.width],
                        "counts": runs["counts"].decode("ascii"),
                    },
                    "area": int(mask.sum()),
                    "bbox": _box(mask),
                    "iscrowd": 0,
                }
            )

    def finish(self) -> None:
        """Put the file together."""
        rows = zip(self.categories, self.classes.names, strict=True)
        self.json.finish([{"id": number, "name": name, "supercategory": ""} for number, name in rows])


def _segment_ids(classes: ClassTable) -> list[int]:
    """An id for each class: its colour's, so that the PNGs look as they should, or else its number from 1."""
    ids = [red | green << 8 | blue << 16 for red, green, blue in classes.colours]
    return ids if 0 not in ids and len(set(ids)) == len(ids) else list(range(1, classes.num_classes + 1))


@register_export(
    "coco-panoptic", labels="panoptic", line="panoptic.json, and PNGs of segments under panoptic/: one for each class"
)
class PanopticWriter:
    """Writes `panoptic.json` and `panoptic/IMAGE_ID.png`.

    A label map knows no objects: every class is stuff, one segment of it in an image, however many parts that has.
    """

    def __init__(self, project: Project, folder: Path) -> None:
        self.folder = folder / "panoptic"
        self.classes = project.classes
        self.ids = _segment_ids(self.classes)
        self.categories = _category_ids(self.classes)
        codes = np.array([*self.ids, 0], dtype=np.uint32)
        self.colours = np.stack([codes & 255, codes >> 8 & 255, codes >> 16], axis=1).astype(np.uint8)
        self.json = _Json(folder / "panoptic.json")

    def add(self, corrected: Corrected) -> None:
        """Write the PNG of an image, and note its segments. Void is segment 0."""
        image = self.json.add_image(corrected)
        segments = []
        for index in _present(corrected, self.classes):
            mask = corrected.labels == index
            segments.append(
                {
                    "id": self.ids[index],
                    "category_id": self.categories[index],
                    "area": int(mask.sum()),
                    "bbox": _box(mask),
                    "iscrowd": 0,
                }
            )
        name = f"{corrected.image_id}.png"
        write_rgb(self.folder / name, self.colours[np.minimum(corrected.labels, self.classes.num_classes)])
        self.json.annotations.add({"image_id": image, "file_name": name, "segments_info": segments})

    def finish(self) -> None:
        """Put the file together."""
        rows = zip(self.categories, self.classes.names, self.classes.colours, strict=True)
        self.json.finish(
            [
                {"id": number, "name": name, "supercategory": "", "isthing": 0, "color": list(colour)}
                for number, name, colour in rows
            ]
        )
