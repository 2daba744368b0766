"""COCO: instances and stuff in one JSON, and panoptic segmentation as PNGs of segment ids with a JSON.

Facts of both are from cocodataset.org's format page and from the code of pycocotools and panopticapi.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial as bound
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from a2lc.classes.table import ClassTable
from a2lc.errors import InputError, MissingFileError
from a2lc.formats.annotated import (
    Annotated,
    Category,
    entries,
    join_classes,
    need,
    of_types,
    safe_path,
    samples,
    unique_names,
)
from a2lc.formats.base import Found, Sources
from a2lc.formats.detection import AnnotationFile, Detected, FolderView
from a2lc.formats.registry import Format, register
from a2lc.formats.rle import coco_counts, mask_of_counts
from a2lc.formats.shapes import check_size, look_up, paint, points_of, polygon_counts, row_blocks
from a2lc.formats.writing import Corrected
from a2lc.images.archive import parse_json, read_bounded
from a2lc.images.rgb import read_rgb, write_rgb
from a2lc.images.sources import DrawnMap, MapSource
from a2lc.project.project import Project

__all__ = ["CocoWriter", "PanopticWriter", "panoptic_ids", "read_coco", "read_panoptic"]


def read_coco(sources: Sources, *, partial: bool = False, classes: ClassTable | None = None) -> Found:
    """Read instances or stuff: `labels` names the JSON, `images` the folder its file names are below.

    Polygons, and run lengths of both kinds, are painted over each other: those of classes with higher `priority` last, then
    the smaller ones over the larger, by pixels, then those later in the file. Crowd regions are painted first of all: they
    say that a class is there somewhere, and any single object says more. What nothing covers is void.

    Category ids are kept as values, however sparse; void is 255, or 65535 where ids go that high.

    Args:
        sources: The folder and the file; ground truth is a folder of label maps or another such file.
        partial: Images that the file does not name start without labels.
        classes: The user's classes, joined with categories by name.

    Raises:
        InputError: The file is none, or contradicts itself.
    """
    path = need(sources.labels, "labels", "the JSON file of annotations", "coco")
    annotated = _annotations(path, classes, sources.max_pixels)
    return samples(sources, partial, annotated, lambda other, table: _annotations(other, table, sources.max_pixels))


def _annotations(path: Path, given: ClassTable | None, max_pixels: int) -> Annotated:
    where = str(path)
    data = of_types(parse_json(read_bounded(path), where), dict, "its content", where)
    images = entries(data, "images", where)
    annotations = entries(data, "annotations", where)
    if annotations and all("segments_info" in row for row in annotations[:10]):
        raise InputError(f"{where}: contains panoptic segments. Set `format` to coco-panoptic.")
    names = _categories(data, where)
    by_image: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for place, row in enumerate(annotations):
        said = f"{where}: annotation {row.get('id', place)!r}"
        by_image[of_types(row.get("image_id"), int, "image_id", said)].append(row)
        if of_types(row.get("category_id"), int, "category_id", said) not in names:
            raise InputError(f"{said} has category {row['category_id']}, which the file does not define.")
    used = {names[row["category_id"]] for row in annotations}
    table, values = join_classes(_as_categories(names), used, given, where)
    by_id = {number: (values[name], _priority(table, values[name])) for number, name in names.items() if name in values}
    ids, paths = _images(images, where)
    strangers = set(by_image) - set(ids)
    if strangers:
        raise InputError(
            f"{where}: {len(strangers)} image ids of annotations belong to no image, such as {min(strangers)}."
        )
    maps: dict[str, MapSource] = {}
    for row, number, name in zip(images, ids, unique_names(paths, where), strict=True):
        said = f"{where}: image {row['file_name']!r}"
        size = check_size(row.get("width"), row.get("height"), max_pixels, said)
        found = by_image.get(number, [])
        maps[name] = DrawnMap(where=said, draw=bound(_draw, found, by_id, size, table.ignore, said))
    crowds = sum(row.get("iscrowd") in (1, True) for row in annotations)
    notes = [f"{crowds} crowd regions were painted below all other regions"] if crowds else []
    return Annotated(maps=maps, table=table, where=where, notes=notes)


def _priority(table: ClassTable, value: int) -> int:
    return table.priority(table.file_values.index(value))


def _categories(data: dict[str, Any], where: str) -> dict[int, str]:
    """Names by id, in the file's order."""
    names: dict[int, str] = {}
    for row in entries(data, "categories", where):
        number = of_types(row.get("id"), int, "id of a category", where)
        if number in names:
            raise InputError(f"{where}: two categories have the id {number}.")
        names[number] = of_types(row.get("name"), str, f"name of category {number}", where).strip()
    return names


