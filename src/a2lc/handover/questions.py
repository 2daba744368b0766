"""What is handed over: questions, their labels in the tool, and what a drawing says of a question."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from a2lc.classes.table import ClassTable
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
"""Share of a mask that one class must cover to be the class of all of it: a brush never meets a border to the pixel."""

_SHOWN = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})  # what browsers draw
_VOID_COLOUR = (224, 224, 192)  # as in VOC's label maps


class Verdict(StrEnum):
    """What an annotator may say of a question without drawing; the values are what the tools show."""

    KEEP = "keep"
    MIXED = "mixed or bad border"
    CANNOT_TELL = "cannot tell"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Label(_Model):
    """A label of the tool.

    Attributes:
        name: As the tool has it; other than the class's where the tool takes that for something else.
        color: RGB, 0..255; no other label has it.
        class_index: The class it stands for, None for void.
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
    """A question as it was handed over: its number, and a hash of what it is about, see `question_key`."""

    query_id: int
    key: str


class HandedImage(_Model):
    """An image as the tool knows it."""

    image_id: str
    file: str
    width: int
    height: int
    questions: tuple[HandedQuestion, ...]


class Handed(_Model):
    """A hand-over: what `handover.json` says.

    Attributes:
        version: Of this file.
        project: Name of the project.
        round: Whose questions they are.
        format: One of `a2lc.handover.FORMATS`.
        labels: Of all classes, then void.
        images: With their questions.
    """

    version: Literal[1] = 1
    project: str
    round: int
    format: str
    labels: tuple[Label, ...]
    images: tuple[HandedImage, ...]

    @property
    def key(self) -> str:
        """Hash of all of it."""
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
        MissingFileError: It is not there.
        InputError: It is not what it should be.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise MissingFileError(
            f"No {HANDOVER_FILE} at {path}. It was written into the folder of the hand-over: put the exported file there, "
            "or say where it is."
        ) from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file. Take the one that the hand-over wrote.") from None
    try:
        return Handed.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"{path}: not as the hand-over wrote it: {place + ': ' if place else ''}{first['msg']}. Take the one it wrote."
        ) from None


@dataclass(frozen=True, eq=False, kw_only=True)
class Sheet:
    """An image with its questions. Masks are made one at a time: an image may have hundreds.

    Attributes:
        handed: The image as the tool knows it.
        record: The image.
        mask_map: (H, W) mask ids.
        queries: Its questions, by number.
    """

    handed: HandedImage
    record: ImageRecord
    mask_map: NDArray[Any]
    queries: Mapping[int, Query]

    def inside(self, number: int) -> NDArray[np.bool_]:
        """(H, W) pixels of a question's masks."""
        return inside_of(self.mask_map, self.queries[number])

    @property
    def anywhere(self) -> NDArray[np.bool_]:
        """(H, W) pixels of the masks of all its questions."""
        return np.isin(self.mask_map, [mask for query in self.queries.values() for mask in query.mask_ids])


def inside_of(mask_map: NDArray[Any], query: Query) -> NDArray[np.bool_]:
    """(H, W) pixels of a question's masks."""
    return np.isin(mask_map, query.mask_ids)


def question_key(record: ImageRecord, query: Query, inside: NDArray[np.bool_]) -> str:
    """Hash of what a question is about: the image file, the pixels of its masks, the class proposed. Not its number."""
    facts = [record.image_id, record.sha256, record.width, record.height, list(query.mask_ids), query.proposed]
    found = hashlib.sha256(json.dumps(facts).encode())
    found.update(np.packbits(inside).tobytes())
    return found.hexdigest()[:16]


def labels_of(classes: ClassTable, format: str) -> tuple[Label, ...]:
    """A label for each class, then one for void: names that the tool can hold, and colours that differ.

    Raises:
        InputError: The tool cannot hold a name.
    """
    cvat = format != "label-studio"
    taken = {name.casefold() for name in classes.names}
    # Black is what CVAT takes for no label at all. What void has everywhere else stays void's, if no class has it.
    used = {(0, 0, 0)} if _VOID_COLOUR in classes.colours else {(0, 0, 0), _VOID_COLOUR}
    found = []
    for index, (name, colour) in enumerate(zip(classes.names, classes.colours, strict=True)):
        check_label_name(name, format)
        if cvat and name.casefold() == "background":
            # A label of that name is where nothing is drawn.
            while name.casefold() in taken:
                name += "_"
            taken.add(name.casefold())
        if colour in used:
            colour = free_colour(index, used)
        used.add(colour)
        found.append(Label(name=name, color=colour, class_index=index))
    void = "void"
    while void in taken:
        void += "_"
    colour = free_colour(len(found), used) if _VOID_COLOUR in classes.colours else _VOID_COLOUR
    return (*found, Label(name=void, color=colour, class_index=None))


