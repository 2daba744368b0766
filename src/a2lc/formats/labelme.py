"""labelme: a JSON file for each image, with polygons, boxes, circles and masks.

Facts of the format are from the code of labelme: how it turns shapes into label maps, and what its labels with underscores
mean.
"""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import partial as bound
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from a2lc.classes.table import ClassTable
from a2lc.errors import InputError, first_names
from a2lc.formats.annotated import Annotated, Category, entries, join_classes, of_types, samples
from a2lc.formats.base import Found, Sources, find_files, images_in
from a2lc.formats.detection import AnnotationFile, Detected, FolderView
from a2lc.formats.registry import Format, register
from a2lc.formats.shapes import check_size, paint, points_of
from a2lc.images.archive import parse_json, read_bounded
from a2lc.images.label_maps import read_ids
from a2lc.images.limits import IMAGE_SUFFIXES
from a2lc.images.opening import ImageBytes, open_image
from a2lc.images.sources import DrawnMap, MapSource, PackedImage

__all__ = ["read_labelme"]

_VOID, _BACKGROUND = "__ignore__", "_background_"
_BACKGROUNDS = (_BACKGROUND, "background")
_DRAWN = ("polygon", "rectangle", "circle", "mask")
_THIN = frozenset({"point", "points", "line", "linestrip"})
_FAR = 1e6  # a coordinate beyond is a fault of the file


def read_labelme(sources: Sources, *, partial: bool = False, classes: ClassTable | None = None) -> Found:
    """Read labelme's JSON files: `images` names the folder of images and files, or `labels` that of the files.

    A file belongs to the image of its own name, in the same place below the two folders, or to the one in that place that
    its imagePath ends in; where no image is found, the picture in its imageData is taken. A path in the file is never
    followed.

    Polygons, boxes, circles and masks are painted by priority of their class, then in the file's order, later ones on top, as
    labelme itself does; they are filled in the same way as there. Lines and points cover no area and are left alone. What
    nothing covers is void; so is `__ignore__`, and so is `_background_`, unless the user's classes have a class of that name
    or `background`: then it is that class, and so is what nothing covers.

    Args:
        sources: The folders.
        partial: Images without a file start without labels.
        classes: The user's classes, joined with labels by name; without, all labels of all files, sorted.

    Raises:
        InputError: A file is not labelme's, or has labels that the user's classes lack.
    """
    folder = sources.labels or sources.images
    if folder is None:
        raise InputError("`images` is missing. With `format` labelme, it is the folder of images and JSON files.")
    files = find_files(folder, {".json"}, "files of labelme")
    images = images_in(sources.images) if sources.images is not None and _holds_images(sources.images) else {}
    maps: dict[str, Any] = {}
    packed: dict[str, PackedImage] = {}
    used: Counter[str] = Counter()
    thin: Counter[str] = Counter()
    for name, path in files.items():
        where = str(path)
        data = of_types(parse_json(read_bounded(path), where), dict, "its content", where)
        if "shapes" not in data:
            raise InputError(f"{where}: contains no 'shapes', so it is not a labelme file.")
        for shape in entries(data, "shapes", where):
            kind = of_types(shape.get("shape_type") or "polygon", str, "type of a shape", where)
            label = of_types(shape.get("label"), str, "label of a shape", where).strip()
            if kind in _THIN:
                thin[kind] += 1
            elif kind not in _DRAWN:
                raise InputError(f"{where}: a shape of type {kind[:40]!r}, which is not supported.")
            else:
                used[label] += 1
        image = _image_of(name, data, images)
        if image is None and data.get("imageData"):
            packed[name] = _packed(path, data)
        maps[image or name] = path
    if len(maps) < len(files):
        raise InputError(f"{folder}: two files belong to the same image. Keep one of them.")
    table, values = _classes(sorted(used), classes, str(folder))
    base = next((values[name] for name in _BACKGROUNDS if classes is not None and name in classes.names), table.ignore)
    drawn: dict[str, MapSource] = {}
    for name, path in maps.items():
        draw = bound(_draw, path, values, table, base, sources.max_pixels)
        drawn[name] = DrawnMap(where=str(path), draw=draw)
    notes = []
    if thin:
        notes.append(
            "shapes without an area were left out: " + ", ".join(f"{n} {kind}" for kind, n in sorted(thin.items()))
        )
    if packed:
        notes.append(f"{len(packed)} images were read from imageData: {first_names(packed)}")
    annotated = Annotated(maps=drawn, table=table, where=str(folder), notes=notes, packed=packed)
    if sources.images is not None and not images:
        sources = replace(sources, images=None)
    return samples(sources, partial, annotated)


def _holds_images(folder: Path) -> bool:
    return any(path.suffix.lower() in IMAGE_SUFFIXES for path in folder.rglob("*"))


def _image_of(name: str, data: Mapping[str, Any], images: Mapping[str, Path]) -> str | None:
    """Find the image a file belongs to: of its own name, or of the last part of its imagePath, beside it."""
    if name in images:
        return name
    said = data.get("imagePath")
    if isinstance(said, str) and said:
        last = PurePosixPath(said.replace("\\", "/")).with_suffix("").name
        beside = PurePosixPath(name).with_name(last).as_posix() if last else ""
        if beside in images:
            return beside
    return None


