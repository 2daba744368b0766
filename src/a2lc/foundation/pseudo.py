"""First labels and masks of a project from its images and the names of its classes.

A detector finds boxes of the classes, a segmenter the mask of each box. What they find is kept image by image under
`pseudo/` in the project, so a killed run goes on at the image; laying masks over each other and covering the rest is done
from there, so other rules for that need no model again. Labels and masks take the place of those of the project when all
are there.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
import zipfile
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.data.intake import in_order, mask_columns
from a2lc.data.png import write_ids
from a2lc.errors import InputError, StageError, first_names, require_known
from a2lc.files import write_bytes, write_text
from a2lc.foundation.compose import OVERLAP_RULES, Composed, compose
from a2lc.foundation.detector import REDUCTIONS, Detector, choose_device
from a2lc.foundation.packed import PackedMasks
from a2lc.foundation.prompts import class_phrases
from a2lc.foundation.segmenter import Segmenter
from a2lc.foundation.weights import Ready, folder_digest
from a2lc.masks.make import COVERS, image_pixels, put_in_place, save_tables, superpixels_of
from a2lc.masks.superpixel import MAX_MASKS
from a2lc.progress import Track, no_progress
from a2lc.project import Project
from a2lc.records import ImageRecord
from a2lc.version import __version__

__all__ = [
    "Found",
    "PseudoSettings",
    "PseudoSummary",
    "check_project",
    "make_pseudo_labels",
    "preview",
    "record_commits",
    "recorded_commits",
]

_FORMAT = 1
_FOLDER = "pseudo"
_AHEAD = 2
"""Groups of images that are decoded while the models look at one."""


@dataclass(frozen=True, kw_only=True)
class PseudoSettings:
    """How labels are made.

    Attributes:
        box_threshold: Boxes of lower scores are not used; 0.2 as ALC and A2LC.
        one_class_per_prompt: Look for one class at a time: slower, and no class is weighed against another's words.
        reduction: How tokens' probabilities make a score: `mean` or `max`.
        nms: Of two boxes of one class whose intersection is more than this share of their union, the better stays; 0.8 as
            in the demo of Grounded-Segment-Anything.
        most: Boxes of an image, at most.
        shortest: Images are shown to the detector with this shortest side in pixels,
        longest: or with this longest side, whichever makes them smaller.
        overlap: Which mask keeps a pixel: a name of `OVERLAP_RULES`.
        cover: What becomes of pixels without an object: a name of `COVERS`.
        cover_count: Superpixels an image, before objects take their pixels away.
        background: Class of the pixels without an object; it is not looked for. None for no class.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        batch: Pairs of image and prompt the detector sees at once; None for 1 on a CPU and 4 on a GPU.
        autocast: Half precision on a GPU.
    """

    box_threshold: float = 0.2
    one_class_per_prompt: bool = False
    reduction: str = "mean"
    nms: float = 0.8
    most: int = 1000
    shortest: int = 800
    longest: int = 1333
    overlap: str = "score"
    cover: str = "slic"
    cover_count: int = 200
    background: str | None = None
    device: str = "auto"
    batch: int | None = None
    autocast: bool = True

    def check(self) -> None:
        """Raise if a setting is out of range.

        Raises:
            UnknownNameError: There is no such rule or cover.
            InputError: A number is out of range.
        """
        require_known("reduction", self.reduction, REDUCTIONS)
        require_known("overlap rule", self.overlap, OVERLAP_RULES)
        require_known("cover", self.cover, COVERS)
        for name in ("box_threshold", "nms"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"--{name.replace('_', '-')} is {getattr(self, name)}; expected 0 to 1.")
        if not 1 <= self.cover_count <= MAX_MASKS:
            raise InputError(f"--cover-count is {self.cover_count:,}; expected 1 to {MAX_MASKS:,}.")
        if self.batch is not None and self.batch < 1:
            raise InputError(f"--batch is {self.batch}; expected 1 or more.")
        if not 32 <= self.shortest <= self.longest:
            raise InputError(
                f"Images of {self.shortest} to {self.longest} pixels a side; expected 32 or more, and the shortest first."
            )


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


@dataclass(frozen=True, eq=False, kw_only=True)
class Found:
    """What the models found in an image, the best first.

    Attributes:
        boxes: (N, 4) float32: left, top, right, bottom in pixels.
        classes: (N,) int32.
        scores: (N,) float32, of the class.
        class_scores: (N, K) float16, NaN of classes that stood in another prompt.
        masks: N masks, which may overlap.
    """

    boxes: NDArray[np.float32]
    classes: NDArray[np.int32]
    scores: NDArray[np.float32]
    class_scores: NDArray[np.float16]
    masks: PackedMasks

    def above(self, threshold: float) -> Found:
        """Those of at least a score."""
        keep = np.flatnonzero(self.scores >= np.float32(threshold))
        return Found(
            boxes=self.boxes[keep],
            classes=self.classes[keep],
            scores=self.scores[keep],
            class_scores=self.class_scores[keep],
            masks=self.masks.select(keep),
        )


def recorded_commits(folder: Path) -> dict[str, str]:
    """Commits of weights a project has used, by repository."""
    path = folder / _FOLDER / "weights.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        raise InputError(
            f"{path}: not valid JSON. Delete it: weights without a pinned commit are looked up again."
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
            f"{project.folder} has rounds already, and its ledger names masks by their numbers, so labels and masks stay. "
            "Make a new project: a2lc pseudo NEW --images .. --classes .."
        )
    if project.imported_classes.file_values != project.classes.file_values:
        raise StageError(
            f"The classes of {project.folder} were changed since it was made, and its label files are written in those it was "
            "made with. Make a new project with the classes there are now: a2lc pseudo NEW --images .. --classes .."
        )
    labelled = project.config.sources.labels is not None or (project.folder / "tables" / "pseudo.json").is_file()
    if replace or not (labelled or len(project.masks)):
        return
    raise InputError(
        f"{project.folder} has {'labels' if labelled else f'{len(project.masks):,} masks'} already. Pass --replace to put "
        "others in their place; your own files stay as they are."
    )


@dataclass(frozen=True, eq=False)
class _Job:
    """A project, and what is to be done with it."""

    project: Project
    settings: PseudoSettings
    detector: Ready
    segmenter: Ready
    phrases: dict[int, tuple[str, ...]]
    background: int | None
    look: dict[str, Any] = field(repr=False)
    """Everything that what the models find depends on, but for the image and the threshold."""

    @classmethod
    def of(cls, project: Project, settings: PseudoSettings, detector: Ready, segmenter: Ready) -> _Job:
        settings.check()
        classes = project.classes
        background = None if settings.background is None else classes.index(settings.background)
        phrases = class_phrases(classes, [] if background is None else [background])
        look = {
            "format": _FORMAT,
            "detector": _identity(detector),
            "segmenter": _identity(segmenter),
            "classes": classes.num_classes,
            "phrases": [[index, *texts] for index, texts in phrases.items()],
            **{
                name: getattr(settings, name)
                for name in ("one_class_per_prompt", "reduction", "nms", "most", "shortest", "longest")
            },
        }
        return cls(project, settings, detector, segmenter, phrases, background, look)

    def path(self, image: ImageRecord) -> Path:
        return self.project.folder / _FOLDER / f"{image.image_id}.npz"

    def key(self, image: ImageRecord) -> str:
        return _digest(self.look | {"image": image.sha256, "size": [image.height, image.width]})

    def composition(self) -> dict[str, Any]:
        """What laying masks over each other depends on, beside what was found."""
        names = ("box_threshold", "overlap", "cover", "cover_count", "background")
        return {name: getattr(self.settings, name) for name in names} | {
            "priorities": [self.project.classes.priority(index) for index in range(self.project.classes.num_classes)]
        }


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
    job = _Job.of(project, settings, detector, segmenter)
    made = {"method": "pseudo", "look": _digest(job.look)} | job.composition()
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
    """A picture of what the first images would get; the project keeps its labels and masks.

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
    from a2lc.foundation.montage import draw

    if number < 1:
        raise InputError(f"--preview is {number}; expected 1 image or more.")
    job = _Job.of(project, settings, detector, segmenter)
    images = project.images[:number]
    record_commits(project.folder, (detector, segmenter))
    _look(job, images, track, say)
    panels = []
    for image in images:
        pixels = image_pixels(project, image)
        found, composed = _composed(job, image, pixels)
        panels.append((image.image_id, pixels, found, composed))
    path = project.folder / _FOLDER / "preview.png"
    draw(path, panels, project.classes)
    return path


