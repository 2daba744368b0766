"""Define the request and response bodies of the HTTP interface."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import Path as PathValue
from fastapi import Query as QueryValue
from pydantic import BaseModel, ConfigDict, Field, model_validator

from a2lc.errors import InputError
from a2lc.ledger import VOID
from a2lc.records import AnswerKind, QueryKind
from a2lc.rounds.recorder import annotator_name
from a2lc.serve.errors import Refused

__all__ = [
    "LARGEST",
    "AcceptBody",
    "AcceptedReply",
    "AnswerBody",
    "AnsweredParts",
    "AnswersBody",
    "Body",
    "BoxReply",
    "CardBody",
    "ClassBody",
    "ClassChangesBody",
    "ClicksBody",
    "DashboardReply",
    "EntryBody",
    "ErrorBody",
    "ErrorReply",
    "ExportedReply",
    "GridBody",
    "GridReply",
    "HealthReply",
    "HistoryReply",
    "ItemBody",
    "LeaseBody",
    "LeasedReply",
    "MinuteBody",
    "NamedBody",
    "NamedSuperpixels",
    "OverviewReply",
    "PairBody",
    "PartMapReply",
    "Parts",
    "PersonBody",
    "ReleaseBody",
    "ReleasedReply",
    "Reply",
    "ResultBody",
    "ResultsReply",
    "SpreadReply",
    "StandingBody",
    "StatusBody",
    "SuperpixelsBody",
    "TrainingBody",
    "UndoneReply",
    "check_annotator",
    "plain_numbers",
]


LARGEST = 2**53 - 1  # whole numbers above it are not exact in a browser


class Body(BaseModel):
    """Base of request bodies: "7" is not a number, and unknown fields are refused, so that a misspelt one is noticed."""

    model_config = ConfigDict(extra="forbid", strict=True)


QuestionId = Annotated[int, Field(ge=0, le=LARGEST)]


ClassIndex = Annotated[int, Field(ge=-LARGEST, le=LARGEST)]  # whether the class exists is checked per answer


Coordinate = Annotated[int, Field(ge=0, le=10**6)]


class NamedBody(Body):
    """A request in the name of an annotator."""

    annotator: Annotated[str, Field(description="1 to 60 printable characters; not 'oracle'")]


class LeaseBody(NamedBody):
    """Ask for questions."""

    count: Annotated[int, Field(ge=1, le=32)]
    have: Annotated[list[QuestionId], Field(max_length=1000)] = []


class ReleaseBody(NamedBody):
    """Give questions back."""

    ids: Annotated[list[QuestionId], Field(max_length=1000)]


class GridBody(NamedBody):
    """Ask for questions about similar masks."""

    count: Annotated[int, Field(ge=1, le=48)]


class SuperpixelsBody(Body):
    """Cut a mask into superpixels."""

    method: Literal["superpixels"]
    count: Annotated[int, Field(ge=2, le=60)]


class ClicksBody(Body):
    """Cut a mask by clicks: each part grows from a clicked point."""

    method: Literal["clicks"]
    points: Annotated[
        list[Annotated[list[Coordinate], Field(min_length=3, max_length=3)]],
        Field(min_length=1, max_length=500, description="x, y in pixels of the image, and class"),
    ]

    @property
    def triples(self) -> list[tuple[int, int, int]]:
        """Return the points as tuples of x, y and class."""
        return [(x, y, label) for x, y, label in self.points]


class NamedSuperpixels(SuperpixelsBody):
    """Superpixels of a mask with their classes."""

    classes: Annotated[
        list[Annotated[int, Field(ge=VOID, le=65535)] | None],
        Field(
            min_length=1,
            max_length=20_000,
            description="for each part its class, -1 for unlabeled, null to keep its labels",
        ),
    ]


Parts = Annotated[SuperpixelsBody | ClicksBody, Field(discriminator="method")]


AnsweredParts = Annotated[NamedSuperpixels | ClicksBody, Field(discriminator="method")]


class AnswerBody(Body):
    """One answer."""

    query_id: QuestionId
    kind: Literal["confirm", "correct", "classes", "mixed", "void", "skip"]
    classes: Annotated[list[ClassIndex], Field(max_length=1000)] = []
    milliseconds: Annotated[int, Field(ge=0, le=10**10)] | None = None
    replaces: QuestionId | None = None
    parts: AnsweredParts | None = None
    in_grid: Annotated[bool, Field(description="whether it was given, or the mask marked, in a grid")] = False


class AnswersBody(NamedBody):
    """Answers of an annotator."""

    answers: Annotated[list[AnswerBody], Field(min_length=1, max_length=64)]


class AcceptBody(NamedBody):
    """Accept automatic corrections, except improbable and rejected ones."""

    threshold: Annotated[float, Field(ge=0, le=1)]  # NaN is neither
    rejected: Annotated[
        list[Annotated[list[Annotated[int, Field(ge=VOID, le=65535)]], Field(min_length=2, max_length=2)]],
        Field(max_length=100_000, description="pairs of old and new class to leave out"),
    ] = []


def check_annotator(name: str) -> str:
    """Return a name in the form in which it is recorded.

    Raises:
        Refused: It is empty, too long, not printable, or the name of the simulated annotator.
    """
    try:
        return annotator_name(name)
    except InputError as error:
        raise Refused(422, "bad_annotator", str(error)) from None


class Reply(BaseModel):
    """Base of response bodies: a field that is missing, superfluous or of another type is an internal error."""

    model_config = ConfigDict(extra="forbid", strict=True)


BoxReply = tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels of the image, ends exclusive

Runs = tuple[int, ...]  # lengths of runs of pixels of `crop`, row by row: outside the mask, inside, outside, ..


class StandingBody(Reply):
    """The current answer of a question."""

    answer_id: int
    kind: AnswerKind
    classes: tuple[int, ...]
    annotator: str
    milliseconds: int | None


class CardBody(Reply):
    """A question as the page shows it."""

    query_id: int
    round: int
    kind: QueryKind
    image: int
    image_id: str
    width: int
    height: int
    mask_ids: tuple[int, ...]
    proposed: int | None
    suggestions: tuple[int, ...]
    area: int
    box: BoxReply
    crop: BoxReply
    runs: Runs
    pixel: tuple[int, int] | None
    answer: StandingBody | None


class TrainingBody(Reply):
    """State of the training process."""

    stage: str
    line: str
    seconds: float
    error: str | None


class StatusBody(Reply):
    """State of the round."""

    round: int
    stage: str
    phase: Literal["answering", "spread", "training", "waiting"]
    message: str
    waiting: int
    answered: int
    budget: float
    finishing: bool
    ahead: bool
    training: TrainingBody | None
    proposed: int | None


class ClassBody(Reply):
    """A class of the project."""

    index: int
    name: str
    color: str


class OverviewReply(Reply):
    """What does not change while the server runs."""

    name: str
    folder_name: str
    images: int
    masks: int
    method: str
    round: int
    trains: bool
    classes: list[ClassBody]
    version: str
    annotators: list[str]
    lease_seconds: float


class LeasedReply(Reply):
    """Questions that were lent, and those that are no longer the annotator's."""

    cards: list[CardBody]
    gone: list[int]
    status: StatusBody


