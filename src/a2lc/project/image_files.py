"""Image files of a project: the user's own, or copies that had to be prepared."""

from __future__ import annotations

import hashlib
import json
import os
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from a2lc.errors import ImageFileError, InputError, MissingFileError
from a2lc.images.prepared import Prepared
from a2lc.io.files import write_bytes
from a2lc.project.config import SourcesConfig
from a2lc.records import ImageRecord

__all__ = ["ImageFiles"]


class ImageFiles:
    """Finds and reads images.

    Args:
        folder: Of the project.
        sources: Where its images lie, and how they are read.
    """

    def __init__(self, folder: Path, sources: SourcesConfig) -> None:
        self.folder = folder
        self.sources = sources

    def source_path(self, path: str) -> Path:
        """Resolve a path of project.yaml: absolute, or relative to the project folder."""
        return Path(os.path.normpath(self.folder / path))

    @cached_property
    def prepared(self) -> dict[str, Prepared]:
        """How images that the project keeps a copy of were prepared, by name."""
        path = self.folder / "tables" / "prepared.json"
        if not path.is_file():
            return {}
        rows = json.loads(path.read_text(encoding="utf-8"))
        return {name: Prepared.from_json(row) for name, row in rows.items()}

    def path(self, image: ImageRecord) -> Path:
        """Return the image file: the user's own, or the project's copy if it had to be prepared.

        Raises:
            InputError: There is none: the project is of labels alone.
        """
        if not image.file:
            raise InputError(
                f"{image.image_id} has no image, because the project was created from labels without images."
            )
        if image.image_id in self.prepared:
            return self.folder / "images" / image.file
        sources = self.sources
        root = sources.images if image.split == "train" else sources.validation_images
        assert root is not None
        return self.source_path(root) / image.file

    def pixels(self, image: ImageRecord) -> NDArray[np.uint8]:
        """Read an image as RGB, (H, W, 3) uint8; plain grey if the labels have no image.

        Raises:
            MissingFileError: The file is gone.
            ImageFileError: It cannot be read any more, or what its address gives is another image.
        """
        from a2lc.images.rgb import read_rgb

        if not image.file:
            return np.full((image.height, image.width, 3), 128, dtype=np.uint8)
        path = self.path(image)
        if not path.is_file() and (how := self.prepared.get(image.image_id)) is not None and how.address is not None:
            self._fetch_again(image, path, how.address)
        if not path.is_file():
            raise MissingFileError(
                f"Image {path} is missing. Restore it, or correct `sources` in {self.folder / 'project.yaml'}."
            )
        sources = self.sources
        return read_rgb(path, upright=sources.exif == "apply", max_pixels=sources.max_pixels)

    def _fetch_again(self, image: ImageRecord, path: Path, address: str) -> None:
        """Fetch an image whose copy in `images/` was removed."""
        from a2lc.images.remote import fetch

        data = fetch(address)
        if hashlib.sha256(data).hexdigest() != image.sha256:
            raise ImageFileError(
                f"{address} returns a different image from the one that the project was created from. Put the "
                f"original at {path}."
            )
        write_bytes(path, data)
