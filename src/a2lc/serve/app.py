"""The HTTP side of `a2lc serve`: parse, call the desk, answer. What is decided is decided by the desk."""

from __future__ import annotations

import ctypes
import hashlib
import html
import ipaddress
import json
import os
import re
import signal
import socket
import stat
import sys
import threading
import traceback
import unicodedata
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Annotated, Any, Literal, cast

import numpy as np
import uvicorn
from anyio import to_thread
from fastapi import FastAPI, Request
from fastapi import Path as PathValue
from fastapi import Query as QueryValue
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, Response, StreamingResponse
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware

from a2lc.errors import (
    A2LCError,
    AlreadyAnsweredError,
    InputError,
    LockedError,
    MissingFileError,
    PoolExhaustedError,
    StageError,
)
from a2lc.files import free_space_error
from a2lc.ledger import VOID
from a2lc.project import Project
from a2lc.records import Answer, AnswerKind, Query
from a2lc.serve.desk import Desk, NotNowError, UnknownQuestionError
from a2lc.serve.parts import click_parts, drawn, superpixel_parts, value_runs
from a2lc.serve.pictures import BoundedCache, Geometry, Pictures, RegionError
from a2lc.serve.security import Guard, error_response, host_names
from a2lc.version import __version__

__all__ = ["Server", "create_app"]

STATIC = Path(__file__).parent / "static"

_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webmanifest": "application/manifest+json",
}
_FAVICONS = ("favicon.svg", "favicon.png", "icon.svg", "icon.png")
_EXPORT_NAME = re.compile(r"(?!\.)[A-Za-z0-9_.-]{1,80}")
_COMPRESSED = frozenset({".png", ".jpg", ".jpeg", ".webp", ".zip", ".parquet"})
_CHUNK = 1 << 20
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_SPREAD_ITEMS = 60
_HISTOGRAM_BINS = 20
_LARGEST = 2**53 - 1  # whole numbers above it are not exact in a browser


# ---- errors ---------------------------------------------------------------------------------------------------------