def _as_categories(names: Mapping[int, str]) -> list[Category]:
    return [Category(name=name, value=number) for number, name in names.items()]


def _images(rows: list[dict[str, Any]], where: str) -> tuple[list[int], list[PurePosixPath]]:
    ids = [of_types(row.get("id"), int, "id of an image", where) for row in rows]
    if len(set(ids)) < len(ids):
        raise InputError(f"{where}: two images have the same id.")
    return ids, [safe_path(row.get("file_name"), where) for row in rows]


@dataclass(frozen=True, eq=False, kw_only=True)
class _Region:
    """An annotation, not yet drawn: run lengths of many take little memory."""

    order: tuple[Any, ...]
    value: int
    mask: Callable[[], NDArray[np.bool_]]


def _draw(
    rows: list[dict[str, Any]],
    by_id: Mapping[int, tuple[int, int]],
    size: tuple[int, int],
    void: int,
    where: str,
) -> NDArray[Any]:
    width, height = size
    regions = []
    for place, row in enumerate(rows):
        value, priority = by_id[row["category_id"]]
        try:
            counts = _counts(row.get("segmentation"), height, width)
        except InputError as error:
            raise InputError(f"{where}: annotation {row.get('id', place)!r}: {error}.") from None
        if counts is None:
            continue
        crowd = row.get("iscrowd") in (1, True)
        order = (not crowd, priority, -int(counts[1::2].sum()), place)
        regions.append(_Region(order=order, value=value, mask=bound(mask_of_counts, counts, height, width)))
    regions.sort(key=lambda region: region.order)
    return paint(((region.mask(), region.value) for region in regions), height, width, void)


def _counts(said: Any, height: int, width: int) -> NDArray[np.int64] | None:
    """Run lengths of a segmentation of any kind; None where it covers nothing."""
    if isinstance(said, dict):
        size = said.get("size")
        if size != [height, width]:
            raise InputError(f"its RLE has size {str(size)[:40]}, but its image has height {height} and width {width}")
        return coco_counts(said.get("counts"), height, width)
    if said is None or said == []:
        return None  # a box alone
    if not isinstance(said, list) or not all(isinstance(polygon, list) for polygon in said):
        raise InputError("its segmentation is neither a run-length encoding nor a list of polygons")
    return polygon_counts([points_of(polygon, "a polygon") for polygon in said], height, width)


# ---- panoptic ---------------------------------------------------------------------------------------------------


