"""What stands before every request to `a2lc serve`: names, token, origin, size of bodies, headers of replies.

Pure ASGI, so that it sees each request first and each reply last, whatever the application makes of them.
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
"""Bytes that the body of a request may have."""

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""What a page of ours may load: its own files, and pictures that its own script made."""

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
<p>Open the address that <code>a2lc serve</code> printed: it ends in <code>?token=</code> and a long word.</p>
<p>If you have just opened it, <a href="/">go on to the page</a>.</p>
</body>
</html>
"""
# The link: after a click in a mail or a chat the browser counts the redirect as coming from there, and holds the cookie
# back; a click on our own page sends it.


class SafeJSONResponse(JSONResponse):
    """JSON without NaN, and without a `<` that a browser could take for a tag."""

    def render(self, content: Any) -> bytes:
        """Encode the body."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c").encode()


def error_response(status: int, code: str, message: str) -> Response:
    """Return an error in the shape that all of them have: `{"error": {"code", "message"}}`."""
    return SafeJSONResponse({"error": {"code": code, "message": message}}, status_code=status)


def host_names(names: Iterable[str], port: int) -> tuple[str, ...]:
    """Values of the `Host` header that name a server, from its names and its port.

    Args:
        names: Host names and addresses; those of IP version 6 with or without brackets.
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
    """Lets through what is meant for this server, from its own page, by someone who has the token.

    In this order: `Host` (403 `wrong_host`, against names of others that resolve to us), token (401 `no_token`), and for
    requests that may change something their origin (403 `wrong_origin`), content type (415 `not_json`) and size (413
    `too_large`). Errors nobody caught become 500 `internal`, and their traceback goes to stderr.

    The cookie's name ends in the port that the browser sees: cookies know no ports, and two servers on one host would
    sign each other's people out.
    """

    def __init__(self, app: ASGIApp, *, token: str, hosts: Sequence[str], body_limit: int = BODY_LIMIT) -> None:
        """Stand before `app`.

        Args:
            app: What is guarded.
            token: What people must show.
            hosts: Values of the `Host` header that are this server, `name:port`.
            body_limit: Bytes that a body may have.

        Raises:
            ValueError: The token is empty, or not of letters, digits, `_` and `-` alone.
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
            return  # there is nothing here to speak WebSocket to
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
                raise  # the server must cut the connection: half a reply must not look whole
            message = "Something went wrong inside the server; its own output says what. Nothing more was done."
            await error_response(500, "internal", message)(scope, receive, dressed)

    def _refusal(self, scope: Scope) -> Response | None:
        """What is wrong with a request, but for its body; or the reply that signs a person in."""
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
            message = "No valid token came along. Open the address that a2lc serve printed, with ?token= in it."
            return error_response(401, "no_token", message)
        if method in _SAFE_METHODS:
            return None
        origins, site = headers.getlist("origin"), headers.getlist("sec-fetch-site")
        if any(origin.lower() != f"{scope['scheme']}://{host}" for origin in origins):
            message = f"A page of {origins[0][:100]!r} asked for a change; only pages of this server may."
            return error_response(403, "wrong_origin", message)
        if any(value not in {"same-origin", "none"} for value in site):
            message = (
                f"The browser says that the request came from elsewhere ({site[0][:30]!r}); only our own page may ask."
            )
            return error_response(403, "wrong_origin", message)
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            message = f"Content type {kind[:60]!r} came; expected 'application/json'."
            return error_response(415, "not_json", message)
        length = headers.get("content-length")
        if length is not None and (not length.isascii() or not length.isdigit()):
            return error_response(400, "bad_request", "Content-Length is no number.")
        # Compared by digits first: a number of a thousand digits is not worth reading.
        if length is not None and (len(length.lstrip("0")) > 12 or int(length) > self._limit):
            return self._too_large()
        return None

    def _too_large(self) -> Response:
        return error_response(413, "too_large", f"The body is over {self._limit:,} bytes. Send less at a time.")

    def _right(self, token: str) -> bool:
        return hmac.compare_digest(token.encode("utf-8", "surrogateescape"), self._token)

    async def _body(self, receive: Receive) -> bytes | None:
        """The whole body, counted as it comes in: a length may be missing or a lie. None where the client went away."""
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
    """A receive channel that gives a body that was read already, once, and then what else comes."""
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
    found = []
    kind, _, value = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        found.append(value.strip())
    for line in headers.getlist("cookie"):
        # By hand: other servers of this host set what they like, and one odd cookie spoils a whole SimpleCookie.
        for part in line.split(";"):
            name, _, rest = part.strip().partition("=")
            if name == cookie:
                found.append(rest)
    return found
