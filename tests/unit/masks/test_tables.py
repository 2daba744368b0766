from __future__ import annotations

import numpy as np
import pytest

from a2lc.classes.sentinels import FIRST, VOID
from a2lc.errors import MissingFileError
from a2lc.masks.counting import joint_counts
from a2lc.masks.tables import MaskTable
from a2lc.masks.truth import TruthTable


@pytest.mark.parametrize("sizes", [(3, 4, 2), (3, 4, 20_000)], ids=["dense", "sparse"])
def test_joint_counts(rng, sizes):
    maps = [rng.integers(0, min(n, 5), size=(6, 11)) for n in sizes]
    maps[2] *= sizes[2] // 5 or 1
    maps[2] = np.minimum(maps[2], sizes[2] - 1)
    a, b, c, pixels = joint_counts(*maps, sizes=sizes)
    found = list(zip(a.tolist(), b.tolist(), c.tolist(), strict=True))
    assert found == sorted(set(zip(*(m.ravel().tolist() for m in maps), strict=True)))
    for (i, j, k), n in zip(found, pixels.tolist(), strict=True):
        assert n == ((maps[0] == i) & (maps[1] == j) & (maps[2] == k)).sum()


def test_tables_are_read_as_written(tiny_project, tmp_path):
    for table, cls in ((tiny_project.masks, MaskTable), (tiny_project.truth.table, TruthTable)):
        table.save(tmp_path / "t.parquet")
        back = cls.load(tmp_path / "t.parquet")
        for name, values in vars(table).items():
            if values is None:  # the layer of a table without one
                assert getattr(back, name) is None
                continue
            np.testing.assert_array_equal(getattr(back, name), values)
            assert getattr(back, name).dtype == values.dtype


def test_missing_table(tmp_path):
    with pytest.raises(MissingFileError, match=r"none\.parquet is missing: the project folder is damaged"):
        MaskTable.load(tmp_path / "none.parquet")


def test_keys_rows_and_order(tiny_project):
    masks = tiny_project.masks
    assert (np.diff(masks.keys.astype(object)) > 0).all()
    order = np.random.default_rng(0).permutation(len(masks))
    np.testing.assert_array_equal(masks.rows(masks.image[order], masks.mask_ids[order]), order)


def changed_state(project, rng):
    state = project.state()
    state.classes[:] = np.where(rng.random(len(state.classes)) < 0.5, FIRST, rng.integers(VOID, 11, len(state.classes)))
    return state


def test_pixels_by_class_are_those_of_the_corrected_labels(tiny_project, rng):
    masks = tiny_project.masks
    keep = rng.random(len(masks)) < 0.6
    state = changed_state(tiny_project, rng)
    for kept in (None, keep):
        expected = np.zeros(256, dtype=int)
        for image in tiny_project.images:
            labels, mask_map = tiny_project.corrected_labels(image, state), tiny_project.mask_map(image)
            here = masks.image == image.index
            ids = masks.mask_ids[here & (True if kept is None else kept)]
            expected += np.bincount(labels[np.isin(mask_map, ids)], minlength=256)
        counts, void = masks.pixels_by_class(state, 11, kept)
        assert counts.tolist() == expected[:11].tolist()
        assert void == expected[255]


def test_confusion_is_that_of_the_corrected_labels(tiny_project, rng):
    from a2lc.statistics.metrics import ConfusionCounts

    state = changed_state(tiny_project, rng)
    expected = ConfusionCounts(11)
    for image in tiny_project.images:
        expected.update(tiny_project.corrected_labels(image, state), tiny_project.truth.pixels(image))
    found = tiny_project.truth.table.confusion(state, 11)
    np.testing.assert_array_equal(found.counts, expected.counts)
    assert found.unlabelled == expected.unlabelled


def test_current_class(tiny_project, rng):
    masks, state = tiny_project.masks, changed_state(tiny_project, rng)
    for row, now in enumerate(masks.current(state).tolist()):
        assert now == (masks.label[row] if state.classes[row] == FIRST else state.classes[row])
