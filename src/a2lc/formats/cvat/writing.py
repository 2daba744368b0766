"""CVAT: `Segmentation mask 1.1` as a ZIP, and `CVAT for images 1.1` as XML."""

from __future__ import annotations

import json
import unicodedata
import zipfile
from pathlib import Path
from typing import IO
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np

from a2lc.classes.table import ClassTable
from a2lc.formats.annotated import check_label_name
from a2lc.formats.cvat.reading import BACKGROUND, LABELMAP, free_colour, labelmap_text, mask_attributes
from a2lc.formats.writing import Corrected
from a2lc.images.label_maps import write_ids
from a2lc.images.rgb import png_bytes
from a2lc.io.files import write_text
from a2lc.project.project import Project

__all__ = ["CvatMaskWriter", "CvatXmlWriter"]


def _colours(classes: ClassTable) -> list[tuple[int, int, int]]:
    """Return a colour for each class that no other has, and none is black but that of background."""
    used: set[tuple[int, int, int]] = {(0, 0, 0)}
    found = []
    for index, (name, colour) in enumerate(zip(classes.names, classes.colours, strict=True)):
        if name == BACKGROUND:
            found.append((0, 0, 0))
            continue
        if colour in used:
            colour = free_colour(index, used)
        used.add(colour)
        found.append(colour)
    return found


def _hexadecimal(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


class CvatMaskWriter:
    """Writes `annotations.zip`, and `labels.json` to paste as raw labels of a task.

    CVAT's label maps have no void: it becomes background, which is black. Where a class of the project is itself called
    `background`, that class is black as well, and files in `void/` say which pixels are void: 255 there. `a2lc init` reads
    them back.
    """

    def __init__(self, project: Project, folder: Path) -> None:
        classes = project.classes
        for name in classes.names:
            check_label_name(name, "cvat-mask")
        self.folder, self.classes = folder, classes
        self.colours = _colours(classes)
        self.table = np.array([*self.colours, (0, 0, 0)], dtype=np.uint8)
        self.zip = zipfile.ZipFile(folder / "annotations.zip", "w", zipfile.ZIP_STORED)
        self.names: list[str] = []

    def add(self, corrected: Corrected) -> None:
        """Add a label map."""
        self.names.append(corrected.image_id)
        pixels = self.table[np.minimum(corrected.labels, self.classes.num_classes)]
        self.zip.writestr(f"SegmentationClass/{corrected.image_id}.png", png_bytes(pixels))
        if BACKGROUND in self.classes.names:
            void = np.where(corrected.labels == self.classes.ignore_index, 255, 0).astype(np.uint8)
            write_ids(self.folder / "void" / f"{corrected.image_id}.png", void)

    def finish(self) -> None:
        """Write the lists and the labels."""
        rows = [row for row in zip(self.classes.names, self.colours, strict=True) if row[0] != BACKGROUND]
        self.zip.writestr(LABELMAP, labelmap_text(rows))
        self.zip.writestr("ImageSets/Segmentation/default.txt", "".join(f"{name}\n" for name in self.names))
        self.zip.close()
        # Not background: as a label of the task, what is not labelled would become one object (cvat#8995).
        specs = [{"name": name, "color": _hexadecimal(colour), "attributes": []} for name, colour in rows]
        write_text(self.folder / "labels.json", json.dumps(specs, indent=1, ensure_ascii=False))


class CvatXmlWriter:
    """Writes `annotations.xml`, and `labels.json` to paste as raw labels of a task. Void is what no mask covers."""

    def __init__(self, project: Project, folder: Path) -> None:
        classes = project.classes
        for name in classes.names:
            check_label_name(name, "cvat-xml")
        self.folder, self.classes = folder, classes
        self.file: IO[str] = (folder / "annotations.xml").open("w", encoding="utf-8")
        self.file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n')
        meta = Element("meta")
        task = SubElement(meta, "task")
        SubElement(task, "name").text = "".join(c for c in project.config.name if unicodedata.category(c) != "Cc")
        SubElement(task, "mode").text = "annotation"
        labels = SubElement(task, "labels")
        specs = []
        for name, colour in zip(classes.names, classes.colours, strict=True):
            label = SubElement(labels, "label")
            for key, text in (("name", name), ("color", _hexadecimal(colour)), ("type", "mask")):
                SubElement(label, key).text = text
            specs.append({"name": name, "color": _hexadecimal(colour), "type": "mask", "attributes": []})
        self._write(meta)
        write_text(folder / "labels.json", json.dumps(specs, indent=1, ensure_ascii=False))
        self.count = 0

    def _write(self, element: Element) -> None:
        indent(element)
        self.file.write(tostring(element, encoding="unicode") + "\n")

    def add(self, corrected: Corrected) -> None:
        """Add an image with a mask for each class on it."""
        size = {"width": str(corrected.width), "height": str(corrected.height)}
        image = Element("image", {"id": str(self.count), "name": corrected.file} | size)
        self.count += 1
        for index in np.unique(corrected.labels).tolist():
            if index != self.classes.ignore_index:
                about = {"label": self.classes.names[index], "source": "semi-auto", "occluded": "0"}
                SubElement(image, "mask", about | mask_attributes(corrected.labels == index) | {"z_order": "0"})
        self._write(image)

    def finish(self) -> None:
        """End the file."""
        self.file.write("</annotations>\n")
        self.file.close()
