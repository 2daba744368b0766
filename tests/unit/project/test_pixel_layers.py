"""Labels below the mask: laid over the labels of masks, taken back, newer answers above them, exported and measured."""

import numpy as np
import pytest

from a2lc.errors import LedgerError, MissingFileError
from a2lc.export import export_project
from a2lc.images.label_maps import read_ids
from a2lc.ledger import FIRST, KEEP, VOID
from a2lc.ledger.layers import apply_layer
from a2lc.masks.truth import TruthTable
from a2lc.records import Answer, AnswerKind, Query, Source
from a2lc.rounds.pixels import join_with_truth


def test_apply_layer():
    labels = np.array([[1, 1, 2], [1, 2, 2]], dtype=np.uint8)
    masks = np.array([[5, 5, 9], [0, 9, 9]])
    layer = np.array([[0, KEEP, VOID], [2, 0, KEEP]])
    ids = np.array([5, 9])
    none = np.zeros(2, dtype=bool)
    np.testing.assert_array_equal(apply_layer(labels, layer, masks, ids, none, 255), [[0, 1, 255], [2, 0, 2]])
    newer = np.array([False, True])
    np.testing.assert_array_equal(apply_layer(labels, layer, masks, ids, newer, 255), [[0, 1, 2], [2, 2, 2]])
    assert apply_layer(labels, layer, masks, ids, none, 255).dtype == np.uint8


def add_layer(project, number, said):
    """Record what a round says of image 0, with ground truth joined, as the loop does."""
    if number not in {r.round for r in project.ledger.rounds()}:
        project.ledger.open_round(number, method="random", config={}, model="m", seed=0, versions={})
    files = {0: project.layers.write(number, project.images[0], said)}
    joined = [
        join_with_truth(project, i, said if i.index == 0 else None, project.truth.pixels(i)) for i in project.images
    ]
    names = ("row", "label", "truth", "layer", "pixels")
    table = {n: v.astype(np.int32) for n, v in zip(names, np.concatenate(joined, axis=1), strict=True)}
    TruthTable(**table).save(project.round_folder(number) / "truth.parquet")
    none = np.empty(0, dtype=np.int64)
    project.ledger.add_corrections(number, Source.AUTOMATIC, none, none, none, none, model="m", layer=files)


def counts_by_pixel(project):
    total = 0
    for image in project.images:
        truth, labels = project.truth.pixels(image).astype(int), project.corrected_labels(image).astype(int)
        both = (truth != 255) & (labels != 255)
        k = project.classes.num_classes
        total = total + np.bincount(truth[both] * k + labels[both], minlength=k * k).reshape(k, k)
    return total


@pytest.fixture
def project(tiny_project):
    tiny_project.ledger.open_round(0, method="random", config={}, model="m", seed=0, versions={})
    return tiny_project


@pytest.fixture
def said(project):
    """A band of class 2, a band of void, the rest untouched."""
    said = np.full(project.first_labels(project.images[0]).shape, KEEP)
    said[4:9] = 2
    said[20:22] = VOID
    return said


def test_a_layer_changes_labels_and_quality_alike(project, said):
    image = project.images[0]
    before = project.corrected_labels(image)
    add_layer(project, 1, said)
    now = project.corrected_labels(image)
    assert (now[4:9] == 2).all() and (now[20:22] == 255).all()
    np.testing.assert_array_equal(now[said == KEEP], before[said == KEEP])
    np.testing.assert_array_equal(project.truth.confusion(project.state()).counts, counts_by_pixel(project))
    np.testing.assert_array_equal(project.corrected_labels(image, through=0), before)


def test_the_next_layer_takes_its_place_and_an_undo_brings_it_back(project, said):
    image = project.images[0]
    add_layer(project, 1, said)
    first = project.corrected_labels(image)
    other = np.where(said == 2, KEEP, said)
    add_layer(project, 2, other)
    second = project.corrected_labels(image)
    assert (second != first).any()
    none = np.empty(0, dtype=np.int64)
    project.ledger.add_undo(2, "automatic", 2, none, none, none, none)
    np.testing.assert_array_equal(project.corrected_labels(image), first)
    assert (project.corrected_labels(image, through=2) == second).all(), "what the round ended with stays known"
    np.testing.assert_array_equal(project.truth.confusion(project.state()).counts, counts_by_pixel(project))


