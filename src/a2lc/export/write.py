"""Write a corrected data set: label maps under the images' names, what changed, and where each pixel comes from.

Pixels nobody changed keep the very values of the user's files, whatever those stand for; files without a change
are copied byte for byte.
"""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.data.png import open_image, write_ids
from a2lc.errors import InputError, require_known
from a2lc.files import json_safe, new_folder, write_bytes, write_text
from a2lc.history import deciders
from a2lc.ledger import FIRST, KEEP, VOID, CorrectionRows, MaskState, apply_layer
from a2lc.ledger import replay as replayed
from a2lc.ledger.replay import SOURCES
from a2lc.progress import Track, no_progress
from a2lc.project import Project
from a2lc.records import ImageRecord
from a2lc.status import project_status
from a2lc.version import versions

__all__ = ["EXPORTS", "PROVENANCE", "ExportSummary", "corrected_file_values", "export_project", "provenance"]

PROVENANCE = {"first": 0, "manual": 1, "automatic": 2}
"""Values of a provenance map: first labels, changed by hand, changed by the method."""

_PROVENANCE_PALETTE = [200, 200, 200, 0, 114, 178, 230, 159, 0] + [0] * 759  # grey, and Okabe and Ito's blue and orange


@dataclass(frozen=True, kw_only=True)
class ExportSummary:
    """What was written.

    Attributes:
        images: Label maps.
        changed_images: Those of them that differ from the user's.
        changed_masks: Masks whose class changed.
        changed_pixels: Pixels whose value changed.
    """

    images: int
    changed_images: int
    changed_masks: int
    changed_pixels: int


EXPORTS: dict[str, tuple[str, str]] = {
    "folder": ("labels", "label maps of the kind they came in, under labels/"),
    "voc": ("SegmentationClass", "palette PNGs under SegmentationClass/, and ImageSets/Segmentation/train.txt"),
}
"""Formats, each with the folder its label maps lie in and a line about it."""


def export_project(
    project: Project, out: Path, format: str = "folder", *, through: int | None = None, track: Track = no_progress
) -> ExportSummary:
    """Write the corrected data set into a new folder, whole or not at all.

    Args:
        project: Opened.
        out: Must not exist, or be empty.
        format: One of `EXPORTS`.
        through: As of the end of this round.
        track: Shows progress.

    Raises:
        UnknownNameError: There is no such format.
        InputError: The folder is not empty, lies inside the user's own files, or the format cannot hold the labels.
    """
    folder_name, _ = EXPORTS[require_known("export format", format, EXPORTS)]
    out = out.absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists and is not empty. Name a new folder with --out.")
    if out.is_relative_to(project.folder) and not out.is_relative_to(project.folder / "exports"):
        raise InputError(f"{out} lies inside the project. Name a folder beside it with --out.")
    if format == "voc" and max(*project.classes.file_values, project.classes.ignore) > 255:
        raise InputError("VOC label maps hold values up to 255, and this project's go higher. Use --format folder.")
    rows = project.corrections(through)
    state = project.with_layer(replayed(rows, project.masks.keys), rows, through)
    undos = [undo for undo in project.ledger.undos() if through is None or undo.round < through]
    decider = deciders(rows, undos, state, project.masks.keys)
    source = provenance(rows, decider)
    bounds = np.searchsorted(project.masks.image, np.arange(len(project.images) + 1))
    changed_images = changed_pixels = 0
    with new_folder(out) as partial:
        with track("exporting", len(project.images)) as advance:
            for image in project.images:
                span = slice(bounds[image.index], bounds[image.index + 1])
                target = partial / folder_name / f"{image.image_id}.png"
                pixels = _write_labels(project, image, state, span, target, palette=format == "voc")
                _write_provenance(project, image, source[span], state, span, partial)
                changed_images += pixels > 0
                changed_pixels += pixels
                advance()
        changed = _write_changes(project, rows, state, decider, partial / "changes.csv")
        if format == "voc":
            names = "".join(f"{image.image_id}\n" for image in project.images)
            write_text(partial / "ImageSets" / "Segmentation" / "train.txt", names)
        write_text(partial / "classes.json", json.dumps(project.classes.to_json(), indent=1))
        summary = ExportSummary(
            images=len(project.images),
            changed_images=int(changed_images),
            changed_masks=changed,
            changed_pixels=int(changed_pixels),
        )
        manifest = {
            "project": project.config.name,
            "format": format,
            "through_round": through,
            "summary": asdict(summary),
            "provenance": PROVENANCE,
            # How the values in the label maps are read: `a2lc init` needs the same --map.
            "value_map": project.config.sources.value_map,
            "versions": versions(),
            "rounds": json_safe(project_status(project)["rounds"]),
            "images": {image.image_id: image.sha256 for image in project.images},
        }
        write_text(partial / "manifest.json", json.dumps(manifest, indent=1))
    return summary


def corrected_file_values(
    raw: NDArray[Any], mask_map: NDArray[Any], mask_ids: NDArray[Any], values: NDArray[Any]
) -> NDArray[Any]:
    """The user's own label map with the pixels of corrected masks set to the values of their new classes (pure).

    Args:
        raw: (H, W) values as the user's file has them.
        mask_map: (H, W) mask ids.
        mask_ids: (n,) masks of the image.
        values: (n,) file value each was corrected to, -1 where it was not.

    Returns:
        (H, W), of the type of `raw` unless a value does not fit 8 bits.
    """
    table = np.full(int(mask_map.max(initial=0)) + 1, -1, dtype=np.int64)
    table[mask_ids] = values
    new = table[mask_map]
    kind = np.uint16 if values.max(initial=-1) > 255 else raw.dtype
    return np.where(new >= 0, new, raw).astype(kind)


