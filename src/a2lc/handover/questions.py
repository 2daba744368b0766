"""Describe a hand-over: its questions, their labels in the tool, and how a drawing answers a question."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from a2lc.classes.table import VOID_NAME, ClassTable
from a2lc.errors import InputError, MissingFileError, ShapeError
from a2lc.formats.annotated import check_label_name
from a2lc.formats.cvat import free_colour
from a2lc.images.opening import stored_size
from a2lc.images.rgb import write_rgb
from a2lc.io.files import write_text
from a2lc.ledger import KEEP, VOID
from a2lc.project.project import Project
from a2lc.records import AnswerKind, ImageRecord, Query

__all__ = [
    "HANDOVER_FILE",
    "SAME",
    "Decision",
    "Drawing",
    "Handed",
    "HandedQuestion",
    "Label",
    "Sheet",
    "Verdict",
    "decide",
    "inside_of",
    "labels_of",
    "question_key",
    "read_handed",
    "tool_image",
    "write_tool_image",
]

HANDOVER_FILE = "handover.json"

SAME = 0.98
"""Share of a mask that one class must cover to be its class: a brush never follows a border to the pixel."""

_SHOWN = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})  # formats that browsers show
_VOID_COLOUR = (224, 224, 192)  # as in VOC's label maps


class Verdict(StrEnum):
    """Answers that need no drawing; the values are the texts in the tools."""

    KEEP = "keep"
    MIXED = "mixed or bad border"
    CANNOT_TELL = "cannot tell"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Label(_Model):
    """A label of the tool.

    Attributes:
        name: Name in the tool; differs from the class name if that has a special meaning there.
        color: RGB, 0..255, unique among the labels.
        class_index: The class; None for unlabeled.
    """

    name: str
    color: tuple[int, int, int]
    class_index: int | None

    @property
    def value(self) -> int:
        """The class, or VOID."""
        return VOID if self.class_index is None else self.class_index

    @property
    def hexadecimal(self) -> str:
        """The colour as #rrggbb."""
        return "#{:02x}{:02x}{:02x}".format(*self.color)


class HandedQuestion(_Model):
    """A question in a hand-over: its number, and the hash of its contents, see `question_key`."""

    query_id: int
    key: str


class HandedImage(_Model):
    """An image in the tool."""

    image_id: str
    file: str
    width: int
    height: int
    questions: tuple[HandedQuestion, ...]


class Handed(_Model):
    """A hand-over: the contents of `handover.json`.

    Attributes:
        version: Version of this file format.
        project: Name of the project.
        round: Round of the questions.
        format: One of `a2lc.handover.FORMATS`.
        labels: One for each class, then one for unlabeled.
        images: Images with their questions.
    """

    version: Literal[1] = 1
    project: str
    round: int
    format: str
    labels: tuple[Label, ...]
    images: tuple[HandedImage, ...]

    @property
    def key(self) -> str:
        """Hash of the hand-over."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    @property
    def questions(self) -> Iterator[HandedQuestion]:
        """All questions, image by image."""
        return (question for image in self.images for question in image.questions)

    def write(self, folder: Path) -> None:
        """Write `handover.json` into a folder."""
        write_text(folder / HANDOVER_FILE, json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False))


def read_handed(path: Path) -> Handed:
    """Read a `handover.json`.

    Raises:
        MissingFileError: The file is missing.
        InputError: It is not a valid hand-over.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise MissingFileError(
            f"No {HANDOVER_FILE} at {path}. The hand-over wrote it into its folder: put the exported file there, "
            f"or set the path of {HANDOVER_FILE}."
        ) from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file. Use the one that the hand-over wrote.") from None
    try:
        return Handed.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        location = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"{path}: not as the hand-over wrote it: {location + ': ' if location else ''}{first['msg']}. Use the "
            "original file."
        ) from None


