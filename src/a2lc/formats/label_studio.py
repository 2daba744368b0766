"""Label Studio's JSON: tasks with regions drawn by a brush, as polygons or as boxes.

Facts of the format are from Label Studio's documentation and from the code of its converter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import partial as bound
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np
from numpy.typing import NDArray

from a2lc.classes.table import ClassTable
from a2lc.errors import InputError, first_names
from a2lc.formats.annotated import (
    Annotated,
    Category,
    check_label_name,
    join_classes,
    name_of,
    need,
    safe_path,
    samples,
)
from a2lc.formats.base import Found, Sources, images_in
from a2lc.formats.detection import AnnotationFile, Detected, FolderView
from a2lc.formats.registry import Format, register
from a2lc.formats.rle import brush_of_mask, mask_of_brush
from a2lc.formats.shapes import box_points, check_size, ellipse_points, number, paint, points_of, polygon_mask
from a2lc.formats.writing import Corrected
from a2lc.images.archive import parse_json, read_bounded
from a2lc.images.opening import stored_size
from a2lc.images.sources import DrawnMap, MapSource
from a2lc.io.files import write_text
from a2lc.project.project import Project

__all__ = [
    "BRUSH",
    "IMAGE",
    "LabelStudioWriter",
    "brush_of_region",
    "brush_region",
    "interface",
    "objects",
    "read_label_studio",
    "read_tasks",
]

BRUSH, IMAGE = "class", "image"
"""Names of the brush and of the image among the controls; results refer to them."""

_KINDS = {
    "brushlabels": "brush",
    "brush": "brush",
    "polygonlabels": "polygon",
    "polygon": "polygon",
    "rectanglelabels": "rectangle",
    "rectangle": "rectangle",
    "ellipselabels": "ellipse",
    "ellipse": "ellipse",
}
_UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # what an upload puts before a file name


# ---- what hand-overs share --------------------------------------------------------------------------------------


def interface(labels: Iterable[tuple[str, str]]) -> tuple[Element, Element]:
    """Return the labelling interface and its list of brushes: an image, and a brush for each label.

    Args:
        labels: Names, each with its colour as #rrggbb.
    """
    view = Element("View")
    SubElement(view, "Image", name=IMAGE, value="$image", zoom="true", zoomControl="true")
    brushes = SubElement(view, "BrushLabels", name=BRUSH, toName=IMAGE, choice="single")
    for name, colour in labels:
        SubElement(brushes, "Label", value=name, background=colour)
    return view, brushes


def brush_region(name: str, mask: NDArray[np.bool_], identity: str) -> dict[str, Any]:
    """Return a region drawn by the brush.

    Args:
        name: Of its label.
        mask: (H, W)
        identity: Its id.
    """
    height, width = mask.shape
    return {
        "id": identity,
        "type": "brushlabels",
        "from_name": BRUSH,
        "to_name": IMAGE,
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {"format": "rle", "rle": brush_of_mask(mask), "brushlabels": [name]},
    }


def read_tasks(source: Path) -> list[dict[str, Any]]:
    """Read the tasks of an export.

    Raises:
        InputError: It is none.
    """
    tasks = parse_json(read_bounded(source), str(source))
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise InputError(f"{source}: expected a list of tasks. Export as JSON from Label Studio.")
    if tasks and not any(isinstance(task.get("data"), dict) for task in tasks):
        raise InputError(f"{source}: its tasks have no 'data'. Export as JSON from Label Studio, not as JSON-MIN.")
    return tasks


def objects(holder: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Return a list of objects that may be missing.

    Raises:
        InputError: It is something else.
    """
    found = holder.get(name) or []
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise InputError(f"its {name!r} are not a list of objects, as Label Studio writes them")
    return found