def _packed(path: Path, data: Mapping[str, Any]) -> PackedImage:
    said = data.get("imagePath")
    suffix = PurePosixPath(said.replace("\\", "/")).suffix.lower() if isinstance(said, str) else ""

    def read() -> bytes:
        again = parse_json(read_bounded(path), str(path))
        return _base64(again.get("imageData") if isinstance(again, dict) else None, f"{path}: imageData")

    return PackedImage(where=f"{path}: imageData", suffix=suffix if suffix in IMAGE_SUFFIXES else ".png", read=read)


def _base64(text: Any, where: str) -> bytes:
    if not isinstance(text, str):
        raise InputError(f"{where} is not text.")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InputError(f"{where} is not base64.") from None


def _classes(used: list[str], given: ClassTable | None, where: str) -> tuple[ClassTable, dict[str, int]]:
    special = {_VOID, _BACKGROUND} - (set(given.names) if given is not None else set())
    names = [name for name in used if name not in special]
    table, values = join_classes([Category(name=name) for name in names], names, given, where)
    if given is not None:
        values |= dict(zip(given.names, given.file_values, strict=True))
    background = next(
        (values[name] for name in _BACKGROUNDS if given is not None and name in given.names), table.ignore
    )
    return table, {_VOID: table.ignore, _BACKGROUND: background} | values


def _draw(path: Path, values: Mapping[str, int], table: ClassTable, base: int, max_pixels: int) -> NDArray[Any]:
    where = str(path)
    data = parse_json(read_bounded(path), where)
    shapes = entries(data, "shapes", where)
    width, height = data.get("imageWidth"), data.get("imageHeight")
    if width is None and height is None and data.get("imageData"):
        picture = ImageBytes(where=f"{where}: imageData", data=_base64(data["imageData"], f"{where}: imageData"))
        with open_image(picture, max_pixels) as image:
            width, height = image.size
    width, height = check_size(width, height, max_pixels, where)
    regions = []
    for place, shape in enumerate(shapes):
        kind = shape.get("shape_type") or "polygon"
        if kind in _THIN:
            continue
        value = values[shape["label"].strip()]
        priority = 0 if value == table.ignore else table.priority(table.file_values.index(value))
        regions.append((priority, place, value, kind, shape))
    regions.sort(key=lambda region: region[:2])
    painted = (
        (_mask(kind, shape, height, width, max_pixels, f"{where}: shape {place}"), value)
        for _, place, value, kind, shape in regions
    )
    return paint(painted, height, width, base)


def _mask(
    kind: str, shape: Mapping[str, Any], height: int, width: int, max_pixels: int, where: str
) -> NDArray[np.bool_]:
    pairs = shape.get("points")
    if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise InputError(f"{where}: its points are not pairs of numbers.")
    try:
        points = points_of([part for pair in pairs for part in pair], "its points")
    except InputError as error:
        raise InputError(f"{where}: {error}.") from None
    if len(points) and np.abs(points).max() > _FAR:
        raise InputError(f"{where}: a point at {np.abs(points).max():g}, far outside the image.")
    if kind != "polygon" and len(points) != 2:
        raise InputError(f"{where}: a {kind} with {len(points)} points; expected two.")
    if kind == "mask":
        return _stored_mask(shape.get("mask"), points, height, width, max_pixels, where)
    canvas = Image.new("L", (width, height), 0)
    pen = ImageDraw.Draw(canvas)
    corners = [(float(x), float(y)) for x, y in points]
    if kind == "polygon":
        if len(corners) < 3:
            raise InputError(f"{where}: a polygon with {len(corners)} points; expected three or more.")
        pen.polygon(corners, outline=1, fill=1)
    elif kind == "rectangle":
        (x0, y0), (x1, y1) = corners
        pen.rectangle([min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)], outline=1, fill=1)
    else:
        (x, y), (edge_x, edge_y) = corners
        radius = float(np.hypot(x - edge_x, y - edge_y))
        pen.ellipse([x - radius, y - radius, x + radius, y + radius], outline=1, fill=1)
    return np.array(canvas, dtype=bool)


def _stored_mask(
    text: Any, points: NDArray[np.float64], height: int, width: int, max_pixels: int, where: str
) -> NDArray[np.bool_]:
    """Read a mask in its box, both of whose corners belong to it."""
    (left, top), (right, bottom) = np.rint(points).astype(int).tolist()
    stored = read_ids(ImageBytes(where=f"{where}: mask", data=_base64(text, f"{where}: mask")), max_pixels=max_pixels)
    if stored.shape != (bottom - top + 1, right - left + 1):
        raise InputError(
            f"{where}: its mask has {stored.shape[1]} x {stored.shape[0]} pixels, but its box has "
            f"{right - left + 1} x {bottom - top + 1}."
        )
    if left < 0 or top < 0 or right >= width or bottom >= height:
        raise InputError(f"{where}: its mask is not inside the image of {width} x {height} pixels.")
    mask = np.zeros((height, width), dtype=bool)
    mask[top : bottom + 1, left : right + 1] = stored != 0
    return mask


def _detect_file(folder: FolderView, file: AnnotationFile) -> Detected | None:
    if '"shapes"' not in file.head or file.head.lstrip().startswith("["):
        return None
    return Detected(why=f"{file.path.name} contains shapes", images=folder.images_beside(file.path))


register(
    Format(
        name="labelme",
        title="labelme",
        reads=("the folder of images and JSON files", "the folder of the JSON files, if it is a different one"),
        reader=read_labelme,
        detect_file=_detect_file,
        beside=True,
    )
)
