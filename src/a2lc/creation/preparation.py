"""Images that cannot be used as they lie are made into files of the project: fetched, unpacked, turned, stretched, cut.

The user's files are read, never changed. What was done to each image is recorded, so that it can be told, and so that
maps of tiles can be put together again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.errors import ImageFileError, InputError
from a2lc.formats.base import Found, Sample
from a2lc.images.multiband import read_deep, stretched
from a2lc.images.opening import orientation_of, stored_size, turned_upright
from a2lc.images.options import ReadingOptions
from a2lc.images.prepared import Prepared, Tile
from a2lc.images.remote import local_path
from a2lc.images.rgb import read_rgb, write_rgb
from a2lc.images.sources import DrawnMap, MapSource, PackedImage
from a2lc.io.concurrency import in_order
from a2lc.io.files import write_bytes
from a2lc.io.progress import Track, no_progress

__all__ = ["prepare", "tile_edges", "turned_line"]


class _TurnedError(InputError):
    """An image that EXIF shows turned was to be made into another file, and nobody said how it is meant."""


def turned_line(image: object, stored: tuple[int, int], orientation: int, fits: tuple[int, ...] | None) -> str:
    """Describe an image that EXIF shows turned.

    Args:
        image: What messages call it.
        stored: Its width and height as stored.
        orientation: EXIF orientation 2..8.
        fits: Width and height of its maps, None without any.
    """
    upright = stored[::-1] if orientation >= 5 else stored
    hint = ""
    if upright != stored and fits == upright:
        hint = f"; its maps are {fits[0]} x {fits[1]}, as the upright image: `exif` apply"
    elif upright != stored and fits == stored:
        hint = f"; its maps are {fits[0]} x {fits[1]}, as the stored image: `exif` ignore"
    return (
        f"{image}: stored {stored[0]} x {stored[1]}, shown {upright[0]} x {upright[1]} "
        f"(EXIF orientation {orientation}){hint}"
    )


def tile_edges(length: int, tile: int) -> list[int]:
    """Edges of pieces of at most `tile` pixels, as equal as can be.

    Example:
        >>> tile_edges(1000, 400)
        [0, 333, 667, 1000]
    """
    pieces = -(-length // tile)
    return [round(place * length / pieces) for place in range(pieces + 1)]


def prepare(
    found: Found,
    folder: Path,
    fetched: Path,
    options: ReadingOptions,
    read_map: Callable[[MapSource, bool], NDArray[Any]],
    track: Track = no_progress,
) -> tuple[Found, dict[str, Prepared], dict[str, str], list[str]]:
    """Make files of the project of all images that cannot be used as they lie.

    Args:
        found: What a layout found.
        folder: Where the files go; made if there is anything to put there.
        fetched: Where images that come from elsewhere are kept until the project is complete, so that a killed import
            does not fetch them again.
        options: What is done.
        read_map: Reads a label map, or a mask map where the second argument says so, to cut tiles of.
        track: Shows progress.

    Returns:
        What was found, with the samples as they are now; what was done, by image; why images cannot be used; and a line for
        each that EXIF shows turned, where nobody said how they are meant.
    """
    samples = [*found.train, *found.validation]
    asked = options.exif == "bake" or options.tile or options.bands or options.stretch
    if not asked and not any(isinstance(sample.image, PackedImage) for sample in samples):
        return found, {}, {}, []
    done: dict[str, Prepared] = {}
    faults: dict[str, str] = {}
    turned: list[str] = []
    # Tiles of one image come one after the other: its map is decoded once, and few are held at a time.
    read_whole = lru_cache(maxsize=3)(read_map)

    def one(sample: Sample) -> list[tuple[Sample, Prepared | None]] | str | _TurnedError:
        try:
            return _prepare_one(sample, folder, fetched, options, read_whole)
        except _TurnedError as error:
            return error
        except InputError as error:
            return str(error)
        except FileNotFoundError as error:
            return f"{error.filename}: missing, or a broken link"

    results: list[list[Sample]] = []
    with (
        ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool,
        track("preparing images", len(samples)) as advance,
    ):
        for sample, result in zip(samples, in_order(pool, one, samples, ahead=8), strict=True):
            advance()
            if isinstance(result, _TurnedError):
                turned.append(str(result))
                results.append([])
                continue
            if isinstance(result, str):
                faults[sample.image_id] = result
                results.append([])
                continue
            results.append([now for now, _ in result])
            done |= {now.image_id: how for now, how in result if how is not None}
    now = [sample for result in results for sample in result]
    names = [sample.image_id for sample in now]
    if len(set(names)) < len(names):
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise InputError(f"Two tiles would have the name {twice!r}. Rename one of the images.")
    first = sum(map(len, results[: len(found.train)]))
    return replace(found, train=now[:first], validation=now[first:]), done, faults, turned


def _prepare_one(
    sample: Sample,
    folder: Path,
    fetched: Path,
    options: ReadingOptions,
    read_map: Callable[[MapSource, bool], NDArray[Any]],
) -> list[tuple[Sample, Prepared | None]]:
    image = sample.image
    if image is None:
        return [(sample, None)]
    source, how = str(image), []
    address = None
    if isinstance(image, PackedImage):
        address = image.address
        path = folder / sample.image_id if address is None else fetched / _code_of(address)
        path = path.with_name(f"{path.name}{image.suffix}")
        # Where fetching costs time, a file that is there is whole: it was put there in one step.
        if address is None or not path.is_file():
            write_bytes(path, image.read())
        how.append("fetched" if address is not None else "unpacked")
    else:
        path = image
    pixels = None
    orientation = 1
    if options.bands or options.stretch or options.tile or options.exif == "bake":
        # What is written here has no EXIF: what it says counts now, or never.
        orientation = orientation_of(path, options.max_pixels)
    if orientation != 1 and options.exif == "refuse":
        raise _TurnedError(_turned(sample, path, orientation, options, read_map))
    upright = options.exif in {"apply", "bake"}
    said_turned = f"turned upright (EXIF orientation {orientation})"
    if options.bands or options.stretch:
        deep = read_deep(path, options.max_pixels, every=options.bands is not None)
        if deep is not None:
            pixels, said = stretched(deep, options.bands, options.stretch, path)
            how.append(said)
            if upright and orientation != 1:
                pixels = turned_upright(pixels, orientation)
                how.append(said_turned)
    if pixels is None and options.exif == "bake" and orientation != 1:
        pixels = read_rgb(path, upright=True, max_pixels=options.max_pixels)
        how.append(said_turned)
    tiles = _tiles(path, pixels, options)
    if tiles is not None:
        if pixels is None:
            pixels = read_rgb(path, upright=upright, max_pixels=options.max_pixels)
            if upright and orientation != 1:
                how.append(said_turned)
        height, width = pixels.shape[:2]
        made: list[tuple[Sample, Prepared | None]] = [
            _cut(sample, pixels, tile, folder, read_map, source, tuple(how)) for tile in tiles(width, height)
        ]
        if path.is_relative_to(folder):
            path.unlink()  # only its tiles are used
        return made
    if pixels is not None:
        target = folder / f"{sample.image_id}.png"
        write_rgb(target, pixels)
        if path.is_relative_to(folder) and path != target:
            path.unlink()
        path = target
    if not how:
        return [(sample, None)]
    done = Prepared(source=source, address=address if pixels is None else None, how=tuple(how))
    return [(replace(sample, image=path, prepared=True), done)]


def _code_of(address: str) -> str:
    """Name of the file that is fetched from an address; of one on this machine, another one once the file is another."""
    local = local_path(address)
    about = local.stat() if local is not None and local.is_file() else None
    stamp = "" if about is None else f" {about.st_size} {about.st_mtime_ns}"
    return hashlib.sha256(f"{address}{stamp}".encode("utf-8", "surrogateescape")).hexdigest()


def _turned(
    sample: Sample,
    path: Path,
    orientation: int,
    options: ReadingOptions,
    read_map: Callable[[MapSource, bool], NDArray[Any]],
) -> str:
    """Describe a turned image, with the size of the first of its maps."""
    deep = read_deep(path, options.max_pixels, every=options.bands is not None)
    stored = stored_size(path, options.max_pixels)[:2] if deep is None else (deep.shape[1], deep.shape[0])
    for source, masks in ((sample.labels, False), (sample.masks, True), (sample.ground_truth, False)):
        if source is not None:
            return turned_line(sample.image, stored, orientation, read_map(source, masks).shape[::-1])
    return turned_line(sample.image, stored, orientation, None)


def _tiles(
    path: Path, pixels: NDArray[np.uint8] | None, options: ReadingOptions
) -> Callable[[int, int], list[tuple[int, int, int, int, str]]] | None:
    """How an image is cut, None if it is small enough."""
    if options.tile is None:
        return None
    size = options.tile
    sides = pixels.shape[:2] if pixels is not None else stored_size(path, options.max_pixels)[:2]
    if max(sides) <= size:
        return None

    def cut(width: int, height: int) -> list[tuple[int, int, int, int, str]]:
        rows, columns = tile_edges(height, size), tile_edges(width, size)
        return [
            (columns[c], rows[r], columns[c + 1], rows[r + 1], f"r{r:02d}c{c:02d}")
            for r in range(len(rows) - 1)
            for c in range(len(columns) - 1)
        ]

    return cut


def _cut(
    sample: Sample,
    pixels: NDArray[np.uint8],
    tile: tuple[int, int, int, int, str],
    folder: Path,
    read_map: Callable[[MapSource, bool], NDArray[Any]],
    source: str,
    how: tuple[str, ...],
) -> tuple[Sample, Prepared]:
    left, top, right, bottom, name = tile
    image_id = f"{sample.image_id}/{name}"
    target = folder / f"{image_id}.png"
    write_rgb(target, np.ascontiguousarray(pixels[top:bottom, left:right]))
    shape = pixels.shape[:2]

    def piece(whole: MapSource | None, masks: bool = False) -> DrawnMap | None:
        if whole is None:
            return None

        def draw() -> NDArray[Any]:
            values = read_map(whole, masks)
            if values.shape != shape:
                raise ImageFileError(
                    f"{whole} is {values.shape[1]} x {values.shape[0]}, but its image is {shape[1]} x {shape[0]}, "
                    "so they cannot be cut into the same tiles. Correct its size."
                )
            return np.ascontiguousarray(values[top:bottom, left:right])

        return DrawnMap(where=f"{whole} ({name})", draw=draw)

    now = Sample(
        image_id=image_id,
        image=target,
        labels=piece(sample.labels),
        masks=piece(sample.masks, masks=True),
        ground_truth=piece(sample.ground_truth),
        prepared=True,
    )
    place = Tile(
        of=sample.image_id,
        left=left,
        top=top,
        width=right - left,
        height=bottom - top,
        of_width=shape[1],
        of_height=shape[0],
    )
    return now, Prepared(source=source, how=(*how, f"tile of {shape[1]} x {shape[0]}"), tile=place)