@dataclass(frozen=True, eq=False, kw_only=True)
class Sheet:
    """An image with its questions.

    Attributes:
        handed: The image in the tool.
        record: The image in the project.
        mask_map: (H, W) mask ids.
        queries: Its questions by number.
    """

    handed: HandedImage
    record: ImageRecord
    mask_map: NDArray[Any]
    queries: Mapping[int, Query]

    def inside(self, number: int) -> NDArray[np.bool_]:
        """Return (H, W) True for pixels of the masks of a question."""
        return inside_of(self.mask_map, self.queries[number])

    @property
    def anywhere(self) -> NDArray[np.bool_]:
        """(H, W) True for pixels of the masks of all questions."""
        return np.isin(self.mask_map, [mask for query in self.queries.values() for mask in query.mask_ids])


def inside_of(mask_map: NDArray[Any], query: Query) -> NDArray[np.bool_]:
    """Return (H, W) True for pixels of the masks of a question."""
    return np.isin(mask_map, query.mask_ids)


def question_key(record: ImageRecord, query: Query, inside: NDArray[np.bool_]) -> str:
    """Hash the contents of a question: image file, pixels of its masks, and proposed class, but not its number."""
    facts = [record.image_id, record.sha256, record.width, record.height, list(query.mask_ids), query.proposed]
    digest = hashlib.sha256(json.dumps(facts).encode())
    digest.update(np.packbits(inside).tobytes())
    return digest.hexdigest()[:16]


def labels_of(classes: ClassTable, format: str) -> tuple[Label, ...]:
    """Choose a label for each class, then one for unlabeled: names that the tool can hold, and distinct colours.

    Raises:
        InputError: The tool cannot hold a name.
    """
    cvat = format != "label-studio"
    taken = {name.casefold() for name in classes.names}
    # CVAT takes black for no label. The usual colour of unlabeled pixels is reserved, unless a class has it.
    used = {(0, 0, 0)} if _VOID_COLOUR in classes.colours else {(0, 0, 0), _VOID_COLOUR}
    labels = []
    for index, (name, colour) in enumerate(zip(classes.names, classes.colours, strict=True)):
        check_label_name(name, format)
        if cvat and name.casefold() == "background":
            # CVAT gives pixels without a label this name.
            while name.casefold() in taken:
                name += "_"
            taken.add(name.casefold())
        if colour in used:
            colour = free_colour(index, used)
        used.add(colour)
        labels.append(Label(name=name, color=colour, class_index=index))
    void = VOID_NAME
    while void in taken:
        void += "_"
    colour = free_colour(len(labels), used) if _VOID_COLOUR in classes.colours else _VOID_COLOUR
    return (*labels, Label(name=void, color=colour, class_index=None))


def tool_image(project: Project, record: ImageRecord) -> tuple[str, Path | None]:
    """Return the name of an image in the tool, and its file, or None if an upright copy must be made.

    Raises:
        MissingFileError: The image is missing.
        ShapeError: Its size has changed since it was imported.
    """
    path = project.image_path(record)
    if not path.is_file():
        raise MissingFileError(
            f"Image {path} is missing. Restore it, or fix `sources` in {project.folder / 'project.yaml'}."
        )
    sources = project.config.sources
    width, height, orientation = stored_size(path, sources.max_pixels)
    if sources.exif == "apply" and orientation >= 5:
        width, height = height, width
    if (width, height) != (record.width, record.height):
        raise ShapeError(
            f"{path} has {width} x {height} pixels, but had {record.width} x {record.height} when the project was "
            "created. Restore the original file."
        )
    # Tools treat EXIF orientation differently, so images go out without one.
    plain = orientation == 1 and path.suffix.lower() in _SHOWN
    return record.image_id + (path.suffix if plain else ".png"), path if plain else None


def write_tool_image(project: Project, record: ImageRecord, target: Path) -> None:
    """Write an image as PNG, in the orientation of the project."""
    write_rgb(target, project.pixels(record))


