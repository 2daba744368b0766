"""Routes that lend questions and take answers."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from fastapi import FastAPI
from fastapi import Query as QueryValue

from a2lc.errors import MissingFileError
from a2lc.records import Answer, AnswerKind, Query
from a2lc.serve.errors import Refused, one_line
from a2lc.serve.parts import value_runs
from a2lc.serve.schemas import (
    AnswersBody,
    CardBody,
    EntryBody,
    GridBody,
    GridReply,
    HistoryReply,
    LeaseBody,
    LeasedReply,
    OverviewReply,
    PartMapReply,
    Parts,
    QuestionPath,
    ReleaseBody,
    ReleasedReply,
    ResultsReply,
    StatusBody,
    SuperpixelsBody,
    check_annotator,
)
from a2lc.serve.views import Views

__all__ = ["add_questions", "changes_class"]


def changes_class(query: Query, answer: Answer) -> bool:
    """Return whether an answer gives a mask another class than the proposed one."""
    if answer.pixels is not None or answer.kind == AnswerKind.MIXED:
        return True
    if answer.kind == AnswerKind.VOID:
        return query.proposed is not None
    if answer.kind in {AnswerKind.CORRECT, AnswerKind.CLASSES}:
        return answer.classes != (query.proposed,)
    return False


def add_questions(app: FastAPI, views: Views) -> None:
    """Add the routes of questions and answers."""
    desk = views.desk

    @app.get("/api/project", summary="Get what stays the same while the server runs: project, classes, settings")
    def project() -> OverviewReply:
        return OverviewReply.model_validate(desk.overview())

    @app.get("/api/status", summary="Get the state of the round")
    def status() -> StatusBody:
        return views.status()

    @app.post("/api/lease", summary="Lend questions to an annotator, and renew leases")
    def lease(body: LeaseBody) -> LeasedReply:
        queries, gone = desk.lease(check_annotator(body.annotator), body.count, body.have)
        return LeasedReply(cards=views.cards(queries), gone=gone, status=views.status())

    @app.post("/api/release", summary="Return questions")
    def release(body: ReleaseBody) -> ReleasedReply:
        return ReleasedReply(released=desk.release(check_annotator(body.annotator), body.ids))

    @app.post("/api/grid", summary="Lend questions about similar masks of one class")
    def grid(body: GridBody) -> GridReply:
        proposed, queries = desk.grid(check_annotator(body.annotator), body.count)
        return GridReply(proposed=proposed, cards=views.cards(queries))

    @app.get("/api/questions/{query_id}", summary="Get a question")
    def question(query_id: QuestionPath) -> CardBody:
        return views.card(desk.question(query_id))

    @app.post("/api/questions/{query_id}/parts", summary="Cut a mask into parts")
    def parts(query_id: QuestionPath, body: Parts) -> PartMapReply:
        query = desk.question(query_id)
        try:
            part_map = views.part_map(query, body)
        except MissingFileError as error:
            raise Refused(404, "no_image_file", one_line(str(error))) from None
        count = int(part_map.max()) if isinstance(body, SuperpixelsBody) else len(np.unique(part_map[part_map > 0]))
        return PartMapReply(crop=views.pictures.geometry(query).crop, ids=value_runs(part_map), parts=count)

    @app.post("/api/answers", summary="Record answers")
    def answers(body: AnswersBody) -> ResultsReply:
        return views.answers(body)

    @app.get("/api/history", summary="List the last answers of an annotator, newest first")
    def history(annotator: str, limit: Annotated[int, QueryValue(ge=1, le=500)] = 50) -> HistoryReply:
        return HistoryReply(
            entries=[
                EntryBody(
                    query_id=query.query_id,
                    answer_id=answer.answer_id,
                    kind=answer.kind,
                    classes=answer.classes,
                    time=time,
                    image_id=views.project.all_images[query.image].image_id,
                    proposed=query.proposed,
                    changed=changes_class(query, answer),
                )
                for query, answer, time in desk.history(check_annotator(annotator), limit)
            ]
        )
