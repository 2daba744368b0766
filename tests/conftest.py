"""Fixtures shared by all tests: random numbers, a tiny project of made-up scenes, and folders made by hand.

No network, no GPU. Images are never square, so that a mixed-up height and width shows.
"""

from __future__ import annotations

import hashlib
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from a2lc.classes.table import ClassTable
from a2lc.creation.importer import IntakeSummary, create_project
from a2lc.demo.looks import scene_classes
from a2lc.demo.scenes import write_scenes
from a2lc.demo.settings import SceneSettings
from a2lc.errors import MissingExtraError
from a2lc.formats.base import Sources
from a2lc.images.options import ReadingOptions
from a2lc.ledger import Ledger
from a2lc.project.config import AnnotatorConfig, MethodConfig, TrainingConfig
from a2lc.project.project import Project
from a2lc.records import ImageRecord
from a2lc.rounds.learned import make_features
from a2lc.rounds.plan import RoundPlan
from a2lc.statistics.mask_stats import MaskStats, mask_statistics

settings.register_profile("a2lc", deadline=None, max_examples=25, derandomize=True, database=None)
settings.load_profile("a2lc")

TINY_SCENES = SceneSettings(images=4, validation_images=2, height=48, width=64, seed=3, difficulty="hard")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20250611)


# ---- arrays ----------------------------------------------------------------------------------------------------


def softmax_image(rng: np.random.Generator, classes: int, height: int, width: int, sharp: float = 2.0) -> np.ndarray:
    logits = rng.normal(size=(classes, height, width)) * sharp
    exp = np.exp(logits - logits.max(axis=0))
    return (exp / exp.sum(axis=0)).astype(np.float32)


@pytest.fixture
def make_probs():
    """Random class probabilities, (K, H, W) float32."""
    return softmax_image


@pytest.fixture
def make_stats():
    """Statistics of a few random images: H != W, void pixels, a one-pixel mask, uncovered pixels."""

    def make(seed: int = 0, *, images: int = 3, classes: int = 4, height: int = 9, width: int = 14) -> MaskStats:
        rng = np.random.default_rng(seed)
        parts = []
        for index in range(images):
            labels = rng.integers(0, classes, size=(height, width))
            labels[rng.random((height, width)) < 0.1] = 255
            masks = rng.integers(0, 6, size=(height, width)) * 7
            masks[0, 0] = 1000
            stats = mask_statistics(softmax_image(rng, classes, height, width), labels, masks)
            parts.append(stats.with_image(index))
        return MaskStats.concat(parts)

    return make


# ---- a tiny project --------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def scenes_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of four training and two validation scenes of 48 x 64 pixels. Not to be written to."""
    folder = tmp_path_factory.mktemp("scenes") / "data"
    write_scenes(folder, TINY_SCENES)
    return folder


@pytest.fixture(scope="session")
def _project_template(scenes_dir: Path) -> Path:
    sources = Sources(
        images=scenes_dir / "images",
        labels=scenes_dir / "labels",
        masks=scenes_dir / "masks",
        ground_truth=scenes_dir / "ground_truth",
    )
    create_project(scenes_dir.parent / "template.a2lc", sources, scene_classes(), seed=1)
    return scenes_dir.parent


@pytest.fixture
def tiny_project_dir(_project_template: Path, tmp_path: Path) -> Path:
    """A copy of the tiny project's folder; its images lie in `data` beside it."""
    home = tmp_path / "home"
    shutil.copytree(_project_template, home)
    return home / "template.a2lc"


@pytest.fixture
def tiny_project(tiny_project_dir: Path):
    """The tiny project, opened."""
    with Project(tiny_project_dir) as project:
        yield project


@dataclass(frozen=True)
class Scored:
    """Scenes, and probabilities in files of a model that is right on most pixels: rounds without training."""

    root: Path

    def project(
        self, name: str, labels: Path | None = None, ground_truth: bool = True, learned: bool = True
    ) -> Project:
        """A new project of them; in the usual case a copy of one that was made before, with learned features if it has some."""
        if labels is None and ground_truth:
            folder = self.copy(self.root / name)
            if not learned:
                for kind in ("features", "cells"):
                    shutil.rmtree(folder / "tables" / kind, ignore_errors=True)
            return Project(folder)
        create_project(self.root / name, self.sources(labels, ground_truth), scene_classes())
        return Project(self.root / name)

    def copy(self, folder: Path) -> Path:
        """A project of them in any folder."""
        shutil.copytree(self.template, folder)
        return folder

    @property
    def template(self) -> Path:
        """A project of all files. Not to be opened: that would lock and write."""
        return self.root / "template" / "scored.a2lc"

    def sources(self, labels: Path | None = None, ground_truth: bool = True) -> Sources:
        """The files of the scenes."""
        scenes = self.root / "scenes"
        return Sources(
            images=scenes / "images",
            labels=labels or scenes / "labels",
            masks=scenes / "masks",
            ground_truth=scenes / "ground_truth" if ground_truth else None,
        )

    def plan(
        self, project: Project, budget: float = 60, *, method: str = "gain", settings=None, **annotator
    ) -> RoundPlan:
        """Small rounds, written into the project's settings."""
        if method == "gain":
            settings = {"batch": 10, "certify": 0.25, "measure": 0.25, "random_features": 64} | (settings or {})
        project.config = project.config.model_copy(
            update={
                "method": MethodConfig(name=method, settings=settings or {}, budget=budget),
                "training": TrainingConfig(model="probabilities", probabilities=str(self.root / "probs")),
                "annotator": AnnotatorConfig(**annotator),
                "seed": 0,
            }
        )
        project.config.save(project.folder / "project.yaml")
        return RoundPlan.of(project.config)


