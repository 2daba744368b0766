"""Masks of a project made from its images or labels, in place of those it has."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.classes.decoding import decode_labels
from a2lc.errors import ImageFileError, InputError, ShapeError, StageError, require_known
from a2lc.foundation.segmenter import AutomaticSettings, Segmenter
from a2lc.images.label_maps import read_ids, write_ids
from a2lc.io.concurrency import in_order
from a2lc.io.files import write_text
from a2lc.io.progress import Track, no_progress
from a2lc.masks.components import component_masks
from a2lc.masks.joining import mask_columns, mask_tables
from a2lc.masks.superpixels import MAX_MASKS, grid, seeds, slic
from a2lc.project.mask_swap import MADE_MASKS
from a2lc.project.project import Project
from a2lc.records import ImageRecord
from a2lc.weights.files import Ready, folder_digest
from a2lc.weights.loading import choose_device

__all__ = [
    "COVERS",
    "MASK_METHODS",
    "SamMasks",
    "image_pixels",
    "make_masks",
    "put_in_place",
    "save_tables",
    "superpixels_of",
]

MASK_METHODS = {
    "seeds": "superpixels by SEEDS, about `count` per image",
    "slic": "superpixels by SLIC, about `count` per image",
    "grid": "squares of `size` pixels",
    "components": "connected components of the labels",
    "sam": "masks of everything by SAM or SAM 2, from a grid of `points` per side; needs the extra foundation",
}
"""Ways to make masks, by name."""

COVERS = {
    "none": "pixels outside all masks stay without a mask",
    "slic": "superpixels by SLIC cover the remaining pixels",
    "seeds": "superpixels by SEEDS cover the remaining pixels",
}
"""What becomes of the pixels that a foundation model's masks leave, by name."""


@dataclass(frozen=True, kw_only=True)
class SamMasks:
    """How `--method sam` finds masks.

    Attributes:
        ready: The weights.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        automatic: How masks are found.
        cover: What becomes of the rest: a name of `COVERS`.
    """

    ready: Ready
    device: str = "auto"
    automatic: AutomaticSettings = field(default_factory=AutomaticSettings)
    cover: str = "none"


def make_masks(
    project: Project,
    method: str,
    *,
    count: int = 1024,
    size: int = 32,
    sam: SamMasks | None = None,
    track: Track = no_progress,
    replace: bool = False,
) -> int:
    """Make the masks of a project in which no round was opened yet; the caller holds its lock.

    New masks and tables are written beside the old ones and take their place when all are complete. A process killed
    before that leaves the old ones; one killed after it leaves the rest to whoever opens the project next.

    Args:
        project: Goes on with the new masks; what it remembered of the old ones is dropped.
        method: `seeds`, `slic`, `grid`, `components` or `sam`.
        count: Superpixels an image, of `seeds` and `slic`, and of those that cover what `sam` leaves.
        size: Side in pixels, of `grid`.
        sam: Of `sam`. Its masks are kept image by image, so that the same command goes on where a killed one was.
        track: Shows progress.
        replace: Also where the project has masks already.

    Returns:
        Number of masks.

    Raises:
        UnknownNameError: There is no such method.
        StageError: A round was opened: the ledger names masks by their numbers.
        InputError: There are masks already, a setting is out of range, or no mask came out.
        MissingExtraError: SEEDS needs OpenCV; SAM needs transformers.
    """
    require_known("mask method", method, MASK_METHODS)
    if project.ledger.rounds():
        raise StageError(
            f"{project.folder} has rounds already, and its ledger refers to masks by number, so they cannot be "
            "replaced. For other masks, create a new project: a2lc init"
        )
    settings: dict[str, Any] = {"method": method}
    settings |= {"seeds": {"count": count}, "slic": {"count": count}, "grid": {"size": size}}.get(method, {})
    if method == "sam":
        if sam is None:
            raise InputError("Masks by SAM need weights. Set `segmenter`.")
        settings |= _sam_settings(sam, count)
    if project.mended_masks == settings:
        # This very command was killed at its end, and opening the project did the rest.
        shutil.rmtree(_kept(project, settings), ignore_errors=True)
        return len(project.masks)
    if len(project.masks) and not replace:
        raise InputError(f"{project.folder} has {len(project.masks):,} masks already. Set `replace` to overwrite them.")
    if method == "sam" and sam is not None:
        kept = _kept(project, settings)
        made = put_in_place(project, settings, lambda folder: _write_sam(project, folder, kept, sam, count, track))
        shutil.rmtree(kept)  # they are in place now
        return made
    return put_in_place(project, settings, lambda folder: _write(project, folder, method, count, size, track))


