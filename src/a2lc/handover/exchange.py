"""Write questions as files for another tool, and read answers from its export."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal, Protocol

from a2lc.errors import InputError, MissingFileError, StageError, first_names, require_known
from a2lc.handover.cvat import MAX_OBJECTS, CvatMaskExport, CvatXmlExport, write_cvat
from a2lc.handover.label_studio import LabelStudioExport, write_label_studio
from a2lc.handover.questions import (
    HANDOVER_FILE,
    Decision,
    Drawing,
    Handed,
    HandedImage,
    HandedQuestion,
    Sheet,
    decide,
    inside_of,
    labels_of,
    question_key,
    read_handed,
    tool_image,
)
from a2lc.images.archive import Archive
from a2lc.io.files import new_folder
from a2lc.project.project import Project
from a2lc.records import Answer, AnswerKind, ImageRecord, Query, QueryKind
from a2lc.rounds.recorder import Recorder, annotator_name

__all__ = ["FORMATS", "HandoverSummary", "TakenSummary", "hand_over", "take_back"]

FORMATS: dict[str, str] = {
    "label-studio": "a task with a brush region for each question, and the labelling interface; returned as JSON",
    "cvat-mask": "Segmentation mask 1.1: one colour-coded label map for each image; returned in the same format",
    "cvat-xml": "CVAT for images 1.1: a mask with a verdict for each question; returned in the same format",
}
"""Formats with their descriptions."""

_OWN = frozenset(
    {HANDOVER_FILE, "README.txt", "tasks.json", "label_config.xml", "labels.json", "images.zip"}
    | {"annotations.xml", "annotations.zip"}
)


@dataclass(frozen=True, kw_only=True)
class HandoverSummary:
    """What was handed over.

    Attributes:
        format: One of `FORMATS`.
        round: Round of the questions.
        questions: Number of questions.
        images: Number of images.
        waiting: Open questions that were not handed over: above the limit, or not possible in this format.
        messages: Reasons why some were left out.
    """

    format: str
    round: int
    questions: int
    images: int
    waiting: int
    messages: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TakenSummary:
    """What was taken back. Each question of the hand-over counts once among the first five.

    Attributes:
        recorded: New answers.
        same: Answers that were recorded before.
        conflict: Questions that have another answer by now, which is kept.
        refused: Drawings that do not fit the question, or contradict themselves.
        untouched: Questions that nobody submitted, or whose masks are unchanged.
        skipped: Those of `recorded` and `same` of kind `skip`.
        outside: Pixels drawn outside the masks in question; they are ignored.
        messages: Remarks for the user, one line each.
    """

    recorded: int = 0
    same: int = 0
    conflict: int = 0
    refused: int = 0
    untouched: int = 0
    skipped: int = 0
    outside: int = 0
    messages: tuple[str, ...] = field(default=())


# ---- out ------------------------------------------------------------------------------------------------------------


def hand_over(
    project: Project,
    out: Path,
    format: str,
    *,
    limit: int | None = None,
    image_root: str | None = None,
    number: int | None = None,
) -> HandoverSummary:
    """Write the open questions for another tool into a new folder, atomically.

    The project is not changed: the questions stay open, in the browser too.

    Args:
        project: Opened.
        out: A folder that does not exist or is empty.
        format: One of `FORMATS`.
        limit: Maximum number of questions, in the order of the queue.
        image_root: For Label Studio, its document root, which must contain the images; if not given, the images are
            copied.
        number: Round index; the last round if not given.

    Raises:
        UnknownNameError: There is no such format.
        StageError: The round has no open question.
        InputError: The folder is not empty, or the format cannot hold a class name or an image.
    """
    require_known("hand-over format", format, FORMATS)
    out = out.absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists and is not empty. Name a new folder.")
    if out.is_relative_to(project.folder):
        raise InputError(f"{out} lies inside the project. Name a folder outside it.")
    if limit is not None and limit < 1:
        raise InputError(f"limit is {limit}; expected at least 1.")
    if image_root is not None and format != "label-studio":
        raise InputError(
            f"image_root can be set only for Label Studio; {format} has the images in images.zip. Omit it."
        )
    root = None if image_root is None else Path(image_root).resolve()
    if root is not None and not root.is_dir():
        raise MissingFileError(f"No folder at image_root {root}. Name the folder that Label Studio serves files from.")
    labels = labels_of(project.classes, format)
    number, waiting = _waiting(project, number)
    queries, messages = _chosen(waiting, format, limit)
    if not queries:
        raise StageError(f"None of the {len(waiting):,} open questions can be handed over: {' '.join(messages)}")
    by_image: dict[int, list[Query]] = {}
    for query in queries:
        by_image.setdefault(query.image, []).append(query)
    records = sorted((project.all_images[image] for image in by_image), key=lambda record: record.image_id)
    with new_folder(out) as partial:
        partial.mkdir()
        handed = Handed(
            project=project.config.name,
            round=number,
            format=format,
            labels=labels,
            images=tuple(_handed_image(project, record, by_image[record.index]) for record in records),
        )
        handed.write(partial)

        def sheets() -> Iterator[Sheet]:
            for image, record in zip(handed.images, records, strict=True):
                asked = {query.query_id: query for query in by_image[record.index]}
                yield Sheet(handed=image, record=record, mask_map=project.mask_map(record), queries=asked)

        if format == "label-studio":
            write_label_studio(project, handed, sheets(), partial, out.name, root)
        else:
            write_cvat(project, handed, sheets(), partial)
        (partial / "README.txt").write_text(_readme(handed, out, root), encoding="utf-8")
    return HandoverSummary(
        format=format,
        round=number,
        questions=len(queries),
        images=len(records),
        waiting=len(waiting) - len(queries),
        messages=tuple(messages),
    )


def _waiting(project: Project, number: int | None) -> tuple[int, list[Query]]:
    rounds = [record.round for record in project.ledger.rounds()]
    if not rounds:
        raise StageError(f"{project.folder} has no round yet, so there are no questions. Start one with `a2lc run`.")
    if number is None:
        number = rounds[-1]
    if number not in rounds:
        raise InputError(f"There is no round {number}; there are {first_names(map(str, rounds))}.")
    closed = any(stage.round == number and stage.stage == "answer" for stage in project.ledger.stages())
    waiting = [] if closed else project.ledger.queries(number, unanswered=True)
    if not waiting:
        why = "its answers are complete" if closed else "all are answered"
        raise StageError(f"No question of round {number} is open, because {why}. Continue with `a2lc run`.")
    return number, waiting


def _chosen(waiting: list[Query], format: str, limit: int | None) -> tuple[list[Query], list[str]]:
    """Choose the questions to hand over; also return why others are left out."""
    chosen: list[Query] = []
    left: Counter[str] = Counter()
    taken: set[tuple[int, int]] = set()
    objects: Counter[int] = Counter()
    for query in waiting:
        masks = {(query.image, mask) for mask in query.mask_ids}
        if query.kind == QueryKind.PIXEL:
            left["ask about a single pixel, which a mask cannot show. Answer them in the browser."] += 1
        elif format != "label-studio" and masks & taken:
            left["are about masks of another question. Hand them over when that one is answered."] += 1
        elif format == "cvat-mask" and objects[query.image] == MAX_OBJECTS:
            left[f"exceed the limit of {MAX_OBJECTS} for one image. Hand them over when the others are answered."] += 1
        elif limit is None or len(chosen) < limit:
            chosen.append(query)
            taken |= masks
            objects[query.image] += 1
    return chosen, [f"{count:,} questions {why}" for why, count in left.items()]


def _handed_image(project: Project, record: ImageRecord, queries: list[Query]) -> HandedImage:
    name, _ = tool_image(project, record)
    mask_map = project.mask_map(record)
    return HandedImage(
        image_id=record.image_id,
        file=name,
        width=record.width,
        height=record.height,
        questions=tuple(
            HandedQuestion(query_id=query.query_id, key=question_key(record, query, inside_of(mask_map, query)))
            for query in queries
        ),
    )


def _readme(handed: Handed, out: Path, root: Path | None) -> str:
    count = sum(1 for _ in handed.questions)
    head = f"{count} questions about {len(handed.images)} images of {handed.project}, round {handed.round}."
    back = (
        f"Put the file into this folder, then: a2lc takeback PROJECT --from {out.name}/FILE --annotator NAME. "
        f"It needs {HANDOVER_FILE}."
    )
    if handed.format == "label-studio":
        served = root or out.parent
        folder = served if root is not None else out / "images"
        lines = [
            "Start Label Studio with LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true and",
            f"LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={served}. Create a project. In its labelling setup, under Code, paste",
            "label_config.xml unchanged.",
            f"Settings, Cloud storage, add source storage, Local files: a folder below that root with the images ({folder}).",
            "Save it without a sync, which would create a task for each image.",
            "Import tasks.json. Each task is one question, with its mask drawn in the proposed class.",
            (
                "Submit it unchanged to keep the class. To change it, choose another label for the region, draw, or "
                "select a choice."
            ),
            "Export as JSON (not JSON-MIN).",
        ]
    else:
        kind = "CVAT for images 1.1" if handed.format == "cvat-xml" else "Segmentation mask 1.1"
        file = "annotations.xml" if handed.format == "cvat-xml" else "annotations.zip"
        keep = (
            (
                "Set the attribute verdict of a mask to keep, mixed or cannot tell, change its label, or draw the "
                "right labels."
            )
            if handed.format == "cvat-xml"
            else "Change the label of a mask, or draw the right labels. Unchanged masks count as not reviewed."
        )
        lines = [
            "In CVAT, create a project; for its labels, choose Raw and paste labels.json.",
            "Create a task in it and upload images.zip.",
            f"In the task, choose Actions, Upload annotations, {kind}, and select {file}.",
            "Do not convert masks to polygons.",
            keep,
            "Draw with the brush. Pixels outside the given masks are counted and ignored.",
            "Save, and do not change the attribute query_id." if handed.format == "cvat-xml" else "Save.",
            f"Choose Actions, Export task dataset, {kind}, without images.",
        ]
    return "\n".join([head, *lines, back]) + "\n"


# ---- back -----------------------------------------------------------------------------------------------------------


class _Export(Protocol):
    """The export of a tool."""

    messages: list[str]
    outside: int

    def drawings(self, sheet: Sheet) -> Iterable[tuple[int, list[Drawing] | str]]:
        """Yield the drawings of each question of an image, or a message why they cannot be read."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


