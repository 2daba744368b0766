"""Files that come back from elsewhere, read with care: bounded, and nothing in them is followed or expanded."""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from a2lc.errors import InputError, MissingFileError

__all__ = ["MAX_ENTRIES", "MAX_EXPANDED", "MAX_TEXT", "Archive", "parse_json", "parse_xml", "read_bounded"]

MAX_EXPANDED = 2 << 30
"""Bytes of all files of a ZIP together, unpacked."""

MAX_ENTRIES = 100_000
"""Files in a ZIP."""

MAX_TEXT = 1 << 30
"""Bytes of a JSON or XML file."""

_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError, ValueError)


class Archive:
    """A ZIP that was opened and looked over. Nothing in it is written to where it says."""

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            InputError: It is damaged, too large, or names places outside itself.
        """
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except _DAMAGED as error:
            raise InputError(f"{path}: not a complete ZIP file: {error}. Export or download it again.") from None
        try:
            self._check()
        except BaseException:
            self._zip.close()
            raise

    def _check(self) -> None:
        infos = self._zip.infolist()
        if len(infos) > MAX_ENTRIES:
            raise InputError(
                f"{self.path} contains {len(infos):,} files; at most {MAX_ENTRIES:,} are supported. Export fewer "
                "images."
            )
        expanded = sum(info.file_size for info in infos)
        if expanded > MAX_EXPANDED:
            raise InputError(
                f"{self.path} unpacks to {expanded:,} bytes; at most {MAX_EXPANDED:,} are supported. Export without "
                "the images, or fewer of them."
            )
        for info in infos:
            name = info.filename.replace("\\", "/")
            if name.startswith("/") or ".." in PurePosixPath(name).parts or name[1:2] == ":":
                raise InputError(
                    f"{self.path}: {info.filename!r} points outside the archive, so it was not exported by CVAT."
                )
        self.names = [info.filename for info in infos if not info.is_dir()]

    def __enter__(self) -> Archive:
        """Return the archive itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self._zip.close()

    def read(self, name: str, most: int = MAX_TEXT) -> bytes:
        """Read the bytes of one file.

        Raises:
            InputError: It is damaged, or larger than `most`.
        """
        info = self._zip.getinfo(name)
        if info.file_size > most:
            raise InputError(f"{self.path}: {name} has {info.file_size:,} bytes; at most {most:,} are supported.")
        try:
            return self._zip.read(info)
        except _DAMAGED as error:
            raise InputError(f"{self.path}: {name} is damaged: {error}. Export or download it again.") from None


def read_bounded(path: Path) -> bytes:
    """Read the bytes of a file.

    Raises:
        MissingFileError: There is none.
        InputError: It is larger than `MAX_TEXT`.
    """
    if not path.is_file():
        raise MissingFileError(f"No file at {path}. Set `from` to the file that the tool exported.")
    size = path.stat().st_size
    if size > MAX_TEXT:
        raise InputError(f"{path} has {size:,} bytes; at most {MAX_TEXT:,} are supported. Export it in parts.")
    return path.read_bytes()


def parse_json(data: bytes, where: str) -> Any:
    """JSON in UTF-8.

    Raises:
        InputError: It is none.
    """
    try:
        return json.loads(data.decode("utf-8-sig"))
    except RecursionError:
        raise InputError(f"{where}: the JSON is nested too deeply for an export of annotations.") from None
    except ValueError as error:
        raise InputError(
            f"{where}: not complete JSON: {' '.join(str(error).split())}. Export or download it again."
        ) from None


def parse_xml(data: bytes, where: str) -> Element:
    """XML without a document type: one could define entities that grow without bound, or name other files.

    Raises:
        InputError: It is none, or has a document type.
    """
    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True

    def refuse(*_: object) -> None:
        raise InputError(f"{where}: has a document type (DOCTYPE), which CVAT never writes. Export it again from CVAT.")

    # Expat tells of it in any encoding, where a search for the letters would miss UTF-16.
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(data, True)
        return builder.close()
    except expat.ExpatError as error:
        raise InputError(f"{where}: not complete XML: {error}. Export or download it again.") from None