def brush_of_region(
    result: Mapping[str, Any], value: Mapping[str, Any], height: int, width: int
) -> tuple[str | None, NDArray[np.bool_]]:
    """Return the label of a brush region, if it has one, and (H, W) its pixels.

    Raises:
        InputError: It was drawn on another image, has two labels, or is no brush region.
    """
    size = result.get("original_width"), result.get("original_height")
    if size != (width, height):
        raise InputError(f"drawn on an image of {size[0]} x {size[1]} pixels, but the image has {width} x {height}")
    if result.get("image_rotation") not in (0, None):
        raise InputError(
            f"drawn on an image rotated by {result['image_rotation']} degrees; rotate it back in Label Studio"
        )
    if value.get("format") != "rle" or "rle" not in value:
        raise InputError(f"a brush region in format {value.get('format')!r}; expected 'rle'")
    return _label(value, "brushlabels"), mask_of_brush(value["rle"], height, width)


def _label(value: Mapping[str, Any], key: str) -> str | None:
    names = value.get(key, [])
    if not isinstance(names, list) or len(names) > 1:
        raise InputError("a region with more than one label; give it one")
    if names and not isinstance(names[0], str):
        raise InputError(f"a region with label {names[0]!r:.40}; expected a name")
    return names[0].strip() if names else None


# ---- the reader -------------------------------------------------------------------------------------------------


def read_label_studio(sources: Sources, *, partial: bool = False, classes: ClassTable | None = None) -> Found:
    """Read an export in the format JSON: `labels` names the file, `images` the folder of images.

    Tasks are joined with images by the end of `data.image`: the longest path that is an image's, with or without what an
    upload puts before the name. Of a task the last annotation that was not skipped counts; a task without annotations is
    read from its last prediction, and it is told.

    Brush regions, polygons, boxes and ellipses are painted by priority of their class, then in the file's order, later ones
    on top. Polygons are filled as COCO's tools do it. Regions without a label, key points and relations are left alone. What
    nothing covers is void, and so are regions labelled `void`, unless the user's classes have it.

    Args:
        sources: The file and the folder; ground truth is a folder of label maps or another such file.
        partial: Images that no task is about start without labels.
        classes: The user's classes, joined with labels by name; without, the labels of the file by name, sorted.

    Raises:
        InputError: The file is none, or an image belongs to two tasks.
    """
    path = need(sources.labels, "labels", "the JSON file that Label Studio exports", "label-studio")
    images = images_in(sources.images) if sources.images is not None and sources.images.is_dir() else None
    annotated = _tasks(path, images, classes, sources.max_pixels)
    return samples(sources, partial, annotated, lambda other, table: _tasks(other, images, table, sources.max_pixels))


def _tasks(path: Path, images: Mapping[str, Path] | None, given: ClassTable | None, max_pixels: int) -> Annotated:
    where = str(path)
    chosen: dict[str, list[dict[str, Any]]] = {}
    sizes: dict[str, tuple[int, int]] = {}
    guessed = skipped = 0
    lacking: list[str] = []
    used: set[str] = set()
    by_end = None if images is None else _by_end(images)
    for place, task in enumerate(read_tasks(path)):
        said = f"{where}: task {task.get('id', place)!r:.40}"
        data = task.get("data")
        address = data.get("image") if isinstance(data, dict) else None
        if not isinstance(address, str) or not address:
            raise InputError(f"{said}: its data has no 'image'.")
        name = _name(address, data.get("image_id") if isinstance(data, dict) else None, by_end, said)
        if name in chosen:
            raise InputError(f"{said}: image {name} belongs to another task as well. Export one of them.")
        try:
            drawn = [one for one in objects(task, "annotations") if one.get("was_cancelled") is not True]
            if not drawn and task.get("annotations"):
                skipped += 1  # all of them skipped: nobody said anything
                continue
            if not drawn and (drawn := objects(task, "predictions")):
                guessed += 1
            results = objects(drawn[-1], "result") if drawn else []
            kept = []
            for result in results:
                kind = _KINDS.get(str(result.get("type")))
                value = result.get("value")
                if kind is None or not isinstance(value, dict):
                    continue
                label = _label(value, f"{kind}labels")
                if label:
                    used.add(label)
                    kept.append(result)
        except InputError as error:
            raise InputError(f"{said}: {error}.") from None
        if not drawn:
            lacking.append(name)
            continue
        chosen[name] = kept
        if not kept and isinstance(data, dict) and {"width", "height"} <= data.keys():
            sizes[name] = check_size(data["width"], data["height"], max_pixels, said)
    void = given is None or "void" not in given.names
    names = sorted(used - ({"void"} if void else set()))
    table, values = join_classes([Category(name=one) for one in names], names, given, where)
    values |= {"void": table.ignore} if void else {}
    maps: dict[str, MapSource] = {}
    for name, results in chosen.items():
        said = f"{where}: {name}"
        size = sizes.get(name)
        if not results and size is None and images is not None and name in images:
            # Nothing was drawn on it, so nothing but the image says how large it is.
            size = stored_size(images[name], max_pixels)[:2]
        maps[name] = DrawnMap(where=said, draw=bound(_draw, results, values, table, size, max_pixels, said))
    notes = []
    if guessed:
        notes.append(f"{guessed} tasks have no annotation and were read from their predictions")
    if skipped:
        notes.append(f"{skipped} tasks were skipped by all annotators and were left out")
    if lacking:
        notes.append(
            f"{len(lacking)} tasks have neither annotation nor prediction and were left out: {first_names(lacking)}"
        )
    return Annotated(maps=maps, table=table, where=where, notes=notes)