class GridReply(Reply):
    """Questions about similar masks of one class."""

    proposed: int | None
    cards: list[CardBody]


class ReleasedReply(Reply):
    """How many questions were taken back."""

    released: int


class ResultBody(Reply):
    """What became of an answer."""

    query_id: int
    status: Literal["recorded", "same", "conflict", "refused"]
    answer_id: int | None
    message: str


class ResultsReply(Reply):
    """What became of each answer of a request, in its order."""

    results: list[ResultBody]
    status: StatusBody


class EntryBody(Reply):
    """An answered question in the history of an annotator."""

    query_id: int
    answer_id: int
    kind: AnswerKind
    classes: tuple[int, ...]
    time: str
    image_id: str
    proposed: int | None
    changed: bool


class HistoryReply(Reply):
    """The last answers of an annotator, newest first."""

    entries: list[EntryBody]


class PartMapReply(Reply):
    """The parts of a mask over its crop, as runs: value, length, value, length, .."""

    crop: BoxReply
    ids: list[int]
    parts: int


class PairBody(Reply):
    """Automatic corrections from one class to another, counted."""

    old: int
    new: int
    masks: int
    pixels: int


class ItemBody(Reply):
    """One automatic correction."""

    row: int
    image: int
    image_id: str
    mask_id: int
    old: int
    new: int
    probability: float
    crop: BoxReply
    box: BoxReply
    runs: Runs


class SpreadReply(Reply):
    """Automatic corrections to review; `promise` is their guarantee in one line."""

    ready: bool
    stage: str
    total: int
    promise: str
    pairs: list[PairBody]
    items: list[ItemBody]
    histogram: list[int]


class AcceptedReply(Reply):
    """How many masks were corrected automatically, and how many were left out."""

    changed: int
    left_out: int
    message: str
    status: StatusBody


class UndoneReply(Reply):
    """How many automatic corrections were undone."""

    changed: int
    status: StatusBody


class PersonBody(Reply):
    """The work of an annotator; `a_minute` is answers per minute, pauses not counted."""

    name: str
    answers: int
    today: int
    changed: int
    a_minute: float | None


class MinuteBody(Reply):
    """Answers of people in a minute."""

    time: str
    answers: int


class ClassChangesBody(Reply):
    """Masks that changed from and to a class."""

    class_: Annotated[int, Field(alias="class")]
    from_: Annotated[int, Field(alias="from")]
    to: int


class DashboardReply(Reply):
    """Figures of rounds, annotators and labels; `rounds` and `quality` as in `a2lc status --json`."""

    rounds: list[dict[str, Any]]
    annotators: list[PersonBody]
    minutes: list[MinuteBody]
    changes: list[ClassChangesBody]
    quality: dict[str, Any] | None
    clicks: float
    answers: int
    waiting: int
    data_miou: float | None

    @model_validator(mode="before")
    @classmethod
    def _convert_numbers(cls, data: Any) -> Any:
        return plain_numbers(data)


def plain_numbers(value: Any) -> Any:
    """Return a value with NumPy's numbers and arrays as Python's, and NaN and infinity as None, at any depth."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {key: plain_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_numbers(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


class ExportedReply(Reply):
    """Where an export was written."""

    name: str
    files: int
    path: str
    download: str


class HealthReply(Reply):
    """Sign that the server answers."""

    ok: bool


class ErrorBody(Reply):
    """What is wrong with a request."""

    code: str
    message: str


class ErrorReply(Reply):
    """The shape of every error."""

    error: ErrorBody


QuestionPath = Annotated[int, PathValue(ge=0, le=LARGEST)]


ImagePath = Annotated[int, PathValue(ge=0, le=LARGEST)]


Edge = Annotated[int, QueryValue(ge=-LARGEST, le=LARGEST)]  # outside the image is refused as `bad_region`


Size = Annotated[int, QueryValue(ge=64, le=2048)]


SpreadClass = Annotated[int | None, QueryValue(ge=VOID, le=65535)]
