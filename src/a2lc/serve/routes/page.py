"""The page itself: static files and API documentation."""

from __future__ import annotations

import hashlib
import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, Response

from a2lc.serve.errors import Refused, shown
from a2lc.serve.schemas import HealthReply
from a2lc.version import __version__

__all__ = ["add_page", "docs_page"]


STATIC = Path(__file__).parents[1] / "static"


_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webmanifest": "application/manifest+json",
}


_FAVICONS = ("favicon.svg", "favicon.png", "icon.svg", "icon.png")


def add_page(app: FastAPI) -> None:
    """Add the routes of the page, its icon, and the API documentation.

    Starlette's StaticFiles does not do here: it serves whatever lies in the folder, also files of other types and files
    that were added later, and takes media types from the machine's registry, which on some systems breaks scripts.
    """
    # Names come from this list only, which is made once: a request chooses a file and never spells a path.
    known = {
        path.relative_to(STATIC).as_posix(): path
        for path in sorted(STATIC.rglob("*"))
        if path.suffix in _MEDIA_TYPES and path.is_file() and not path.is_symlink()
    }

    def static_file(name: str, request: Request) -> Response:
        if name not in known:
            raise Refused(404, "not_found", f"There is no file {shown(name)}.")
        data = known[name].read_bytes()
        tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
        # Revalidated each time, so that after an update no old script talks to a new server.
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
        icons = [name for name in _FAVICONS if name in known]
        return static_file(icons[0], request) if icons else Response(status_code=204)

    @app.get("/api/health", summary="Check that the server responds")
    def health() -> HealthReply:
        return HealthReply(ok=True)

    @app.get("/api/docs", include_in_schema=False)
    def docs() -> Response:
        return HTMLResponse(docs_page(app.openapi()))


def docs_page(schema: Mapping[str, Any]) -> str:
    """Return the endpoints as a page of plain HTML, which needs no script."""
    rows = "".join(
        f"<tr><td>{method.upper()}</td><td><code>{html.escape(path)}</code></td>"
        f"<td>{html.escape(endpoint.get('summary', ''))}</td></tr>\n"
        for path, methods in schema["paths"].items()
        for method, endpoint in methods.items()
    )
    return f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>a2lc serve: API</title></head>
<body>
<h1>a2lc serve: API</h1>
<p>Version {html.escape(__version__)}. For tools: <a href="/api/openapi.json">/api/openapi.json</a> (OpenAPI).
Requests carry the token as <code>Authorization: Bearer ..</code>, and bodies are <code>application/json</code>.</p>
<table>
<tr><th scope="col">Method</th><th scope="col">Path</th><th scope="col">What it does</th></tr>
{rows}</table>
</body>
</html>
"""