def _by_end(names: Iterable[str]) -> dict[str, str | None]:
    """Names of images by every end of their paths; None where two images end so."""
    whole: dict[str, str | None] = {name: name for name in names}
    ends: dict[str, str | None] = {}
    for name in whole:
        parts = name.split("/")
        for start in range(1, len(parts)):
            end = "/".join(parts[start:])
            ends[end] = None if end in ends else name
    return ends | whole


def _name(address: str, identity: Any, by_end: dict[str, str | None] | None, where: str) -> str:
    """Return the image that an address means: a path that Label Studio serves, or any other address."""
    if by_end is not None and isinstance(identity, str) and by_end.get(identity) == identity:
        return identity
    if by_end is None and isinstance(identity, str) and identity:
        return name_of(safe_path(f"{identity}.png", where))
    parts = urlsplit(address)
    served = parse_qs(parts.query).get("d")
    place = PurePosixPath(served[0] if served else unquote(parts.path))
    pieces = [part for part in place.parts if part not in ("/", "..", ".")]
    if not pieces:
        raise InputError(f"{where}: its image {address!r:.80} has no file name.")
    path = name_of(PurePosixPath(*pieces))
    if by_end is None:
        return name_of(safe_path(PurePosixPath(path).name + ".png", where))
    pieces = path.split("/")
    for start in range(len(pieces)):
        plain = "/".join(pieces[start:])
        for end in (plain, "/".join([*pieces[start:-1], _UPLOADED.sub("", pieces[-1])])):
            if end in by_end:
                found = by_end[end]
                if found is None:
                    raise InputError(f"{where}: two images end in {end!r}, so its image is ambiguous.")
                return found
    return name_of(safe_path(pieces[-1] + ".png", where))


def _draw(
    results: list[dict[str, Any]],
    values: Mapping[str, int],
    table: ClassTable,
    size: tuple[int, int] | None,
    max_pixels: int,
    where: str,
) -> NDArray[Any]:
    try:
        for result in results:
            said = check_size(result.get("original_width"), result.get("original_height"), max_pixels, "a region")
            if size is not None and said != size:
                raise InputError(
                    f"regions were drawn on images of different sizes, {size[0]} x {size[1]} and {said[0]} x {said[1]}"
                )
            size = said
        if size is None:
            raise InputError("no region states the size of the image; draw one, or leave the task out")
        width, height = size
        regions = []
        for place, result in enumerate(results):
            kind = _KINDS[str(result["type"])]
            label = _label(result["value"], f"{kind}labels")
            assert label is not None
            value = values[label]
            priority = 0 if value == table.ignore else table.priority(table.file_values.index(value))
            regions.append((priority, place, value, kind, result))
        regions.sort(key=lambda region: region[:2])
        shapes = ((_region(kind, result, height, width), value) for _, _, value, kind, result in regions)
        return paint(shapes, height, width, table.ignore)
    except InputError as error:
        raise InputError(f"{where}: {str(error).rstrip('.')}.") from None