def _identity(ready: Ready) -> str:
    """What stands for weights in digests: their commit, or their very bytes."""
    if ready.weights.folder is not None:
        return folder_digest(ready.folder)
    return f"{ready.weights.name}@{ready.weights.revision}"


def _digest(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def record_commits(folder: Path, weights: Iterable[Ready]) -> None:
    """Have a project remember the commits of weights it uses, so that it goes on using those."""
    used = {
        ready.weights.name: ready.weights.revision
        for ready in weights
        if ready.weights.folder is None and ready.weights.revision
    }
    known = recorded_commits(folder)
    if used.items() - known.items():
        write_text(folder / _FOLDER / "weights.json", json.dumps(known | used, indent=1))


# ---- looking at images ----------------------------------------------------------------------------------------------


def _look(job: _Job, images: Sequence[ImageRecord], track: Track, say: Callable[[str], None]) -> int:
    """Have the models look at images whose results are not kept; how many those were."""
    blind = [image.image_id for image in images if not image.file]
    if blind:
        raise InputError(
            f"{len(blind)} labels of the project have no image, so nothing can be found: {first_names(blind)}."
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
    groups = [group for group in _groups(images, max(1, batch // len(detector.prompts))) if missing & _ids(group)]
    began, done, size = time.monotonic(), 0, 0
    with ThreadPoolExecutor(max_workers=2) as pool, track("finding objects", len(missing)) as advance:
        for group, pixels in _ahead(pool, lambda image: image_pixels(job.project, image), groups):
            with _room(batch):
                detections = detector.detect(pixels, batch)
            for image, seen, boxes in zip(group, pixels, detections, strict=True):
                if image.index not in missing:
                    continue
                with _room(batch):
                    masks = _masks(segmenter, seen, boxes.boxes)
                found = Found(
                    boxes=boxes.boxes,
                    classes=boxes.classes,
                    scores=boxes.scores,
                    class_scores=boxes.class_scores,
                    masks=masks,
                )
                size += _write_found(job.path(image), job.key(image), settings.box_threshold, found)
                done += 1
                advance()
                if done == min(10, len(missing)) and done < len(missing):
                    seconds = (time.monotonic() - began) / done
                    say(
                        f"{done} images took {seconds:.2g} s each: about {_duration(seconds * (len(missing) - done))} for the "
                        f"{len(missing) - done:,} left, and {size / done * len(missing) / 1e6:,.1f} MB under "
                        f"{job.project.folder / _FOLDER}"
                    )
    return len(missing)


def _masks(segmenter: Segmenter, pixels: NDArray[np.uint8], boxes: NDArray[np.float32]) -> PackedMasks:
    if not len(boxes):
        return PackedMasks.pack([], *pixels.shape[:2])
    return segmenter.masks_for_boxes(pixels, boxes)


@contextmanager
def _room(batch: int) -> Iterator[None]:
    """Say what to do where a GPU has too little memory."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError:
        lower = f"Lower --batch ({batch} now)" if batch > 1 else "Take smaller weights, or --device cpu"
        raise InputError(f"The GPU has too little memory. {lower}; the same command goes on.") from None


def _groups(images: Sequence[ImageRecord], size: int) -> list[list[ImageRecord]]:
    """Images of one size together, at most so many."""
    groups: list[list[ImageRecord]] = []
    for image in sorted(images, key=lambda image: (image.height, image.width, image.index)):
        last = groups[-1] if groups else []
        if not last or len(last) == size or (last[0].height, last[0].width) != (image.height, image.width):
            groups.append([])
        groups[-1].append(image)
    return groups


def _ids(group: Sequence[ImageRecord]) -> set[int]:
    return {image.index for image in group}


def _ahead(
    pool: ThreadPoolExecutor,
    read: Callable[[ImageRecord], NDArray[np.uint8]],
    groups: Iterable[list[ImageRecord]],
) -> Iterator[tuple[list[ImageRecord], list[NDArray[np.uint8]]]]:
    """Groups with their pixels, a few of them decoded ahead, so that memory does not grow with their number."""
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


# ---- what is kept of an image ---------------------------------------------------------------------------------------


def _write_found(path: Path, key: str, floor: float, found: Found) -> int:
    """Write what was found in an image, whole or not at all; bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        key=np.array(key),
        floor=np.array(floor, dtype=np.float64),
        size=np.array([found.masks.height, found.masks.width], dtype=np.int32),
        boxes=found.boxes,
        classes=found.classes,
        scores=found.scores,
        class_scores=found.class_scores,
        mask_boxes=found.masks.boxes,
        mask_offsets=found.masks.offsets,
        mask_bits=found.masks.bits,
    )
    write_bytes(path, buffer.getvalue())
    return buffer.tell()


def read_found(path: Path, key: str, settings: PseudoSettings) -> Found | None:
    """What is kept of an image at the settings' threshold; None where it is of other settings, weights or pixels.

    Which boxes stay of those that overlap depends on better ones alone, so what was found at a lower threshold holds what
    would be found at this one.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["key"]) != key or float(file["floor"]) > settings.box_threshold:
                return None
            height, width = file["size"].tolist()
            masks = PackedMasks(height, width, file["mask_boxes"], file["mask_offsets"], file["mask_bits"])
            found = Found(
                boxes=file["boxes"],
                classes=file["classes"],
                scores=file["scores"],
                class_scores=file["class_scores"],
                masks=masks,
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None  # not there, or damaged: it is found again
    return found.above(settings.box_threshold)


# ---- labels and masks -----------------------------------------------------------------------------------------------


def _composed(job: _Job, image: ImageRecord, pixels: NDArray[np.uint8] | None = None) -> tuple[Found, Composed]:
    """What was found in an image, and its labels and masks."""
    settings, classes = job.settings, job.project.classes
    found = read_found(job.path(image), job.key(image), settings)
    if found is None:
        raise InputError(f"{job.path(image)} has changed meanwhile. Give the same command again.")
    superpixels = None
    if settings.cover != "none":
        pixels = image_pixels(job.project, image) if pixels is None else pixels
        superpixels = superpixels_of(pixels, settings.cover, settings.cover_count)
    try:
        composed = compose(
            found.masks,
            found.classes,
            found.scores,
            priorities=np.array([classes.priority(index) for index in range(classes.num_classes)]),
            ignore_index=classes.ignore_index,
            dtype=classes.dtype,
            rule=settings.overlap,
            superpixels=superpixels,
            background=job.background,
        )
    except InputError as error:
        raise InputError(f"{job.project.image_path(image)}: {error}") from None
    return found, composed


def _compose_all(job: _Job, folder: Path, looked: int, track: Track) -> PseudoSummary:
    """Write labels, masks, tables and provenance to a new folder."""
    project = job.project
    has_truth = project.has_ground_truth
    values = _file_values(project)
    palette = project.classes.palette() if values.dtype == np.uint8 else None

    def one(image: ImageRecord) -> tuple[tuple[NDArray[Any], ...], Counter[int], int, int]:
        _, composed = _composed(job, image)
        stored = np.where(composed.labels == project.classes.ignore_index, len(values) - 1, composed.labels)
        write_ids(folder / "labels" / f"{image.image_id}.png", values[stored], palette)
        write_ids(folder / "masks" / f"{image.image_id}.png", composed.masks)
        truth = project.ground_truth(image) if has_truth else None
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
        f"the detector found nothing with a score of {job.settings.box_threshold:g}. Lower --box-threshold, give the classes "
        "synonyms, or cover the images: --cover slic"
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
                f"{project.folder / 'project.yaml'}: value_map leaves no value that is read as {wanted}. Make a new project "
                "without --map."
            )
        found.append(value)
    return np.array(found, dtype=np.uint8 if max(found) <= 255 else np.uint16)


def _provenance(job: _Job, summary: PseudoSummary) -> dict[str, Any]:
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
