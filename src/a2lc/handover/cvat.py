"""Write and read hand-overs for CVAT, as `CVAT for images 1.1` or `Segmentation mask 1.1`."""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

import numpy as np
from numpy.typing import NDArray

from a2lc.errors import ImageFileError, InputError
from a2lc.formats.cvat import (
    BACKGROUND,
    LABELMAP,
    MOST_LABELMAP,
    by_colour,
    colour_code,
    labelmap_text,
    mask_attributes,
    mask_of_element,
    read_annotations,
    read_labelmap,
    whole,
)
from a2lc.handover.questions import Drawing, Handed, HandedImage, Label, Sheet, Verdict, tool_image, write_tool_image
from a2lc.images.archive import Archive
from a2lc.images.opening import ImageBytes
from a2lc.images.rgb import read_rgb, write_rgb
from a2lc.ledger import KEEP
from a2lc.project.project import Project

__all__ = ["MAX_OBJECTS", "CvatMaskExport", "CvatXmlExport", "write_cvat"]

MAX_OBJECTS = 255
"""Maximum questions of one image: the colours for objects in VOC's colour map."""

_OPEN = "open"  # not answered yet
_QUERY, _VERDICT = "query_id", "verdict"
_IGNORED = frozenset({"tag", "points"})  # cover no pixels


def write_cvat(project: Project, handed: Handed, sheets: Iterable[Sheet], folder: Path) -> None:
    """Write the labels to paste, the images to upload, and the annotations to upload.

    Args:
        project: Opened.
        handed: The hand-over.
        sheets: Images with their questions.
        folder: An existing folder.
    """
    as_xml = handed.format == "cvat-xml"
    labels = [_label_spec(label, as_xml) for label in handed.labels]
    (folder / "labels.json").write_text(json.dumps(labels, indent=1, ensure_ascii=False), encoding="utf-8")
    root = _xml_head(handed) if as_xml else None
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder)))
        images = stack.enter_context(zipfile.ZipFile(folder / "images.zip", "w", zipfile.ZIP_STORED))
        maps = None
        if not as_xml:
            maps = stack.enter_context(zipfile.ZipFile(folder / "annotations.zip", "w", zipfile.ZIP_DEFLATED))
            maps.writestr(LABELMAP, labelmap_text((label.name, label.color) for label in handed.labels))
            names = "".join(f"{image.image_id}\n" for image in handed.images)
            maps.writestr("ImageSets/Segmentation/default.txt", names)
        for place, sheet in enumerate(sheets):
            _, path = tool_image(project, sheet.record)
            if path is None:
                path = work / "image.png"
                write_tool_image(project, sheet.record, path)
            images.write(path, sheet.handed.file)
            if root is not None:
                _add_image(root, place, sheet, handed.labels)
            if maps is not None:
                for kind, pixels in zip(("Class", "Object"), _maps(sheet, handed.labels), strict=True):
                    write_rgb(work / "map.png", pixels)
                    maps.write(work / "map.png", f"Segmentation{kind}/{sheet.handed.image_id}.png")
    if root is not None:
        indent(root)
        ElementTree(root).write(folder / "annotations.xml", encoding="utf-8", xml_declaration=True)


def _label_spec(label: Label, as_xml: bool) -> dict[str, Any]:
    attributes: list[dict[str, Any]] = []
    if as_xml:
        verdicts = [_OPEN, *(verdict.value for verdict in Verdict)]
        attributes = [
            {"name": _QUERY, "mutable": False, "input_type": "text", "default_value": "", "values": [""]},
            {"name": _VERDICT, "mutable": False, "input_type": "select", "default_value": _OPEN, "values": verdicts},
        ]
    return {"name": label.name, "color": label.hexadecimal, "type": "mask", "attributes": attributes}


