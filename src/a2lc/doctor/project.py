"""What is wrong with a project: its own files, and the user's images that it names."""

from __future__ import annotations

import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from a2lc.doctor.diagnosis import Diagnosis, Finding, ValueCount, by_level
from a2lc.errors import InputError, first_names
from a2lc.images.opening import stored_size
from a2lc.images.remote import local_path
from a2lc.io.concurrency import in_order
from a2lc.io.files import sha256
from a2lc.io.progress import Track, no_progress
from a2lc.project.project import Project
from a2lc.records import ImageRecord

__all__ = ["examine_project"]


def examine_project(project: Project, *, track: Track = no_progress) -> Diagnosis:
    """Look at every file that a project needs: there, whole, and the one that was recorded.

    Args:
        project: Opened; nothing in it is changed.
        track: Shows progress.
    """
    findings = [*_ledger(project)]
    kinds = ["labels", "masks"] + (["ground_truth"] if project.has_ground_truth else [])
    problems: dict[str, list[str]] = {}

    def look(image: ImageRecord) -> list[tuple[str, str]]:
        return [*_image(project, image), *_maps(project, image, kinds)]

    images = project.all_images
    with (
        ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool,
        track("checking files", len(images)) as advance,
    ):
        for found in in_order(pool, look, images):
            advance()
            for code, line in found:
                problems.setdefault(code, []).append(line)
    fixes = {
        "image-gone": f"Restore them, or fix `sources` in {project.folder / 'project.yaml'}.",
        "image-changed": "Restore the original files: masks and answers refer to them.",
        "file-gone": "Restore the project folder from a copy.",
        "file-damaged": "Restore the project folder from a copy.",
    }
    texts = {
        "image-gone": "images are missing",
        "image-changed": "images differ from those that the project was created from",
        "file-gone": "files of the project are missing",
        "file-damaged": "files of the project cannot be read, or differ in size from their image",
    }
    for code, lines in problems.items():
        findings.append(
            Finding(
                code=code,
                level="fault",
                message=f"{len(lines):,} {texts[code]}.",
                count=len(lines),
                files=tuple(lines[:5]),
                fix=fixes[code],
            )
        )
    findings += _labels(project)
    return Diagnosis(
        images=len(images),
        label_maps=len(project.images),
        findings=by_level(findings),
    )


def _ledger(project: Project) -> list[Finding]:
    path = project.folder / "ledger.sqlite"
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    try:
        said = [row[0] for row in connection.execute("PRAGMA integrity_check(5)")]
    except sqlite3.DatabaseError as error:
        said = [str(error)]
    finally:
        connection.close()
    if said == ["ok"]:
        return []
    return [
        Finding(
            code="ledger-damaged",
            level="fault",
            message=f"The ledger is damaged: {' | '.join(said)}",
            count=1,
            files=(str(path),),
            fix="Restore it from a copy: all answers are in it.",
        )
    ]


def _image(project: Project, image: ImageRecord) -> list[tuple[str, str]]:
    if not image.file:
        return []
    path = project.image_path(image)
    if not path.is_file():
        how = project.prepared.get(image.image_id)
        if how is None or how.address is None:
            return [("image-gone", str(path))]
        # A copy that was cleared away is made again, if what it was made of is there: elsewhere, nobody looks.
        local = local_path(how.address)
        return (
            []
            if local is None or local.is_file()
            else [("image-gone", f"{path}, and {local} from which it was copied")]
        )
    if sha256(path) == image.sha256:
        return []
    # What was fetched is the user's image; what was turned, stretched, cut or unpacked is the project's own file.
    how = project.prepared.get(image.image_id)
    own = how is not None and how.address is None
    return [("file-damaged" if own else "image-changed", str(path))]


def _maps(project: Project, image: ImageRecord, kinds: list[str]) -> list[tuple[str, str]]:
    found = []
    for kind in kinds if image.split == "train" else ["ground_truth"]:
        path = project.folder / kind / f"{image.image_id}.png"
        if not path.is_file():
            found.append(("file-gone", str(path)))
            continue
        try:
            width, height, _ = stored_size(path, project.config.sources.max_pixels)
            read = {"labels": project.raw_labels, "masks": project.mask_map, "ground_truth": project.truth.pixels}
            read[kind](image)
        except InputError as error:
            found.append(("file-damaged", str(error)))
            continue
        if (width, height) != (image.width, image.height):
            found.append(("file-damaged", f"{path}: {width} x {height} for {image.width} x {image.height}"))
    return found


def _labels(project: Project) -> list[Finding]:
    """Classes no mask carries now, and how much is void, as the ledger has it."""
    classes = project.classes
    now = project.state().classes
    masks = project.masks
    carried = np.where(now >= 0, now, masks.label)
    seen = np.bincount(carried[carried >= 0], minlength=classes.num_classes)
    missing = [name for name, count in zip(classes.names, seen.tolist(), strict=True) if not count]
    found = []
    if missing and seen.any():
        found.append(
            Finding(
                code="class-missing",
                level="doubt",
                message=f"{len(missing)} of {classes.num_classes} classes have no mask: {first_names(missing)}.",
                count=len(missing),
                values=tuple(ValueCount(value=name, pixels=0, files=0) for name in missing[:12]),
                fix="No action is needed if the images do not show them.",
            )
        )
    return found
