"""Merging, localisation, class sets and clusters agree with the plain versions."""

from __future__ import annotations

import numpy as np
import plain_methods as plain
import pytest
from skimage.segmentation import find_boundaries

from a2lc.classes.sentinels import KEEP, VOID
from a2lc.correction.clusters import ClassClusters
from a2lc.correction.localise import localise
from a2lc.correction.multilabel import class_sets, trim_borders
from a2lc.masks.merge import adjacency, merge_masks, sqrt_js
from a2lc.statistics.features import FeatureMap, interpolation_matrix


def cells(rng, height, width, count):
    """Masks of the pixels nearest to random points, some ids left out, and a few pixels without a mask."""
    points = rng.random((count, 2)) * (height, width)
    pixels = np.stack(np.mgrid[:height, :width], axis=-1)
    nearest = ((pixels[:, :, None] - points) ** 2).sum(axis=-1).argmin(axis=-1)
    ids = np.sort(rng.choice(np.arange(1, 3 * count), size=count, replace=False))
    mask_map = ids[nearest]
    mask_map[rng.random((height, width)) < 0.03] = 0
    return mask_map


@pytest.mark.parametrize("case", range(20))
def test_adjacency(case):
    rng = np.random.default_rng(case)
    mask_map = cells(rng, 9, 14, 12) if case % 2 else rng.integers(0, 6, size=(5, 8))
    mask_map = mask_map.astype([np.int32, np.uint16, np.uint8][case % 3])
    if case == 19:
        mask_map = mask_map.astype(np.int64) * 100_003  # ids as sparse as panoptic ones
    ids = np.unique(mask_map[mask_map > 0])
    found = adjacency(mask_map, ids)
    assert found.dtype == np.int32
    assert [(int(ids[i]), int(ids[j])) for i, j in found] == sorted(plain.touching(mask_map))


@pytest.mark.parametrize("case", range(10))
def test_sqrt_js(case):
    rng = np.random.default_rng(case)
    p, q = rng.dirichlet(np.full(5, 0.4), size=(2, 30))
    p[rng.random(p.shape) < 0.3] = 0
    p[:, 0] += 1 - p.sum(axis=1)
    np.testing.assert_allclose(sqrt_js(p, q), [plain.sqrt_js(a, b) for a, b in zip(p, q, strict=True)], atol=1e-12)


@pytest.mark.parametrize(
    ("p", "q", "expected"),
    [
        ((0.7, 0.2, 0.1), (0.6, 0.3, 0.1), 0.083420),
        ((0.9, 0.05, 0.05), (0.5, 0.3, 0.2), 0.320308),
        ((1, 0), (0, 1), 0.832555),
    ],
)
def test_sqrt_js_check_values(p, q, expected):
    assert sqrt_js(p, q) == pytest.approx(expected, abs=5e-7)
    assert plain.sqrt_js(p, q) == pytest.approx(expected, abs=5e-7)


@pytest.mark.parametrize("depth_first", [False, True], ids=["breadth first", "depth first"])
@pytest.mark.parametrize("case", range(15))
def test_merging(case, depth_first):
    rng = np.random.default_rng(case)
    mask_map = cells(rng, 20, 31, 40)
    ids = np.unique(mask_map[mask_map > 0])
    logits = rng.normal(size=(3, 4))[rng.integers(0, 3, len(ids))] + 0.15 * rng.normal(size=(len(ids), 4))
    probs = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)
    uncertainty = rng.choice([0.2, 0.4, 0.6, 0.8], size=len(ids))
    edges = adjacency(mask_map, ids)
    found = merge_masks(probs, uncertainty, edges)
    assert found.tolist() == plain.merge(probs, uncertainty, edges, 0.1, depth_first=depth_first)
    assert 1 < len(np.unique(found)) < len(ids)


