import numpy as np
import pytest

from a2lc.statistics.features import FeatureMap, interpolation_matrix


def plain(values, size, fitted, stride):
    """Bilinear with half-pixel centres, edges clamped to the cells that hold the image."""
    cells = values.shape[-2:]
    out = np.zeros((len(values), *size))
    last = [min(c - 1, int(np.ceil(f / stride)) - 1) for c, f in zip(cells, fitted, strict=True)]
    for i in range(size[0]):
        for j in range(size[1]):
            y = min(max((i + 0.5) * fitted[0] / size[0] / stride - 0.5, 0), last[0])
            x = min(max((j + 0.5) * fitted[1] / size[1] / stride - 0.5, 0), last[1])
            y0, x0 = min(int(y), max(last[0] - 1, 0)), min(int(x), max(last[1] - 1, 0))
            y1, x1 = min(y0 + 1, last[0]), min(x0 + 1, last[1])
            dy, dx = y - y0, x - x0
            out[:, i, j] = (1 - dy) * ((1 - dx) * values[:, y0, x0] + dx * values[:, y0, x1]) + dy * (
                (1 - dx) * values[:, y1, x0] + dx * values[:, y1, x1]
            )
    return out


def make(size, fitted, cells, stride=4.0, depth=3, seed=0):
    values = np.random.default_rng(seed).normal(size=(depth, *cells)).astype(np.float32)
    matrices = [interpolation_matrix(s, f, c, stride) for s, f, c in zip(size, fitted, cells, strict=True)]
    return FeatureMap(values=values, rows=matrices[0], cols=matrices[1])


CASES = [((20, 31), (20, 28), (5, 7)), ((9, 3), (8, 4), (2, 1)), ((4, 4), (4, 4), (1, 1)), ((40, 50), (13, 16), (8, 8))]


@pytest.mark.parametrize(("size", "fitted", "cells"), CASES)
def test_interpolation_agrees_with_plain_loops(size, fitted, cells):
    features = make(size, fitted, cells)
    assert features.size == size
    expected = plain(features.values, size, fitted, 4.0)
    np.testing.assert_allclose(features.upsample(features.values), expected, atol=1e-5)
    rows, cols = (a.ravel() for a in np.indices(size))
    np.testing.assert_allclose(features.at(rows, cols).T.reshape(expected.shape), expected, atol=1e-5)
    window = features.window(features.values, slice(1, 3), slice(0, 2))
    np.testing.assert_allclose(window, expected[:, 1:3, 0:2], atol=1e-5)


@pytest.mark.parametrize(("size", "fitted", "cells"), CASES)
def test_rows_of_weights_sum_to_one_and_padding_has_none(size, fitted, cells):
    weights = interpolation_matrix(size[1], fitted[1], cells[1], 4.0)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    assert (weights >= 0).all() and ((weights > 0).sum(axis=1) <= 2).all()
    assert not weights[:, int(np.ceil(fitted[1] / 4)) :].any(), "cells beyond the image"


def test_products_may_be_taken_before_interpolating():
    features = make((20, 31), (20, 28), (5, 7))
    direction = np.array([0.3, -2.0, 1.0], dtype=np.float32)
    first = features.upsample(np.tensordot(direction, features.values, axes=1)[None])[0]
    after = np.tensordot(direction, features.upsample(features.values), axes=1)
    np.testing.assert_allclose(first, after, atol=1e-5)


def test_agrees_with_torch():
    torch = pytest.importorskip("torch", reason="compares with torch's interpolation")
    features = make((24, 40), (24, 40), (6, 10))
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(features.values)[None], size=(24, 40), mode="bilinear", align_corners=False
    )[0]
    np.testing.assert_allclose(features.upsample(features.values), expected.numpy(), atol=1e-5)
