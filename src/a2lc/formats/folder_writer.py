"""Plain folders: label maps of the kind they came in."""

from __future__ import annotations

from pathlib import Path

from a2lc.formats.writing import Corrected, register_export
from a2lc.images.label_maps import write_ids
from a2lc.images.opening import open_image
from a2lc.io.files import write_bytes
from a2lc.project.project import Project

__all__ = ["FolderWriter", "own_palette"]


def own_palette(corrected: Corrected) -> list[int] | None:
    """The palette of the user's label file as 768 numbers, None where it has none."""
    if corrected.source is None:
        return None
    with open_image(corrected.source, max_pixels=corrected.values.size) as opened:
        colours = opened.getpalette("RGB") if opened.mode == "P" else None
    return None if colours is None else [*colours, *([0] * (768 - len(colours)))]


@register_export("folder", labels="labels", line="label maps of the kind they came in, under labels/")
class FolderWriter:
    """Writes `labels/IMAGE_ID.png`."""

    def __init__(self, project: Project, folder: Path) -> None:
        self.folder = folder

    def add(self, corrected: Corrected) -> None:
        """Write a label map: the user's bytes where nothing changed, else with the user's palette."""
        target = self.folder / "labels" / f"{corrected.image_id}.png"
        if corrected.source is not None and not corrected.changed:
            write_bytes(target, corrected.source.read_bytes())
        else:
            write_ids(target, corrected.values, own_palette(corrected))

    def finish(self) -> None:
        """Nothing is left to write."""