class Refused(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


_ERRORS: list[tuple[type[A2LCError], int, str]] = [
    # The first that an error is one of holds.
    (UnknownQuestionError, 404, "no_such_question"),
    (NotNowError, 409, "not_now"),
    (AlreadyAnsweredError, 409, "already_answered"),
    (PoolExhaustedError, 409, "not_now"),
    (LockedError, 409, "locked"),
    (StageError, 409, "wrong_stage"),
    (InputError, 422, "bad_input"),
]


def _of_package(error: A2LCError) -> Response:
    for kind, status, code in _ERRORS:
        if isinstance(error, kind):
            return error_response(status, code, _one_line(str(error)))
    # The project is damaged, say: the message was written for people, and the traceback is for whoever mends it.
    traceback.print_exception(error, file=sys.stderr)
    return error_response(500, "internal", _one_line(str(error)))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _shown(value: Any) -> str:
    """What came, for a message: not all of it, should it be long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:50]}.. ({len(text)} characters)"


def _invalid(error: RequestValidationError) -> Response:
    first = error.errors()[0]
    where = [str(part) for part in first["loc"] if part not in {"body", "query", "path"}]
    if first["type"] == "json_invalid":
        message = (
            f"The body is not valid JSON at character {first['loc'][-1]}: {first.get('ctx', {}).get('error', '')}."
        )
        return error_response(400, "bad_request", _one_line(message))
    name = ".".join(where)[:100] or "body"
    if first["type"] == "extra_forbidden":
        return error_response(422, "bad_request", f"{name}: there is no such field.")
    expected = str(first["msg"])[:200].removeprefix("Input should be ").removeprefix("Value error, ")
    if first["type"] == "missing":
        return error_response(422, "bad_request", f"{name}: expected a value, found none.")
    message = f"{name}: expected {expected}, found {_shown(first.get('input'))}."
    return error_response(422, "bad_request", _one_line(message))


def _http_error(error: HTTPException, path: str) -> Response:
    if error.status_code == 404:
        return error_response(404, "not_found", f"There is nothing at {_shown(path)}.")
    if error.status_code == 405:
        reply = error_response(405, "method_not_allowed", f"{_shown(path)} takes another method.")
        if error.headers and "Allow" in error.headers:
            reply.headers["allow"] = error.headers["Allow"]
        return reply
    return error_response(error.status_code, "bad_request", _one_line(str(error.detail)))


# ---- what comes in --------------------------------------------------------------------------------------------------


class _Model(BaseModel):
    # Strict: "7" is no number and true no 1. Unknown fields are refused, so that a misspelt one is seen.
    model_config = ConfigDict(extra="forbid", strict=True)


QuestionId = Annotated[int, Field(ge=0, le=_LARGEST)]
ClassIndex = Annotated[
    int, Field(ge=-_LARGEST, le=_LARGEST)
]  # whether there is such a class, the desk says, per answer
Coordinate = Annotated[int, Field(ge=0, le=10**6)]


class _Named(_Model):
    annotator: Annotated[str, Field(description="1 to 60 printable characters; not 'oracle'")]


class _Lease(_Named):
    count: Annotated[int, Field(ge=1, le=32)]
    have: Annotated[list[QuestionId], Field(max_length=1000)] = []


class _Release(_Named):
    ids: Annotated[list[QuestionId], Field(max_length=1000)]


class _Grid(_Named):
    count: Annotated[int, Field(ge=1, le=48)]


class _Superpixels(_Model):
    method: Literal["superpixels"]
    count: Annotated[int, Field(ge=2, le=60)]


class _Clicks(_Model):
    method: Literal["clicks"]
    points: Annotated[
        list[Annotated[list[Annotated[int, Field(ge=0, le=10**6)]], Field(min_length=3, max_length=3)]],
        Field(min_length=1, max_length=500, description="x, y in pixels of the image, and class"),
    ]

    @property
    def triples(self) -> list[tuple[int, int, int]]:
        return [(x, y, name) for x, y, name in self.points]


class _NamedSuperpixels(_Superpixels):
    classes: Annotated[
        list[Annotated[int, Field(ge=VOID, le=65535)] | None],
        Field(min_length=1, max_length=20_000, description="for each part its class, -1 for void, null to leave it"),
    ]


_Parts = Annotated[_Superpixels | _Clicks, Field(discriminator="method")]
_AnsweredParts = Annotated[_NamedSuperpixels | _Clicks, Field(discriminator="method")]


class _Answer(_Model):
    query_id: QuestionId
    kind: Literal["confirm", "correct", "classes", "mixed", "void", "skip"]
    classes: Annotated[list[ClassIndex], Field(max_length=1000)] = []
    milliseconds: Annotated[int, Field(ge=0, le=10**10)] | None = None
    replaces: QuestionId | None = None
    parts: _AnsweredParts | None = None


class _Answers(_Named):
    answers: Annotated[list[_Answer], Field(min_length=1, max_length=64)]


class _Accept(_Named):
    threshold: Annotated[float, Field(ge=0, le=1)]  # NaN is neither
    rejected: Annotated[
        list[Annotated[list[Annotated[int, Field(ge=VOID, le=65535)]], Field(min_length=2, max_length=2)]],
        Field(max_length=100_000, description="pairs of old and new class that nothing is changed of"),
    ] = []


def _annotator(name: str) -> str:
    """A name as it is recorded.

    Raises:
        Refused: It is no name of a person.
    """
    # Composed, so that a name typed on two systems is one name.
    clean = unicodedata.normalize("NFC", name.strip())
    # Joiners are no printable characters, and some scripts cannot write a name without them.
    printable = clean.replace("\u200c", "").replace("\u200d", "")
    if not 1 <= len(clean) <= 60 or not printable or not printable.isprintable():
        raise Refused(422, "bad_annotator", f"Expected a name of 1 to 60 printable characters, found {_shown(name)}.")
    if unicodedata.normalize("NFKC", printable).strip().casefold() == "oracle":
        raise Refused(422, "bad_annotator", "'oracle' is the simulated annotator. Take another name.")
    return clean


# ---- what goes out --------------------------------------------------------------------------------------------------


class _Standing(_Model):
    answer_id: int
    kind: str
    classes: list[int]
    annotator: str
    milliseconds: int | None


class _Card(_Model):
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
    answer: _Standing | None


class _Training(_Model):
    stage: str
    line: str
    seconds: float
    error: str | None


class _Status(_Model):
    round: int
    stage: str
    phase: Literal["answering", "spread", "training", "waiting"]
    message: str
    waiting: int
    answered: int
    budget: float
    ahead: bool
    training: _Training | None
    proposed: int | None


class _Class(_Model):
    index: int
    name: str
    color: str


class _Overview(_Model):
    name: str
    folder_name: str
    images: int
    masks: int
    method: str
    round: int
    trains: bool
    classes: list[_Class]
    version: str
    annotators: list[str]
    lease_seconds: float


class _Leased(_Model):
    cards: list[_Card]
    gone: list[int]
    status: _Status


class _GridCards(_Model):
    proposed: int | None
    cards: list[_Card]


class _Released(_Model):
    released: int


class _Result(_Model):
    query_id: int
    status: Literal["recorded", "same", "conflict", "refused"]
    answer_id: int | None
    message: str


class _Results(_Model):
    results: list[_Result]
    status: _Status


class _Entry(_Model):
    query_id: int
    answer_id: int
    kind: str
    classes: list[int]
    time: str
    image_id: str
    proposed: int | None
    changed: bool


class _History(_Model):
    entries: list[_Entry]


class _PartMap(_Model):
    crop: list[int]
    ids: list[int]
    parts: int


class _Pair(_Model):
    old: int
    new: int
    masks: int
    pixels: int


class _Item(_Model):
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


class _Spread(_Model):
    ready: bool
    stage: str
    total: int
    promise: str
    pairs: list[_Pair]
    items: list[_Item]
    histogram: list[int]


class _Accepted(_Model):
    changed: int
    left_out: int
    message: str
    status: _Status


class _Undone(_Model):
    changed: int
    status: _Status


class _Exported(_Model):
    name: str
    files: int
    path: str
    download: str


class _Health(_Model):
    ok: bool


class _ErrorBody(_Model):
    code: str
    message: str


class _Error(_Model):
    error: _ErrorBody


def _json(data: Any) -> Response:
    """A reply as JSON: no NaN, numpy's numbers as numbers, and no `<` that could open a tag."""
    try:
        text = json.dumps(data, default=_from_numpy, allow_nan=False, separators=(",", ":"))
    except ValueError:
        text = json.dumps(_without_nan(data), default=_from_numpy, allow_nan=False, separators=(",", ":"))
    return Response(text.replace("<", "\\u003c"), media_type="application/json")


def _from_numpy(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return _without_nan(value.tolist())
    raise TypeError(f"{type(value).__name__} has no place in a reply")


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def _card(query: Query, found: Geometry, project: Project, standing: Answer | None) -> dict[str, Any]:
    record = project.all_images[query.image]
    pixel = None if query.pixel is None else [query.pixel % record.width, query.pixel // record.width]
    answer = None
    if standing is not None:
        answer = {
            "answer_id": standing.answer_id,
            "kind": str(standing.kind),
            "classes": list(standing.classes),
            "annotator": standing.annotator,
            "milliseconds": standing.milliseconds,
        }
    return {
        "query_id": query.query_id,
        "round": query.round,
        "kind": str(query.kind),
        "image": query.image,
        "image_id": record.image_id,
        "width": record.width,
        "height": record.height,
        "mask_ids": list(query.mask_ids),
        "proposed": query.proposed,
        "suggestions": list(query.suggestions[:9]),
        "area": found.area,
        "box": found.box,
        "crop": found.crop,
        "runs": found.runs,
        "pixel": pixel,
        "answer": answer,
    }


def _changed(query: Query, answer: Answer) -> bool:
    """Whether an answer says other than what the mask was thought to be."""
    if answer.pixels is not None or answer.kind == AnswerKind.MIXED:
        return True
    if answer.kind == AnswerKind.VOID:
        return query.proposed is not None
    if answer.kind in {AnswerKind.CORRECT, AnswerKind.CLASSES}:
        return answer.classes != (query.proposed,)
    return False


# ---- the views ------------------------------------------------------------------------------------------------------


class _Views:
    """What the endpoints share: the desk, pictures, and the parts found last."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.project = desk.project
        self.pictures = Pictures(desk.project)
        # The page asks for superpixels, and the answer has them found again: a moment later, by the same people.
        self._parts: BoundedCache[tuple[int, tuple[int, ...], int], NDArray[np.int32]] = BoundedCache(
            16 << 20, lambda parts: parts.nbytes
        )
        self._writing = threading.Lock()  # Project.write_answered_pixels has one temporary file

    def card(self, query: Query) -> dict[str, Any]:
        return _card(query, self.pictures.geometry(query), self.project, self.desk.standing(query.query_id))

    def cards(self, queries: Sequence[Query]) -> list[dict[str, Any]]:
        return [self.card(query) for query in queries]

    def image(self, index: int) -> int:
        if not 0 <= index < len(self.project.all_images):
            raise Refused(
                404, "no_such_image", f"There is no image {index}: the project has {len(self.project.all_images)}."
            )
        return index

    def jpeg(self, index: int, box: tuple[int, int, int, int] | None, size: int) -> Response:
        try:
            data = self.pictures.jpeg(self.image(index), box, size=size)
        except RegionError as error:
            raise Refused(422, "bad_region", _one_line(str(error))) from None
        except MissingFileError as error:
            raise Refused(404, "no_image_file", _one_line(str(error))) from None
        # The cookie is another after a restart: a picture of another project that was served here is not taken for this.
        headers = {"cache-control": "private, max-age=3600", "vary": "Cookie, Authorization"}
        return Response(data, media_type="image/jpeg", headers=headers)

    def part_map(self, query: Query, wanted: _Superpixels | _Clicks) -> NDArray[np.int32]:
        """Parts over the crop of a question's mask.

        Raises:
            InputError: The points do not fit the mask or the classes.
            MissingFileError: The image's file is gone.
        """
        x0, y0, x1, y1 = crop = self.pictures.geometry(query).crop
        inside = self.pictures.inside(query.image, query.mask_ids, crop)
        pixels = self.pictures.pixels(query.image)[y0:y1, x0:x1]
        if isinstance(wanted, _Superpixels):
            key = query.image, query.mask_ids, wanted.count
            return self._parts.get(key, lambda: superpixel_parts(pixels, inside, wanted.count))
        for x, y, name in wanted.triples:
            if name >= self.project.classes.num_classes:
                raise InputError(
                    f"Point {x}, {y} has class {name}; there are {self.project.classes.num_classes}, from 0."
                )
            if not (x0 <= x < x1 and y0 <= y < y1 and inside[y - y0, x - x0]):
                raise InputError(f"Point {x}, {y} lies outside the mask. Click inside it.")
        return click_parts(pixels, inside, [(x - x0, y - y0, name) for x, y, name in wanted.triples])

    def pixels_of(self, query: Query, answer: _Answer) -> str:
        """Write down the pixel labels that came with an answer; their hash.

        Raises:
            InputError: They do not fit the answer, or the mask.
        """
        assert answer.parts is not None
        if answer.kind != "classes":
            raise InputError(f"Parts come with an answer 'classes', not with {answer.kind!r}.")
        record, crop = self.project.all_images[query.image], self.pictures.geometry(query).crop
        parts = self.part_map(query, answer.parts)
        named: list[int | None]
        if isinstance(answer.parts, _NamedSuperpixels):
            named = answer.parts.classes
            said = drawn(parts, crop, (record.height, record.width), named)
        else:
            named = [name for _, _, name in answer.parts.triples]
            said = drawn(parts, crop, (record.height, record.width))
        used = sorted({name for name in named if name is not None and name != VOID})
        if used and used[-1] >= self.project.classes.num_classes:
            raise InputError(f"Class {used[-1]} of a part is none of the {self.project.classes.num_classes} classes.")
        if answer.classes != used:
            raise InputError(f"The answer names classes {_shown(answer.classes)} and its parts {_shown(used)}.")
        if not used:
            raise InputError("No part has a class: answer 'void' or 'mixed' for the whole.")
        with self._writing:
            return self.project.write_answered_pixels(said)

    def answers(self, body: _Answers) -> dict[str, Any]:
        name = _annotator(body.annotator)
        results: list[dict[str, Any] | None] = []
        ready: list[Answer] = []
        for said in body.answers:
            try:
                pixels = None if said.parts is None else self.pixels_of(self.desk.question(said.query_id), said)
            except InputError as error:
                # One that fits nothing does not spoil the others.
                refused = {"status": "refused", "answer_id": None, "message": _one_line(str(error))}
                results.append({"query_id": said.query_id} | refused)
                continue
            results.append(None)
            ready.append(
                Answer(
                    query_id=said.query_id,
                    annotator=name,
                    kind=AnswerKind(said.kind),
                    classes=tuple(said.classes),
                    milliseconds=said.milliseconds,
                    replaces=said.replaces,
                    pixels=pixels,
                )
            )
        outcomes = iter(self.desk.answer(ready) if ready else ())
        done = []
        for result in results:
            if result is None:
                found = next(outcomes)
                result = {
                    "query_id": found.query_id,
                    "status": found.status,
                    "answer_id": found.answer_id,
                    "message": found.message,
                }
            done.append(result)
        return {"results": done, "status": self.desk.status()}

    def spread(self, pair: tuple[int, int] | None, offset: int, limit: int) -> dict[str, Any]:
        found = self.desk.spread()
        told = {name: found[name] for name in ("ready", "stage", "total", "promise")}
        columns = [np.asarray(found.get(name, ())) for name in ("rows", "old", "new", "probability")]
        rows, old, new = (column.astype(np.int64) for column in columns[:3])
        probability = columns[3].astype(np.float64)
        if not len(rows):
            return told | {"pairs": [], "items": [], "histogram": [0] * _HISTOGRAM_BINS}
        masks = self.project.masks
        pairs, of, counts = np.unique(np.stack([old, new], axis=1), axis=0, return_inverse=True, return_counts=True)
        of = of.ravel()
        pixels = np.bincount(of, weights=masks.area[rows], minlength=len(pairs)).astype(np.int64)
        # The most masks first; of as many, by class.
        by_count = np.argsort(-counts, kind="stable")
        listed = [
            {"old": int(pairs[p, 0]), "new": int(pairs[p, 1]), "masks": int(counts[p]), "pixels": int(pixels[p])}
            for p in by_count
        ]
        if pair is not None:
            chosen = np.flatnonzero((old == pair[0]) & (new == pair[1]))[offset : offset + limit]
        else:
            # Each pair's surest first, then each one's second, until the page is full; shown pair by pair.
            place = np.empty(len(pairs), dtype=np.int64)
            place[by_count] = np.arange(len(pairs))
            grouped = np.argsort(of, kind="stable")
            rank = np.empty(len(of), dtype=np.int64)
            rank[grouped] = np.arange(len(of)) - np.repeat(np.cumsum(counts) - counts, counts)
            chosen = np.lexsort((place[of], rank))[offset : offset + limit]
            chosen = chosen[np.lexsort((rank[chosen], place[of[chosen]]))]
        bins = np.clip((probability * _HISTOGRAM_BINS).astype(np.int64), 0, _HISTOGRAM_BINS - 1)
        histogram = np.bincount(bins, minlength=_HISTOGRAM_BINS).tolist()
        items = [self._item(int(rows[i]), int(old[i]), int(new[i]), float(probability[i])) for i in chosen]
        return told | {"pairs": listed, "items": items, "histogram": histogram}

    def _item(self, row: int, old: int, new: int, probability: float) -> dict[str, Any]:
        image, mask = int(self.project.masks.image[row]), int(self.project.masks.mask_ids[row])
        found = self.pictures.geometry_of(image, (mask,))
        return {
            "row": row,
            "image": image,
            "image_id": self.project.all_images[image].image_id,
            "mask_id": mask,
            "old": old,
            "new": new,
            "probability": probability,
            "crop": found.crop,
            "box": found.box,
            "runs": found.runs,
        }


def create_app(desk: Desk, *, token: str, hosts: Sequence[str]) -> FastAPI:
    """The server as an ASGI application.

    Args:
        desk: What it is asked about; stays the caller's, to close.
        token: What people must show: letters, digits, `_` and `-`, as of `secrets.token_urlsafe`.
        hosts: Values of the `Host` header that are this server, `name:port`: see `Server.hosts`.

    Raises:
        ValueError: The token is none.
    """
    app = FastAPI(
        title="a2lc serve",
        version=__version__,
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses={"4XX": {"model": _Error, "description": "What is wrong with the request, in one line"}},
    )
    app.add_middleware(GZipMiddleware, minimum_size=2048, compresslevel=5)
    app.add_middleware(Guard, token=token, hosts=hosts)
    _add_error_handlers(app)
    views = _Views(desk)
    _add_questions(app, views)
    _add_pictures(app, views)
    _add_rounds(app, views)
    _add_page(app)
    return app


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(Refused)
    def refused(_: Request, error: Refused) -> Response:
        return error_response(error.status, error.code, error.message)

    @app.exception_handler(A2LCError)
    def of_package(_: Request, error: A2LCError) -> Response:
        return _of_package(error)

    @app.exception_handler(OSError)
    def of_system(_: Request, error: OSError) -> Response:
        if not free_space_error(error):
            raise error
        traceback.print_exception(error, file=sys.stderr)
        return error_response(
            507, "disk_full", "The server's disk is full: this was not recorded. Make room, then again."
        )

    @app.exception_handler(RequestValidationError)
    def invalid(_: Request, error: RequestValidationError) -> Response:
        return _invalid(error)

    @app.exception_handler(HTTPException)
    def http(request: Request, error: HTTPException) -> Response:
        return _http_error(error, request.url.path)


QuestionPath = Annotated[int, PathValue(ge=0, le=_LARGEST)]
ImagePath = Annotated[int, PathValue(ge=0, le=_LARGEST)]
Edge = Annotated[int, QueryValue(ge=-_LARGEST, le=_LARGEST)]  # what is outside the image is told as `bad_region`
Size = Annotated[int, QueryValue(ge=64, le=2048)]
SpreadClass = Annotated[int | None, QueryValue(ge=VOID, le=65535)]


def _add_questions(app: FastAPI, views: _Views) -> None:
    desk = views.desk

    @app.get("/api/project", response_model=_Overview, summary="What does not change while the server runs")
    def project() -> Response:
        return _json(desk.overview())

    @app.get("/api/status", response_model=_Status, summary="Where the round stands")
    def status() -> Response:
        return _json(desk.status())

    @app.post("/api/lease", response_model=_Leased, summary="Questions for an annotator, new or held for longer")
    def lease(body: _Lease) -> Response:
        queries, gone = desk.lease(_annotator(body.annotator), body.count, body.have)
        return _json({"cards": views.cards(queries), "gone": list(gone), "status": desk.status()})

    @app.post("/api/release", response_model=_Released, summary="Give questions back")
    def release(body: _Release) -> Response:
        return _json({"released": desk.release(_annotator(body.annotator), body.ids)})

    @app.post("/api/grid", response_model=_GridCards, summary="Look-alikes of one proposed class")
    def grid(body: _Grid) -> Response:
        proposed, queries = desk.grid(_annotator(body.annotator), body.count)
        return _json({"proposed": proposed, "cards": views.cards(queries)})

    @app.get("/api/questions/{query_id}", response_model=_Card, summary="One question")
    def question(query_id: QuestionPath) -> Response:
        return _json(views.card(desk.question(query_id)))

    @app.post("/api/questions/{query_id}/parts", response_model=_PartMap, summary="A mask cut into parts")
    def parts(query_id: QuestionPath, body: _Parts) -> Response:
        query = desk.question(query_id)
        try:
            found = views.part_map(query, body)
        except MissingFileError as error:
            raise Refused(404, "no_image_file", _one_line(str(error))) from None
        count = int(found.max()) if isinstance(body, _Superpixels) else len(np.unique(found[found > 0]))
        crop = views.pictures.geometry(query).crop
        return _json({"crop": crop, "ids": value_runs(found), "parts": count})

    @app.post("/api/answers", response_model=_Results, summary="Record answers")
    def answers(body: _Answers) -> Response:
        return _json(views.answers(body))

    @app.get("/api/history", response_model=_History, summary="An annotator's last answers, newest first")
    def history(annotator: str, limit: Annotated[int, QueryValue(ge=1, le=500)] = 50) -> Response:
        entries = [
            {
                "query_id": query.query_id,
                "answer_id": answer.answer_id,
                "kind": str(answer.kind),
                "classes": list(answer.classes),
                "time": time,
                "image_id": views.project.all_images[query.image].image_id,
                "proposed": query.proposed,
                "changed": _changed(query, answer),
            }
            for query, answer, time in desk.history(_annotator(annotator), limit)
        ]
        return _json({"entries": entries})


def _add_pictures(app: FastAPI, views: _Views) -> None:
    jpeg: dict[int | str, dict[str, Any]] = {200: {"content": {"image/jpeg": {}}, "description": "The picture"}}

    @app.get("/api/images/{index}/crop.jpg", response_class=Response, responses=jpeg, summary="A region of an image")
    def crop(index: ImagePath, x0: Edge, y0: Edge, x1: Edge, y1: Edge, size: Size = 1024) -> Response:
        return views.jpeg(index, (x0, y0, x1, y1), size)

    @app.get("/api/images/{index}/whole.jpg", response_class=Response, responses=jpeg, summary="A whole image")
    def whole(index: ImagePath, size: Size = 1024) -> Response:
        return views.jpeg(index, None, size)


def _add_rounds(app: FastAPI, views: _Views) -> None:
    desk = views.desk

    @app.get("/api/spread", response_model=_Spread, summary="Changes that the method proposes, to be looked at")
    def spread(
        old: SpreadClass = None,
        new: SpreadClass = None,
        offset: Annotated[int, QueryValue(ge=0, le=_LARGEST)] = 0,
        limit: Annotated[int, QueryValue(ge=1, le=240)] = _SPREAD_ITEMS,
    ) -> Response:
        if old is None or new is None:
            if old is not new:
                raise Refused(422, "bad_request", "old and new: expected both or none, found one.")
            return _json(views.spread(None, offset, limit))
        return _json(views.spread((old, new), offset, limit))

    @app.post("/api/spread/accept", response_model=_Accepted, summary="Make the proposed changes")
    def accept(body: _Accept) -> Response:
        _annotator(body.annotator)
        found = desk.accept_spread(body.threshold, [(old, new) for old, new in body.rejected])
        told = {name: found[name] for name in ("changed", "left_out", "message")}
        return _json(told | {"status": desk.status()})

    @app.post("/api/spread/undo", response_model=_Undone, summary="Take the last changes back")
    def undo(body: _Named) -> Response:
        _annotator(body.annotator)
        return _json({"changed": desk.undo_spread(), "status": desk.status()})

    @app.get("/api/dashboard", response_model=dict[str, Any], summary="Figures of rounds, people and labels")
    def dashboard() -> Response:
        return _json(desk.dashboard())

    @app.post("/api/export", response_model=_Exported, summary="Write the labels as they stand now")
    def export(body: _Named) -> Response:
        _annotator(body.annotator)
        name, files = desk.export()
        download = f"/api/exports/{name}.zip"
        return _json({"name": name, "files": files, "path": f"exports/{name}", "download": download})

    archive: dict[int | str, dict[str, Any]] = {200: {"content": {"application/zip": {}}, "description": "The files"}}

    @app.get("/api/exports/{name}.zip", response_class=Response, responses=archive, summary="Written labels as a zip")
    def download(name: str) -> Response:
        folder = _export_folder(views.project.folder, name)
        headers = {"content-disposition": f'attachment; filename="{name}.zip"'}
        return StreamingResponse(_zipped(folder), media_type="application/zip", headers=headers)


def _export_folder(project: Path, name: str) -> Path:
    root = project / "exports"
    # Neither the folder nor what holds it may lead elsewhere.
    good = _EXPORT_NAME.fullmatch(name) and not root.is_symlink() and not (root / name).is_symlink()
    if not good or not (root / name).is_dir():
        raise Refused(404, "no_such_export", f"There is no export {_shown(name)}.")
    return root / name


def _zipped(folder: Path) -> Iterator[bytes]:
    """A folder's plain files as a zip, made while it is sent. Links are left out, whatever they point to."""
    sink = _Sink()
    with zipfile.ZipFile(cast(IO[bytes], sink), "w") as archive:
        for parent, folders, files in os.walk(folder, followlinks=False):
            folders.sort()
            for name in sorted(files):
                yield from _zipped_file(archive, sink, Path(parent) / name, folder)
    yield sink.taken()


def _zipped_file(archive: zipfile.ZipFile, sink: _Sink, path: Path, folder: Path) -> Iterator[bytes]:
    try:
        # Opened before it is looked at: what is looked at is then what is read. Without waiting: a pipe has no end.
        handle = os.open(path, os.O_RDONLY | _NO_FOLLOW)
    except OSError:
        return  # a link, or gone meanwhile
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            return
        entry = zipfile.ZipInfo((Path(folder.name) / path.relative_to(folder)).as_posix())
        entry.file_size = status.st_size
        packed = path.suffix.lower() in _COMPRESSED
        entry.compress_type = zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
        with archive.open(entry, "w") as target:
            while chunk := file.read(_CHUNK):
                target.write(chunk)
                yield sink.taken()
    yield sink.taken()


class _Sink:
    """Where a zip is written to that is sent on piece by piece; it cannot be gone back in."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        pass

    def taken(self) -> bytes:
        data, self._parts = b"".join(self._parts), []
        return data


def _add_page(app: FastAPI) -> None:
    # Names come from this list alone, made once: a request chooses a file, and never spells a path.
    known = {
        path.relative_to(STATIC).as_posix(): path
        for path in sorted(STATIC.rglob("*"))
        if path.suffix in _MEDIA_TYPES and path.is_file() and not path.is_symlink()
    }

    def static_file(name: str, request: Request) -> Response:
        if name not in known:
            raise Refused(404, "not_found", f"There is no file {_shown(name)}.")
        data = known[name].read_bytes()
        tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
        # Asked for again each time, so that after an update no old script meets a new server.
        headers = {"cache-control": "no-cache", "etag": tag}
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(data, media_type=_MEDIA_TYPES[known[name].suffix], headers=headers)

    @app.get("/", include_in_schema=False)
    def page(request: Request) -> Response:
        return static_file("index.html", request)

    @app.get("/static/{name:path}", include_in_schema=False)
    def static(name: str, request: Request) -> Response:
        return static_file(name, request)

    @app.get("/favicon.ico", include_in_schema=False)
    def favicon(request: Request) -> Response:
        found = [name for name in _FAVICONS if name in known]
        return static_file(found[0], request) if found else Response(status_code=204)

    @app.get("/api/health", response_model=_Health, summary="Whether the server answers")
    def health() -> Response:
        return _json({"ok": True})

    @app.get("/api/docs", include_in_schema=False)
    def docs() -> Response:
        return HTMLResponse(_docs(app.openapi()))


def _docs(schema: Mapping[str, Any]) -> str:
    """The endpoints as a page of plain HTML."""
    rows = "".join(
        f"<tr><td>{method.upper()}</td><td><code>{html.escape(path)}</code></td>"
        f"<td>{html.escape(told.get('summary', ''))}</td></tr>\n"
        for path, methods in schema["paths"].items()
        for method, told in methods.items()
    )
    return f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>a2lc serve: API</title></head>
<body>
<h1>a2lc serve: API</h1>
<p>Version {html.escape(__version__)}. In full, for tools: <a href="/api/openapi.json">/api/openapi.json</a> (OpenAPI).
Requests carry the token as <code>Authorization: Bearer ..</code>, and bodies are <code>application/json</code>.</p>
<table>
<tr><th scope="col">Method</th><th scope="col">Path</th><th scope="col">What it does</th></tr>
{rows}</table>
</body>
</html>
"""


# ---- the process ----------------------------------------------------------------------------------------------------


class Server:
    """A place to serve from, held from the start: its port is known before anything is told of it.

    Example:
        >>> server = Server("127.0.0.1", 0)
        >>> app = create_app(desk, token=token, hosts=server.hosts)            # doctest: +SKIP
        >>> address = f"http://{server.address}/?token={token}"                # doctest: +SKIP
        >>> server.run(app, ready=lambda: print(address))                      # doctest: +SKIP
        >>> server.close()
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 8765, *, names: Sequence[str] = ()) -> None:
        """Take a port.

        Args:
            host: Name or address of this machine to listen at.
            port: 0 takes any that is free.
            names: More names that people reach this machine by, with a port of their own or with this one's.

        Raises:
            InputError: The port is taken, or the host is not of this machine.
        """
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
            self._socket = socket.create_server((host, port), family=family, backlog=128)
            # asyncio sets this on sockets it made itself; without it each reply waits 40 ms for an acknowledgement.
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except (OSError, OverflowError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise InputError(
                f"Cannot listen at {host} port {port}: {reason}. Name another with --port, or 0 for any that is free."
            ) from None
        self.host = host
        self.port = int(self._socket.getsockname()[1])
        self._names = tuple(names)
        self._server: uvicorn.Server | None = None
        self._stopped = False

    @property
    def address(self) -> str:
        """`name:port` for people of this machine, or of others where it listens to all."""
        name = socket.gethostname() if _is_any(self.host) else self.host
        return host_names([name], self.port)[0]

    @property
    def hosts(self) -> tuple[str, ...]:
        """Values of the `Host` header that are this server."""
        names = ["127.0.0.1", "localhost", "::1", *([] if _is_any(self.host) else [self.host])]
        if not _is_loopback(self.host):
            names += _own_names()
        extra = [name.lower() for name in self._names if re.search(r":\d+$", name)]
        bare = [name for name in self._names if not re.search(r":\d+$", name)]
        return tuple(dict.fromkeys([*host_names([*names, *bare], self.port), *extra]))

    def run(self, app: FastAPI, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until SIGINT, SIGTERM or `stop`; then let requests under way end, and come back.

        Args:
            app: Of `create_app`.
            ready: Called when requests are answered and signals are heeded: the time to tell people the address.
        """
        _spare_memory()
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,  # addresses hold the token
            server_header=False,
            ws="none",
            lifespan="off",
            timeout_graceful_shutdown=5,
        )
        self._server = _Uvicorn(config, ready)
        self._server.should_exit = self._stopped
        self._server.run(sockets=[self._socket])

    def stop(self) -> None:
        """End `run`, from any thread."""
        self._stopped = True
        if self._server is not None:
            self._server.should_exit = True

    def close(self) -> None:
        """Let go of the port."""
        self._socket.close()


def _spare_memory() -> None:
    """Give memory of decoded images back at once, which glibc keeps for each thread in case it is wanted again."""
    with suppress(OSError, AttributeError):  # another C library
        library = ctypes.CDLL(None)
        library.mallopt(_ARENA_MAX, 2)
        library.mallopt(_MMAP_THRESHOLD, 1 << 16)


_ARENA_MAX, _MMAP_THRESHOLD = -8, -3
"""Of glibc's malloc.h."""

_THREADS = 12
"""Requests worked on at once: more would wait for the two or more cores all the same."""


class _Uvicorn(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        to_thread.current_default_thread_limiter().total_tokens = _THREADS
        await super().startup(sockets)
        self._ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on a signal, and no more: uvicorn would raise it again, and what is left to close would stay open."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        wanted = [signal.SIGINT, signal.SIGTERM]
        before = {number: signal.signal(number, self.handle_exit) for number in wanted}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _is_any(host: str) -> bool:
    return host in {"", "0.0.0.0", "::", "[::]"}


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return host.lower() == "localhost"


def _own_names() -> list[str]:
    """Names and addresses that others may reach this machine by."""
    names = [socket.gethostname()]
    with suppress(OSError):
        names += [str(found[4][0]) for found in socket.getaddrinfo(names[0], None) if "%" not in str(found[4][0])]
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing: the system only says which of its addresses it would use
        names.append(str(probe.getsockname()[0]))
    return list(dict.fromkeys(names))
