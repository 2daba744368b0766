"""Request and response bodies of the HTTP interface."""

from __future__ import annotations

import unicodedata
from typing import Annotated, Literal

from fastapi import Path as PathValue
from fastapi import Query as QueryValue
from pydantic import BaseModel, ConfigDict, Field

from a2lc.ledger import VOID
from a2lc.serve.errors import Refused, shown

__all__ = [
    "LARGEST",
    "AcceptBody",
    "AcceptedReply",
    "AnswerBody",
    "AnsweredParts",
    "AnswersBody",
    "Body",
    "CardBody",
    "ClassBody",
    "ClicksBody",
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
    "NamedBody",
    "NamedSuperpixels",
    "OverviewReply",
    "PairBody",
    "PartMapReply",
    "Parts",
    "ReleaseBody",
    "ReleasedReply",
    "ResultBody",
    "ResultsReply",
    "SpreadReply",
    "StandingBody",
    "StatusBody",
    "SuperpixelsBody",
    "TrainingBody",
    "UndoneReply",
    "check_annotator",
]


LARGEST = 2**53 - 1  # whole numbers above it are not exact in a browser


class Body(BaseModel):
    # Strict: "7" is no number and true no 1. Unknown fields are refused, so that a misspelt one is seen.
    model_config = ConfigDict(extra="forbid", strict=True)


QuestionId = Annotated[int, Field(ge=0, le=LARGEST)]


ClassIndex = Annotated[int, Field(ge=-LARGEST, le=LARGEST)]  # whether there is such a class, the desk says, per answer


Coordinate = Annotated[int, Field(ge=0, le=10**6)]


class NamedBody(Body):
    annotator: Annotated[str, Field(description="1 to 60 printable characters; not 'oracle'")]


class LeaseBody(NamedBody):
    count: Annotated[int, Field(ge=1, le=32)]
    have: Annotated[list[QuestionId], Field(max_length=1000)] = []


class ReleaseBody(NamedBody):
    ids: Annotated[list[QuestionId], Field(max_length=1000)]


class GridBody(NamedBody):
    count: Annotated[int, Field(ge=1, le=48)]


class SuperpixelsBody(Body):
    method: Literal["superpixels"]
    count: Annotated[int, Field(ge=2, le=60)]


class ClicksBody(Body):
    method: Literal["clicks"]
    points: Annotated[
        list[Annotated[list[Annotated[int, Field(ge=0, le=10**6)]], Field(min_length=3, max_length=3)]],
        Field(min_length=1, max_length=500, description="x, y in pixels of the image, and class"),
    ]

    @property
    def triples(self) -> list[tuple[int, int, int]]:
        return [(x, y, name) for x, y, name in self.points]


class NamedSuperpixels(SuperpixelsBody):
    classes: Annotated[
        list[Annotated[int, Field(ge=VOID, le=65535)] | None],
        Field(min_length=1, max_length=20_000, description="for each part its class, -1 for void, null to leave it"),
    ]


Parts = Annotated[SuperpixelsBody | ClicksBody, Field(discriminator="method")]


AnsweredParts = Annotated[NamedSuperpixels | ClicksBody, Field(discriminator="method")]


class AnswerBody(Body):
    query_id: QuestionId
    kind: Literal["confirm", "correct", "classes", "mixed", "void", "skip"]
    classes: Annotated[list[ClassIndex], Field(max_length=1000)] = []
    milliseconds: Annotated[int, Field(ge=0, le=10**10)] | None = None
    replaces: QuestionId | None = None
    parts: AnsweredParts | None = None


class AnswersBody(NamedBody):
    answers: Annotated[list[AnswerBody], Field(min_length=1, max_length=64)]


class AcceptBody(NamedBody):
    threshold: Annotated[float, Field(ge=0, le=1)]  # NaN is neither
    rejected: Annotated[
        list[Annotated[list[Annotated[int, Field(ge=VOID, le=65535)]], Field(min_length=2, max_length=2)]],
        Field(max_length=100_000, description="pairs of old and new class that nothing is changed of"),
    ] = []