def tool_image(project: Project, record: ImageRecord) -> tuple[str, Path | None]:
    """The name an image gets in the tool, and its file; None for the file where an upright copy must be made.

    Raises:
        MissingFileError: The image is gone.
        ShapeError: It has another size than when it was imported.
    """
    path = project.image_path(record)
    if not path.is_file():
        raise MissingFileError(
            f"Image {path} is gone. Put it back, or mend `sources` in {project.folder / 'project.yaml'}."
        )
    sources = project.config.sources
    width, height, orientation = stored_size(path, sources.max_pixels)
    if sources.exif == "apply" and orientation >= 5:
        width, height = height, width
    if (width, height) != (record.width, record.height):
        raise ShapeError(
            f"{path} is {width} x {height} pixels and was {record.width} x {record.height} when the project was made. "
            "Put the file back that it was made from."
        )
    # Each tool turns images as it likes: one without an orientation leaves nothing to turn.
    plain = orientation == 1 and path.suffix.lower() in _SHOWN
    return record.image_id + (path.suffix if plain else ".png"), path if plain else None


def write_tool_image(project: Project, record: ImageRecord, target: Path) -> None:
    """Write an image as PNG, turned as the project has it."""
    write_rgb(target, project.pixels(record))


# ---- what a drawing says ----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True)
class Drawing:
    """What came back for a question.

    Attributes:
        painted: (H, W) class, VOID, or KEEP where there is no label.
        verdict: What was said beside it.
        submitted: Whether somebody said that this is the answer; False where that cannot be known.
        milliseconds: Time it took, where it is known.
    """

    painted: NDArray[np.int32]
    verdict: Verdict | None = None
    submitted: bool = False
    milliseconds: int | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Decision:
    """What a drawing comes to.

    Attributes:
        kind: Of the answer; None where there is none.
        classes: Of the answer.
        said: (H, W) pixel labels that come with it, KEEP where nothing is said; or None.
        refused: Whether it contradicts itself.
        message: What the user should know of it, without the question's number.
    """

    kind: AnswerKind | None = None
    classes: tuple[int, ...] = ()
    said: NDArray[np.int32] | None = None
    refused: bool = False
    message: str = ""

    def same(self, other: Decision) -> bool:
        """Whether two come to the same answer."""
        if (self.kind, self.classes, self.refused) != (other.kind, other.classes, other.refused):
            return False
        if self.said is None or other.said is None:
            return self.said is other.said
        return bool(np.array_equal(self.said, other.said))


def decide(drawing: Drawing, inside: NDArray[np.bool_], proposed: int | None, classes: Sequence[str]) -> Decision:
    """What a drawing says of a question (pure).

    Only pixels of the question's masks count. One label on at least `SAME` of them is the label of all.

    Args:
        drawing: What came back.
        inside: (H, W) pixels of the question's masks, at least one.
        proposed: The class handed over, None for void.
        classes: Names of the classes.

    Returns:
        The answer; none where nobody said that an unchanged mask is right, or where verdict and drawing disagree.
    """
    values = drawing.painted[inside]
    found, counts = np.unique(values, return_counts=True)
    expected = VOID if proposed is None else proposed
    most = int(np.argmax(counts))
    whole = int(found[most]) if counts[most] >= SAME * len(values) else None
    kept = (
        Decision(kind=AnswerKind.VOID) if proposed is None else Decision(kind=AnswerKind.CONFIRM, classes=(proposed,))
    )
    if drawing.verdict in {Verdict.MIXED, Verdict.CANNOT_TELL}:
        kind = AnswerKind.MIXED if drawing.verdict == Verdict.MIXED else AnswerKind.SKIP
        used = "" if whole == expected else f"{drawing.verdict.value!r} was chosen, so what was drawn is not used."
        return Decision(kind=kind, message=used)
    if drawing.verdict == Verdict.KEEP:
        if whole == expected:
            return kept
        named = "void" if proposed is None else classes[proposed]
        return Decision(
            refused=True,
            message=f"'keep' was chosen, and what is drawn is not {named} any more. Make them agree in the tool.",
        )
    if whole == KEEP:
        return Decision(kind=AnswerKind.SKIP, message="erased, and no other label drawn: recorded as 'skip'.")
    if whole == expected:
        return kept if drawing.submitted else Decision()
    if whole == VOID:
        return Decision(kind=AnswerKind.VOID)
    if whole is not None:
        return Decision(kind=AnswerKind.CORRECT, classes=(whole,))
    used_classes = tuple(int(value) for value in found if value >= 0)
    if not used_classes:
        return Decision(
            kind=AnswerKind.MIXED, message="void on a part of it and no label on the rest: recorded as 'mixed'."
        )
    erased = int((values == KEEP).sum())
    return Decision(
        kind=AnswerKind.CLASSES,
        classes=used_classes,
        said=np.where(inside, drawing.painted, KEEP).astype(np.int32),
        message=f"{erased:,} of {len(values):,} pixels carry no label now and keep the one they have."
        if erased
        else "",
    )
