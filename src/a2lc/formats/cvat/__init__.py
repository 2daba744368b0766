"""CVAT's two formats: `Segmentation mask 1.1` and `CVAT for images 1.1`.

Facts of both are from CVAT's documentation of formats, and from what it writes.
"""

from __future__ import annotations

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

register(
    Format(
        name="cvat-mask",
        title="CVAT *Segmentation mask 1.1*",
        reads=("a folder, or images in the export", "the ZIP of *Segmentation mask 1.1*, or its folder"),
        reader=read_cvat_mask,
        writes="`annotations.zip` as *Segmentation mask 1.1*, and `void/` for what it cannot hold",
        writer=CvatMaskWriter,
        labels="annotations.zip",
    )
)

register(
    Format(
        name="cvat-xml",
        title="CVAT *for images 1.1*",
        reads=("a folder", "`annotations.xml` of *CVAT for images 1.1*, or its ZIP"),
        reader=read_cvat_xml,
        writes="`annotations.xml` as *CVAT for images 1.1*: a mask for each class of an image",
        writer=CvatXmlWriter,
        labels="annotations.xml",
    )
)
