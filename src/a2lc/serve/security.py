"""Guard `a2lc serve`: check host, token, origin and size of each request, and set the headers of each reply.

Pure ASGI, so that it sees each request first and each reply last, whatever the application does with them.
"""

from __future__ import annotations

import hmac
import json
import re
import sys
import traceback
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = [
    "BODY_LIMIT",
    "CONTENT_SECURITY_POLICY",
    "SECURITY_HEADERS",
    "Guard",
    "SafeJSONResponse",
    "error_response",
    "host_names",
]

BODY_LIMIT = 1 << 20
"""Maximum bytes of the body of a request."""

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""The page may load its own files, and pictures that its own script made."""

SECURITY_HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-resource-policy": "same-origin",
}
"""Sent with every reply."""

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

_SIGN_IN = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>a2lc</title></head>
<body>
<h1>a2lc</h1>
<p>Open the address that <code>a2lc serve</code> printed: it ends in <code>?token=</code> and a long code.</p>
<p>If you have just opened it, <a href="/">continue to the page</a>.</p>
</body>
</html>
"""
# The link is needed after a click in a mail or a chat: the browser counts the redirect as coming from there and does not
# send the cookie; a click on our own page sends it.


class SafeJSONResponse(JSONResponse):
    """JSON without NaN, and without a `<` that a browser could take for a tag."""

    def render(self, content: Any) -> bytes:
        """Encode the body."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c").encode()


def error_response(status: int, code: str, message: str) -> Response:
    """Return an error in the shape that all of them have: `{"error": {"code", "message"}}`."""
    return SafeJSONResponse({"error": {"code": code, "message": message}}, status_code=status)


def host_names(names: Iterable[str], port: int) -> tuple[str, ...]:
    """Return the values of the `Host` header that name a server, from its names and its port.

    Args:
        names: Host names and addresses; IPv6 addresses with or without brackets.
        port: 1..65535.

    Returns:
        Lower-case `name:port`, each once; for port 80 the bare names too, as browsers send them.

    Example:
        >>> host_names(["localhost", "::1"], 8765)
        ('localhost:8765', '[::1]:8765')
    """
    bare = [f"[{name}]" if ":" in name and not name.startswith("[") else name for name in names]
    every = [f"{name}:{port}" for name in bare] + (bare if port == 80 else [])
    return tuple(dict.fromkeys(name.lower() for name in every))


class _TooLarge(Exception):
    pass


class Guard:
    """Let through only requests to this server, from its own page, with the token.

    Checked in this order: `Host` (403 `wrong_host`, against DNS rebinding), token (401 `no_token`), and for requests that
    may change something their origin (403 `wrong_origin`), content type (415 `not_json`) and size (413 `too_large`).
    Uncaught errors become 500 `internal`, and their traceback goes to stderr.

    The name of the cookie ends in the port: browsers send cookies to all ports of a host, and two servers on one host would
    otherwise sign each other's users out.
    """

    def __init__(self, app: ASGIApp, *, token: str, hosts: Sequence[str], body_limit: int = BODY_LIMIT) -> None:
        """Wrap an application.

        Args:
            app: The application to guard.
            token: Secret that requests must carry.
            hosts: Accepted values of the `Host` header, `name:port`.
            body_limit: Maximum bytes of a body.

        Raises:
            ValueError: The token is empty, or has characters other than letters, digits, `_` and `-`.
        """
        if not re.fullmatch(r"[A-Za-z0-9_-]+", token):
            raise ValueError("A token is one or more of A-Z, a-z, 0-9, _ and -; secrets.token_urlsafe() makes one.")
        self._app = app
        self._token = token.encode()
        self._hosts = frozenset(host.lower() for host in hosts)
        self._limit = body_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # there are no WebSockets here
        started = False

        async def dressed(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        try:
            reply = self._refusal(scope)
            if reply is None and scope["method"] not in _SAFE_METHODS:
                receive = _replayed(await self._body(receive), receive)
        except _TooLarge:
            reply = self._too_large()
        if reply is not None:
            await reply(scope, receive, dressed)
            return
        try:
            await self._app(scope, receive, dressed)
        except Exception:
            traceback.print_exc(file=sys.stderr)
            if started:
                raise  # the server must close the connection: half a reply must not look complete
            message = "An internal error occurred; see the server's console. Nothing more was done."
            await error_response(500, "internal", message)(scope, receive, dressed)

    def _refusal(self, scope: Scope) -> Response | None:
        """Return an error if the request, without its body, is refused, or the reply that signs a person in."""
        headers, method, path = Headers(scope=scope), scope["method"], scope["path"]
        named = headers.getlist("host")
        if len(named) != 1 or named[0].lower() not in self._hosts:
            known = ", ".join(sorted(self._hosts))
            return error_response(
                403, "wrong_host", f"This server is not {' and '.join(named)[:100]!r}. It is {known}."
            )
        host = named[0].lower()
        cookie = f"a2lc-{_port(host, scope['scheme'])}"
        shown = parse_qs(scope["query_string"].decode("latin-1")).get("token", []) if path == "/" else []
        if method == "GET" and shown and self._right(shown[-1]):
            signed = RedirectResponse("/", status_code=303)
            secure = scope["scheme"] == "https"
            signed.set_cookie(cookie, shown[-1], path="/", httponly=True, samesite="strict", secure=secure)
            return signed
        if not any(self._right(token) for token in _tokens(headers, cookie)):
            if method == "GET" and path == "/":
                return HTMLResponse(_SIGN_IN, status_code=401)
            message = "The request has no valid token. Open the address that a2lc serve printed, with ?token= in it."
            return error_response(401, "no_token", message)
        if method in _SAFE_METHODS:
            return None
        origins, site = headers.getlist("origin"), headers.getlist("sec-fetch-site")
        if any(origin.lower() != f"{scope['scheme']}://{host}" for origin in origins):
            message = (
                f"The request came from a page of {origins[0][:100]!r}; only pages of this server may make changes."
            )
            return error_response(403, "wrong_origin", message)
        if any(value not in {"same-origin", "none"} for value in site):
            message = (
                f"The request came from another site ({site[0][:30]!r}); only pages of this server may make changes."
            )
            return error_response(403, "wrong_origin", message)
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            message = f"Expected content type 'application/json', found {kind[:60]!r}."
            return error_response(415, "not_json", message)
        length = headers.get("content-length")
        if length is not None and (not length.isascii() or not length.isdigit()):
            return error_response(400, "bad_request", "Content-Length is not a number.")
        # The number of digits is checked first, so that a number of a thousand digits is not parsed.
        if length is not None and (len(length.lstrip("0")) > 12 or int(length) > self._limit):
            return self._too_large()
        return None

    def _too_large(self) -> Response:
        return error_response(413, "too_large", f"The body exceeds {self._limit:,} bytes. Send less at a time.")

    def _right(self, token: str) -> bool:
        return hmac.compare_digest(token.encode("utf-8", "surrogateescape"), self._token)

    async def _body(self, receive: Receive) -> bytes | None:
        """Read the body and count its bytes, as Content-Length may be missing or wrong; None if the client is gone."""
        parts, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._limit:
                raise _TooLarge
            more = message.get("more_body", False)
        return b"".join(parts)


def _replayed(body: bytes | None, receive: Receive) -> Receive:
    """Return a receive channel that gives a body that was already read, and then what follows."""
    first: list[Message] = [{"type": "http.disconnect"}]
    if body is not None:
        first = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return first.pop() if first else await receive()

    return again


def _port(host: str, scheme: str) -> str:
    name, colon, port = host.rpartition(":")
    if colon and name and port.isdigit():
        return port
    return "443" if scheme == "https" else "80"


def _tokens(headers: Headers, cookie: str) -> list[str]:
    tokens = []
    kind, _, value = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        tokens.append(value.strip())
    for line in headers.getlist("cookie"):
        # Not by SimpleCookie, which fails on a single malformed cookie of another server on this host.
        for part in line.split(";"):
            name, _, rest = part.strip().partition("=")
            if name == cookie:
                tokens.append(rest)
    return tokens
