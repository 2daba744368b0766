"""Masks of a project made from its images or labels, in place of those it has."""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.data.intake import in_order, mask_columns, mask_tables
from a2lc.data.png import write_ids
from a2lc.errors import InputError, ShapeError, StageError, require_known
from a2lc.files import write_text
from a2lc.masks.components import component_masks
from a2lc.masks.superpixel import MAX_MASKS, grid, seeds, slic
from a2lc.progress import Track, no_progress
from a2lc.project import MADE_MASKS, Project
from a2lc.records import ImageRecord

__all__ = ["MASK_METHODS", "make_masks"]

MASK_METHODS = {
    "seeds": "superpixels by SEEDS, about --count an image",
    "slic": "superpixels by SLIC, about --count an image",
    "grid": "squares of --size pixels",
    "components": "connected components of the labels",
}
"""Ways to make masks, by name."""


def make_masks(
    project: Project,
    method: str,
    *,
    count: int = 1024,
    size: int = 32,
    track: Track = no_progress,
    replace: bool = False,
) -> int:
    """Make the masks of a project in which no round was opened yet; the caller holds its lock.

    New masks and tables are written beside the old ones and take their place when all are complete. A process killed
    before that leaves the old ones; one killed after it leaves the rest to whoever opens the project next.

    Args:
        project: Goes on with the new masks; what it remembered of the old ones is dropped.
        method: `seeds`, `slic`, `grid` or `components`.
        count: Superpixels an image, of `seeds` and `slic`.
        size: Side in pixels, of `grid`.
        track: Shows progress.
        replace: Also where the project has masks already.

    Returns:
        Number of masks.

    Raises:
        UnknownNameError: There is no such method.
        StageError: A round was opened: the ledger names masks by their numbers.
        InputError: There are masks already, a setting is out of range, or no mask came out.
        MissingExtraError: SEEDS needs OpenCV.
    """
    require_known("way to make masks", method, MASK_METHODS)
    if project.ledger.rounds():
        raise StageError(
            f"{project.folder} has rounds already, and its ledger names masks by their numbers, so the masks stay. "
            "Make a new project for other masks: a2lc init"
        )
    settings: dict[str, Any] = {"method": method}
    settings |= {"seeds": {"count": count}, "slic": {"count": count}, "grid": {"size": size}}.get(method, {})
    if project.mended_masks == settings:
        # This very command was killed at its end, and opening the project did the rest.
        return len(project.masks)
    if len(project.masks) and not replace:
        raise InputError(
            f"{project.folder} has {len(project.masks):,} masks already. Pass --replace to make others in their place."
        )
    partial = project.folder / ".masks.partial"
    shutil.rmtree(partial, ignore_errors=True)  # of a killed process
    try:
        made = _write(project, partial, method, count, size, track)
        write_text(partial / "masks.json", json.dumps(settings))
        os.replace(partial, project.folder / MADE_MASKS)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    project.install_masks()
    return made


def _write(project: Project, folder: Path, method: str, count: int, size: int, track: Track) -> int:
    """Write mask maps and tables to a new folder; the number of masks comes back."""
    has_truth = project.has_ground_truth

    def one(image: ImageRecord) -> tuple[NDArray[Any], ...]:
        labels = project.first_labels(image)
        masks = _masks(project, image, labels, method, count, size)
        if int(masks.max()) > MAX_MASKS:
            raise InputError(
                f"{project.image_path(image)}: {int(masks.max()):,} masks; at most {MAX_MASKS:,} fit a 16-bit mask map."
            )
        write_ids(folder / "masks" / f"{image.image_id}.png", masks.astype(np.uint16))
        return mask_columns(masks, labels, project.ground_truth(image) if has_truth else None, project.classes)

    images = project.images
    columns = []
    with (
        ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool,
        track("making masks", len(images)) as advance,
    ):
        for found in in_order(pool, one, images):
            columns.append(found)
            advance()
    masks, truth = mask_tables(columns, has_truth)
    if not len(masks):
        raise InputError(
            "No mask came out: the labels carry no class anywhere. Make masks from the images: --method seeds"
        )
    masks.save(folder / "masks.parquet")
    if has_truth:
        truth.save(folder / "truth.parquet")
    return len(masks)


def _masks(
    project: Project, image: ImageRecord, labels: NDArray[Any], method: str, count: int, size: int
) -> NDArray[np.int32]:
    if method == "components":
        return component_masks(labels, project.classes.ignore_index)
    if method == "grid":
        return grid(image.height, image.width, size)
    pixels = project.pixels(image)
    if pixels.shape[:2] != labels.shape:
        raise ShapeError(
            f"{project.image_path(image)} is {pixels.shape[1]} x {pixels.shape[0]} now and was {image.width} x {image.height} "
            "when the project was made. Put the image back."
        )
    return seeds(pixels, count) if method == "seeds" else slic(pixels, count)
