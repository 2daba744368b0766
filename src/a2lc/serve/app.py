"""Assemble the HTTP side of `a2lc serve`: it parses requests and calls the desk, which decides."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import FastAPI
from starlette.middleware.gzip import GZipMiddleware

from a2lc.serve.desk import Desk
from a2lc.serve.errors import add_error_handlers
from a2lc.serve.routes.images import add_pictures
from a2lc.serve.routes.page import add_page
from a2lc.serve.routes.questions import add_questions
from a2lc.serve.routes.rounds import add_rounds
from a2lc.serve.schemas import ErrorReply
from a2lc.serve.security import Guard, SafeJSONResponse
from a2lc.serve.views import Views
from a2lc.version import __version__

__all__ = ["create_app"]


def create_app(desk: Desk, *, token: str, hosts: Sequence[str]) -> FastAPI:
    """Create the server as an ASGI application.

    Args:
        desk: Lends questions and records answers; the caller closes it.
        token: Secret that requests must carry: letters, digits, `_` and `-`, as `secrets.token_urlsafe` makes them.
        hosts: Accepted values of the `Host` header, `name:port`; see `Server.hosts`.

    Raises:
        ValueError: The token is empty or has other characters.
    """
    app = FastAPI(
        title="a2lc serve",
        version=__version__,
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        default_response_class=SafeJSONResponse,
        responses={"4XX": {"model": ErrorReply, "description": "The error, in one line"}},
    )
    app.add_middleware(GZipMiddleware, minimum_size=2048, compresslevel=5)
    app.add_middleware(Guard, token=token, hosts=hosts)
    add_error_handlers(app)
    views = Views(desk)
    add_questions(app, views)
    add_pictures(app, views)
    add_rounds(app, views)
    add_page(app)
    return app