def _kept(project: Project, settings: dict[str, Any]) -> Path:
    """Where masks of `sam` with these settings are kept until all are there."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    return project.folder / "pseudo" / f"sam-{digest[:16]}"


def put_in_place(project: Project, settings: dict[str, Any], write: Callable[[Path], int]) -> int:
    """Have new masks written to a folder, and put them in place of those of a project when all are there.

    Args:
        project: Goes on with the new masks; its lock is held.
        settings: What made them, for `tables/masks.json`.
        write: Fills a folder with `masks`, `masks.parquet` and whatever else `Project.install_masks` moves, and tells the
            number of masks.

    Returns:
        What `write` returns.
    """
    partial = project.folder / ".masks.partial"
    shutil.rmtree(partial, ignore_errors=True)  # of a killed process
    try:
        made = write(partial)
        write_text(partial / "masks.json", json.dumps(settings))
        os.replace(partial, project.folder / MADE_MASKS)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    project.install_masks()
    return made


def _write(project: Project, folder: Path, method: str, count: int, size: int, track: Track) -> int:
    """Write mask maps and tables to a new folder; the number of masks comes back."""

    def one(image: ImageRecord) -> tuple[NDArray[Any], ...]:
        labels = project.first_labels(image)
        masks = _masks(project, image, labels, method, count, size)
        if int(masks.max()) > MAX_MASKS:
            raise InputError(
                f"{project.image_path(image)}: {int(masks.max()):,} masks; at most {MAX_MASKS:,} fit a 16-bit mask map."
            )
        return _keep(project, image, masks.astype(np.uint16), folder)

    images = project.images
    columns = []
    with (
        ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool,
        track("making masks", len(images)) as advance,
    ):
        for found in in_order(pool, one, images):
            columns.append(found)
            advance()
    nothing = "the labels carry no class. Create masks from the images instead: `method` seeds"
    return save_tables(folder, columns, project.has_ground_truth, nothing)


def _keep(project: Project, image: ImageRecord, masks: NDArray[np.uint16], folder: Path) -> tuple[NDArray[Any], ...]:
    """Write an image's mask map; its columns of the tables come back."""
    write_ids(folder / "masks" / f"{image.image_id}.png", masks)
    # Tables hold classes as they were imported, whatever became of them since.
    classes, sources = project.imported_classes, project.config.sources
    labels, _ = decode_labels(project.raw_labels(image), classes, sources.value_map)
    truth = None
    if project.has_ground_truth:
        truth = read_ids(project.folder / "ground_truth" / f"{image.image_id}.png", max_pixels=sources.max_pixels)
    return mask_columns(masks, labels, truth, classes)


def save_tables(folder: Path, columns: Sequence[tuple[NDArray[Any], ...]], has_truth: bool, nothing: str) -> int:
    """Write the tables of new masks beside them, from what `mask_columns` gives for each image; the number of masks.

    Raises:
        InputError: There is no mask; `nothing` says why that may be.
    """
    masks, truth = mask_tables(columns, has_truth)
    if not len(masks):
        raise InputError(f"No masks were found: {nothing}")
    masks.save(folder / "masks.parquet")
    if has_truth:
        truth.save(folder / "truth.parquet")
    return len(masks)


def _sam_settings(sam: SamMasks, count: int) -> dict[str, Any]:
    require_known("cover", sam.cover, COVERS)
    sam.automatic.check()
    weights = sam.ready.weights
    found = {"weights": weights.name, "revision": weights.revision, "license": weights.license, "cover": sam.cover}
    if weights.folder is not None:
        found["revision"] = folder_digest(weights.folder)
    return found | asdict(sam.automatic) | ({} if sam.cover == "none" else {"count": count})


def _write_sam(project: Project, folder: Path, kept: Path, sam: SamMasks, count: int, track: Track) -> int:
    """As `_write`, with a model that is loaded once; mask maps made before are read from `kept`."""
    segmenter: Segmenter | None = None
    columns = []
    with (
        ThreadPoolExecutor(max_workers=1) as pool,  # the next image is decoded while the model looks at this one
        track("making masks", len(project.images)) as advance,
    ):
        waiting = [image for image in project.images if not _is_there(kept, image)]
        ahead = pool.submit(image_pixels, project, waiting[0]) if waiting else None
        for image in project.images:
            path = kept / f"{image.image_id}.png"
            if ahead is not None and waiting and image is waiting[0]:
                pixels = ahead.result()
                del waiting[0]
                ahead = pool.submit(image_pixels, project, waiting[0]) if waiting else None
                segmenter = segmenter or Segmenter(sam.ready, device=choose_device(sam.device))
                masks = segmenter.automatic(pixels, sam.automatic, superpixels_of(pixels, sam.cover, count))
                write_ids(path, masks)
            masks = read_ids(path, max_pixels=project.config.sources.max_pixels).astype(np.uint16)
            columns.append(_keep(project, image, masks, folder))
            advance()
    nothing = "the model was not confident of any. Lower `min_iou` or `min_stability`, or cover the rest: `cover` slic"
    return save_tables(folder, columns, project.has_ground_truth, nothing)


def _is_there(kept: Path, image: ImageRecord) -> bool:
    try:
        return read_ids(kept / f"{image.image_id}.png").shape == (image.height, image.width)
    except (FileNotFoundError, ImageFileError):
        return False


def superpixels_of(pixels: NDArray[np.uint8], cover: str, count: int) -> NDArray[np.int32] | None:
    """Superpixels to cover with, by a name of `COVERS`; None for none."""
    if cover == "none":
        return None
    return seeds(pixels, count) if cover == "seeds" else slic(pixels, count)


def image_pixels(project: Project, image: ImageRecord) -> NDArray[np.uint8]:
    """(H, W, 3) RGB of an image of a project, which must have the size it had when the project was made.

    Raises:
        ShapeError: It has another one.
    """
    pixels = project.pixels(image)
    if pixels.shape[:2] != (image.height, image.width):
        raise ShapeError(
            f"{project.image_path(image)} is {pixels.shape[1]} x {pixels.shape[0]} pixels, but was {image.width} "
            f"x {image.height} when the project was created. Restore the original image."
        )
    return pixels


def _masks(
    project: Project, image: ImageRecord, labels: NDArray[Any], method: str, count: int, size: int
) -> NDArray[np.int32]:
    if method == "components":
        return component_masks(labels, project.classes.ignore_index)
    if method == "grid":
        return grid(image.height, image.width, size)
    pixels = image_pixels(project, image)
    return seeds(pixels, count) if method == "seeds" else slic(pixels, count)
