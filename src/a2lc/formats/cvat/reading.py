"""CVAT's two formats: `Segmentation mask 1.1` and `CVAT for images 1.1`.

Facts of both are from CVAT's documentation of formats, and from what it writes.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial as bound
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from a2lc.classes.table import ClassTable, class_colour
from a2lc.errors import InputError, MissingFileError
from a2lc.formats.annotated import Annotated, Category, join_classes, name_of, need, safe_path, samples, unique_names
from a2lc.formats.base import Found, Sources
from a2lc.formats.rle import Box, box_of_mask, mask_of_box
from a2lc.formats.shapes import (
    box_points,
    check_size,
    ellipse_points,
    look_up,
    number,
    paint,
    points_of,
    polygon_mask,
    row_blocks,
)
from a2lc.images.archive import Archive, parse_xml, read_bounded
from a2lc.images.label_maps import read_ids
from a2lc.images.limits import IMAGE_SUFFIXES
from a2lc.images.opening import ImageBytes
from a2lc.images.rgb import read_rgb
from a2lc.images.sources import DrawnMap, MapSource, PackedImage

__all__ = [
    "BACKGROUND",
    "LABELMAP",
    "MOST_LABELMAP",
    "by_colour",
    "colour_code",
    "free_colour",
    "labelmap_text",
    "mask_attributes",
    "mask_of_element",
    "read_annotations",
    "read_cvat_mask",
    "read_cvat_xml",
    "read_labelmap",
    "whole",
]

BACKGROUND = "background"
"""What CVAT takes for the absence of a label in label maps."""

LABELMAP = "labelmap.txt"
MOST_LABELMAP = 1 << 24
"""Bytes of it."""

_MOST_FILE = 1 << 28  # bytes of an image or a label map in a ZIP, unpacked
_BYTES = frozenset(map(str, range(256)))
_NO_PIXELS = frozenset({"tag", "points", "polyline", "attribute"})
_SHAPES = ("mask", "polygon", "box", "ellipse")


# ---- what hand-overs share --------------------------------------------------------------------------------------


def colour_code(colour: tuple[int, int, int]) -> int:
    """Return a colour as one number."""
    return colour[0] << 16 | colour[1] << 8 | colour[2]


def free_colour(index: int, used: Collection[tuple[int, int, int]]) -> tuple[int, int, int]:
    """Return a made-up colour that is not black and not used: tools identify labels by their colours."""
    made = (class_colour(step) for step in range(index, index + 256))
    counted = ((code >> 16, code >> 8 & 255, code & 255) for code in range(1, 1 << 24))
    return next(colour for colour in chain(made, counted) if colour not in used)


def labelmap_text(labels: Iterable[tuple[str, tuple[int, int, int]]]) -> str:
    """`labelmap.txt` of labels with their colours."""
    # `background` comes first, or what has no label is taken for the first class (cvat#1736, #2032).
    lines = ["# label:color_rgb:parts:actions", f"{BACKGROUND}:0,0,0::"]
    lines += [f"{name}:{red},{green},{blue}::" for name, (red, green, blue) in labels]
    return "\n".join(lines) + "\n"


def read_labelmap(data: bytes, where: str) -> list[tuple[str, tuple[int, int, int]]]:
    """Labels of a `labelmap.txt` with their colours, as they come.

    Raises:
        InputError: It is none.
    """
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"{where} is not UTF-8 text. Export Segmentation mask 1.1 again.") from None
    found: list[tuple[str, tuple[int, int, int]]] = []
    for line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.strip().partition(":")
        parts = [part.strip() for part in rest.partition(":")[0].split(",")]
        if len(parts) != 3 or not all(part in _BYTES for part in parts):
            raise InputError(
                f"{where}: {line.strip()!r}: expected name:red,green,blue::. Export Segmentation mask 1.1 again."
            )
        found.append((name, (int(parts[0]), int(parts[1]), int(parts[2]))))
    return found


def by_colour(
    pixels: NDArray[np.uint8], values: Mapping[int, int], unknown: Callable[[int], str], where: str
) -> NDArray[np.int32]:
    """(H, W) values of an (H, W, 3) RGB label map.

    Args:
        pixels: The map.
        values: Colour, as `colour_code` has it, -> value.
        unknown: What a colour without one is, for the message.
        where: What messages call the map.

    Raises:
        InputError: A colour has no value.
    """
    found = np.empty(pixels.shape[:2], dtype=np.int32)
    for rows in row_blocks(pixels.shape[0], pixels.shape[1]):
        # In 32 bits: 8-bit arithmetic on channels overflows silently.
        wide = pixels[rows].astype(np.uint32)
        found[rows], code = look_up(wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2], values)
        if code is not None:
            colour = f"({code >> 16}, {code >> 8 & 255}, {code & 255})"
            raise InputError(f"{where}: colour {colour} is {unknown(code)}")
    return found


def read_annotations(source: Path) -> tuple[Element, str]:
    """Read the root of `CVAT for images 1.1`, of the XML or of the ZIP it is in, and what messages call it.

    Raises:
        InputError: It is no such export.
    """
    where = str(source)
    if source.is_file() and zipfile.is_zipfile(source):
        with Archive(source) as archive:
            names = [name for name in archive.names if PurePosixPath(name).name == "annotations.xml"]
            if len(names) != 1:
                raise InputError(
                    f"{source}: contains {len(names)} files annotations.xml; expected one. Export CVAT for images 1.1."
                )
            data, where = archive.read(names[0]), f"{source}: {names[0]}"
    else:
        data = read_bounded(source)
    root = parse_xml(data, where)
    if root.tag != "annotations":
        raise InputError(f"{where}: its root is <{root.tag}>; expected <annotations>. Export CVAT for images 1.1.")
    if root.find("track") is not None:
        raise InputError(f"{where}: contains tracks, which are for videos. Export CVAT for images 1.1.")
    return root, where


def whole(shape: Element, name: str, default: int | None = None) -> int:
    """Return a whole number among an element's attributes.

    Raises:
        ValueError: It is none, or missing without a default.
    """
    text = shape.get(name)
    if text is None:
        if default is None:
            raise ValueError(name)
        return default
    try:
        return int(text)
    except ValueError:
        if default is None:
            raise
        return default


def mask_attributes(mask: NDArray[np.bool_]) -> dict[str, str]:
    """Return where a `<mask>` is: run lengths row by row in its box.

    Args:
        mask: (H, W), at least one pixel.
    """
    box = box_of_mask(mask)
    return {
        "rle": ", ".join(map(str, box.runs)),
        "left": str(box.left),
        "top": str(box.top),
        "width": str(box.width),
        "height": str(box.height),
    }


def mask_of_element(shape: Element, height: int, width: int, where: str) -> NDArray[np.bool_]:
    """(H, W) the pixels of a `<mask>`.

    Raises:
        InputError: It is none, or does not lie in the image.
    """
    try:
        runs = tuple(int(run) for run in shape.get("rle", "").split(","))
        left, top, across, down = (whole(shape, name) for name in ("left", "top", "width", "height"))
    except ValueError:
        raise InputError(
            f"{where} has a mask whose rle, left, top, width and height are not all whole numbers"
        ) from None
    try:
        return mask_of_box(Box(left=left, top=top, width=across, height=down, runs=runs), height, width)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


# ---- CVAT for images 1.1 ----------------------------------------------------------------------------------------


def read_cvat_xml(sources: Sources, *, partial: bool = False, classes: ClassTable | None = None) -> Found:
    """Read `CVAT for images 1.1`: `labels` names annotations.xml or the ZIP, `images` the folder of images.

    Masks, polygons, boxes and ellipses, turned ones as well, are painted by priority of their class, then `z_order`, then as
    they come in the file. Polygons are filled as COCO's tools do it. Points, polylines and tags cover no pixels; tracks are
    refused. What nothing covers is void, and so are the pixels of a label called `void`, unless the user's classes have it.

    Args:
        sources: The folder and the file; ground truth is a folder of label maps or another such file.
        partial: Images that the file does not name start without labels.
        classes: The user's classes, joined with labels by name; without, those of the file, by order.

    Raises:
        InputError: The file is none, or contradicts itself.
    """
    path = need(sources.labels, "labels", "annotations.xml, or the ZIP that CVAT exports", "cvat-xml")
    annotated = _xml(path, classes, sources.max_pixels)
    return samples(sources, partial, annotated, lambda other, table: _xml(other, table, sources.max_pixels))


def _xml(path: Path, given: ClassTable | None, max_pixels: int) -> Annotated:
    root, where = read_annotations(path)
    tags = list(root.iter("image"))
    used: dict[str, None] = {}
    other: set[str] = set()
    for tag in tags:
        for shape in tag:
            if shape.tag in _SHAPES:
                used[shape.get("label", "")] = None
            elif shape.tag not in _NO_PIXELS:
                raise InputError(
                    f"{where}: image {tag.get('name')!r} has a <{shape.tag[:40]}>, which is not supported."
                )
            elif shape.tag != "attribute":
                other.add(shape.tag)
    colours: dict[str, tuple[int, int, int] | None] = {}
    for label in root.iter("label"):
        if label.find("name") is not None:
            colours.setdefault((label.findtext("name") or "").strip(), _hexadecimal(label.findtext("color") or ""))
    if colours and (strangers := used.keys() - colours.keys()):
        raise InputError(f"{where}: a shape has label {min(strangers)!r}, which the file does not define.")
    categories = [Category(name=name, colour=colour) for name, colour in (colours or dict.fromkeys(used)).items()]
    table, values = _with_void(categories, used, given, where)
    paths = [safe_path(tag.get("name"), where) for tag in tags]
    maps: dict[str, MapSource] = {}
    for tag, name in zip(tags, unique_names(paths, where), strict=True):
        said = f"{where}: image {tag.get('name')!r}"
        try:
            width, height = check_size(whole(tag, "width"), whole(tag, "height"), max_pixels, said)
        except ValueError as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{said}: its width and height are not whole numbers.") from None
        draw = bound(_draw_shapes, [s for s in tag if s.tag in _SHAPES], values, table, (width, height), said)
        maps[name] = DrawnMap(where=said, draw=draw)
    notes = [f"{', '.join(sorted(other))} of {where} cover no pixels and were left out"] if other else []
    return Annotated(maps=maps, table=table, where=where, notes=notes)


def _hexadecimal(text: str) -> tuple[int, int, int] | None:
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", text.strip()):
        return None
    code = int(text.strip()[1:], 16)
    return code >> 16, code >> 8 & 255, code & 255


def _with_void(
    categories: list[Category], used: Collection[str], given: ClassTable | None, where: str
) -> tuple[ClassTable, dict[str, int]]:
    """Classes by label, where a label `void` means no class unless the user's classes have it."""
    void = given is None or "void" not in given.names
    kept = [category for category in categories if not (void and category.name == "void")]
    table, values = join_classes(kept, [name for name in used if name != "void" or not void], given, where)
    return table, values | ({"void": table.ignore} if void else {})


