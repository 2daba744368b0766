"""Turn errors into HTTP responses of one shape."""

from __future__ import annotations

import sys
import traceback
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from a2lc.errors import A2LCError, AlreadyAnsweredError, InputError, LockedError, PoolExhaustedError, StageError
from a2lc.io.files import free_space_error
from a2lc.serve.queue import NotNowError, UnknownQuestionError
from a2lc.serve.security import error_response

__all__ = ["Refused", "add_error_handlers", "one_line", "shown"]


class Refused(Exception):
    """The request is answered with an error: an HTTP status, a code for programs, and a message for people."""

    def __init__(self, status: int, code: str, message: str) -> None:
        """Create the error that `error_response` sends."""
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


_ERRORS: list[tuple[type[A2LCError], int, str]] = [
    # The first entry that an error is an instance of applies.
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
            return error_response(status, code, one_line(str(error)))
    # For example, the project is damaged. The message is for people, the traceback for whoever fixes it.
    traceback.print_exception(error, file=sys.stderr)
    return error_response(500, "internal", one_line(str(error)))


def one_line(text: str) -> str:
    """Return a text with each run of white space as one space."""
    return " ".join(text.split())


def shown(value: Any) -> str:
    """Return a received value for a message, shortened if it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:50]}.. ({len(text)} characters)"


def _invalid(error: RequestValidationError) -> Response:
    first = error.errors()[0]
    where = [str(part) for part in first["loc"] if part not in {"body", "query", "path"}]
    if first["type"] == "json_invalid":
        message = (
            f"The body is not valid JSON at character {first['loc'][-1]}: {first.get('ctx', {}).get('error', '')}."
        )
        return error_response(400, "bad_request", one_line(message))
    name = ".".join(where)[:100] or "body"
    if first["type"] == "extra_forbidden":
        return error_response(422, "bad_request", f"{name}: there is no such field.")
    expected = str(first["msg"])[:200].removeprefix("Input should be ").removeprefix("Value error, ")
    if first["type"] == "missing":
        return error_response(422, "bad_request", f"{name}: expected a value, found none.")
    message = f"{name}: expected {expected}, found {shown(first.get('input'))}."
    return error_response(422, "bad_request", one_line(message))


def _http_error(error: HTTPException, path: str) -> Response:
    if error.status_code == 404:
        return error_response(404, "not_found", f"There is nothing at {shown(path)}.")
    if error.status_code == 405:
        reply = error_response(405, "method_not_allowed", f"{shown(path)} does not support this method.")
        if error.headers and "Allow" in error.headers:
            reply.headers["allow"] = error.headers["Allow"]
        return reply
    return error_response(error.status_code, "bad_request", one_line(str(error.detail)))


def add_error_handlers(app: FastAPI) -> None:
    """Answer every error in the shape of `error_response`."""

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
            507, "disk_full", "The server's disk is full, and this was not recorded. Free some space, then try again."
        )

    @app.exception_handler(RequestValidationError)
    def invalid(_: Request, error: RequestValidationError) -> Response:
        return _invalid(error)

    @app.exception_handler(HTTPException)
    def http(request: Request, error: HTTPException) -> Response:
        return _http_error(error, request.url.path)