def take_back(
    project: Project,
    source: Path,
    *,
    annotator: str,
    format: str | None = None,
    untouched: Literal["leave", "confirm"] = "leave",
    handover: Path | None = None,
) -> TakenSummary:
    """Record the export of a tool as answers, by the same path as all others. The caller holds the project's lock.

    An answer that cannot be recorded is reported and does not affect the others. Taking the same file back again records
    nothing twice.

    Args:
        project: Opened.
        source: The exported file, or the folder of the hand-over with this one exported file in it.
        annotator: Name of the annotator.
        format: Format of the file, one of `FORMATS`; detected if not given.
        untouched: For CVAT, the meaning of unchanged masks: `leave` if nobody reviewed them, `confirm` if somebody did and
            all are right. Label Studio records itself which tasks were submitted.
        handover: The `handover.json` of the hand-over; the one beside the file if not given.

    Raises:
        MissingFileError: The file or `handover.json` is missing.
        InputError: The file is damaged, or from another project or hand-over.
    """
    annotator = annotator_name(annotator)
    if untouched not in {"leave", "confirm"}:
        raise InputError(f"untouched is {untouched!r}; expected 'leave' or 'confirm'.")
    source, beside = _exported(source.absolute())
    handed = read_handed(beside / HANDOVER_FILE if handover is None else handover)
    detected = _format_of(source)
    if format is not None and require_known("hand-over format", format, FORMATS) != detected:
        raise InputError(f"{source} is an export as {detected}, not as {format}. Omit the format.")
    if (detected == "label-studio") != (handed.format == "label-studio"):
        raise InputError(
            f"{source} is an export as {detected}, but the hand-over was for {handed.format}. Use the export of "
            "that hand-over."
        )
    if untouched == "confirm" and detected == "label-studio":
        raise InputError(
            "'confirm' is only for CVAT. Label Studio records which tasks were submitted, so submit them there."
        )
    recorder = Recorder(project)
    _check_questions(project, handed, recorder)
    export: _Export
    if detected == "label-studio":
        export = LabelStudioExport(source, handed)
    elif detected == "cvat-xml":
        export = CvatXmlExport(source, handed, untouched == "confirm")
    else:
        export = CvatMaskExport(source, handed, untouched == "confirm", project.config.sources.max_pixels)
    try:
        return _record(project, handed, recorder, export, annotator)
    finally:
        export.close()


