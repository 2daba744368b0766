"""Cityscapes: label ids or ids of training under gtFine, and pictures of them."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np

from a2lc.errors import InputError, first_names
from a2lc.formats.cityscapes import CITYSCAPES, cityscapes_classes, label_end
from a2lc.formats.writing import Corrected, class_values, register_export, require_eight_bits, write_map
from a2lc.images.rgb import write_rgb
from a2lc.project.project import Project

__all__ = ["CityscapesWriter"]


@register_export(
    "cityscapes", labels="gtFine", line="*_gtFine_labelIds.png (or labelTrainIds) and *_gtFine_color.png under gtFine/"
)
class CityscapesWriter:
    """Writes `gtFine/SPLIT/CITY/STEM_gtFine_labelIds.png`, or `labelTrainIds` where the project's values are those.

    Only pixels that changed are rewritten: all kinds of void stay. Projects with other values, and class names that are
    Cityscapes', get label ids, with 0 for void. `instanceIds` are never written: nobody corrected them.
    """

    def __init__(self, project: Project, folder: Path) -> None:
        classes = project.classes
        self.classes = classes
        own = {name: label for name, label, _ in CITYSCAPES}
        trained = dict(zip(cityscapes_classes("labelTrainIds").names, range(len(CITYSCAPES)), strict=True))
        values = dict(zip(classes.names, classes.file_values, strict=True))
        came_so = project.config.sources.format == "cityscapes"
        self.kind, self.table = "labelIds", None
        if classes.ignore == 255 and all(trained.get(name) == value for name, value in values.items()):
            self.kind = "labelTrainIds"
        elif not (came_so or (classes.ignore == 0 and all(own.get(name) == value for name, value in values.items()))):
            unknown = [name for name in classes.names if name not in own]
            if unknown:
                raise InputError(
                    f"Cityscapes has no class {first_names(unknown)}. Rename classes in project.yaml as Cityscapes has them, "
                    "or use another format."
                )
            self.table = [own[name] for name in classes.names]
        if self.table is None:
            require_eight_bits(classes, "Cityscapes")
        self.colours = np.array([*classes.colours, (0, 0, 0)], dtype=np.uint8)
        root = project.config.sources.images
        parts = PurePosixPath(Path(root).as_posix()).parts if root is not None else ()
        split = parts[-1] if len(parts) > 1 and parts[-2] == "leftImg8bit" else "train"
        self.folder = folder / "gtFine" / split

    def add(self, corrected: Corrected) -> None:
        """Write a label map and its picture."""
        values = corrected.values
        if self.table is not None:
            values = class_values(corrected.labels, self.table, 0)
        elif values.dtype != np.uint8:
            # Values above 8 bits are none of the classes': they were read as void, or as another class.
            values = np.where(
                values > 255, class_values(corrected.labels, self.classes.file_values, self.classes.ignore), values
            )
            values = values.astype(np.uint8)
        elif self.kind == "labelIds" and self.classes.ignore == 255:
            # 255 is no label id: void that is new is `unlabeled`.
            values = np.where((values == 255) & (corrected.first != 255), 0, values).astype(np.uint8)
        write_map(self.folder / f"{corrected.image_id}{label_end(self.kind)}.png", corrected, values)
        picture = self.colours[np.minimum(corrected.labels, len(self.colours) - 1)]
        write_rgb(self.folder / f"{corrected.image_id}_gtFine_color.png", picture)

    def finish(self) -> None:
        """Nothing is left to write."""