def _draw_shapes(
    shapes: list[Element], values: Mapping[str, int], table: ClassTable, size: tuple[int, int], where: str
) -> NDArray[Any]:
    width, height = size

    def order(place: int) -> tuple[int, int, int]:
        shape = shapes[place]
        value = values[shape.get("label", "")]
        priority = 0 if value == table.ignore else table.priority(table.file_values.index(value))
        return priority, whole(shape, "z_order", 0), place

    painted = (
        (_shape_mask(shapes[p], height, width, where), values[shapes[p].get("label", "")])
        for p in sorted(range(len(shapes)), key=order)
    )
    return paint(painted, height, width, table.ignore)


def _shape_mask(shape: Element, height: int, width: int, where: str) -> NDArray[np.bool_]:
    if shape.tag == "mask":
        return mask_of_element(shape, height, width, where)
    try:
        if shape.get("outside") == "1":
            raise InputError("has a shape with outside=1, which only tracks have")
        turned = number(shape.get("rotation", "0"), "a rotation")
        if shape.tag == "polygon":
            pairs = shape.get("points", "").replace(";", ",").split(",")
            points = points_of([number(part, "a coordinate") for part in pairs], "a polygon")
        elif shape.tag == "box":
            sides = [number(shape.get(name), f"{name} of a box") for name in ("xtl", "ytl", "xbr", "ybr")]
            points = box_points(sides[0], sides[1], sides[2], sides[3], turned)
        else:
            parts = [number(shape.get(name), f"{name} of an ellipse") for name in ("cx", "cy", "rx", "ry")]
            points = ellipse_points(parts[0], parts[1], parts[2], parts[3], turned)
        return polygon_mask(points, height, width)
    except InputError as error:
        raise InputError(f"{where}: {error}.") from None