def _maps(sheet: Sheet, labels: tuple[Label, ...]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw (H, W, 3) RGB of labels, and of objects, one for each question."""
    by_label = np.zeros((*sheet.mask_map.shape, 3), dtype=np.uint8)
    by_object = np.zeros_like(by_label)
    for place, (number, query) in enumerate(sheet.queries.items(), start=1):
        inside = sheet.inside(number)
        by_label[inside] = labels[-1 if query.proposed is None else query.proposed].color
        by_object[inside] = _voc_colour(place)
    return by_label, by_object


def _voc_colour(index: int) -> tuple[int, int, int]:
    """Return VOC's colour of an index: its bits are dealt to the channels, the most significant first.

    Example:
        >>> _voc_colour(1), _voc_colour(10)
        ((128, 0, 0), (64, 128, 0))
    """
    channels = [0, 0, 0]
    for bit in range(8):
        for channel in range(3):
            channels[channel] |= (index >> (3 * bit + channel) & 1) << (7 - bit)
    return channels[0], channels[1], channels[2]


def _xml_head(handed: Handed) -> Element:
    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    task = SubElement(SubElement(root, "meta"), "task")
    for name, text in (
        ("name", f"{handed.project} round {handed.round}"),
        ("size", str(len(handed.images))),
        ("mode", "annotation"),
    ):
        SubElement(task, name).text = text
    labels = SubElement(task, "labels")
    for label in handed.labels:
        found = SubElement(labels, "label")
        for name, text in (("name", label.name), ("color", label.hexadecimal), ("type", "mask")):
            SubElement(found, name).text = text
    return root


def _add_image(root: Element, place: int, sheet: Sheet, labels: tuple[Label, ...]) -> None:
    size = {"width": str(sheet.handed.width), "height": str(sheet.handed.height)}
    tag = SubElement(root, "image", {"id": str(place), "name": sheet.handed.file} | size)
    for number, query in sheet.queries.items():
        mask = SubElement(
            tag,
            "mask",
            {
                "label": labels[-1 if query.proposed is None else query.proposed].name,
                "source": "auto",
                "occluded": "0",
            }
            | mask_attributes(sheet.inside(number))
            | {"z_order": "0"},
        )
        for name, text in ((_QUERY, str(number)), (_VERDICT, _OPEN)):
            SubElement(mask, "attribute", name=name).text = text


# ---- reading exports ----------------------------------------------------------------------------------------------


class _CvatExport:
    """The common part of both formats: an image painted with labels."""

    def __init__(self, source: Path, handed: Handed, confirm: bool) -> None:
        self.path = source
        self.handed = handed
        self.confirm = confirm
        self.messages: list[str] = []
        self.outside = 0

    def drawings(self, sheet: Sheet) -> Iterator[tuple[int, list[Drawing] | str]]:
        """Yield the drawings of each question of an image, or a message why they cannot be read."""
        try:
            found = self._painted(sheet.handed)
        except InputError as error:
            yield from ((number, f"{error}.") for number in sheet.queries)
            return
        if found is None:
            yield from ((number, []) for number in sheet.queries)
            return
        painted, verdicts = found
        self.outside += int(((painted != KEEP) & ~sheet.anywhere).sum())
        for number in sheet.queries:
            said = verdicts.get(number, set())
            if len(said) > 1:
                names = " and ".join(sorted(verdict.value for verdict in said))
                yield number, f"its masks have different verdicts: {names}. Give them the same one."
            else:
                yield number, [Drawing(painted=painted, verdict=next(iter(said), None), submitted=self.confirm)]

    def _painted(self, image: HandedImage) -> tuple[NDArray[np.int32], dict[int, set[Verdict]]] | None:
        """Read (H, W) labels of an image and verdicts of its questions; None if the export does not contain the image."""
        raise NotImplementedError

    def _matched(self, names: Iterable[str]) -> dict[str, str]:
        """Map images of the hand-over to their names in the export: with folders, or without if that is unambiguous."""
        whole = {image.image_id: image for image in self.handed.images}
        by_base: dict[str, list[str]] = {}
        for identity in whole:
            by_base.setdefault(PurePosixPath(identity).name, []).append(identity)
        found: dict[str, str] = {}
        others = 0
        for name in names:
            identity = name
            if identity not in whole:
                bases = by_base.get(PurePosixPath(name).name, [])
                identity = bases[0] if len(bases) == 1 else ""
            if not identity or identity in found:
                others += 1
            else:
                found[identity] = name
        if not found:
            raise InputError(
                f"{self.path}: none of its {others:,} images was handed over from project {self.handed.project!r}. Use the "
                "export of its task."
            )
        if others:
            self.messages.append(f"{self.path}: {others:,} images that were not handed over were ignored.")
        return found


class CvatXmlExport(_CvatExport):
    """An export as `CVAT for images 1.1`: the XML, or a ZIP with it."""

    def __init__(self, source: Path, handed: Handed, confirm: bool) -> None:
        """Read it.

        Raises:
            InputError: It is no such export, or holds no image of the hand-over.
        """
        super().__init__(source, handed, confirm)
        root, _ = read_annotations(source)
        self.labels = {label.name: label.value for label in handed.labels}
        images = {}
        for tag in root.iter("image"):
            name = tag.get("name", "")
            images[name[: len(name) - len(PurePosixPath(name).suffix)]] = tag
        self.images = {identity: images[name] for identity, name in self._matched(images).items()}

    def close(self) -> None:
        """Do nothing: no file is open."""

    def _painted(self, image: HandedImage) -> tuple[NDArray[np.int32], dict[int, set[Verdict]]] | None:
        tag = self.images.get(image.image_id)
        if tag is None:
            return None
        size = tag.get("width"), tag.get("height")
        if size != (str(image.width), str(image.height)):
            raise InputError(
                f"{self.path}: {image.image_id} has {size[0]} x {size[1]} pixels, but was handed over with "
                f"{image.width} x {image.height}"
            )
        painted = np.full((image.height, image.width), KEEP, dtype=np.int32)
        verdicts: dict[int, set[Verdict]] = {}
        known = {str(question.query_id) for question in image.questions}
        shapes = [shape for shape in tag if shape.tag not in _IGNORED]
        for shape in sorted(shapes, key=lambda shape: whole(shape, "z_order", 0)):
            if shape.tag != "mask":
                raise InputError(
                    f"{self.path}: {image.image_id} has a <{shape.tag}>; only masks are read. Draw it as a mask"
                )
            painted[self._mask(shape, image)] = self._label(shape, image)
            attributes = {found.get("name"): (found.text or "").strip() for found in shape.iter("attribute")}
            number, verdict = attributes.get(_QUERY, ""), attributes.get(_VERDICT, _OPEN)
            if number and number not in known:
                message = f"{self.path}: {image.image_id} has a mask of question {number!r}, which was not handed over."
                self.messages.append(message)
            elif verdict not in {_OPEN, "", *(known_verdict.value for known_verdict in Verdict)}:
                raise InputError(f"{self.path}: {image.image_id} has the verdict {verdict!r}; use those of labels.json")
            elif number and verdict not in {_OPEN, ""}:
                verdicts.setdefault(int(number), set()).add(Verdict(verdict))
        return painted, verdicts

    def _mask(self, shape: Element, image: HandedImage) -> NDArray[np.bool_]:
        return mask_of_element(shape, image.height, image.width, f"{self.path}: {image.image_id}")

    def _label(self, shape: Element, image: HandedImage) -> int:
        name = shape.get("label", "")
        if name not in self.labels:
            raise InputError(f"{self.path}: {image.image_id} has a mask with label {name!r}, which was not handed over")
        return self.labels[name]


class CvatMaskExport(_CvatExport):
    """An export as `Segmentation mask 1.1`: a ZIP of colour-coded label maps."""

    def __init__(self, source: Path, handed: Handed, confirm: bool, max_pixels: int) -> None:
        """Open it.

        Raises:
            InputError: It is no such export, or holds no image of the hand-over.
        """
        super().__init__(source, handed, confirm)
        self.max_pixels = max_pixels
        self._stack = ExitStack()
        self.archive = self._stack.enter_context(Archive(source))
        try:
            maps = {}
            for name in self.archive.names:
                _, found, rest = f"/{name}".partition("/SegmentationClass/")
                if found and rest.endswith(".png"):
                    maps[rest.removesuffix(".png")] = name
            if not maps:
                raise InputError(f"{source}: contains no SegmentationClass/*.png. Export Segmentation mask 1.1.")
            self.maps = {identity: maps[name] for identity, name in self._matched(maps).items()}
            self.colours = self._colours()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the archive."""
        self._stack.close()

    def _colours(self) -> dict[int, int | str]:
        """Map each colour to its label, or to the name of a label that was not handed over."""
        known = {label.name: label.value for label in self.handed.labels}
        names = [name for name in self.archive.names if PurePosixPath(name).name == LABELMAP]
        if not names:
            return {0: KEEP, **{colour_code(label.color): label.value for label in self.handed.labels}}
        where = f"{self.path}: {names[0]}"
        found: dict[int, int | str] = {}
        for name, colour in read_labelmap(self.archive.read(names[0], MOST_LABELMAP), where):
            value: int | str = KEEP if name == BACKGROUND else known.get(name, name)
            if found.setdefault(colour_code(colour), value) != value:
                raise InputError(
                    f"{where}: two labels have the colour {colour}. Give each its own in CVAT, as in labels.json."
                )
        found.setdefault(0, KEEP)
        return found

    def _painted(self, image: HandedImage) -> tuple[NDArray[np.int32], dict[int, set[Verdict]]] | None:
        name = self.maps.get(image.image_id)
        if name is None:
            return None
        where = f"{self.path}: {name}"
        try:
            pixels = read_rgb(ImageBytes(where=where, data=self.archive.read(name)), max_pixels=self.max_pixels)
        except ImageFileError as error:
            raise InputError(str(error).rstrip(".")) from None
        if pixels.shape[:2] != (image.height, image.width):
            raise InputError(
                f"{where} has {pixels.shape[1]} x {pixels.shape[0]} pixels; the image was handed over with {image.width} x "
                f"{image.height}"
            )
        values = {code: value for code, value in self.colours.items() if isinstance(value, int)}
        return by_colour(pixels, values, self._what, where), {}

    def _what(self, code: int) -> str:
        value = self.colours.get(code)
        return "not a label of its labelmap.txt" if value is None else f"label {value!r}, which was not handed over"
