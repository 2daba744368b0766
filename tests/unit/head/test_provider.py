"""The head as a model of the rounds: fitted to the labels there are, and equal to its own plain computation."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from a2lc.errors import ConfigError, ImageFileError, InputError, MissingFileError
from a2lc.features import CellStore
from a2lc.head import HEAD_WEIGHTS, provider
from a2lc.head.provider import fit_head, predict_from_head
from a2lc.project.project import Project
from a2lc.rounds.learned import make_features
from a2lc.training.objectives import LabelObjective, SemiObjective


@pytest.fixture(scope="session")
def fitted(_project_template, tmp_path_factory):
    """Folder of the tiny project with cells, and the weights of a head fitted to its labels."""
    home = shutil.copytree(_project_template, tmp_path_factory.mktemp("fitted") / "home")
    with Project(home / "template.a2lc") as project:
        make_features(project)
        return home, fit(project, tmp_path_factory.mktemp("weights"))


@pytest.fixture
def with_cells(fitted, tmp_path):
    home = shutil.copytree(fitted[0], tmp_path / "cells")
    with Project(home / "template.a2lc") as project:
        yield project


@pytest.fixture
def weights(fitted, tmp_path):
    return Path(shutil.copy(fitted[1], tmp_path))


def fit(project, tmp_path, seed=0):
    fit_head(project, LabelObjective(state=project.state()), tmp_path, seed=seed)
    return tmp_path / HEAD_WEIGHTS


def test_probabilities_are_those_of_plain_steps(with_cells, weights):
    predictor = predict_from_head(with_cells, weights)
    arrays = np.load(weights)
    for image in with_cells.all_images:
        probs = predictor(image).probs
        assert probs.shape == (with_cells.classes.num_classes, image.height, image.width)
        assert probs.dtype == np.float32
        np.testing.assert_allclose(probs.sum(axis=0), 1, atol=1e-5)
        cells = CellStore(with_cells.folder).read(image)
        hidden = np.maximum(cells.matrix() @ arrays["hidden_weights"] + arrays["hidden_bias"], 0)
        logits = (hidden @ arrays["class_weights"] + arrays["class_bias"]).T.reshape(len(probs), *cells.finest.cells)
        for y, x in ((0, 0), (image.height // 2, image.width // 3), (image.height - 1, image.width - 1)):
            place = np.clip(
                [(y + 0.5) / 8 - 0.5, (x + 0.5) / 8 - 0.5], 0, np.ceil([image.height / 8, image.width / 8]) - 1
            )
            low = np.minimum(place.astype(int), np.ceil([image.height / 8, image.width / 8]).astype(int) - 2)
            b, d = place - low
            v = logits[:, low[0] : low[0] + 2, low[1] : low[1] + 2]
            z = (1 - b) * ((1 - d) * v[:, 0, 0] + d * v[:, 0, 1]) + b * ((1 - d) * v[:, 1, 0] + d * v[:, 1, 1])
            expected = np.exp(z - z.max())
            np.testing.assert_allclose(probs[:, y, x], expected / expected.sum(), atol=1e-3)


def test_it_is_right_more_often_than_the_commonest_class(with_cells, weights):
    predictor = predict_from_head(with_cells, weights)
    right = common = total = 0
    for image in with_cells.validation_images:
        truth = with_cells.truth.pixels(image)
        known = truth < with_cells.classes.num_classes
        right += int((predictor(image).probs.argmax(axis=0) == truth)[known].sum())
        common += int(np.bincount(truth[known]).max())
        total += int(known.sum())
    assert right > 1.3 * common and total


def test_the_same_labels_and_seed_give_the_same_file(with_cells, weights, tmp_path):
    first = weights.read_bytes()
    assert fit(with_cells, tmp_path / "again").read_bytes() == first
    assert fit(with_cells, tmp_path / "other", seed=1).read_bytes() != first


def test_a_cell_has_the_label_at_its_middle(with_cells):
    image = with_cells.images[0]
    cells = CellStore(with_cells.folder).read(image)
    labels = np.full((image.height, image.width), 255, dtype=np.int64)
    labels[12, 20] = 3  # the middle of the cell of row 1 and column 2
    labels[13, 29] = 2  # the middle of none
    inputs, classes = provider._labelled_cells(cells, labels, 6, 10, np.random.default_rng(0))
    assert classes.tolist() == [3]
    width = cells.finest.cells[1]
    np.testing.assert_allclose(inputs[0], cells.matrix()[width + 2], atol=2e-3)


def test_features_are_shown_to_those_who_ask(with_cells, weights):
    predictor = predict_from_head(with_cells, weights)
    image = with_cells.images[0]
    assert predictor(image).features is None
    shown = predictor.inspect(image).features
    assert shown.size == (image.height, image.width) and len(shown.values) == 128 and shown.values.min() >= 0


def test_edited_classes_are_translated(with_cells, weights):
    classes, image = with_cells.classes.num_classes, with_cells.images[0]
    change = np.zeros((classes - 1, classes), dtype=np.float32)
    change[np.minimum(np.arange(classes), classes - 2), np.arange(classes)] = 1  # the last class joins the one before
    before = predict_from_head(with_cells, weights)(image).probs
    after = predict_from_head(with_cells, weights, change=change)(image).probs
    np.testing.assert_allclose(after[-1], before[-1] + before[-2], atol=1e-4)
    np.testing.assert_allclose(after.sum(axis=0), 1, atol=1e-5)


def test_what_it_cannot_work_with_is_named(with_cells, weights, tmp_path):
    state = with_cells.state()
    with pytest.raises(ConfigError, match=r"training\.model=deeplabv3plus"):
        fit_head(with_cells, SemiObjective(state=state, seed=0), tmp_path, seed=0)
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageFileError, match="is damaged"):
        predict_from_head(with_cells, weights)
    weights.write_bytes(whole)
    store = CellStore(with_cells.folder)
    basis = store.basis
    store.basis = type(basis)(backbone="another", means=basis.means, directions=basis.directions)
    with pytest.raises(InputError, match="other features"):
        predict_from_head(with_cells, weights)


def test_missing_cells_are_named(tiny_project, tmp_path):
    with pytest.raises(MissingFileError, match="a2lc features"):
        fit(tiny_project, tmp_path)