# ---- Segmentation mask 1.1 --------------------------------------------------------------------------------------


class _Tree:
    """The files of an export, in a ZIP, which stays open as long as a label map may be drawn from it, or in a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.archive: Archive | None = None
        if path.is_dir():
            self.names = sorted(
                found.relative_to(path).as_posix()
                for found in path.rglob("*")
                if found.is_file() and not any(part.startswith(".") for part in found.relative_to(path).parts)
            )
        elif not path.is_file():
            raise MissingFileError(f"No file or folder at {path}.")
        else:
            self.archive = Archive(path)
            self.names = self.archive.names

    def read(self, name: str) -> bytes:
        """Read the bytes of a file, from any thread."""
        return read_bounded(self.path / name) if self.archive is None else self.archive.read(name, _MOST_FILE)


def read_cvat_mask(sources: Sources, *, partial: bool = False, classes: ClassTable | None = None) -> Found:
    """Read `Segmentation mask 1.1`: `labels` names the ZIP, or the folder it was unpacked to.

    Images are those of `images`, or those in the export (`JPEGImages`). Label maps are read through the colours of
    `labelmap.txt`. Black is `background`, CVAT's word for no label: it is void, unless the user's classes have a class
    `background`, or a folder `void/` lies in the export or beside the ZIP, as `a2lc export` writes it for projects with such
    a class: then background is a class, and what is not 0 in a file of `void/` is void.

    Args:
        sources: The export, and folders of images, masks and ground truth.
        partial: Images that the export has no label map of start without labels.
        classes: The user's classes, joined with labels by name; without, those of labelmap.txt, by order.

    Raises:
        InputError: It is no such export.
    """
    path = need(sources.labels, "labels", "the ZIP that CVAT exports, or its folder", "cvat-mask")
    annotated = _mask_export(path, classes, sources.max_pixels)
    return samples(sources, partial, annotated, lambda other, table: _mask_export(other, table, sources.max_pixels))


def _mask_export(path: Path, given: ClassTable | None, max_pixels: int) -> Annotated:
    if path.is_dir() and not (path / "SegmentationClass").is_dir() and (path / "annotations.zip").is_file():
        path = path / "annotations.zip"  # the folder that a2lc export made
    tree = _Tree(path)
    names = tree.names
    maps = _below(names, "SegmentationClass", {".png"})
    if not maps:
        raise InputError(f"{path}: contains no SegmentationClass/*.png. Export Segmentation mask 1.1.")
    voids = {name: bound(tree.read, place) for name, place in _below(names, "void", {".png"}).items()}
    beside = path.parent / "void"
    if path.is_file() and beside.is_dir():
        voids |= {
            found.relative_to(beside).with_suffix("").as_posix(): bound(read_bounded, found)
            for found in sorted(beside.rglob("*.png"))
        }
    listed = [name for name in names if PurePosixPath(name).name == LABELMAP]
    if not listed:
        raise InputError(f"{path}: contains no {LABELMAP}, which defines the colours. Export Segmentation mask 1.1.")
    where = f"{path}: {listed[0]}"
    labels = read_labelmap(tree.read(listed[0]), where)
    images = _below(names, "JPEGImages", IMAGE_SUFFIXES)
    lists = [name for name in names if "/ImageSets/Segmentation/" in f"/{name}" and name.endswith(".txt")]
    stems = [line.strip() for name in lists for line in _text(tree, name) if line.strip()]
    packed = {
        name: PackedImage(
            where=f"{path}: {place}", suffix=PurePosixPath(place).suffix.lower(), read=bound(tree.read, place)
        )
        for name, place in images.items()
    }
    counted = bool(voids) or (given is not None and BACKGROUND in given.names)
    colours: dict[int, str] = {0: BACKGROUND}
    for name, colour in labels:
        if name != BACKGROUND and colours.setdefault(colour_code(colour), name) != name:
            raise InputError(f"{where}: two labels have the colour {colour}. Give each its own in CVAT.")
    chosen = [(name, colour) for name, colour in labels if name != BACKGROUND or counted]
    categories = [Category(name=name, colour=colour) for name, colour in chosen]
    # Which labels are used is known when the maps are drawn: a label without a class must then not be there.
    table, values = _with_void(categories, () if given is not None else dict(chosen), given, where)
    codes = {code: values[name] for code, name in colours.items() if name in values}
    if not counted:
        codes[0] = table.ignore
    unknown = bound(_what, colours)
    missing = [stem for stem in stems if stem not in maps and name_of(PurePosixPath(stem)) not in maps]
    found: dict[str, MapSource] = {}
    for name, place in maps.items():
        safe_path(f"{name}.png", str(path))
        said = f"{path}: {place}"
        read = bound(tree.read, place)
        draw = bound(_draw_colours, read, voids.get(name), codes, unknown, table.ignore, max_pixels, said)
        found[name] = DrawnMap(where=said, draw=draw)
    notes = [f"{len(missing)} images listed in {path} have no label map there"] if missing else []
    if not counted and BACKGROUND in [name for name, _ in labels]:
        notes.append("background is read as void; name a class background in `classes` to make it a class")
    return Annotated(maps=found, table=table, where=str(path), notes=notes, packed=packed)


def _below(names: Iterable[str], folder: str, suffixes: Collection[str]) -> dict[str, str]:
    """Files in a folder of the export, anywhere in it, by their names there without suffix."""
    found: dict[str, str] = {}
    for name in names:
        _, inside, rest = f"/{name}".partition(f"/{folder}/")
        if inside and PurePosixPath(rest).suffix.lower() in suffixes:
            found[name_of(PurePosixPath(rest))] = name
    return found


def _text(tree: _Tree, name: str) -> list[str]:
    try:
        return tree.read(name).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"{tree.path}: {name} is not UTF-8 text. Export Segmentation mask 1.1 again.") from None


def _what(colours: Mapping[int, str], code: int) -> str:
    if code in colours:
        return f"label {colours[code]!r}, which is not in `classes`. Add it there."
    return f"not a label of {LABELMAP}. Export Segmentation mask 1.1 again."


def _draw_colours(
    read: Callable[[], bytes],
    read_void: Callable[[], bytes] | None,
    codes: Mapping[int, int],
    unknown: Callable[[int], str],
    void: int,
    max_pixels: int,
    where: str,
) -> NDArray[Any]:
    values = by_colour(read_rgb(ImageBytes(where=where, data=read()), max_pixels=max_pixels), codes, unknown, where)
    if read_void is not None:
        empty = read_ids(ImageBytes(where=f"void of {where}", data=read_void()), max_pixels=max_pixels)
        if empty.shape != values.shape:
            raise InputError(f"{where}: its file in void/ has a different size.")
        values[empty != 0] = void
    return values.astype(np.uint16 if values.max(initial=0) > 255 else np.uint8)
