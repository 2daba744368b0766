"""The lock that keeps two processes from changing one project."""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from a2lc.errors import LockedError
from a2lc.io.files import write_text

__all__ = ["project_lock"]


@contextmanager
def project_lock(folder: Path) -> Iterator[None]:
    """Hold a project for changes.

    The lock is the operating system's, so it ends with the process, however that ends.

    Raises:
        LockedError: Another process holds it; the message names that process.
    """
    from filelock import FileLock, Timeout

    holder = folder / ".lock.json"
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise LockedError(
            f"{folder} is being changed by {_holder(holder)}. Wait for it, or end that process."
        ) from None
    try:
        own = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "user": _user(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_text(holder, json.dumps(own))
        # What killed processes were writing: nobody else writes while the lock is held.
        for left in [*folder.glob(".*.partial"), *folder.glob("rounds/**/.*.partial")]:
            if left.is_file():
                left.unlink(missing_ok=True)
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return str(os.getuid()) if hasattr(os, "getuid") else "unknown"


def _holder(path: Path) -> str:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return f"process {data['pid']} of {data['user']} on {data['host']}, since {data['since']}"
    except (OSError, ValueError, KeyError):
        return "another process"