@pytest.mark.parametrize("settings", [(True, True), (True, False), (False, True)], ids=["all", "several", "inside"])
@pytest.mark.parametrize("variant", ["slides", "code"])
@pytest.mark.parametrize("case", [0, 1, 2, 3, 4, 6, 7, 9, 11])  # images without a near tie, see the end
def test_localisation(case, variant, settings):
    rng = np.random.default_rng(case)
    classes, depth, (height, width), (down, across) = 4, 5, (13, 22), [(13, 22), (4, 7)][case % 2]
    grid = rng.normal(size=(depth, down, across))
    grid = (grid / np.linalg.norm(grid, axis=0)).astype(np.float32)
    weights = rng.normal(size=(classes, depth))
    logits = np.einsum("kd,dhw->khw", weights / np.linalg.norm(weights, axis=1, keepdims=True), grid)
    mask_map = cells(rng, height, width, 14)
    ids = np.unique(mask_map[mask_map > 0])
    answered = {
        int(i): tuple(rng.choice(classes, size=rng.integers(0, 4), replace=False).tolist())
        for i in rng.choice(ids, size=6, replace=False)
    }
    features = FeatureMap(
        values=grid,
        rows=interpolation_matrix(height, 32, down, 32 / down),
        cols=interpolation_matrix(width, 70, across, 70 / across),
    )
    expand, expand_single = settings
    found = localise(features, logits, mask_map, answered, variant=variant, expand=expand, expand_single=expand_single)
    large = [plain.interpolate(m, height, width) for m in grid]
    expected, closest = plain.localise(
        large,
        [plain.interpolate(m, height, width) for m in logits],
        mask_map,
        answered,
        variant=variant,
        expand=expand,
        expand_single=expand_single,
    )
    # Labels are compared one by one, so no two cosines may differ by less than single precision tells. Equal ones may
    # occur: beyond the outermost grid points features repeat.
    assert closest > 1e-6
    assert found.tolist() == expected
    assert found.dtype == np.int32
    assert (found == KEEP).any()


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("case", range(8))
def test_class_sets(case, kernel):
    rng = np.random.default_rng(case)
    mask_map = cells(rng, 19, 28, 6)
    truth = rng.choice([0, 1, 2, 3, 4, VOID, 255], size=mask_map.shape, p=[0.04, 0.04, 0.04, 0.04, 0.04, 0.4, 0.4])
    ids = rng.permutation(np.unique(mask_map[mask_map > 0]))
    found = class_sets(mask_map, truth, ids, kernel=kernel, num_classes=5)
    assert found == plain.class_sets(mask_map, truth, ids, kernel, (VOID, 255))


@pytest.mark.parametrize("case", range(5))
def test_thick_boundaries(case):
    rng = np.random.default_rng(case)
    mask_map = cells(rng, 15, 24, 5)
    np.testing.assert_array_equal(trim_borders(mask_map, 1), ~find_boundaries(mask_map, mode="thick"))


@pytest.mark.parametrize("case", range(10))
def test_clusters(case):
    rng = np.random.default_rng(case)
    depth, classes = 3, 4
    labelled, given = [], []
    for c in range(classes):
        count = [9, 14, 2, 1][c] if case % 2 else 12
        bend = rng.normal(size=(depth, depth))
        labelled.append(rng.normal(size=(count, depth)) @ bend + 3 * rng.normal(size=depth))
        given += [c] * count
    rows = np.concatenate(labelled).astype(np.float32).astype(np.float64)
    features = np.concatenate([rows + 0.3 * rng.normal(size=rows.shape), 4 * rng.normal(size=(20, depth))])
    shrinkage, share, margin = [0.1, 0.3][case % 2], [0.95, 0.8, 1.0][case % 3], [0.1, 0.3][case // 2 % 2]
    clusters = ClassClusters.fit(rows, np.array(given), classes, shrinkage=shrinkage, distance_quantile=share)
    found = clusters.decide(features, margin=margin)
    by_class = {c: [r.tolist() for r, g in zip(rows, given, strict=True) if g == c] for c in range(classes)}
    expected = plain.decide(by_class, features.tolist(), shrinkage, share, margin)
    np.testing.assert_allclose(found.margin, [m for _, m in expected], rtol=1e-7)
    assert found.classes.tolist() == [KEEP if c is None else c for c, _ in expected]
    assert found.undecided.tolist() == [c is None for c, _ in expected]
    assert found.undecided.any()
    assert not found.undecided.all()