def _region(kind: str, result: Mapping[str, Any], height: int, width: int) -> NDArray[np.bool_]:
    value = result["value"]
    if kind == "brush":
        return brush_of_region(result, value, height, width)[1]
    if result.get("image_rotation") not in (0, None):
        raise InputError(
            f"drawn on an image rotated by {result['image_rotation']} degrees; rotate it back in Label Studio"
        )
    scale = np.array([width, height]) / 100  # places are in percent
    if kind == "polygon":
        pairs = value.get("points")
        if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
            raise InputError("a polygon whose points are not pairs of numbers")
        return polygon_mask(points_of([part for pair in pairs for part in pair], "a polygon") * scale, height, width)
    turned = number(value.get("rotation", 0), "a rotation")
    keys = ("x", "y", "width", "height") if kind == "rectangle" else ("x", "y", "radiusX", "radiusY")
    x, y, across, down = (number(value.get(key), f"{key} of a region") for key in keys)
    x, y, across, down = x * scale[0], y * scale[1], across * scale[0], down * scale[1]
    if kind == "ellipse":
        return polygon_mask(ellipse_points(x, y, across, down, turned), height, width)
    corners = box_points(x, y, x + across, y + down)
    if turned:
        # About its upper left corner, as Label Studio turns boxes.
        angle = np.deg2rad(turned)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        corners = (corners - corners[0]) @ turn + corners[0]
    return polygon_mask(corners, height, width)


# ---- writing -------------------------------------------------------------------------------------------------------


class LabelStudioWriter:
    """Writes `tasks.json` and `label_config.xml`; regions are predictions, so that people may take or change them.

    Addresses of images are those of Label Studio's local files, below its document root: make that the folder of images, or
    change the addresses. Void is what no region covers.
    """

    def __init__(self, project: Project, folder: Path) -> None:
        self.classes = project.classes
        for name in self.classes.names:
            check_label_name(name, "label-studio")
        colours = ["#{:02x}{:02x}{:02x}".format(*colour) for colour in self.classes.colours]
        view, _ = interface(zip(self.classes.names, colours, strict=True))
        indent(view)
        write_text(folder / "label_config.xml", tostring(view, encoding="unicode") + "\n")
        self.file: IO[str] = (folder / "tasks.json").open("w", encoding="utf-8")
        self.file.write("[")
        self.count = 0

    def add(self, corrected: Corrected) -> None:
        """Add a task."""
        regions = [
            brush_region(self.classes.names[index], corrected.labels == index, f"class{index}")
            for index in np.unique(corrected.labels).tolist()
            if index != self.classes.ignore_index
        ]
        task = {
            "data": {
                "image": "/data/local-files/?d=" + quote(corrected.file),
                "image_id": corrected.image_id,
                "width": corrected.width,
                "height": corrected.height,
            },
            "predictions": [{"model_version": "a2lc", "result": regions}],
        }
        self.file.write(",\n" if self.count else "\n")
        json.dump(task, self.file, ensure_ascii=False, separators=(",", ":"))
        self.count += 1

    def finish(self) -> None:
        """End the file."""
        self.file.write("\n]\n")
        self.file.close()


def _detect_file(folder: FolderView, file: AnnotationFile) -> Detected | None:
    keys = ('"annotations"', '"completed_by"', '"predictions"')
    if not file.head.lstrip().startswith("[") or not any(key in file.head for key in keys):
        return None
    why = f"{file.path.name} looks like an export of Label Studio"
    return Detected(why=why, images=folder.images_beside(file.path), labels=file.path)


register(
    Format(
        name="label-studio",
        title="Label Studio",
        reads=("a folder", "the JSON export (not JSON-MIN)"),
        reader=read_label_studio,
        writes="`tasks.json` with a brush region for each class, and `label_config.xml`",
        writer=LabelStudioWriter,
        labels="tasks.json",
        detect_file=_detect_file,
    )
)
