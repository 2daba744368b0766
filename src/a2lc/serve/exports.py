"""Zip an export and send it while it is written."""

from __future__ import annotations

import os
import re
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from a2lc.serve.errors import Refused, shown

__all__ = ["export_folder", "zip_folder"]


_EXPORT_NAME = re.compile(r"(?!\.)[A-Za-z0-9_.-]{1,80}")


_COMPRESSED = frozenset({".png", ".jpg", ".jpeg", ".webp", ".zip", ".parquet"})


_CHUNK = 1 << 20


_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def export_folder(project: Path, name: str) -> Path:
    root = project / "exports"
    # Neither the folder nor what holds it may lead elsewhere.
    good = _EXPORT_NAME.fullmatch(name) and not root.is_symlink() and not (root / name).is_symlink()
    if not good or not (root / name).is_dir():
        raise Refused(404, "no_such_export", f"There is no export {shown(name)}.")
    return root / name


def zip_folder(folder: Path) -> Iterator[bytes]:
    """A folder's plain files as a zip, made while it is sent. Links are left out, whatever they point to."""
    sink = _Sink()
    with zipfile.ZipFile(cast(IO[bytes], sink), "w") as archive:
        for parent, folders, files in os.walk(folder, followlinks=False):
            folders.sort()
            for name in sorted(files):
                yield from _zipped_file(archive, sink, Path(parent) / name, folder)
    yield sink.taken()


def _zipped_file(archive: zipfile.ZipFile, sink: _Sink, path: Path, folder: Path) -> Iterator[bytes]:
    try:
        # Opened before it is looked at: what is looked at is then what is read. Without waiting: a pipe has no end.
        handle = os.open(path, os.O_RDONLY | _NO_FOLLOW)
    except OSError:
        return  # a link, or gone meanwhile
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            return
        entry = zipfile.ZipInfo((Path(folder.name) / path.relative_to(folder)).as_posix())
        entry.file_size = status.st_size
        packed = path.suffix.lower() in _COMPRESSED
        entry.compress_type = zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
        with archive.open(entry, "w") as target:
            while chunk := file.read(_CHUNK):
                target.write(chunk)
                yield sink.taken()
    yield sink.taken()


class _Sink:
    """Where a zip is written to that is sent on piece by piece; it cannot be gone back in."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        pass

    def taken(self) -> bytes:
        data, self._parts = b"".join(self._parts), []
        return data
