"""Routes of rounds: automatic corrections, undo, dashboard, and export."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI
from fastapi import Query as QueryValue
from fastapi.responses import Response, StreamingResponse

from a2lc.serve.errors import Refused
from a2lc.serve.exports import export_folder, read_and_close, zip_folder
from a2lc.serve.schemas import (
    LARGEST,
    AcceptBody,
    AcceptedReply,
    DashboardReply,
    ExportedReply,
    NamedBody,
    SpreadClass,
    SpreadReply,
    StatusBody,
    UndoneReply,
    check_annotator,
)
from a2lc.serve.views import SPREAD_ITEMS, Views

__all__ = ["add_rounds"]


def add_rounds(app: FastAPI, views: Views) -> None:
    """Add the routes of rounds."""
    desk = views.desk

    @app.get("/api/spread", summary="Get the automatic corrections to review")
    def spread(
        old: SpreadClass = None,
        new: SpreadClass = None,
        offset: Annotated[int, QueryValue(ge=0, le=LARGEST)] = 0,
        limit: Annotated[int, QueryValue(ge=1, le=240)] = SPREAD_ITEMS,
    ) -> SpreadReply:
        if old is None or new is None:
            if old is not new:
                raise Refused(422, "bad_request", "old and new: expected both or neither, found one.")
            return views.spread(None, offset, limit)
        return views.spread((old, new), offset, limit)

    @app.post("/api/spread/accept", summary="Accept the automatic corrections")
    def accept(body: AcceptBody) -> AcceptedReply:
        check_annotator(body.annotator)
        done = desk.accept_spread(body.threshold, [(old, new) for old, new in body.rejected])
        return AcceptedReply(**done, status=views.status())

    @app.post("/api/round/finish", summary="Finish the round early: its audits follow, and then its corrections")
    def finish(body: NamedBody) -> StatusBody:
        check_annotator(body.annotator)
        desk.finish_round()
        return views.status()

    @app.post("/api/spread/undo", summary="Undo the last automatic corrections")
    def undo(body: NamedBody) -> UndoneReply:
        check_annotator(body.annotator)
        return UndoneReply(changed=desk.undo_spread(), status=views.status())

    @app.get("/api/dashboard", summary="Get figures of rounds, annotators and labels")
    def dashboard() -> DashboardReply:
        return DashboardReply.model_validate(desk.dashboard())

    @app.post("/api/export", summary="Write the current labels to files")
    def export(body: NamedBody) -> ExportedReply:
        check_annotator(body.annotator)
        name, files = desk.export()
        return ExportedReply(name=name, files=files, path=f"exports/{name}", download=f"/api/exports/{name}.zip")

    archive: dict[int | str, dict[str, Any]] = {200: {"content": {"application/zip": {}}, "description": "The files"}}

    @app.get(
        "/api/exports/{name}.zip",
        response_class=Response,
        responses=archive,
        summary="Download an export as a ZIP file",
    )
    def download(name: str) -> Response:
        file, size = zip_folder(export_folder(views.project.folder, name))
        headers = {"content-disposition": f'attachment; filename="{name}.zip"', "content-length": str(size)}
        return StreamingResponse(read_and_close(file), media_type="application/zip", headers=headers)
