"""The lock that keeps two processes from changing one project."""

from __future__ import annotations

import getpass
import json
import os
from pathlib import Path

__all__ = ["lock_holder", "user_name"]


def user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return str(os.getuid()) if hasattr(os, "getuid") else "unknown"


def lock_holder(path: Path) -> str:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return f"process {data['pid']} of {data['user']} on {data['host']}, since {data['since']}"
    except (OSError, ValueError, KeyError):
        return "another process"