def check_annotator(name: str) -> str:
    """A name as it is recorded.

    Raises:
        Refused: It is no name of a person.
    """
    # Composed, so that a name typed on two systems is one name.
    clean = unicodedata.normalize("NFC", name.strip())
    # Joiners are no printable characters, and some scripts cannot write a name without them.
    printable = clean.replace("\u200c", "").replace("\u200d", "")
    if not 1 <= len(clean) <= 60 or not printable or not printable.isprintable():
        raise Refused(422, "bad_annotator", f"Expected a name of 1 to 60 printable characters, found {shown(name)}.")
    if unicodedata.normalize("NFKC", printable).strip().casefold() == "oracle":
        raise Refused(422, "bad_annotator", "'oracle' is the simulated annotator. Take another name.")
    return clean


class StandingBody(Body):
    answer_id: int
    kind: str
    classes: list[int]
    annotator: str
    milliseconds: int | None


class CardBody(Body):
    query_id: int
    round: int
    kind: str
    image: int
    image_id: str
    width: int
    height: int
    mask_ids: list[int]
    proposed: int | None
    suggestions: list[int]
    area: int
    box: list[int]
    crop: list[int]
    runs: list[int]
    pixel: list[int] | None
    answer: StandingBody | None


class TrainingBody(Body):
    stage: str
    line: str
    seconds: float
    error: str | None


class StatusBody(Body):
    round: int
    stage: str
    phase: Literal["answering", "spread", "training", "waiting"]
    message: str
    waiting: int
    answered: int
    budget: float
    ahead: bool
    training: TrainingBody | None
    proposed: int | None


class ClassBody(Body):
    index: int
    name: str
    color: str


class OverviewReply(Body):
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


class LeasedReply(Body):
    cards: list[CardBody]
    gone: list[int]
    status: StatusBody


class GridReply(Body):
    proposed: int | None
    cards: list[CardBody]


class ReleasedReply(Body):
    released: int


class ResultBody(Body):
    query_id: int
    status: Literal["recorded", "same", "conflict", "refused"]
    answer_id: int | None
    message: str


class ResultsReply(Body):
    results: list[ResultBody]
    status: StatusBody


class EntryBody(Body):
    query_id: int
    answer_id: int
    kind: str
    classes: list[int]
    time: str
    image_id: str
    proposed: int | None
    changed: bool


class HistoryReply(Body):
    entries: list[EntryBody]


class PartMapReply(Body):
    crop: list[int]
    ids: list[int]
    parts: int


class PairBody(Body):
    old: int
    new: int
    masks: int
    pixels: int


class ItemBody(Body):
    row: int
    image: int
    image_id: str
    mask_id: int
    old: int
    new: int
    probability: float
    crop: list[int]
    box: list[int]
    runs: list[int]


class SpreadReply(Body):
    ready: bool
    stage: str
    total: int
    promise: str
    pairs: list[PairBody]
    items: list[ItemBody]
    histogram: list[int]


class AcceptedReply(Body):
    changed: int
    left_out: int
    message: str
    status: StatusBody


class UndoneReply(Body):
    changed: int
    status: StatusBody


class ExportedReply(Body):
    name: str
    files: int
    path: str
    download: str


class HealthReply(Body):
    ok: bool


class ErrorBody(Body):
    code: str
    message: str


class ErrorReply(Body):
    error: ErrorBody


QuestionPath = Annotated[int, PathValue(ge=0, le=LARGEST)]


ImagePath = Annotated[int, PathValue(ge=0, le=LARGEST)]


Edge = Annotated[int, QueryValue(ge=-LARGEST, le=LARGEST)]  # what is outside the image is told as `bad_region`


Size = Annotated[int, QueryValue(ge=64, le=2048)]


SpreadClass = Annotated[int | None, QueryValue(ge=VOID, le=65535)]
