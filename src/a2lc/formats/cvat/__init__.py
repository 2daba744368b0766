"""CVAT's two formats: `Segmentation mask 1.1` and `CVAT for images 1.1`.

Facts of both are from CVAT's documentation of formats, and from what it writes.
"""

from __future__ import annotations

from functools import partial as bound

from a2lc.formats.cvat.reading import (
    BACKGROUND,
    LABELMAP,
    MOST_LABELMAP,
    by_colour,
    colour_code,
    free_colour,
    labelmap_text,
    mask_attributes,
    mask_of_element,
    read_annotations,
    read_cvat_mask,
    read_cvat_xml,
    read_labelmap,
    whole,
)
from a2lc.formats.cvat.writing import CvatMaskWriter, CvatXmlWriter
from a2lc.formats.detection import AnnotationFile, Detected, FolderView
from a2lc.formats.registry import Format, register

__all__ = [
    "BACKGROUND",
    "LABELMAP",
    "MOST_LABELMAP",
    "CvatMaskWriter",
    "CvatXmlWriter",
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


def _detect_mask(folder: FolderView) -> Detected | None:
    if not {"labelmap.txt", "segmentationclass"} <= folder.entries.keys():
        return None
    return Detected(why="it contains labelmap.txt and SegmentationClass", images=folder.images, labels=folder.folder)


def _detect_xml(folder: FolderView) -> Detected | None:
    if "annotations.xml" not in folder.entries:
        return None
    return Detected(why="it contains annotations.xml", images=folder.images, labels=folder.entries["annotations.xml"])


def _detect_archive(folder: FolderView, file: AnnotationFile, *, xml: bool) -> Detected | None:
    """Both formats come as archives: one has XML, the other one colours. Beside label maps, others lie there too."""
    has_xml = any(name.endswith("annotations.xml") for name in file.names)
    has_masks = any("SegmentationClass" in name or name.endswith("labelmap.txt") for name in file.names)
    if (
        file.path.suffix.lower() != ".zip"
        or has_xml != xml
        or (not has_xml and not has_masks and (file.names or folder.labels))
    ):
        return None
    return Detected(why=f"it contains {file.path.name}", images=folder.images, labels=file.path)


register(
    Format(
        name="cvat-mask",
        title="CVAT *Segmentation mask 1.1*",
        reads=("a folder, or images in the export", "the ZIP of *Segmentation mask 1.1*, or its folder"),
        reader=read_cvat_mask,
        writes="`annotations.zip` as *Segmentation mask 1.1*, and `void/`, which marks void pixels",
        writer=CvatMaskWriter,
        labels="annotations.zip",
        detect=_detect_mask,
        detect_file=bound(_detect_archive, xml=False),
    )
)

register(
    Format(
        name="cvat-xml",
        title="CVAT *for images 1.1*",
        reads=("a folder", "`annotations.xml` of *CVAT for images 1.1*, or its ZIP"),
        reader=read_cvat_xml,
        writes="`annotations.xml` as *CVAT for images 1.1*: one mask per class and image",
        writer=CvatXmlWriter,
        labels="annotations.xml",
        detect=_detect_xml,
        detect_file=bound(_detect_archive, xml=True),
    )
)