def _record(project: Project, handed: Handed, recorder: Recorder, export: _Export, annotator: str) -> TakenSummary:
    counts: Counter[str] = Counter()
    messages: list[str] = []
    answers: list[Answer] = []
    for image in handed.images:
        record = project.record(image.image_id)
        queries = {question.query_id: recorder.queries[question.query_id] for question in image.questions}
        sheet = Sheet(handed=image, record=record, mask_map=project.mask_map(record), queries=queries)
        for number, drawings in export.drawings(sheet):
            decision, drawing = _decided(project, queries[number], drawings, sheet)
            if decision.message:
                messages.append(f"Question {number}: {decision.message}")
            if decision.refused or decision.kind is None or drawing is None:
                counts["refused" if decision.refused else "untouched"] += 1
                continue
            pixels = None if decision.said is None else project.write_answered_pixels(decision.said)
            answers.append(
                Answer(
                    query_id=number,
                    annotator=annotator,
                    kind=decision.kind,
                    classes=decision.classes,
                    milliseconds=drawing.milliseconds,
                    pixels=pixels,
                )
            )
    for answer, outcome in zip(answers, recorder.record(answers), strict=True):
        counts[outcome.status] += 1
        counts["skipped"] += answer.kind == AnswerKind.SKIP and outcome.status in {"recorded", "same"}
        if outcome.message:
            messages.append(outcome.message)
    if export.outside:
        messages.append(f"{export.outside:,} pixels were drawn outside the masks in question and ignored.")
    return TakenSummary(
        recorded=counts["recorded"],
        same=counts["same"],
        conflict=counts["conflict"],
        refused=counts["refused"],
        untouched=counts["untouched"],
        skipped=counts["skipped"],
        outside=export.outside,
        messages=(*export.messages, *messages),
    )


