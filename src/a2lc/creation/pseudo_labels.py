"""First labels and masks of a project from its images and the names of its classes.

A detector finds boxes of the classes, a segmenter the mask of each box. What they find is kept image by image under
`pseudo/` in the project, so a killed run goes on at the image; laying masks over each other and covering the rest is done
from there, so other rules for that need no model again. Labels and masks take the place of those of the project when all
are there.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.creation.found import Found, compose_found, count_masks, groups_of, ids_in, read_found, room_for, write_found
from a2lc.creation.masks import image_pixels, put_in_place, save_tables
from a2lc.creation.pseudo_settings import FOLDER, Job, PseudoSettings, digest
from a2lc.errors import InputError, StageError, first_names
from a2lc.foundation.compose import OVERLAP_RULES
from a2lc.foundation.detector import Detector
from a2lc.foundation.segmenter import Segmenter
from a2lc.images.label_maps import write_ids
from a2lc.io.concurrency import in_order
from a2lc.io.files import write_text
from a2lc.io.progress import Track, no_progress
from a2lc.masks.joining import mask_columns
from a2lc.project.project import Project
from a2lc.records import ImageRecord
from a2lc.version import __version__
from a2lc.weights.files import Ready, folder_digest
from a2lc.weights.loading import choose_device

__all__ = ["PseudoSummary", "check_project", "make_pseudo_labels", "preview", "record_commits", "recorded_commits"]


_AHEAD = 2
"""Groups of images that are decoded while the models look at one."""


@dataclass(frozen=True, kw_only=True)
class PseudoSummary:
    """What came of it.

    Attributes:
        images: Labelled.
        masks: Of all images.
        objects: Of them those a model found; the others cover the rest.
        coverage: Share of pixels that carry a class.
        never_found: Names of the classes nothing was found of, in order.
        empty: Images in which nothing was found.
        looked_at: Images the models looked at now; the others were kept from before.
    """

    images: int
    masks: int
    objects: int
    coverage: float
    never_found: list[str]
    empty: int
    looked_at: int


def recorded_commits(folder: Path) -> dict[str, str]:
    """Return the commits of the weights that a project has used, by repository."""
    path = folder / FOLDER / "weights.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        raise InputError(
            f"{path}: not valid JSON. Delete it; commits that were not given are then looked up again."
        ) from None
    return {str(name): str(commit) for name, commit in dict(found).items()}


def check_project(project: Project, *, replace: bool) -> None:
    """Refuse a project whose labels must stay.

    Raises:
        StageError: A round was opened, or classes were added, merged or split.
        InputError: There are labels or masks, and `replace` is not set.
    """
    if project.ledger.rounds():
        raise StageError(
            f"{project.folder} has rounds already, and its ledger refers to masks by number, so labels and masks "
            "cannot be replaced. Create a new project: a2lc pseudo NEW --images .. --classes .."
        )
    if project.imported_classes.file_values != project.classes.file_values:
        raise StageError(
            f"The classes of {project.folder} have changed since it was created, but its label files use the "
            "original ones. Create a new project with the current classes: a2lc pseudo NEW --images .. --classes "
            ".."
        )
    labelled = project.config.sources.labels is not None or (project.folder / "tables" / "pseudo.json").is_file()
    if replace or not (labelled or len(project.masks)):
        return
    raise InputError(
        f"{project.folder} has {'labels' if labelled else f'{len(project.masks):,} masks'} already. Set "
        "`replace` to overwrite them; your own files are not changed."
    )


def make_pseudo_labels(
    project: Project,
    settings: PseudoSettings,
    detector: Ready,
    segmenter: Ready,
    *,
    replace: bool = False,
    track: Track = no_progress,
    say: Callable[[str], None] = lambda line: None,
) -> PseudoSummary:
    """Make the labels and masks of a project in which no round was opened yet; the caller holds its lock.

    Args:
        project: Goes on with the new labels and masks.
        settings: How.
        detector: Weights of a detector.
        segmenter: Weights of a segmenter.
        replace: Also where the project has labels or masks already.
        track: Shows progress.
        say: Told how long it will take and how much room it needs, after the first images.

    Raises:
        StageError: A round was opened.
        InputError: There are labels already, or a setting or class cannot be used.
        ShapeError: An image has another size than when the project was made.
        MissingExtraError: transformers is not installed.
    """
    job = Job.of(project, settings, detector, segmenter)
    made = {"method": "pseudo", "look": digest(job.look)} | job.composition()
    if project.mended_masks == made:
        # This very command was killed at its end, and opening the project did the rest.
        report = json.loads((project.folder / "tables" / "pseudo.json").read_text(encoding="utf-8"))
        return PseudoSummary(**report["found"] | {"looked_at": 0})
    check_project(project, replace=replace)
    record_commits(project.folder, (detector, segmenter))
    looked = _look(job, project.images, track, say)
    summary: list[PseudoSummary] = []

    def write(folder: Path) -> int:
        summary.append(_compose_all(job, folder, looked, track))
        return summary[0].masks

    put_in_place(project, made, write)
    return summary[0]


def preview(
    project: Project,
    settings: PseudoSettings,
    detector: Ready,
    segmenter: Ready,
    number: int,
    *,
    track: Track = no_progress,
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Draw what the first images would get; the project keeps its labels and masks.

    What the models found is kept, so that labelling all images goes on from there. The caller holds the project's lock.

    Args:
        project: Not changed, but for files under `pseudo/`.
        settings: How.
        detector: Weights of a detector.
        segmenter: Weights of a segmenter.
        number: Images to show.
        track: Shows progress.
        say: Told how long all of it would take.

    Returns:
        Path of the picture.
    """
    from a2lc.creation.montage import draw

    if number < 1:
        raise InputError(f"`preview` is {number}; expected at least 1 image.")
    job = Job.of(project, settings, detector, segmenter)
    images = project.images[:number]
    record_commits(project.folder, (detector, segmenter))
    _look(job, images, track, say)
    panels = []
    for image in images:
        pixels = image_pixels(project, image)
        found, composed = compose_found(job, image, pixels)
        panels.append((image.image_id, pixels, found, composed))
    path = project.folder / FOLDER / "preview.png"
    draw(path, panels, project.classes)
    return path