def test_taking_back_answers_takes_back_the_layers_that_rest_on_them(project, said):
    image = project.images[0]
    before = project.corrected_labels(image)
    add_layer(project, 1, said)
    add_layer(project, 2, np.where(said == 2, KEEP, said))
    none = np.empty(0, dtype=np.int64)
    project.ledger.add_undo(1, "manual", 2, none, none, none, none)
    np.testing.assert_array_equal(project.corrected_labels(image), before)
    add_layer(project, 3, said)  # made without those answers: it is in force
    assert (project.corrected_labels(image)[4:9] == 2).all()


def test_an_undone_correction_leaves_the_mask_to_the_layer_below(project, said):
    """A mask that a later round corrected goes back to what the earlier layer says of it, not to nothing."""
    image = project.images[0]
    add_layer(project, 1, said)
    ended = project.corrected_labels(image)
    mask_map = project.mask_map(image)
    mask = int(np.bincount(mask_map[4:9].ravel())[1:].argmax()) + 1
    project.ledger.open_round(2, method="random", config={}, model="m", seed=0, versions={})
    one = [np.array([v]) for v in (0, mask, FIRST, 3)]
    project.ledger.add_corrections(2, Source.AUTOMATIC, *one, confidences=np.ones(1), model="m")
    assert (project.corrected_labels(image)[mask_map == mask] == 3).all()
    project.ledger.add_undo(2, "automatic", 2, *[np.array([v]) for v in (0, mask, 3, FIRST)])
    np.testing.assert_array_equal(project.corrected_labels(image), ended)
    np.testing.assert_array_equal(project.truth.confusion(project.state()).counts, counts_by_pixel(project))


def test_a_later_answer_stands_above_the_layer(project, said):
    image = project.images[0]
    add_layer(project, 1, said)
    mask_map = project.mask_map(image)
    mask = int(np.bincount(mask_map[4:9].ravel())[1:].argmax()) + 1
    project.ledger.open_round(2, method="random", config={}, model="m", seed=0, versions={})
    project.ledger.add_queries(2, [Query(round=2, image=0, mask_ids=(mask,), proposed=0, score=1.0)], 0.1, {})
    (query,) = project.ledger.queries(2)
    answer = Answer(query_id=query.query_id, annotator="eve", kind=AnswerKind.CORRECT, classes=(3,))
    project.ledger.add_answers(2, [(answer, 1.0, [(0, mask, FIRST, 3)])])
    now = project.corrected_labels(image)
    assert (now[mask_map == mask] == 3).all()
    elsewhere = (mask_map != mask) & (said == 2)
    assert elsewhere.any() and (now[elsewhere] == 2).all()
    np.testing.assert_array_equal(project.truth.confusion(project.state()).counts, counts_by_pixel(project))


def test_a_layer_is_exported_with_where_it_comes_from(project, said, tmp_path):
    add_layer(project, 1, said)
    image = project.images[0]
    before, now = project.first_labels(image), project.corrected_labels(image)
    export_project(project, tmp_path / "out")
    file = read_ids(tmp_path / "out" / "labels" / f"{image.image_id}.png", max_pixels=10**6)
    values = np.array([*project.classes.file_values, project.classes.ignore])
    np.testing.assert_array_equal(file, values[np.where(now == 255, len(values) - 1, now)])
    source = read_ids(tmp_path / "out" / "provenance" / f"{image.image_id}.png", max_pixels=10**6)
    np.testing.assert_array_equal(source, np.where(now != before, 2, 0))


def test_a_file_that_is_not_the_recorded_one_is_refused(project, said):
    add_layer(project, 1, said)
    path = project.round_folder(1) / "pixels" / f"{project.images[0].image_id}.png"
    project.layers._write(path, np.where(said == 2, 1, said))
    with pytest.raises(LedgerError, match=r"is not the file that the ledger recorded\. Restore it from a copy"):
        project.corrected_labels(project.images[0])
    path.unlink()
    with pytest.raises(MissingFileError, match="it held pixel-level labels"):
        project.corrected_labels(project.images[0])


def test_pixel_labels_of_an_answer_are_kept_by_their_hash(project, said):
    digest = project.write_answered_pixels(said)
    assert digest == project.write_answered_pixels(said)
    np.testing.assert_array_equal(project.answered_pixels(digest), said)
    assert len(list((project.folder / "answers").iterdir())) == 1


def test_nothing_said_is_no_file(project, said):
    assert project.layers.write(1, project.images[0], np.full_like(said, KEEP)) is None
    assert not (project.round_folder(1) / "pixels").exists()
