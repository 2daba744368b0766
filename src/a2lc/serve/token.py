"""The token of a project's server: kept in the project, so that pages outlive a server that is killed and begun anew."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

__all__ = ["project_token"]

_NAME = ".serve.token"
_PATTERN = re.compile(r"[A-Za-z0-9_-]{32,128}")


def project_token(folder: Path, *, new: bool = False) -> str:
    """The token of a project, made at random when there is none; only its owner can read the file.

    Args:
        folder: Of the project.
        new: Make another: pages opened with the old one are shut out.
    """
    path = folder / _NAME
    if not new and path.is_file():
        found = path.read_text(encoding="ascii", errors="replace").strip()
        if _PATTERN.fullmatch(found):
            return found
    token = secrets.token_urlsafe(32)
    temporary = folder / f"{_NAME}.{os.getpid()}.partial"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(token)
    os.replace(temporary, path)
    return token
