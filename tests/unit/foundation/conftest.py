"""Tiny models on disk, images, and a project without labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from a2lc.classes.table import ClassTable
from a2lc.creation.importer import create_project
from a2lc.formats.base import Sources
from a2lc.project.project import Project
from a2lc.weights.catalogue import find_weights
from a2lc.weights.files import Ready, obtain


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Path:
    """Folders `detector`, `short` (a text window of 16 tokens), `sam` and `sam2`. Not to be written to."""
    pytest.importorskip("transformers", reason="foundation models need the extra foundation")
    from .models import write_detector, write_sam, write_sam2

    home = tmp_path_factory.mktemp("models")
    write_detector(home / "detector")
    write_detector(home / "short", window=16)
    write_sam(home / "sam")
    write_sam2(home / "sam2")
    return home


@pytest.fixture(scope="session")
def ready(models):
    """Weights by the name of their folder, as a user's own."""

    def find(name: str) -> Ready:
        return obtain(find_weights(str(models / name), "segmenter" if "sam" in name else "detector"))

    return find


@pytest.fixture(scope="session")
def tokenizer(models):
    from transformers import GroundingDinoProcessor

    return GroundingDinoProcessor.from_pretrained(models / "detector").tokenizer


@pytest.fixture
def pictures():
    """Random images, H != W."""

    def make(number: int, height: int = 40, width: int = 56) -> list[np.ndarray]:
        rng = np.random.default_rng(height * 1000 + width)
        return list(rng.integers(0, 256, size=(number, height, width, 3), dtype=np.uint8))

    return make


CLASSES = ClassTable.from_json(
    {
        "classes": [
            {"name": "road", "id": 7},
            {"name": "traffic light", "id": 3, "synonyms": ["light"]},
            {"name": "traffic sign", "id": 11},
            {"name": "Car", "id": 1, "priority": 2},
            {"name": "sky", "id": 0},
        ]
    }
)


@pytest.fixture
def unlabelled(scenes_dir, tmp_path) -> Path:
    """A project of four scenes of 48 x 64 pixels with ids out of order, without labels and masks."""
    create_project(tmp_path / "u.a2lc", Sources(images=scenes_dir / "images"), CLASSES)
    return tmp_path / "u.a2lc"


@pytest.fixture
def project(unlabelled):
    with Project(unlabelled) as opened, opened.lock():
        yield opened
