"""Cell features: principal components of each resolution, kept in half precision, read an image at a time."""

import numpy as np
import pytest

from a2lc.errors import ImageFileError, InputError, MissingFileError
from a2lc.features import CellBasis, CellStore, Grid
from a2lc.features import store as stores
from a2lc.features.cells import COARSE_COMPONENTS, FINE_COMPONENTS
from a2lc.records import ImageRecord


def image_grids(rng, height=6, width=8, padding=2, channels=(30, 40, 80)):
    """Grids as of a backbone of strides 8, 16 and 16, with some cells of padding."""
    fine = Grid(
        values=rng.normal(size=(channels[0], height, width)).astype(np.float32), reach=(height - padding, width)
    )
    coarse = [
        Grid(
            values=rng.normal(size=(depth, height // 2, width // 2)).astype(np.float32),
            reach=((height - padding) / 2, width / 2),
        )
        for depth in channels[1:]
    ]
    return [fine, *coarse]


@pytest.fixture
def basis(rng):
    return CellBasis.fit("made-up", [image_grids(rng) for _ in range(8)])


def record(index, image_id="a", height=64, width=64):
    return ImageRecord(
        index=index, image_id=image_id, height=height, width=width, split="train", file="a.png", sha256="0"
    )


def test_components_are_uncorrelated_and_of_one_scale(rng):
    images = [image_grids(rng) for _ in range(12)]
    mixed = [[Grid(values=g.values + 3 * g.values[:1], reach=g.reach) for g in grids] for grids in images]
    basis = CellBasis.fit("made-up", mixed)
    cells = np.concatenate([basis.apply(grids).levels[0].values.reshape(FINE_COMPONENTS, -1).T for grids in mixed])
    covariance = np.cov(cells.astype(np.float64).T)
    np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=0.02)
    assert np.diag(covariance).max() < 1.05 and np.diag(covariance)[0] > 0.95


def test_grids_of_the_same_cells_are_one_resolution(rng, basis):
    features = basis.apply(image_grids(rng))
    assert [level.values.shape for level in features.levels] == [
        (FINE_COMPONENTS, 6, 8),
        (min(COARSE_COMPONENTS, 120), 3, 4),
    ]
    assert all(level.values.dtype == np.float16 for level in features.levels)


def test_rows_of_the_matrix_are_those_of_plain_loops(rng, basis):
    features = basis.apply(image_grids(rng))
    fine, coarse = features.levels
    matrix = features.matrix()
    (height, width), (down, across) = fine.cells, fine.reach
    for row in range(height):
        for col in range(width):
            y, x = (row + 0.5) / down, (col + 0.5) / across
            # Half the cells a side: place on the coarse grid, held within what covers the image.
            place = np.clip([y * coarse.reach[0] - 0.5, x * coarse.reach[1] - 0.5], 0, [1, 3])
            low = np.minimum(place.astype(int), [0, 2])
            (b, d) = place - low
            v = coarse.values.astype(np.float32)[:, low[0] : low[0] + 2, low[1] : low[1] + 2]
            between = (1 - b) * ((1 - d) * v[:, 0, 0] + d * v[:, 0, 1]) + b * ((1 - d) * v[:, 1, 0] + d * v[:, 1, 1])
            where = [2 * min(u, 1) - 1 for u in (y, x, y * y, x * x)]
            expected = np.concatenate([fine.values[:, row, col], between, where])
            np.testing.assert_allclose(matrix[row * width + col], expected, atol=2e-3)
    some = np.array([0, 5, 17, 31])
    np.testing.assert_allclose(features.inputs(some), matrix[some], atol=1e-5)


def test_a_basis_is_read_as_it_was_written(basis, tmp_path):
    basis.save(tmp_path / "basis.npz")
    read = CellBasis.load(tmp_path / "basis.npz")
    assert read.digest == basis.digest and read.backbone == "made-up"
    (tmp_path / "basis.npz").write_bytes((tmp_path / "basis.npz").read_bytes()[:-30])
    with pytest.raises(ImageFileError, match="is damaged"):
        CellBasis.load(tmp_path / "basis.npz")


def test_the_digest_tells_backbones_and_numbers_apart(rng, basis):
    other = CellBasis(backbone="another", means=basis.means, directions=basis.directions)
    moved = CellBasis(backbone="made-up", means=basis.means, directions=tuple(2 * d for d in basis.directions))
    assert len({basis.digest, other.digest, moved.digest}) == 3


def test_a_channel_that_never_changes_says_nothing(rng):
    images = [image_grids(rng) for _ in range(4)]
    for grids in images:
        grids[0].values[3] = 7
    basis = CellBasis.fit("made-up", images)
    odd = image_grids(rng)
    odd[0].values[3] = 1e6
    even = [Grid(values=g.values.copy(), reach=g.reach) for g in odd]
    even[0].values[3] = 7
    np.testing.assert_array_equal(basis.apply(odd).levels[0].values, basis.apply(even).levels[0].values)


def test_images_are_read_one_by_one(rng, basis, tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "IMAGES_A_SHARD", 2)
    store = CellStore(tmp_path)
    images = [record(0, "a"), record(1, "b", 48), record(2, "c")]
    cells = [basis.apply(image_grids(rng, height)) for height in (6, 4, 6)]
    store.write(0, images[:2], cells[:2], "s")
    store.write(1, images[2:], cells[2:], "t")
    assert store.has(0, "s") and store.has(1, "t") and not store.has(1, "s") and not store.has(2, "s")
    for image, expected in zip([images[2], *images], [cells[2], *cells], strict=True):
        found = store.read(image)
        for level, known in zip(found.levels, expected.levels, strict=True):
            np.testing.assert_array_equal(level.values, known.values)
            assert level.reach == known.reach


def test_a_damaged_file_is_named_in_one_line(rng, basis, tmp_path):
    images = [record(0), record(1, "b")]
    whole = CellStore(tmp_path)
    whole.write(0, images, [basis.apply(image_grids(rng)) for _ in images], "s")
    path = whole.path(0)
    data = path.read_bytes()
    for at in (3, len(data) // 2, len(data) - 3):
        path.write_bytes(data[:at])
        with pytest.raises(ImageFileError, match="is damaged"):
            CellStore(tmp_path).read(images[1])
    assert not whole.has(0, "s")


def test_cells_of_another_image_are_never_taken_for_its_own(rng, basis, tmp_path):
    store = CellStore(tmp_path)
    with pytest.raises(MissingFileError, match="a2lc features"):
        store.read(record(0))
    with pytest.raises(MissingFileError, match="a2lc features"):
        _ = store.basis
    store.write(0, [record(0)], [basis.apply(image_grids(rng))], "s")
    for other in (record(0, "b"), record(0, "a", 65), record(1)):
        with pytest.raises(InputError, match="cell features of"):
            store.read(other)
