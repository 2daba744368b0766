"""Routes that send pictures of images and masks."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.responses import Response

from a2lc.serve.schemas import Edge, ImagePath, Size
from a2lc.serve.views import Views

__all__ = ["add_pictures"]


def add_pictures(app: FastAPI, views: Views) -> None:
    """Add the routes of pictures."""
    jpeg: dict[int | str, dict[str, Any]] = {200: {"content": {"image/jpeg": {}}, "description": "The picture"}}

    @app.get(
        "/api/images/{index}/crop.jpg", response_class=Response, responses=jpeg, summary="Get a region of an image"
    )
    def crop(index: ImagePath, x0: Edge, y0: Edge, x1: Edge, y1: Edge, size: Size = 1024) -> Response:
        return views.jpeg(index, (x0, y0, x1, y1), size)

    @app.get("/api/images/{index}/whole.jpg", response_class=Response, responses=jpeg, summary="Get a whole image")
    def whole(index: ImagePath, size: Size = 1024) -> Response:
        return views.jpeg(index, None, size)
