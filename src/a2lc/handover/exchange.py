"""Questions out to another tool as files, and answers back from what it exports."""

from __future__ import annotations

import unicodedata
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
from a2lc.rounds.oracle import ORACLE
from a2lc.rounds.recorder import Recorder

__all__ = ["FORMATS", "HandoverSummary", "TakenSummary", "hand_over", "take_back"]

FORMATS: dict[str, str] = {
    "label-studio": "tasks with a brush region each, and the labelling interface; back as JSON",
    "cvat-mask": "Segmentation mask 1.1: a colour-coded label map an image; back as the same",
    "cvat-xml": "CVAT for images 1.1: a mask with a verdict for each question; back as the same",
}
"""Formats, each with a line about it."""

_OWN = frozenset(
    {HANDOVER_FILE, "README.txt", "tasks.json", "label_config.xml", "labels.json", "images.zip"}
    | {"annotations.xml", "annotations.zip"}
)


@dataclass(frozen=True, kw_only=True)
class HandoverSummary:
    """What was handed over.

    Attributes:
        format: One of `FORMATS`.
        round: Whose questions they are.
        questions: How many.
        images: Images they are about.
        waiting: Questions that wait and were not handed over: over the limit, or not for this format.
        messages: Why some were left out.
    """

    format: str
    round: int
    questions: int
    images: int
    waiting: int
    messages: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TakenSummary:
    """What came back. Each question that was handed over counts once among the first five.

    Attributes:
        recorded: New answers.
        same: Answers that were recorded before.
        conflict: Questions that have another answer by now, which stands.
        refused: What came back does not fit the question, or contradicts itself.
        untouched: Questions nobody has submitted, or whose masks came back as they went.
        skipped: Those of `recorded` and `same` that say `skip`.
        outside: Pixels drawn outside the masks asked about; none of them was taken.
        messages: What the user should know, a line each.
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
    """Write the questions that wait, for another tool, into a new folder, whole or not at all.

    The project is not changed: the questions still wait, in the browser too.

    Args:
        project: Opened.
        out: Must not exist, or be empty.
        format: One of `FORMATS`.
        limit: At most so many questions, the first to be asked.
        image_root: For Label Studio, the folder it serves as its document root and that the images lie below; copies of
            the images are made where it is not given.
        number: The round; the last one where it is not given.

    Raises:
        UnknownNameError: There is no such format.
        StageError: No question of the round waits.
        InputError: The folder is not empty, or the format cannot hold a class name or an image.
    """
    require_known("hand-over format", format, FORMATS)
    out = out.absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists and is not empty. Name a new folder with --out.")
    if out.is_relative_to(project.folder):
        raise InputError(f"{out} lies inside the project. Name a folder beside it with --out.")
    if limit is not None and limit < 1:
        raise InputError(f"A limit of {limit} questions leaves none. Give at least 1.")
    if image_root is not None and format != "label-studio":
        raise InputError(f"--image-root is for Label Studio; {format} brings the images in images.zip. Leave it out.")
    root = None if image_root is None else Path(image_root).resolve()
    if root is not None and not root.is_dir():
        raise MissingFileError(f"No folder at --image-root {root}. Name the one that Label Studio serves files from.")
    labels = labels_of(project.classes, format)
    number, waiting = _waiting(project, number)
    queries, messages = _chosen(waiting, format, limit)
    if not queries:
        raise StageError(f"None of the {len(waiting):,} questions that wait can be handed over: {' '.join(messages)}")
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
    rounds = [found.round for found in project.ledger.rounds()]
    if not rounds:
        raise StageError(f"{project.folder} has no round yet, so nothing is asked. Start one with `a2lc run`.")
    if number is None:
        number = rounds[-1]
    if number not in rounds:
        raise InputError(f"There is no round {number}; there are {first_names(map(str, rounds))}.")
    closed = any(stage.round == number and stage.stage == "answer" for stage in project.ledger.stages())
    waiting = [] if closed else project.ledger.queries(number, unanswered=True)
    if not waiting:
        why = "its answers are complete" if closed else "none is asked that has no answer"
        raise StageError(f"No question of round {number} waits: {why}. `a2lc run` goes on.")
    return number, waiting


def _chosen(waiting: list[Query], format: str, limit: int | None) -> tuple[list[Query], list[str]]:
    """The questions to hand over, and why others are left."""
    chosen: list[Query] = []
    left: Counter[str] = Counter()
    taken: set[tuple[int, int]] = set()
    objects: Counter[int] = Counter()
    for query in waiting:
        masks = {(query.image, mask) for mask in query.mask_ids}
        if query.kind == QueryKind.PIXEL:
            left["ask about a single pixel, which no mask shows. Answer them in the browser."] += 1
        elif format != "label-studio" and masks & taken:
            left["are about masks of another question. Hand them over once that one is answered."] += 1
        elif format == "cvat-mask" and objects[query.image] == MAX_OBJECTS:
            left[f"are over the {MAX_OBJECTS} that one image takes. Hand them over once the others are answered."] += 1
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
            f"LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={served}. Make a project; in its labelling setup, Code: paste",
            "label_config.xml as it is.",
            f"Settings, Cloud storage, add source storage, Local files: a folder below that root with the images ({folder}).",
            "Save it without a sync: a sync would make a task of each image.",
            "Import tasks.json. Each task is one question, its mask drawn under the class proposed.",
            "Submit it as it is to keep the class; choose another label for the region, or draw, to change it; or take a choice.",
            "Export as JSON (not JSON-MIN).",
        ]
    else:
        kind = "CVAT for images 1.1" if handed.format == "cvat-xml" else "Segmentation mask 1.1"
        file = "annotations.xml" if handed.format == "cvat-xml" else "annotations.zip"
        keep = (
            "Set the attribute verdict of a mask to keep, mixed or cannot tell; change its label; or draw what is where."
            if handed.format == "cvat-xml"
            else "Change the label of a mask, or draw what is where. What you leave as it is counts as not looked at."
        )
        lines = [
            "In CVAT make a project; for its labels choose Raw and paste labels.json.",
            "Make a task in it and upload images.zip.",
            f"In the task choose Actions, Upload annotations, {kind}, and take {file}.",
            "Leave the masks masks: do not convert them to polygons.",
            keep,
            "Draw with the brush; what lies outside the masks that are there is counted, and not taken.",
            "Save, and leave attribute query_id as it is." if handed.format == "cvat-xml" else "Save.",
            f"Actions, Export task dataset, {kind}, without images.",
        ]
    return "\n".join([head, *lines, back]) + "\n"


# ---- back -----------------------------------------------------------------------------------------------------------


class _Export(Protocol):
    """What a tool exported."""

    messages: list[str]
    outside: int

    def drawings(self, sheet: Sheet) -> Iterable[tuple[int, list[Drawing] | str]]:
        """What came back for each question of an image, or why nothing did."""
        ...

    def close(self) -> None:
        """Let go of the file."""
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
    """Record what a tool exported as answers, by the same path as all others. The caller holds the project's lock.

    What cannot be recorded is told and does not spoil the rest. The same file taken back twice records nothing twice.

    Args:
        project: Opened.
        source: The exported file, or the folder of the hand-over with that file, and no other, put into it.
        annotator: Whose answers they are.
        format: What the file is, one of `FORMATS`; found out where it is not given.
        untouched: For CVAT, what masks mean that came back as they went: `leave` says that nobody looked, `confirm` that
            somebody did and found all of them right. Label Studio tells by itself who has submitted what.
        handover: The `handover.json` of the hand-over; beside the file where it is not given.

    Raises:
        MissingFileError: The file or `handover.json` is not there.
        InputError: The file is damaged, or from another project or hand-over.
    """
    annotator = _name(annotator)
    if untouched not in {"leave", "confirm"}:
        raise InputError(f"untouched is {untouched!r}; expected 'leave' or 'confirm'.")
    source, beside = _exported(source.absolute())
    handed = read_handed(beside / HANDOVER_FILE if handover is None else handover)
    found = _format_of(source)
    if format is not None and require_known("hand-over format", format, FORMATS) != found:
        raise InputError(f"{source} is an export as {found}, not as {format}. Leave the format out.")
    if (found == "label-studio") != (handed.format == "label-studio"):
        raise InputError(
            f"{source} is an export as {found}, and the hand-over was for {handed.format}. Take its own export."
        )
    if untouched == "confirm" and found == "label-studio":
        raise InputError(
            "What nobody submitted in Label Studio nobody has confirmed: 'confirm' is for CVAT. Submit there."
        )
    recorder = Recorder(project)
    _check_questions(project, handed, recorder)
    export: _Export
    if found == "label-studio":
        export = LabelStudioExport(source, handed)
    elif found == "cvat-xml":
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
        for number, said in export.drawings(sheet):
            decision, drawing = _decided(project, queries[number], said, sheet)
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
        messages.append(f"{export.outside:,} pixels were drawn outside the masks asked about; they were not taken.")
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
    project: Project, query: Query, said: list[Drawing] | str, sheet: Sheet
) -> tuple[Decision, Drawing | None]:
    """What all that came back for a question comes to."""
    if isinstance(said, str):
        return Decision(refused=True, message=said), None
    if not said:
        return Decision(), None
    inside = sheet.inside(query.query_id)
    decisions = [decide(drawing, inside, query.proposed, project.classes.names) for drawing in said]
    if not all(decision.same(decisions[0]) for decision in decisions):
        return Decision(
            refused=True, message=f"{len(said)} annotations that differ. Leave the right one in the tool."
        ), None
    return decisions[0], said[-1]


def _check_questions(project: Project, handed: Handed, recorder: Recorder) -> None:
    """Refuse a hand-over of other questions than the project has.

    Raises:
        InputError: A question, an image or a mask is another one.
    """
    images = {record.image_id: record for record in project.all_images}
    where = f"The hand-over of project {handed.project!r}, round {handed.round}"
    if len(handed.labels) != project.classes.num_classes + 1:
        raise InputError(
            f"{where} has {len(handed.labels) - 1} classes, and {project.folder} has {project.classes.num_classes}: it was made "
            "from another project."
        )
    if [label.class_index for label in handed.labels] != [*range(project.classes.num_classes), None]:
        raise InputError(f"{where}: its labels are not as the hand-over wrote them. Take the {HANDOVER_FILE} it wrote.")
    for image in handed.images:
        record = images.get(image.image_id)
        if record is None or (record.width, record.height) != (image.width, image.height):
            raise InputError(
                f"{where} is about image {image.image_id!r} of {image.width} x {image.height} pixels, which {project.folder} "
                "does not have: it was made from another project."
            )
        mask_map = project.mask_map(record)
        for question in image.questions:
            query = recorder.queries.get(question.query_id)
            if query is None:
                raise InputError(
                    f"{where} has a question {question.query_id}, which {project.folder} does not: it was made from another "
                    "project."
                )
            known = query.image == record.index
            if not known or question_key(record, query, inside_of(mask_map, query)) != question.key:
                raise InputError(
                    f"{where}: question {question.query_id} is about other masks than in {project.folder}: it was made from "
                    "another project, or the masks were made anew since."
                )


def _exported(source: Path) -> tuple[Path, Path]:
    """The exported file, and the folder it lies in."""
    if not source.is_dir():
        if not source.is_file():
            raise MissingFileError(f"No file at {source}. Give --from the file that the tool exported.")
        return source, source.parent
    files = [
        path
        for path in sorted(source.iterdir())
        if path.suffix.lower() in {".json", ".xml", ".zip"} and path.name not in _OWN and path.is_file()
    ]
    if len(files) != 1:
        names = f": {first_names(path.name for path in files)}" if files else ""
        raise InputError(f"{source} holds {len(files)} exported files{names}. Give --from the one to take back.")
    return files[0], source


def _format_of(source: Path) -> str:
    """Which format a file is exported as, by its name and content."""
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
        f"{source}: holds neither annotations.xml nor SegmentationClass/. Export CVAT for images 1.1 or Segmentation mask 1.1."
    )


def _name(annotator: str) -> str:
    """A name as it is recorded, by the rules of the browser."""
    # Composed, so that a name typed on two systems is one name.
    name = unicodedata.normalize("NFC", annotator.strip())
    # Joiners are no printable signs, and some scripts cannot write a name without them.
    printable = name.replace("\u200c", "").replace("\u200d", "")
    if not 1 <= len(name) <= 60 or not printable or not printable.isprintable():
        raise InputError(f"Expected a name of 1 to 60 printable characters for --annotator, found {annotator[:80]!r}.")
    if unicodedata.normalize("NFKC", printable).strip().casefold() == ORACLE:
        raise InputError(f"{ORACLE!r} is the simulated annotator. Take another name.")
    return name
