from __future__ import annotations

import numpy as np
import pytest

from a2lc.masks.components import component_masks


def flood(labels, ignore):
    """8-connected components by plain flood fill, numbered in reading order."""
    found = np.zeros(labels.shape, dtype=int)
    count = 0
    for r, c in np.ndindex(labels.shape):
        if labels[r, c] == ignore or found[r, c]:
            continue
        count += 1
        stack = [(r, c)]
        while stack:
            y, x = stack.pop()
            if not (0 <= y < labels.shape[0] and 0 <= x < labels.shape[1]):
                continue
            if found[y, x] or labels[y, x] != labels[r, c]:
                continue
            found[y, x] = count
            stack += [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    return found


@pytest.mark.parametrize("case", range(12))
def test_against_flood_fill(case):
    rng = np.random.default_rng(case)
    labels = rng.choice([0, 1, 2, 255], size=(7, 11), p=[0.4, 0.3, 0.1, 0.2]).astype(np.uint8)
    found = component_masks(labels)
    np.testing.assert_array_equal(found, flood(labels, 255))
    assert found.dtype == np.int32


def test_by_hand():
    labels = np.array([[0, 0, 1], [255, 1, 0], [2, 255, 0]])
    assert component_masks(labels).tolist() == [[1, 1, 2], [0, 2, 1], [3, 0, 1]], "corners touch"


def test_all_void_and_another_ignore_index():
    assert not component_masks(np.full((3, 4), 255)).any()
    wide = np.array([[65535, 300, 255]], dtype=np.uint16)
    assert component_masks(wide, 65535).tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("case", range(8))
def test_large_maps_have_the_same_components(case, monkeypatch):
    """A value at a time, as images that are too large for the other way are done."""
    rng = np.random.default_rng(case)
    labels = rng.integers(0, 4, (13 + case, 29)).astype(np.uint8)
    labels[rng.random(labels.shape) < 0.2] = 255
    expected = component_masks(labels)
    monkeypatch.setattr("a2lc.masks.components._LARGE", 10)
    found = component_masks(labels)
    assert found.dtype == np.int32 and (found == expected).all()
