"""The head as a model of the rounds: fit it to corrected labels, keep it in a file, and predict images with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.errors import ConfigError, ImageFileError, InputError
from a2lc.features.cells import CellFeatures
from a2lc.features.grids import Grid
from a2lc.features.store import CellStore
from a2lc.head import HEAD_WEIGHTS
from a2lc.head.perceptron import STEPS, Perceptron, fit_perceptron
from a2lc.io.files import atomic_path
from a2lc.io.progress import Track, no_progress
from a2lc.project.project import Project
from a2lc.records import ImageRecord, Inspection
from a2lc.training.objectives import Fitted, LabelObjective, Objective
from a2lc.training.predict import Predictor

__all__ = ["fit_head", "fits_features", "predict_from_head"]

CELLS = 60_000
"""Labelled cells at most that a head is fitted to, as many of each image."""

IMAGES = 4096
"""Images at most that they are drawn from."""


@dataclass(frozen=True, eq=False, kw_only=True)
class _Head:
    perceptron: Perceptron
    basis: str
    """Digest of the basis of the cells that it was fitted to."""

    def save(self, path: Path) -> None:
        p = self.perceptron
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                basis=np.array(self.basis),
                hidden_weights=p.hidden_weights,
                hidden_bias=p.hidden_bias,
                class_weights=p.class_weights,
                class_bias=p.class_bias,
            )

    @classmethod
    def load(cls, path: Path) -> _Head:
        try:
            with np.load(path, allow_pickle=False) as arrays:
                perceptron = Perceptron(
                    hidden_weights=arrays["hidden_weights"],
                    hidden_bias=arrays["hidden_bias"],
                    class_weights=arrays["class_weights"],
                    class_bias=arrays["class_bias"],
                )
                return cls(perceptron=perceptron, basis=str(arrays["basis"]))
        except Exception as error:
            raise ImageFileError(f"{path} is damaged ({error}). Restore it from a copy.") from None


def fit_head(project: Project, objective: Objective, folder: Path, *, seed: int, track: Track = no_progress) -> Fitted:
    """Fit a head to corrected labels, and write it as `head.npz` into a folder.

    Args:
        project: Images with cell features.
        objective: The labels.
        folder: Of the round.
        seed: Of the round: the same labels give the same head.
        track: Shows progress.

    Raises:
        ConfigError: The objective is not one of plain labels.
        MissingFileError: Cell features are missing.
        InputError: No cell has a label.
    """
    if not isinstance(objective, LabelObjective):
        raise ConfigError(
            "The head learns from plain labels alone. Set training.model=deeplabv3plus for this method; it needs torch."
        )
    store = CellStore(project.folder)
    rng = np.random.default_rng([seed, 8])
    positions = np.array(objective.images(project), dtype=np.int64)
    if len(positions) > IMAGES:
        positions = np.sort(rng.permutation(positions)[:IMAGES])
    share = -(-CELLS // max(len(positions), 1))
    inputs, classes = [], []
    with track("reading labels", len(positions)) as advance:
        for position in positions.tolist():
            image = project.images[position]
            labels = project.corrected_labels(image, objective.state)
            x, y = _labelled_cells(store.read(image), labels, project.classes.num_classes, share, rng)
            inputs.append(x)
            classes.append(y)
            advance(1)
    if not sum(map(len, classes)):
        raise InputError("No label covers the middle of a cell of features, so the head has nothing to learn from.")
    perceptron = fit_perceptron(
        np.concatenate(inputs), np.concatenate(classes), num_classes=project.classes.num_classes, seed=seed
    )
    _Head(perceptron=perceptron, basis=store.basis.digest).save(folder / HEAD_WEIGHTS)
    return Fitted(steps=STEPS, kept="last", validation_miou=None)


def _labelled_cells(
    cells: CellFeatures, labels: NDArray[Any], num_classes: int, share: int, rng: np.random.Generator
) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
    """Draw cells whose middle carries a label: at most `share`, their inputs (n, D) and classes (n,)."""
    grid = cells.finest
    middles = [
        np.minimum(((np.arange(count) + 0.5) * side / reach).astype(np.int64), side)
        for count, reach, side in zip(grid.cells, grid.reach, labels.shape, strict=True)
    ]
    rows, cols = (middle < side for middle, side in zip(middles, labels.shape, strict=True))
    on_grid = np.full(grid.cells, num_classes, dtype=np.int64)  # cells of padding, and those without a label
    on_grid[np.ix_(rows, cols)] = labels[np.ix_(middles[0][rows], middles[1][cols])]
    found = on_grid.ravel()
    some = np.flatnonzero((found >= 0) & (found < num_classes))
    if len(some) > share:
        some = np.sort(rng.permutation(some)[:share])
    return cells.inputs(some).astype(np.float16), found[some]


def fits_features(project: Project, folder: Path) -> bool:
    """Return whether the head in a round's folder was fitted to the cell features that there are now.

    Raises:
        ImageFileError: Its file is damaged.
        MissingFileError: There are no cell features.
    """
    return _Head.load(folder / HEAD_WEIGHTS).basis == CellStore(project.folder).basis.digest


def predict_from_head(project: Project, weights: Path, *, change: NDArray[np.float32] | None = None) -> Predictor:
    """Predict with a head that `fit_head` wrote.

    Args:
        project: Images with cell features.
        weights: Its file.
        change: (K', K) that turns probabilities over the classes it was fitted to into those over the classes now.

    Raises:
        ImageFileError: The file is damaged.
        InputError: It was fitted to features of another backbone.
        MissingFileError: Cell features are missing.
    """
    store, head = CellStore(project.folder), _Head.load(weights)
    if head.basis != store.basis.digest:
        raise InputError(
            f"{weights} was fitted to other features than those of {store.folder}. Fit it to these: "
            f"a2lc features {project.folder}"
        )
    perceptron = head.perceptron
    # A class that the head does not know must not have a probability of 0: logarithms are taken of it.
    turn = None if change is None else np.maximum(change, 1e-6)
    shows = False

    def show_features() -> None:
        nonlocal shows
        shows = True

    def forward(image: ImageRecord, cells: CellFeatures) -> Inspection:
        hidden = perceptron.hidden(cells.matrix())
        grid = cells.finest
        logits = perceptron.logits(hidden).T.reshape(-1, *grid.cells)
        on_image = Grid(values=logits, reach=grid.reach).on_image(image.height, image.width)
        probs = _softmax(on_image.upsample(logits))
        if turn is not None:
            probs = np.tensordot(turn, probs, axes=1).astype(np.float32)
            probs /= probs.sum(axis=0)
        if not shows:
            return Inspection(probs=probs)
        activations = Grid(values=hidden.T.reshape(-1, *grid.cells), reach=grid.reach)
        return Inspection(probs=probs, features=activations.on_image(image.height, image.width))

    return Predictor(store.read, forward, show_features)


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn (K, H, W) logits into probabilities, in place."""
    logits -= logits.max(axis=0)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=0)
    return logits