def panoptic_ids(pixels: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """(H, W) segment ids of an (H, W, 3) RGB image: R + 256 G + 65536 B (pure).

    Example:
        >>> panoptic_ids(np.array([[[255, 255, 1]]], dtype=np.uint8))
        array([[131071]], dtype=uint32)
    """
    # In 32 bits: 8-bit arithmetic on channels overflows silently.
    wide = pixels.astype(np.uint32)
    return np.asarray(wide[..., 0] | wide[..., 1] << 8 | wide[..., 2] << 16, dtype=np.uint32)


def read_panoptic(sources: Sources, *, partial: bool = False, classes: ClassTable | None = None) -> Found:
    """Read panoptic segments: `labels` names the JSON, beside which the folder of the same name holds the PNGs.

    Segments do not lie over each other. Segment 0 is void, and so is nothing else: a segment in a PNG that the JSON does not
    name is refused. Objects of one class become one class; which object is which is lost.

    Args:
        sources: The folder of images and the JSON; ground truth is a folder of label maps or another such JSON.
        partial: Images that the file does not name start without labels.
        classes: The user's classes, joined with categories by name.

    Raises:
        MissingFileError: The folder of PNGs is not there.
        InputError: The file is none, or contradicts itself.
    """
    path = need(sources.labels, "labels", "the JSON file of segments", "coco-panoptic")
    annotated = _segments(path, classes, sources.max_pixels)
    return samples(sources, partial, annotated, lambda other, table: _segments(other, table, sources.max_pixels))


def _segments(path: Path, given: ClassTable | None, max_pixels: int) -> Annotated:
    where = str(path)
    data = of_types(parse_json(read_bounded(path), where), dict, "its content", where)
    folder = path.with_suffix("")
    if not folder.is_dir():
        raise MissingFileError(
            f"There is no folder {folder}. The PNG files of {path.name} must be in a folder of the same name beside it."
        )
    names = _categories(data, where)
    rows = entries(data, "annotations", where)
    used = set()
    for row in rows:
        for segment in entries(row, "segments_info", where):
            number = of_types(segment.get("category_id"), int, "category_id of a segment", where)
            if number not in names:
                raise InputError(f"{where}: a segment has category {number}, which the file does not define.")
            used.add(names[number])
    table, values = join_classes(_as_categories(names), used, given, where)
    by_id = {number: values[name] for number, name in names.items() if name in values}
    ids, paths = _images(entries(data, "images", where), where)
    by_image = dict(zip(ids, unique_names(paths, where), strict=True))
    maps: dict[str, MapSource] = {}
    for row in rows:
        number = of_types(row.get("image_id"), int, "image_id of an annotation", where)
        if number not in by_image:
            raise InputError(f"{where}: an annotation belongs to image {number}, which the file does not contain.")
        if by_image[number] in maps:
            raise InputError(f"{where}: two annotations belong to image {number}.")
        png = folder / safe_path(row.get("file_name"), where)
        draw = bound(_draw_segments, png, row["segments_info"], by_id, table.ignore, max_pixels)
        maps[by_image[number]] = DrawnMap(where=str(png), draw=draw)
    without = len(by_image) - len(maps)
    notes = [f"{without} images of {where} have no annotation and were left out"] if without else []
    return Annotated(maps=maps, table=table, where=where, notes=notes)


def _draw_segments(
    png: Path, segments: list[dict[str, Any]], by_id: Mapping[int, int], void: int, max_pixels: int
) -> NDArray[Any]:
    if not png.is_file():
        raise MissingFileError(f"{png}: no such file.")
    pixels = read_rgb(png, max_pixels=max_pixels)
    becomes: dict[int, int] = {0: void}
    for segment in segments:
        number = of_types(segment.get("id"), int, "id of a segment", str(png))
        if number in becomes and becomes[number] != by_id[segment["category_id"]]:
            raise InputError(f"{png}: two segments have the id {number}, or one has the id 0.")
        becomes[number] = by_id[segment["category_id"]]
    drawn = np.empty(pixels.shape[:2], dtype=np.uint16 if max(becomes.values()) > 255 else np.uint8)
    for rows in row_blocks(pixels.shape[0], pixels.shape[1]):
        drawn[rows], unknown = look_up(panoptic_ids(pixels[rows]), becomes)
        if unknown is not None:
            raise InputError(f"{png}: segment {unknown} is not in the JSON file.")
    return drawn


# ---- writing -------------------------------------------------------------------------------------------------------


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
    """Return the values of label files, or numbers from 1 if a class has 0, which readers of COCO take for no class."""
    return list(range(1, classes.num_classes + 1)) if 0 in classes.file_values else list(classes.file_values)


def _present(corrected: Corrected, classes: ClassTable) -> list[int]:
    return [int(index) for index in np.unique(corrected.labels) if index != classes.ignore_index]


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
    """Return an id for each class: its colour's, so that the PNGs look as they should, or else its number from 1."""
    ids = [red | green << 8 | blue << 16 for red, green, blue in classes.colours]
    return ids if 0 not in ids and len(set(ids)) == len(ids) else list(range(1, classes.num_classes + 1))


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


def _detect_file(folder: FolderView, file: AnnotationFile, *, panoptic: bool) -> Detected | None:
    if file.head.lstrip().startswith("[") or '"shapes"' in file.head:
        return None  # of Label Studio or LabelMe
    if (
        any(key not in file.text for key in ('"images"', '"annotations"'))
        or ('"segments_info"' in file.text) != panoptic
    ):
        return None
    why = f"{file.path.name} looks like {'coco-panoptic' if panoptic else 'coco'}"
    return Detected(why=why, images=folder.images_beside(file.path), labels=file.path)


register(
    Format(
        name="coco",
        title="COCO instances or stuff",
        reads=("the folder that `file_name` is relative to", "the JSON file of instances or stuff"),
        reader=read_coco,
        writes="`annotations.json` with run lengths: one region per class and image",
        writer=CocoWriter,
        labels="annotations.json",
        detect_file=bound(_detect_file, panoptic=False),
    )
)

register(
    Format(
        name="coco-panoptic",
        title="COCO panoptic",
        reads=("the same", "the JSON file, beside the folder of PNG files of the same name"),
        reader=read_panoptic,
        writes="`panoptic.json`, and PNG files of segments under `panoptic/`: one segment per class and image",
        writer=PanopticWriter,
        labels="panoptic",
        detect_file=bound(_detect_file, panoptic=True),
    )
)
