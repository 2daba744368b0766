"""ADE20K as in SceneParse150: grey PNGs with 0 for void, and the list of names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from a2lc.classes.table import ClassTable
from a2lc.errors import InputError
from a2lc.formats.ade20k import ADE_COLUMNS, OBJECT_INFO
from a2lc.formats.writing import Corrected, class_values, register_export, write_map
from a2lc.io.files import write_text
from a2lc.project.project import Project

__all__ = ["AdeWriter"]


@register_export(
    "ade20k",
    labels="annotations/training",
    line="grey PNGs with 0 for void under annotations/training/, and their names",
)
class AdeWriter:
    """Writes `annotations/training/IMAGE_ID.png` and `objectInfo150.txt`.

    Values of classes are kept where no class has 0; classes are numbered from 1 otherwise, also in `classes.json`.
    """

    def __init__(self, project: Project, folder: Path) -> None:
        classes = project.classes
        self.folder = folder
        self.classes = classes
        self.values = list(classes.file_values)
        if 0 in self.values:
            self.values = list(range(1, classes.num_classes + 1))
        if max(self.values) > 255:
            raise InputError(
                f"ADE20K label maps hold values up to 255, and void is 0; this project needs {max(self.values)}. Use --format "
                "folder."
            )
        self.kept = classes.ignore == 0
        self.ratio = np.zeros(classes.num_classes + 1, dtype=np.int64)
        self.images = np.zeros(classes.num_classes + 1, dtype=np.int64)

    def add(self, corrected: Corrected) -> None:
        """Write a label map: pixels nobody changed keep their values where 0 is void already."""
        values = class_values(corrected.labels, self.values, 0)
        if self.kept and corrected.values.dtype == np.uint8:
            values = corrected.values
        write_map(self.folder / "annotations" / "training" / f"{corrected.image_id}.png", corrected, values)
        places = np.minimum(corrected.labels, self.classes.num_classes).ravel()
        counts = np.bincount(places, minlength=self.classes.num_classes + 1)
        self.ratio += counts
        self.images += counts > 0

    def finish(self) -> ClassTable:
        """Write the names, each with its share of pixels and the images it is on; the classes by the ids of the files."""
        total = max(int(self.ratio.sum()), 1)
        lines = ["\t".join(ADE_COLUMNS)]
        synonyms = self.classes.synonyms or ((),) * self.classes.num_classes
        for index, (value, name) in enumerate(zip(self.values, self.classes.names, strict=True)):
            words = ", ".join([name, *synonyms[index]])
            lines.append(f"{value}\t{self.ratio[index] / total:.4f}\t{self.images[index]}\t0\t\t{words}")
        write_text(self.folder / OBJECT_INFO, "\n".join(lines) + "\n")
        return replace(self.classes, file_values=tuple(self.values), ignore=0)