def make_scored(root: Path, settings: SceneSettings, right: float = 0.6, sharp: float = 2.0) -> Scored:
    """Write scenes, a project of them, and probabilities that are right on a share of the pixels."""
    write_scenes(root / "scenes", settings)
    made = Scored(root)
    create_project(made.template, made.sources(), scene_classes())
    with made.project("probe.a2lc") as project:
        classes = project.classes.num_classes
        for image in project.all_images:
            truth = project.truth.pixels(image).astype(int)
            rng = np.random.default_rng([5, image.index])
            seen = np.where(rng.random(truth.shape) < right, truth, rng.integers(0, classes, truth.shape))
            seen[truth == 255] = 0
            logits = rng.normal(size=(classes, *truth.shape)) + sharp * (np.arange(classes)[:, None, None] == seen)
            probs = np.exp(logits) / np.exp(logits).sum(axis=0)
            path = root / "probs" / f"{image.image_id}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, probs.astype(np.float16))
    return made


@pytest.fixture(scope="session")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Scored:
    """Forty scenes: enough for audits to support changes. Projects of them have learned features, if these can be made."""
    settings = SceneSettings(images=40, validation_images=2, height=72, width=96, seed=3)
    made = make_scored(tmp_path_factory.mktemp("scored"), settings)
    # Each test that runs a round would make the same ones again.
    with suppress(MissingExtraError), made.project("features.a2lc") as project, project.lock():
        make_features(project)
        for name in ("features", "cells"):
            shutil.copytree(project.folder / "tables" / name, made.template / "tables" / name)
    return made


@pytest.fixture(scope="session")
def few_scored(tmp_path_factory: pytest.TempPathFactory) -> Scored:
    """Six small scenes, for rounds whose figures do not matter."""
    settings = SceneSettings(images=6, validation_images=2, height=48, width=64, seed=3)
    return make_scored(tmp_path_factory.mktemp("few"), settings, right=0.7, sharp=3.0)


@pytest.fixture
def ledger(tmp_path: Path):
    """An empty ledger of three images, rounds 0, 1 and 2 opened."""
    book = Ledger(tmp_path / "ledger.sqlite")
    book.add_images(
        [
            ImageRecord(
                index=i, image_id=f"im{i}", file=f"im{i}.png", width=7, height=5, split="train", sha256="0" * 64
            )
            for i in range(3)
        ]
    )
    for number in range(3):
        book.open_round(number, method="a2lc", config={"budget": 2}, model="m", seed=number, versions={"a2lc": "0"})
    yield book
    book.close()


# ---- folders made by hand --------------------------------------------------------------------------------------


@dataclass
class Dataset:
    """A folder of a user's files: images, labels, masks and ground truth beside each other."""

    root: Path
    height: int = 6
    width: int = 9
    classes: ClassTable = field(default_factory=lambda: ClassTable.from_names(["road", "tree", "car"]))

    def path(self, kind: str, name: str, suffix: str = ".png") -> Path:
        path = self.root / kind / f"{name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def image(self, name: str, *, suffix: str = ".png", size: tuple[int, int] | None = None, **save: Any) -> Path:
        """A random image; `size` is height and width."""
        height, width = size or (self.height, self.width)
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
        pixels = np.random.default_rng(seed).integers(0, 256, size=(height, width, 3), dtype=np.uint8)
        path = self.path("images", name, suffix)
        Image.fromarray(pixels).save(path, **save)
        return path

    def map(self, kind: str, name: str, values: Any, *, suffix: str = ".png", **save: Any) -> Path:
        path = self.path(kind, name, suffix)
        Image.fromarray(np.asarray(values)).save(path, **save)
        return path

    def labels_of(self, name: str) -> np.ndarray:
        """Three stripes of classes, a void pixel and a one-pixel tree in the road."""
        values = np.zeros((self.height, self.width), dtype=np.uint8)
        values[:, 3:6] = 1
        values[:, 6:] = 2
        values[0, 8] = 255
        values[1, 1] = 1
        return values

    def sources(self, **other: Any) -> Sources:
        places: dict[str, Any] = {"images": self.root / "images", "labels": self.root / "labels"}
        for kind in ("masks", "ground_truth"):
            if (self.root / kind).is_dir():
                places[kind] = self.root / kind
        return Sources(**places | other)

    @property
    def project(self) -> Path:
        return self.root.parent / "out.a2lc"

    def create(
        self, rules: ReadingOptions | None = None, classes: ClassTable | None = None, **other: Any
    ) -> IntakeSummary:
        return create_project(self.project, self.sources(**other), classes or self.classes, rules)

    def left_on_disk(self) -> list[str]:
        """Everything beside the user's own folder."""
        return sorted(path.name for path in self.root.parent.iterdir() if path != self.root)


@pytest.fixture
def make_dataset(tmp_path: Path):
    """Write a folder of images and labels, and of masks and ground truth if asked."""

    def make(
        names: tuple[str, ...] = ("a", "b", "c"), *, masks: bool = False, truth: bool = False, **over: Any
    ) -> Dataset:
        data = Dataset(root=tmp_path / "user" / "set", **over)
        data.root.mkdir(parents=True)
        for name in names:
            data.image(name)
            data.map("labels", name, data.labels_of(name))
            if masks:
                data.map("masks", name, (data.labels_of(name) == 1).astype(np.uint16) * 300)
            if truth:
                data.map("ground_truth", name, np.roll(data.labels_of(name), 1, axis=1))
        return data

    return make


@pytest.fixture
def snapshot():
    """Bytes of every file below a folder, by relative path."""

    def take(folder: Path) -> dict[str, bytes]:
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}

    return take
