"""Routes that lend questions and take answers."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from fastapi import FastAPI
from fastapi import Query as QueryValue
from fastapi.responses import Response

from a2lc.errors import MissingFileError
from a2lc.records import Answer, AnswerKind, Query
from a2lc.serve.errors import Refused, one_line
from a2lc.serve.parts import value_runs
from a2lc.serve.schemas import (
    AnswersBody,
    CardBody,
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
from a2lc.serve.views import Views, json_response

__all__ = ["add_questions", "changed_response"]


def changed_response(query: Query, answer: Answer) -> bool:
    """Whether an answer says other than what the mask was thought to be."""
    if answer.pixels is not None or answer.kind == AnswerKind.MIXED:
        return True
    if answer.kind == AnswerKind.VOID:
        return query.proposed is not None
    if answer.kind in {AnswerKind.CORRECT, AnswerKind.CLASSES}:
        return answer.classes != (query.proposed,)
    return False


def add_questions(app: FastAPI, views: Views) -> None:
    desk = views.desk

    @app.get("/api/project", response_model=OverviewReply, summary="What does not change while the server runs")
    def project() -> Response:
        return json_response(desk.overview())

    @app.get("/api/status", response_model=StatusBody, summary="Where the round stands")
    def status() -> Response:
        return json_response(desk.status())

    @app.post("/api/lease", response_model=LeasedReply, summary="Questions for an annotator, new or held for longer")
    def lease(body: LeaseBody) -> Response:
        queries, gone = desk.lease(check_annotator(body.annotator), body.count, body.have)
        return json_response({"cards": views.cards(queries), "gone": list(gone), "status": desk.status()})

    @app.post("/api/release", response_model=ReleasedReply, summary="Give questions back")
    def release(body: ReleaseBody) -> Response:
        return json_response({"released": desk.release(check_annotator(body.annotator), body.ids)})

    @app.post("/api/grid", response_model=GridReply, summary="Look-alikes of one proposed class")
    def grid(body: GridBody) -> Response:
        proposed, queries = desk.grid(check_annotator(body.annotator), body.count)
        return json_response({"proposed": proposed, "cards": views.cards(queries)})

    @app.get("/api/questions/{query_id}", response_model=CardBody, summary="One question")
    def question(query_id: QuestionPath) -> Response:
        return json_response(views.card(desk.question(query_id)))

    @app.post("/api/questions/{query_id}/parts", response_model=PartMapReply, summary="A mask cut into parts")
    def parts(query_id: QuestionPath, body: Parts) -> Response:
        query = desk.question(query_id)
        try:
            found = views.part_map(query, body)
        except MissingFileError as error:
            raise Refused(404, "no_image_file", one_line(str(error))) from None
        count = int(found.max()) if isinstance(body, SuperpixelsBody) else len(np.unique(found[found > 0]))
        crop = views.pictures.geometry(query).crop
        return json_response({"crop": crop, "ids": value_runs(found), "parts": count})

    @app.post("/api/answers", response_model=ResultsReply, summary="Record answers")
    def answers(body: AnswersBody) -> Response:
        return json_response(views.answers(body))

    @app.get("/api/history", response_model=HistoryReply, summary="An annotator's last answers, newest first")
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
                "changed": changed_response(query, answer),
            }
            for query, answer, time in desk.history(check_annotator(annotator), limit)
        ]
        return json_response({"entries": entries})
