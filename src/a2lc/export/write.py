"""Write a corrected data set: label maps under the names of the images, the changes, and the provenance of each pixel.

Unchanged pixels keep the values of the user's files, whatever they mean; files without a change are copied byte for byte.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from a2lc.classes.decoding import decode_labels
from a2lc.errors import InputError
from a2lc.export.changes import Change, CropWriter, changes_of, pixel_changes, write_changes, write_letter
from a2lc.export.corrected import PROVENANCE, corrected_file_values, corrected_images, provenance, replay_of
from a2lc.formats.registry import EXPORTS, find_format, find_writer
from a2lc.formats.writing import Corrected
from a2lc.images.label_maps import write_ids
from a2lc.io.files import json_safe, new_folder, sha256, write_text
from a2lc.io.progress import Track, no_progress
from a2lc.project.project import Project
from a2lc.rounds.final import final_model
from a2lc.rounds.status import project_status
from a2lc.version import versions

__all__ = ["EXPORTS", "PROVENANCE", "ExportSummary", "corrected_file_values", "export_project", "provenance"]

# Grey, and Okabe and Ito's blue, orange and green.
_PROVENANCE_PALETTE = [200, 200, 200, 0, 114, 178, 230, 159, 0, 0, 158, 115] + [0] * 756


@dataclass(frozen=True, kw_only=True)
class ExportSummary:
    """Counts of what was written.

    Attributes:
        images: Number of label maps.
        changed_images: Number of label maps that differ from the user's.
        changed_masks: Number of masks whose class changed.
        changed_pixels: Number of pixels whose value changed.
    """

    images: int
    changed_images: int
    changed_masks: int
    changed_pixels: int


def export_project(
    project: Project,
    out: Path,
    format: str = "folder",
    *,
    through: int | None = None,
    changes_only: bool = False,
    proven_only: bool = False,
    track: Track = no_progress,
) -> ExportSummary:
    """Write the corrected data set into a new folder, atomically.

    Args:
        project: Opened.
        out: A folder that does not exist or is empty.
        format: One of `EXPORTS`.
        through: Export the labels at the end of this round; None for the current labels.
        changes_only: Write only images whose labels changed, with pictures of each change before and after, for the owner
            of the data set.
        proven_only: Leave out automatic corrections that no certificate covers.
        track: Shows progress.

    Raises:
        UnknownNameError: There is no such format.
        InputError: The folder is not empty, lies inside the user's own files, or the format cannot hold the labels.
    """
    new_writer, labels = find_writer(format), find_format(format).labels
    out = out.absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists and is not empty. Set `out` to a new folder.")
    if out.is_relative_to(project.folder) and not out.is_relative_to(project.folder / "exports"):
        raise InputError(f"{out} is inside the project. Set `out` to a folder outside it.")
    rounds = [record.round for record in project.ledger.rounds()]
    if through is not None and through not in rounds:
        known = f"rounds 0 to {rounds[-1]}" if rounds else "no round yet"
        raise InputError(f"There is no round {through} in {project.folder}: it has {known}.")
    replay = replay_of(project, through, proven_only=proven_only)
    changes = changes_of(project, replay)
    by_image: dict[int, list[int]] = {}
    for change in changes:
        by_image.setdefault(change.image, []).append(change.mask_id)
    below: list[Change] = []  # what layers of labels below the mask change
    images = changed_images = changed_pixels = edited = 0
    hashes: dict[str, str] = {}
    with new_folder(out) as partial:
        partial.mkdir(parents=True, exist_ok=True)
        writer = new_writer(project, partial)
        crops = CropWriter(project, changes, partial) if changes_only else None
        with track("exporting", len(project.images)) as advance:
            for corrected in corrected_images(project, replay):
                if changes_only and not corrected.changed:
                    for _ in corrected.records:
                        advance()
                    continue
                writer.add(corrected)
                if crops is not None or replay.state.layer is not None:
                    value_map = project.config.sources.value_map
                    before = decode_labels(corrected.first, project.classes, value_map)[0]
                    pixelwise = pixel_changes(project, replay, corrected, before, by_image, -1 - len(below))
                    below += [change for change, _ in pixelwise]
                    if crops is not None:
                        crops.add(corrected, before, pixelwise)
                edited += int((corrected.provenance == PROVENANCE["classes"]).sum())
                write_ids(
                    partial / "provenance" / f"{corrected.image_id}.png", corrected.provenance, _PROVENANCE_PALETTE
                )
                pixels = corrected.changed
                images += 1
                changed_images += pixels > 0
                changed_pixels += pixels
                hashes[corrected.image_id] = _hash(corrected)
                for _ in corrected.records:
                    advance()
        held = writer.finish()
        told = [*changes, *below]
        write_changes(partial / "changes.csv", told, None if crops is None else crops.names)
        if crops is not None:
            write_letter(partial, project, told, crops, images, changed_pixels, labels, edited)
        write_text(partial / "classes.json", json.dumps((held or project.classes).to_json(), indent=1))
        summary = ExportSummary(
            images=images,
            changed_images=int(changed_images),
            changed_masks=len(changes),
            changed_pixels=int(changed_pixels),
        )
        manifest = {
            "project": project.config.name,
            "format": format,
            "through_round": through,
            "changes_only": changes_only,
            "proven_only": proven_only,
            "summary": asdict(summary),
            "provenance": PROVENANCE,
            # How the values in the label maps are read: `a2lc init` needs the same `value_map`.
            "value_map": project.config.sources.value_map,
            "versions": versions(),
            "rounds": json_safe(project_status(project)["rounds"]),
            "final_model": _final(project),
            "images": hashes,
        }
        write_text(partial / "manifest.json", json.dumps(manifest, indent=1))
    return summary


def _final(project: Project) -> dict[str, Any] | None:
    """Describe the final network, if one was trained: `a2lc train --final --out` hands over its weights."""
    model = final_model(project)
    if model is None:
        return None
    about = model.about
    return {
        "sha256": about["sha256"],
        "model": about["training"]["model"],
        "model_miou": about["evaluation"]["model_miou"],
        "trained_on_these_labels": model.is_current,
    }


def _hash(corrected: Corrected) -> str:
    """Return the SHA-256 of an image as recorded, or of the file that its tiles were cut from; "" if there is none."""
    if len(corrected.records) == 1:
        return corrected.records[0].sha256
    return "" if corrected.image is None else sha256(corrected.image)