# ---- answers from drawings --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True)
class Drawing:
    """What the tool returned for a question.

    Attributes:
        painted: (H, W) class, VOID, or KEEP for pixels without a label.
        verdict: The choice beside the drawing.
        submitted: Whether the annotator submitted it; False if the tool does not record that.
        milliseconds: Time that it took; None if not known.
    """

    painted: NDArray[np.int32]
    verdict: Verdict | None = None
    submitted: bool = False
    milliseconds: int | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Decision:
    """The answer that a drawing gives.

    Attributes:
        kind: Kind of the answer; None for no answer.
        classes: Classes of the answer.
        said: (H, W) pixel labels of the answer, KEEP for pixels that keep theirs; None without pixel labels.
        refused: Whether the drawing contradicts itself.
        message: Remark for the user, without the number of the question.
    """

    kind: AnswerKind | None = None
    classes: tuple[int, ...] = ()
    said: NDArray[np.int32] | None = None
    refused: bool = False
    message: str = ""

    def same(self, other: Decision) -> bool:
        """Return whether two drawings give the same answer."""
        if (self.kind, self.classes, self.refused) != (other.kind, other.classes, other.refused):
            return False
        if self.said is None or other.said is None:
            return self.said is other.said
        return bool(np.array_equal(self.said, other.said))


def decide(drawing: Drawing, inside: NDArray[np.bool_], proposed: int | None, classes: ClassTable) -> Decision:
    """Derive the answer to a question from a drawing (pure).

    Only pixels of the masks in question count. One label on at least `SAME` of them is the label of the whole.

    Args:
        drawing: What the tool returned.
        inside: (H, W) True for pixels of the masks in question, at least one.
        proposed: The class that was handed over; None for unlabeled.
        classes: Classes of the project.

    Returns:
        The answer. There is none if an unchanged mask was not confirmed, or if verdict and drawing disagree.
    """
    values = drawing.painted[inside]
    present, counts = np.unique(values, return_counts=True)
    expected = VOID if proposed is None else proposed
    most = int(np.argmax(counts))
    whole = int(present[most]) if counts[most] >= SAME * len(values) else None
    kept = (
        Decision(kind=AnswerKind.VOID) if proposed is None else Decision(kind=AnswerKind.CONFIRM, classes=(proposed,))
    )
    if drawing.verdict in {Verdict.MIXED, Verdict.CANNOT_TELL}:
        kind = AnswerKind.MIXED if drawing.verdict == Verdict.MIXED else AnswerKind.SKIP
        used = "" if whole == expected else f"{drawing.verdict.value!r} was chosen, so the drawing is not used."
        return Decision(kind=kind, message=used)
    if drawing.verdict == Verdict.KEEP:
        if whole == expected:
            return kept
        name = classes.name_of(proposed, void=VOID_NAME)
        return Decision(
            refused=True,
            message=f"'keep' was chosen, but the drawing is no longer {name}. Make them agree in the tool.",
        )
    if whole == KEEP:
        return Decision(kind=AnswerKind.SKIP, message="erased, and no other label was drawn; recorded as 'skip'.")
    if whole == expected:
        return kept if drawing.submitted else Decision()
    if whole == VOID:
        return Decision(kind=AnswerKind.VOID)
    if whole is not None:
        return Decision(kind=AnswerKind.CORRECT, classes=(whole,))
    used_classes = tuple(int(value) for value in present if value >= 0)
    if not used_classes:
        return Decision(
            kind=AnswerKind.MIXED, message="one part is void and the rest has no label; recorded as 'mixed'."
        )
    erased = int((values == KEEP).sum())
    return Decision(
        kind=AnswerKind.CLASSES,
        classes=used_classes,
        said=np.where(inside, drawing.painted, KEEP).astype(np.int32),
        message=f"{erased:,} of {len(values):,} pixels have no label in the drawing and keep their current one."
        if erased
        else "",
    )