def _decided(
    project: Project, query: Query, drawings: list[Drawing] | str, sheet: Sheet
) -> tuple[Decision, Drawing | None]:
    """Derive one answer from all drawings of a question; also return the drawing that it comes from."""
    if isinstance(drawings, str):
        return Decision(refused=True, message=drawings), None
    if not drawings:
        return Decision(), None
    inside = sheet.inside(query.query_id)
    decisions = [decide(drawing, inside, query.proposed, project.classes) for drawing in drawings]
    if not all(decision.same(decisions[0]) for decision in decisions):
        return Decision(
            refused=True, message=f"{len(drawings)} annotations differ. Keep only the right one in the tool."
        ), None
    return decisions[0], drawings[-1]


def _check_questions(project: Project, handed: Handed, recorder: Recorder) -> None:
    """Check that a hand-over belongs to the project.

    Raises:
        InputError: A question, an image or a mask differs.
    """
    images = {record.image_id: record for record in project.all_images}
    where = f"The hand-over of project {handed.project!r}, round {handed.round}"
    if len(handed.labels) != project.classes.num_classes + 1:
        raise InputError(
            f"{where} has {len(handed.labels) - 1} classes, but {project.folder} has {project.classes.num_classes}, "
            "so it was made from another project."
        )
    if [label.class_index for label in handed.labels] != [*range(project.classes.num_classes), None]:
        raise InputError(
            f"{where}: its labels have been changed since the hand-over. Use the original {HANDOVER_FILE}."
        )
    for image in handed.images:
        record = images.get(image.image_id)
        if record is None or (record.width, record.height) != (image.width, image.height):
            raise InputError(
                f"{where} is about image {image.image_id!r} of {image.width} x {image.height} pixels, which "
                f"{project.folder} does not have, so it was made from another project."
            )
        mask_map = project.mask_map(record)
        for question in image.questions:
            query = recorder.queries.get(question.query_id)
            if query is None:
                raise InputError(
                    f"{where} has question {question.query_id}, which {project.folder} does not have, so it was "
                    "made from another project."
                )
            known = query.image == record.index
            if not known or question_key(record, query, inside_of(mask_map, query)) != question.key:
                raise InputError(
                    f"{where}: question {question.query_id} is about different masks in {project.folder}. It was "
                    "made from another project, or the masks were generated again since."
                )


def _exported(source: Path) -> tuple[Path, Path]:
    """Return the exported file and its folder."""
    if not source.is_dir():
        if not source.is_file():
            raise MissingFileError(f"No file at {source}. Name the file that the tool exported.")
        return source, source.parent
    files = [
        path
        for path in sorted(source.iterdir())
        if path.suffix.lower() in {".json", ".xml", ".zip"} and path.name not in _OWN and path.is_file()
    ]
    if len(files) != 1:
        names = f": {first_names(path.name for path in files)}" if files else ""
        raise InputError(f"{source} contains {len(files)} exported files{names}. Name the one to take back.")
    return files[0], source


def _format_of(source: Path) -> str:
    """Detect the format of an exported file by its name and contents."""
    if source.suffix.lower() == ".json":
        return "label-studio"
    if source.suffix.lower() == ".xml":
        return "cvat-xml"
    if source.suffix.lower() != ".zip":
        raise InputError(f"{source}: expected a .json of Label Studio, or a .xml or .zip of CVAT.")
    with Archive(source) as archive:
        if any(PurePosixPath(name).name == "annotations.xml" for name in archive.names):
            return "cvat-xml"
        if any("SegmentationClass" in PurePosixPath(name).parts for name in archive.names):
            return "cvat-mask"
    raise InputError(
        f"{source}: contains neither annotations.xml nor SegmentationClass/. Export CVAT for images 1.1 or Segmentation mask 1.1."
    )
