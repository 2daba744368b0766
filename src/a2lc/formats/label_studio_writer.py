"""Label Studio: tasks with a brush region for each class, and the labelling interface they refer to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO
from urllib.parse import quote
from xml.etree.ElementTree import indent, tostring

import numpy as np

from a2lc.formats.annotated import check_label_name
from a2lc.formats.label_studio import brush_region, interface
from a2lc.formats.writing import Corrected, register_export
from a2lc.io.files import write_text
from a2lc.project.project import Project

__all__ = ["LabelStudioWriter"]


@register_export(
    "label-studio", labels="tasks.json", line="tasks.json with a brush region for each class, and label_config.xml"
)
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
