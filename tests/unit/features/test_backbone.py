"""EfficientNet-Lite0 by onnxruntime: equal to timm's, at home in every size of image."""

import numpy as np
import pytest

from a2lc.errors import UnknownNameError
from a2lc.features import load_backbone, mask_features_of
from a2lc.features.canvas import LARGEST_SIDE
from a2lc.features.weights import read_state, weights_file


@pytest.fixture(scope="module")
def lite():
    return load_backbone()


def test_equal_to_timms(lite, rng):
    torch = pytest.importorskip("torch", reason="needs the extra [train]")
    timm = pytest.importorskip("timm", reason="needs the extra [train]")
    network = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(2, 3, 4), output_stride=16)
    names = [name for name in network.state_dict() if not name.endswith("num_batches_tracked")]
    arrays = [array for name, array in read_state(weights_file()).items() if not name.endswith("num_batches_tracked")]
    state = {name: torch.from_numpy(array.copy()) for name, array in zip(names, arrays, strict=False)}
    network.load_state_dict(state, strict=False)
    pixels = rng.integers(0, 256, (96, 160, 3), dtype=np.uint8)
    x = torch.from_numpy(((pixels.transpose(2, 0, 1)[None] / 255 - 0.5) / 0.5).astype(np.float32))
    with torch.inference_mode():
        expected = network.eval()(x)
    for grid, values in zip(lite(pixels), expected, strict=True):
        np.testing.assert_allclose(grid.values, values[0].numpy(), atol=1e-3)


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (33, 31), (64, 96), (40, 2500)])
def test_every_size_has_grids_that_cover_it(lite, rng, size):
    grids = [grid.on_image(*size) for grid in lite(rng.integers(0, 256, (*size, 3), dtype=np.uint8))]
    for grid, channels in zip(grids, lite.channels, strict=True):
        assert len(grid.values) == channels and np.isfinite(grid.values).all()
        assert grid.size == size and max(grid.values.shape[1:]) <= LARGEST_SIDE / 8
        for weights in (grid.rows, grid.cols):
            np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)


def test_a_plain_image_has_the_same_features_at_every_size(lite):
    values = [lite(np.full((side, side, 3), 90, np.uint8))[0].values for side in (320, 640)]
    middle = [grid[:, grid.shape[1] // 2, grid.shape[2] // 2] for grid in values]
    np.testing.assert_allclose(middle[0], middle[1], rtol=1e-3, atol=1e-3)


def test_means_over_masks_are_those_of_plain_loops(lite, rng):
    pixels = rng.integers(0, 256, (40, 56, 3), dtype=np.uint8)
    masks = np.kron(rng.integers(0, 4, (5, 7)), np.ones((8, 8), int)) * 3
    ids = np.unique(masks[masks > 0])
    grids = lite(pixels)
    found = mask_features_of(grids, masks, ids)
    grids = [grid.on_image(40, 56) for grid in grids]
    assert found.dtype == np.float16 and found.shape == (len(ids), sum(lite.channels))
    for row, mask in enumerate(ids):
        total, count = np.zeros(sum(lite.channels)), 0
        for y, x in zip(*np.nonzero(masks == mask), strict=True):
            total += np.concatenate([g.values[:, g.rows[y].argmax(), g.cols[x].argmax()] for g in grids])
            count += 1
        np.testing.assert_allclose(found[row], total / count, rtol=2e-3, atol=2e-3)


def test_an_unknown_backbone_names_those_there_are():
    with pytest.raises(UnknownNameError, match="efficientnet-lite0"):
        load_backbone("resnet-50")
