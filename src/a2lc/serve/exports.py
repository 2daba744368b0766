"""Pack an export into a zip file for download."""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from a2lc.serve.errors import Refused, shown

__all__ = ["export_folder", "read_and_close", "zip_folder"]

_EXPORT_NAME = re.compile(r"(?!\.)[A-Za-z0-9_.-]{1,80}")
_COMPRESSED = frozenset({".png", ".jpg", ".jpeg", ".webp", ".zip", ".parquet"})
_CHUNK = 1 << 20
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def export_folder(project: Path, name: str) -> Path:
    """Return the folder of an export.

    Raises:
        Refused: There is no such export, or a link leads out of the project.
    """
    root = project / "exports"
    # Neither the folder nor what holds it may lead elsewhere.
    good = _EXPORT_NAME.fullmatch(name) and not root.is_symlink() and not (root / name).is_symlink()
    if not good or not (root / name).is_dir():
        raise Refused(404, "no_such_export", f"There is no export {shown(name)}.")
    return root / name


def zip_folder(folder: Path) -> tuple[IO[bytes], int]:
    """Pack the plain files of a folder; links are left out, whatever they point to.

    The file lies beside the folder, on a disk with room for data sets, and has no name: nothing is left of it when it is
    closed, even if the server is killed.

    Returns:
        The zip file, open at its start, and its size in bytes.

    Raises:
        OSError: The disk is full.
    """
    file = tempfile.TemporaryFile(dir=folder.parent)  # noqa: SIM115 - closed by whoever reads it
    try:
        with zipfile.ZipFile(file, "w") as archive:
            for parent, folders, files in os.walk(folder, followlinks=False):
                folders.sort()
                for name in sorted(files):
                    _add_file(archive, Path(parent) / name, folder)
        size = file.tell()
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file, size


def read_and_close(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the contents of a file in pieces, then close it."""
    with file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _add_file(archive: zipfile.ZipFile, path: Path, folder: Path) -> None:
    try:
        # Opened before it is checked: what is checked is then what is read. Without blocking: a pipe has no end.
        handle = os.open(path, os.O_RDONLY | _NO_FOLLOW)
    except OSError:
        return  # a link, or deleted in the meantime
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            return
        entry = zipfile.ZipInfo((Path(folder.name) / path.relative_to(folder)).as_posix())
        entry.file_size = status.st_size
        packed = path.suffix.lower() in _COMPRESSED
        entry.compress_type = zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
        with archive.open(entry, "w") as target:
            shutil.copyfileobj(file, target, _CHUNK)