def provenance(rows: CorrectionRows, decider: NDArray[np.int64]) -> NDArray[np.uint8]:
    """(M,) PROVENANCE of what each mask carries (pure).

    Args:
        rows: Corrections.
        decider: (M,) the row each mask's class comes from, see `a2lc.history.deciders`.
    """
    kinds = np.array([PROVENANCE.get(name, 0) for name in SOURCES], dtype=np.uint8)
    return np.where(decider >= 0, kinds[rows.source[decider]] if len(rows) else 0, 0).astype(np.uint8)


def _write_labels(
    project: Project, image: ImageRecord, state: MaskState, span: slice, target: Path, *, palette: bool
) -> int:
    """Write an image's label map; how many pixels differ from the user's comes back."""
    source = project.folder / "labels" / f"{image.image_id}.png"
    with open_image(source, project.config.sources.max_pixels) as opened:
        mode = opened.mode
        own_palette = opened.getpalette("RGB") if mode == "P" else None
    raw = project.raw_labels(image)
    classes = state.classes[span]
    file_values = np.array([*project.classes.file_values, project.classes.ignore], dtype=np.int64)
    # FIRST stays -1; VOID, which is -1 among classes, is the last of the values.
    values = np.where(classes == FIRST, -1, file_values[np.where(classes < 0, len(file_values) - 1, classes)])
    mask_map = project.mask_map(image)
    new = corrected_file_values(raw, mask_map, project.masks.mask_ids[span], values)
    said = None if state.layer is None else project.layer_pixels(state.layer, image)
    if said is not None and state.newer is not None:
        kind = np.uint16 if file_values.max() > 255 else new.dtype
        layer = np.where(said == KEEP, KEEP, file_values[np.where(said < 0, len(file_values) - 1, said)])
        masks, newer = project.masks.mask_ids[span], state.newer[span]
        new = apply_layer(new.astype(kind), layer, mask_map, masks, newer, project.classes.ignore)
    pixels = int((new != raw).sum())
    if not pixels and (not palette or mode == "P"):
        write_bytes(target, source.read_bytes())
        return 0
    colours = own_palette or (project.classes.palette() if palette else None)
    if colours is not None:
        colours = [*colours, *([0] * (768 - len(colours)))]
        if palette and own_palette is not None:
            # A class that the user's palette leaves black would be invisible.
            for value, colour in zip(project.classes.file_values, project.classes.colours, strict=True):
                if value and not any(colours[3 * value : 3 * value + 3]):
                    colours[3 * value : 3 * value + 3] = colour
    if palette and new.dtype != np.uint8:
        # Classes fit 8 bits, checked before; values that were only read as others need not.
        for value, becomes in project.config.sources.value_map.items():
            if value > 255:
                new = np.where(new == value, becomes, new)
        new = new.astype(np.uint8)
    write_ids(target, new, colours)
    return pixels


def _write_provenance(
    project: Project, image: ImageRecord, kinds: NDArray[Any], state: MaskState, span: slice, folder: Path
) -> None:
    mask_map = project.mask_map(image)
    table = np.zeros(int(mask_map.max(initial=0)) + 1, dtype=np.uint8)
    table[project.masks.mask_ids[span]] = kinds
    # A person may have kept a class: pixels that were that class all along are first labels still.
    first = project.first_labels(image)
    now = project.corrected_labels(image, state)
    found = np.where(first == now, 0, table[mask_map]).astype(np.uint8)
    if state.layer is not None:
        # What a layer decides, no one looked at pixel by pixel, unless it holds what someone drew.
        by_masks = project.corrected_labels(image, replace(state, layer=None), mask_map=mask_map)
        by_hand = next(layer.by_hand for layer in project.ledger.layers() if layer.round == state.layer)
        found[(now != by_masks) & (now != first)] = PROVENANCE["manual" if by_hand else "automatic"]
    write_ids(folder / "provenance" / f"{image.image_id}.png", found, _PROVENANCE_PALETTE)


def _write_changes(
    project: Project, rows: CorrectionRows, state: MaskState, decider: NDArray[np.int64], path: Path
) -> int:
    """A line for each mask that carries another class than it came with; how many there are comes back."""
    masks = project.masks
    mixed = np.bincount(masks.pair_row, minlength=len(masks)) > 1
    changed = np.flatnonzero((state.classes != FIRST) & ((state.classes != masks.label) | mixed))
    winners = rows.ids[decider[changed]]
    wanted = set(winners.tolist())
    details = {row.id: row for row in project.ledger.correction_details() if row.id in wanted}
    kinds = provenance(rows, decider)
    kind_names = {value: name for name, value in PROVENANCE.items()}

    def name(value: int) -> str:
        return "void" if value == VOID else project.classes.names[value]

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["image_id", "mask_id", "pixels", "old_class", "new_class", "source", "round", "confidence", "annotator"]
        )
        for mask, winner in zip(changed.tolist(), winners.tolist(), strict=True):
            row = details[winner]
            writer.writerow(
                [
                    project.images[masks.image[mask]].image_id,
                    int(masks.mask_ids[mask]),
                    int(masks.area[mask]),
                    name(int(masks.label[mask])),
                    name(int(state.classes[mask])),
                    kind_names[int(kinds[mask])],
                    row.round,
                    "" if row.confidence is None else f"{row.confidence:.6g}",
                    row.annotator or "",
                ]
            )
    return len(changed)
