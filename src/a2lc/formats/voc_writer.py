"""PASCAL VOC: palette PNGs, and the list of stems."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from a2lc.formats.folder_writer import own_palette
from a2lc.formats.writing import Corrected, register_export, require_eight_bits, stored_bytes
from a2lc.images.label_maps import write_ids
from a2lc.io.files import write_bytes, write_text
from a2lc.project.project import Project

__all__ = ["VocWriter"]


@register_export(
    "voc",
    labels="SegmentationClass",
    line="palette PNGs under SegmentationClass/, and ImageSets/Segmentation/train.txt",
)
class VocWriter:
    """Writes `SegmentationClass/IMAGE_ID.png` and `ImageSets/Segmentation/train.txt`."""

    def __init__(self, project: Project, folder: Path) -> None:
        classes = project.classes
        require_eight_bits(classes, "VOC")
        self.folder = folder
        self.classes = classes
        self.value_map = project.config.sources.value_map
        self.names: list[str] = []

    def add(self, corrected: Corrected) -> None:
        """Write a label map with a palette: the user's own, with the classes it leaves black, or that of the classes."""
        self.names.append(corrected.image_id)
        target = self.folder / "SegmentationClass" / f"{corrected.image_id}.png"
        values, palette = corrected.values, own_palette(corrected)
        data = stored_bytes(corrected, values, ("P",))
        if data is not None:
            write_bytes(target, data)
            return
        if palette is None:
            palette = self.classes.palette()
        else:
            # A class that the user's palette leaves black would be invisible.
            for value, colour in zip(self.classes.file_values, self.classes.colours, strict=True):
                if value and not any(palette[3 * value : 3 * value + 3]):
                    palette[3 * value : 3 * value + 3] = colour
        if values.dtype != np.uint8:
            # Classes fit 8 bits, checked before; values that were only read as others need not.
            for value, becomes in self.value_map.items():
                if value > 255:
                    values = np.where(values == value, becomes, values)
            values = values.astype(np.uint8)
        write_ids(target, values, palette)

    def finish(self) -> None:
        """Write the list."""
        names = "".join(f"{name}\n" for name in self.names)
        write_text(self.folder / "ImageSets" / "Segmentation" / "train.txt", names)
