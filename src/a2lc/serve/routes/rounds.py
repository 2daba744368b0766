"""Routes of rounds: status, automatic corrections, undo, and export."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI
from fastapi import Query as QueryValue
from fastapi.responses import Response, StreamingResponse

from a2lc.serve.errors import Refused
from a2lc.serve.exports import export_folder, zip_folder
from a2lc.serve.schemas import (
    LARGEST,
    AcceptBody,
    AcceptedReply,
    ExportedReply,
    NamedBody,
    SpreadClass,
    SpreadReply,
    UndoneReply,
    check_annotator,
)
from a2lc.serve.views import SPREAD_ITEMS, Views, json_response

__all__ = ["add_rounds"]


def add_rounds(app: FastAPI, views: Views) -> None:
    desk = views.desk

    @app.get("/api/spread", response_model=SpreadReply, summary="Changes that the method proposes, to be looked at")
    def spread(
        old: SpreadClass = None,
        new: SpreadClass = None,
        offset: Annotated[int, QueryValue(ge=0, le=LARGEST)] = 0,
        limit: Annotated[int, QueryValue(ge=1, le=240)] = SPREAD_ITEMS,
    ) -> Response:
        if old is None or new is None:
            if old is not new:
                raise Refused(422, "bad_request", "old and new: expected both or none, found one.")
            return json_response(views.spread(None, offset, limit))
        return json_response(views.spread((old, new), offset, limit))

    @app.post("/api/spread/accept", response_model=AcceptedReply, summary="Make the proposed changes")
    def accept(body: AcceptBody) -> Response:
        check_annotator(body.annotator)
        found = desk.accept_spread(body.threshold, [(old, new) for old, new in body.rejected])
        told = {name: found[name] for name in ("changed", "left_out", "message")}
        return json_response(told | {"status": desk.status()})

    @app.post("/api/spread/undo", response_model=UndoneReply, summary="Take the last changes back")
    def undo(body: NamedBody) -> Response:
        check_annotator(body.annotator)
        return json_response({"changed": desk.undo_spread(), "status": desk.status()})

    @app.get("/api/dashboard", response_model=dict[str, Any], summary="Figures of rounds, people and labels")
    def dashboard() -> Response:
        return json_response(desk.dashboard())

    @app.post("/api/export", response_model=ExportedReply, summary="Write the labels as they stand now")
    def export(body: NamedBody) -> Response:
        check_annotator(body.annotator)
        name, files = desk.export()
        download = f"/api/exports/{name}.zip"
        return json_response({"name": name, "files": files, "path": f"exports/{name}", "download": download})

    archive: dict[int | str, dict[str, Any]] = {200: {"content": {"application/zip": {}}, "description": "The files"}}

    @app.get("/api/exports/{name}.zip", response_class=Response, responses=archive, summary="Written labels as a zip")
    def download(name: str) -> Response:
        folder = export_folder(views.project.folder, name)
        headers = {"content-disposition": f'attachment; filename="{name}.zip"'}
        return StreamingResponse(zip_folder(folder), media_type="application/zip", headers=headers)
