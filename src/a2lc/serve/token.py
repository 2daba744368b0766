"""Keep the token of a project's server in the project, so that open pages survive a restart of the server."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

__all__ = ["project_token"]

_NAME = ".serve.token"
_PATTERN = re.compile(r"[A-Za-z0-9_-]{32,128}")


def project_token(folder: Path, *, new: bool = False) -> str:
    """Return the token of a project; make a random one if there is none. Only the owner can read its file.

    Args:
        folder: The project's folder.
        new: Make a new token, so that pages opened with the old one lose access.
    """
    path = folder / _NAME
    if not new and path.is_file():
        saved = path.read_text(encoding="ascii", errors="replace").strip()
        if _PATTERN.fullmatch(saved):
            return saved
    token = secrets.token_urlsafe(32)
    temporary = folder / f"{_NAME}.{os.getpid()}.partial"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(token)
    os.replace(temporary, path)
    return token
