"""Images that lie elsewhere, by their addresses: fetched once, kept in the project."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from a2lc.errors import ImageFileError, InputError, MissingExtraError, MissingFileError, first_names
from a2lc.images.limits import IMAGE_SUFFIXES
from a2lc.images.sources import PackedImage

__all__ = ["fetch", "list_address", "local_path", "read_list"]

MAX_BYTES = 2 << 30
"""An image file above this is not fetched."""


def read_list(path: Path) -> dict[str, PackedImage]:
    """Images by name, from a text file with an address a line: of any file system that fsspec knows, or a local path.

    An image's name is its address without what all addresses begin with, and without suffix.

    Args:
        path: UTF-8; empty lines and those that begin with # do not count. Relative paths are below its folder.

    Raises:
        MissingFileError: There is no such file.
        InputError: It is no list of images, or two have the same name.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise MissingFileError(f"No list of images at {path}.") from None
    except UnicodeDecodeError:
        raise InputError(
            f"{path}: not a text file; expected a folder of images, or a list with one URL per line."
        ) from None
    addresses = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not addresses:
        raise InputError(f"{path}: contains no URL; expected one per line.")
    # Whole paths: what they are below is this folder, wherever a later command is started from.
    return _named(addresses, str(path), path.parent.absolute())


def list_address(address: str) -> dict[str, PackedImage]:
    """Images by name, of a folder or a pattern anywhere that fsspec can list.

    Args:
        address: Such as `s3://bucket/images`, with all folders in it, or `gs://bucket/*/left/*.png`.

    Raises:
        ImageFileError: It cannot be listed.
        InputError: There is no image.
        MissingExtraError: The package for that kind of address is not installed.
    """
    import fsspec

    web = address.lower().startswith(("http://", "https://"))
    # On the web, what follows a question mark is a query and no pattern: a signature, most of the time.
    pattern = any(sign in (urlsplit(address).path if web else address) for sign in "*?[")
    if web and not pattern and PurePosixPath(urlsplit(address).path).suffix.lower() in IMAGE_SUFFIXES:
        return _named([address], address, Path())
    try:
        system, place = fsspec.core.url_to_fs(address)
        found = system.glob(place) if pattern else system.find(place)
        addresses = [str(system.unstrip_protocol(one)) for one in sorted(found)]
    except ImportError as error:
        raise MissingExtraError(f"{address}: {error}. Install the missing package.") from None
    except Exception as error:  # each file system raises errors of its own
        text = _reason(error)
        raise ImageFileError(f"{address}: cannot be listed: {text}.") from None
    images = [one for one in addresses if PurePosixPath(urlsplit(one).path).suffix.lower() in IMAGE_SUFFIXES]
    if not images:
        raise InputError(f"{address}: contains {len(addresses):,} files, but no images.")
    return _named(images, address, Path())


def _named(addresses: list[str], path: str, home: Path) -> dict[str, PackedImage]:
    """Addresses by the names of their images.

    Raises:
        InputError: One is no image, or two have the same name.
    """
    # Queries, such as signatures, are no part of a name.
    places = [PurePosixPath(unquote(urlsplit(one).path if "://" in one else one)) for one in addresses]
    other = [
        address for address, place in zip(addresses, places, strict=True) if place.suffix.lower() not in IMAGE_SUFFIXES
    ]
    if other:
        raise InputError(
            f"{path}: {len(other)} lines do not end in an image suffix ({', '.join(sorted(IMAGE_SUFFIXES))}): "
            f"{first_names(other)}."
        )
    parents = [str(place.parent) for place in places]
    common = PurePosixPath(os.path.commonpath(parents)) if len({place.is_absolute() for place in places}) == 1 else None
    found: dict[str, PackedImage] = {}
    twice: list[str] = []
    for address, place in zip(addresses, places, strict=True):
        below = place.relative_to(common) if common is not None else place
        # A path must stay below the folder it is kept in.
        parts = [part for part in below.parts if part not in ("..", "/", "\\")]
        name = PurePosixPath(*parts).with_suffix("").as_posix()
        if name in found:
            twice.append(address)
        full = address if "://" in address else str(home / address)
        found[name] = PackedImage(where=full, suffix=place.suffix.lower(), read=_Fetch(full), address=full)
    if twice:
        raise InputError(
            f"{path}: {len(twice)} images have the same name as another image: {first_names(twice)}. Rename them."
        )
    return found


def local_path(address: str) -> Path | None:
    """Return the path of an address on this machine; None for one that lies elsewhere.

    Example:
        >>> local_path("s3://bucket/a.png") is None
        True
    """
    for scheme in ("file://", "local://"):
        if address.startswith(scheme):
            return Path(address.removeprefix(scheme))
    return None if "://" in address else Path(address)


class _Fetch:
    """Fetches one address; an object, so that a list of a million holds no closures over the list."""

    __slots__ = ("address",)

    def __init__(self, address: str) -> None:
        self.address = address

    def __call__(self) -> bytes:
        return fetch(self.address)


def fetch(address: str) -> bytes:
    """Read the bytes of a file anywhere.

    Raises:
        ImageFileError: It is not there, or not to be had.
        MissingExtraError: The package for that kind of address is not installed.
    """
    import fsspec

    try:
        with fsspec.open(address, "rb") as file:
            data: bytes = file.read(MAX_BYTES + 1)
    except ImportError as error:
        raise MissingExtraError(f"{address}: {error}. Install the missing package.") from None
    except Exception as error:  # each file system raises errors of its own
        text = _reason(error)
        raise ImageFileError(f"{address}: cannot be downloaded: {text}.") from None
    if len(data) > MAX_BYTES:
        raise ImageFileError(f"{address}: exceeds {MAX_BYTES:,} bytes, which is too large for an image.")
    return data


def _reason(error: Exception) -> str:
    """Return what a file system reports, in one short line."""
    text = " ".join(str(error).split())
    return text[:200] if text else type(error).__name__