def record_commits(folder: Path, weights: Iterable[Ready]) -> None:
    """Have a project remember the commits of weights it uses, so that it goes on using those."""
    used = {
        ready.weights.name: ready.weights.revision
        for ready in weights
        if ready.weights.folder is None and ready.weights.revision
    }
    known = recorded_commits(folder)
    if used.items() - known.items():
        write_text(folder / FOLDER / "weights.json", json.dumps(known | used, indent=1))


def _look(job: Job, images: Sequence[ImageRecord], track: Track, say: Callable[[str], None]) -> int:
    """Have the models look at images whose results are not kept; how many those were."""
    blind = [image.image_id for image in images if not image.file]
    if blind:
        raise InputError(
            f"{len(blind)} labels of the project have no image in which objects could be detected: "
            f"{first_names(blind)}."
        )
    missing = {image.index for image in images if read_found(job.path(image), job.key(image), job.settings) is None}
    if not missing:
        return 0
    settings = job.settings
    device = choose_device(settings.device)
    detector = Detector(
        job.detector,
        job.phrases,
        job.project.classes.num_classes,
        device=device,
        one_class=settings.one_class_per_prompt,
        reduction=settings.reduction,
        floor=settings.box_threshold,
        nms=settings.nms,
        most=settings.most,
        shortest=settings.shortest,
        longest=settings.longest,
        autocast=settings.autocast,
    )
    segmenter = Segmenter(job.segmenter, device=device, autocast=settings.autocast)
    batch = settings.batch or (4 if device.startswith("cuda") else 1)
    # The groups are the same whatever was done before, and a group with a gap goes through the detector as a whole: a run
    # that was killed ends with the very bits of one that was not.
    groups = [group for group in groups_of(images, max(1, batch // len(detector.prompts))) if missing & ids_in(group)]
    began, done, size = time.monotonic(), 0, 0
    with ThreadPoolExecutor(max_workers=2) as pool, track("finding objects", len(missing)) as advance:
        for group, pixels in _ahead(pool, lambda image: image_pixels(job.project, image), groups):
            with room_for(batch):
                detections = detector.detect(pixels, batch)
            for image, seen, boxes in zip(group, pixels, detections, strict=True):
                if image.index not in missing:
                    continue
                with room_for(batch):
                    masks = count_masks(segmenter, seen, boxes.boxes)
                found = Found(
                    boxes=boxes.boxes,
                    classes=boxes.classes,
                    scores=boxes.scores,
                    class_scores=boxes.class_scores,
                    masks=masks,
                )
                size += write_found(job.path(image), job.key(image), settings.box_threshold, found)
                done += 1
                advance()
                if done == min(10, len(missing)) and done < len(missing):
                    seconds = (time.monotonic() - began) / done
                    say(
                        f"{done} images took {seconds:.2g} s each: about "
                        f"{_duration(seconds * (len(missing) - done))} for the remaining {len(missing) - done:,}, "
                        f"and {size / done * len(missing) / 1e6:,.1f} MB in {job.project.folder / FOLDER}"
                    )
    return len(missing)


def _ahead(
    pool: ThreadPoolExecutor,
    read: Callable[[ImageRecord], NDArray[np.uint8]],
    groups: Iterable[list[ImageRecord]],
) -> Iterator[tuple[list[ImageRecord], list[NDArray[np.uint8]]]]:
    """Yield groups with their pixels, a few of them decoded ahead, so that memory does not grow with their number."""
    waiting: deque[tuple[list[ImageRecord], list[Any]]] = deque()
    for group in groups:
        waiting.append((group, [pool.submit(read, image) for image in group]))
        if len(waiting) > _AHEAD:
            first, futures = waiting.popleft()
            yield first, [future.result() for future in futures]
    while waiting:
        first, futures = waiting.popleft()
        yield first, [future.result() for future in futures]


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _compose_all(job: Job, folder: Path, looked: int, track: Track) -> PseudoSummary:
    """Write labels, masks, tables and provenance to a new folder."""
    project = job.project
    has_truth = project.has_ground_truth
    values = _file_values(project)
    palette = project.classes.palette() if values.dtype == np.uint8 else None

    def one(image: ImageRecord) -> tuple[tuple[NDArray[Any], ...], Counter[int], int, int]:
        _, composed = compose_found(job, image)
        stored = np.where(composed.labels == project.classes.ignore_index, len(values) - 1, composed.labels)
        write_ids(folder / "labels" / f"{image.image_id}.png", values[stored], palette)
        write_ids(folder / "masks" / f"{image.image_id}.png", composed.masks)
        truth = project.truth.pixels(image) if has_truth else None
        columns = mask_columns(composed.masks, composed.labels, truth, project.classes)
        of_objects = composed.labels[np.isin(composed.masks, np.flatnonzero(composed.origin >= 0) + 1)]
        pixels = Counter(dict(enumerate(np.bincount(of_objects, minlength=project.classes.num_classes).tolist())))
        labelled = int((composed.labels != project.classes.ignore_index).sum())
        return columns, pixels, int((composed.origin >= 0).sum()), labelled

    images = project.images
    columns: list[tuple[NDArray[Any], ...]] = []
    pixels: Counter[int] = Counter()
    objects, empty, labelled = 0, 0, 0
    with (
        ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool,
        track("making labels", len(images)) as advance,
    ):
        for own, counts, number, carried in in_order(pool, one, images):
            columns.append(own)
            pixels += counts
            objects, empty, labelled = objects + number, empty + (number == 0), labelled + carried
            advance()
    nothing = (
        f"the detector found nothing with a score of at least {job.settings.box_threshold:g}. Lower "
        "`box_threshold`, give the classes synonyms, or cover the images: `cover` slic"
    )
    masks = save_tables(folder, columns, has_truth, nothing)
    summary = PseudoSummary(
        images=len(images),
        masks=masks,
        objects=objects,
        coverage=labelled / sum(image.width * image.height for image in images),
        never_found=[project.classes.names[index] for index in job.phrases if not pixels[index]],
        empty=empty,
        looked_at=looked,
    )
    write_text(folder / "pseudo.json", json.dumps(_provenance(job, summary), indent=1))
    return summary


def _file_values(project: Project) -> NDArray[Any]:
    """(K + 1,) what stands for each class in the project's label files, then what stands for none.

    Raises:
        InputError: The value map of project.yaml leaves no value for a class.
    """
    classes, mapped = project.classes, project.config.sources.value_map
    found = []
    for wanted in (*classes.file_values, classes.ignore):
        value = next((v for v in (wanted, *sorted(mapped)) if mapped.get(v, v) == wanted), None)
        if value is None:
            raise InputError(
                f"{project.folder / 'project.yaml'}: value_map leaves no value that is read as {wanted}. Create a "
                "new project without `value_map`."
            )
        found.append(value)
    return np.array(found, dtype=np.uint8 if max(found) <= 255 else np.uint16)


def _provenance(job: Job, summary: PseudoSummary) -> dict[str, Any]:
    """How labels came about, for `tables/pseudo.json`."""
    from importlib.metadata import version

    def weights(ready: Ready) -> dict[str, Any]:
        own = ready.weights
        commit = f"sha256:{folder_digest(ready.folder)}" if own.folder is not None else own.revision
        return {"name": own.name, "revision": commit, "license": own.license}

    return {
        "detector": weights(job.detector),
        "segmenter": weights(job.segmenter),
        "settings": asdict(job.settings),
        "overlap_rule": OVERLAP_RULES[job.settings.overlap],
        "phrases": {job.project.classes.names[index]: list(texts) for index, texts in job.phrases.items()},
        "versions": {"a2lc": __version__} | {name: version(name) for name in ("torch", "transformers")},
        "found": asdict(summary),
    }
