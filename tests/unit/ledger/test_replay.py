from __future__ import annotations

import numpy as np
import pytest

from a2lc.classes.sentinels import FIRST, VOID
from a2lc.ledger.layers import apply_to_labels
from a2lc.ledger.replay import SOURCES, CorrectionRows, replay
from a2lc.statistics.keys import mask_keys


def rows(*entries):
    """(image, mask, new, source) in recorded order."""
    return CorrectionRows(
        ids=np.arange(1, len(entries) + 1, dtype=np.int64),
        rounds=np.ones(len(entries), dtype=np.int32),
        keys=mask_keys(np.array([e[0] for e in entries]), np.array([e[1] for e in entries])),
        old=np.full(len(entries), FIRST, dtype=np.int32),
        new=np.array([e[2] for e in entries], dtype=np.int32),
        source=np.array([SOURCES.index(e[3]) for e in entries], dtype=np.int8),
    )


def test_keys_order_by_image_then_mask():
    keys = mask_keys(np.array([0, 0, 1, 70000]), np.array([1, 65535, 1, 2**31 - 1]))
    assert keys.dtype == np.uint64
    assert (np.diff(keys.astype(object)) > 0).all()
    assert keys[2] == 2**32 + 1


def test_the_last_row_of_a_mask_decides():
    keys = mask_keys(np.array([0, 0, 1]), np.array([3, 4, 3]))
    state = replay(rows((0, 3, 1, "manual"), (1, 3, VOID, "automatic"), (0, 3, 2, "automatic")), keys)
    assert state.classes.tolist() == [2, FIRST, VOID]
    assert state.source.tolist() == [2, 0, 2]
    assert state.winner.tolist() == [2, -1, 1]


def test_undone_to_first_labels_counts_as_never_touched():
    keys = mask_keys(np.array([0]), np.array([3]))
    state = replay(rows((0, 3, 1, "manual"), (0, 3, FIRST, "undo")), keys)
    assert (state.classes.tolist(), state.source.tolist()) == ([FIRST], [0])


def test_no_rows_and_no_masks():
    keys = mask_keys(np.array([0, 1]), np.array([3, 3]))
    assert replay(rows(), keys).classes.tolist() == [FIRST, FIRST]
    assert len(replay(rows((0, 3, 1, "manual")), keys[:0]).classes) == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_apply(dtype):
    first = np.array([[0, 1, 255], [2, 2, 0]], dtype=dtype)
    masks = np.array([[5, 5, 5], [9, 9, 0]], dtype=np.uint16)
    found = apply_to_labels(first, masks, np.array([5, 9]), np.array([FIRST, 3]), 255)
    assert found.tolist() == [[0, 1, 255], [3, 3, 0]]
    found = apply_to_labels(first, masks, np.array([5, 9]), np.array([VOID, FIRST]), 255)
    assert found.tolist() == [[255, 255, 255], [2, 2, 0]]
    assert found.dtype == dtype
    assert first.tolist() == [[0, 1, 255], [2, 2, 0]]


def test_apply_of_a_mask_that_is_not_in_the_image():
    first, masks = np.zeros((2, 3), dtype=np.uint8), np.ones((2, 3), dtype=np.uint16)
    assert not apply_to_labels(first, masks, np.array([65535]), np.array([3]), 255).any()


def test_apply_to_an_image_without_masks():
    first = np.zeros((2, 3), dtype=np.uint8)
    found = apply_to_labels(first, np.zeros((2, 3), dtype=np.uint16), np.empty(0, int), np.empty(0, int), 255)
    assert found is not first
    assert not found.any()
