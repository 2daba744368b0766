"""Invariances of appearance, borders and the means over neighbours."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from a2lc.statistics.appearance import APPEARANCE, Borders, borders, mask_appearance, neighbour_means

seeds = st.integers(0, 2**16)
sides = st.integers(1, 12)


def random_image(seed, height, width, masks=5):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, size=(height, width, 3), dtype=np.uint8)
    if seed % 3 == 0:
        pixels[...] = pixels[..., :1]  # grey
    size = seed % 4 + 1
    coarse = rng.integers(0, masks + 1, size=(height, width))
    mask_map = np.repeat(np.repeat(coarse, size, axis=0), size, axis=1)[:height, :width]
    ids = np.setdiff1d(np.unique(mask_map), [0])
    return pixels, mask_map, ids, rng


def as_dict(found: Borders) -> dict[tuple[bool, int, int], float]:
    keys = zip(found.vertical.tolist(), found.first.tolist(), found.second.tolist(), strict=True)
    return dict(zip(keys, found.length.tolist(), strict=True))


def unordered(vertical, one, other):
    return (vertical, one, other) if vertical else (vertical, min(one, other), max(one, other))


def assert_same(one, other):
    assert set(one) == set(other)
    for key, length in one.items():
        np.testing.assert_allclose(other[key], length, rtol=1e-6)


@given(seed=seeds, height=sides, width=sides)
def test_ranges(seed, height, width):
    pixels, mask_map, ids, _ = random_image(seed, height, width)
    found = mask_appearance(pixels, mask_map, ids)
    assert np.isfinite(found).all()
    column = dict(zip(APPEARANCE, found.T, strict=True))
    for name in ("centre_y", "centre_x", "off_centre", "spread_y", "spread_x", "top", "bottom"):
        assert ((column[name] >= 0) & (column[name] <= 1)).all(), name
    for name in ("box_height", "box_width", "extent"):
        assert ((column[name] > 0) & (column[name] <= 1)).all(), name
    assert ((column["compactness"] > 0) & (column["compactness"] <= np.float32(np.pi / 4))).all()
    assert (column["log_area"] <= 0).all()
    assert (column["l_mean"] > -1e-3).all() and (column["l_mean"] < 100.001).all()
    parts = sum(column[f"gradient_{angle}"] for angle in (0, 45, 90, 135))
    np.testing.assert_allclose(parts, column["gradient"], rtol=1e-5)
    np.testing.assert_allclose(column["bottom"] - column["top"], column["box_height"], atol=1e-6)


@given(seed=seeds, height=sides, width=sides)
def test_renumbering_masks_permutes_rows(seed, height, width):
    pixels, mask_map, ids, rng = random_image(seed, height, width)
    new_ids = np.zeros(6, dtype=np.int64)
    new_ids[1:] = 1 + rng.permutation(60000)[:5]
    renumbered = np.sort(new_ids[ids])
    where = np.searchsorted(renumbered, new_ids[ids])
    one, other = mask_appearance(pixels, mask_map, ids), mask_appearance(pixels, new_ids[mask_map], renumbered)
    np.testing.assert_array_equal(other[where], one)
    found, moved = borders(mask_map, ids), borders(new_ids[mask_map], renumbered)
    expected = {unordered(v, where[a], where[b]): length for (v, a, b), length in as_dict(found).items()}
    assert_same(expected, as_dict(moved))
    np.testing.assert_allclose(
        neighbour_means(other, moved, len(ids))[where], neighbour_means(one, found, len(ids)), rtol=1e-4, atol=1e-4
    )


@given(seed=seeds, height=sides, width=sides, reach=st.integers(1, 7))
def test_borders_of_mirrored_maps(seed, height, width, reach):
    _, mask_map, ids, _ = random_image(seed, height, width)
    found = as_dict(borders(mask_map, ids, reach))
    assert_same(found, as_dict(borders(mask_map[:, ::-1], ids, reach)))
    upside_down = {(v, b, a) if v else (v, a, b): length for (v, a, b), length in found.items()}
    assert_same(upside_down, as_dict(borders(mask_map[::-1], ids, reach)))
    assert all(a < b for v, a, b in found if not v)


@given(seed=seeds, height=sides, width=sides, reach=st.integers(1, 7))
def test_borders_of_transposed_maps(seed, height, width, reach):
    """What lies beside is what lies above either way round in the transposed map."""
    _, mask_map, ids, _ = random_image(seed, height, width)
    expected: dict[tuple[bool, int, int], float] = {}
    for (vertical, one, other), length in as_dict(borders(mask_map.T, ids, reach)).items():
        if vertical:
            key = unordered(False, one, other)
            expected[key] = expected.get(key, 0) + length
    found = as_dict(borders(mask_map, ids, reach))
    assert_same(expected, {key: length for key, length in found.items() if not key[0]})


@given(seed=seeds, height=sides, width=sides)
def test_looks_of_mirrored_pictures(seed, height, width):
    """Mirroring swaps the two slanting directions and moves the centre, and that is all."""
    pixels, mask_map, ids, _ = random_image(seed, height, width)
    one = dict(zip(APPEARANCE, mask_appearance(pixels, mask_map, ids).T, strict=True))
    other = dict(zip(APPEARANCE, mask_appearance(pixels[:, ::-1], mask_map[:, ::-1], ids).T, strict=True))
    other["gradient_45"], other["gradient_135"] = other["gradient_135"], other["gradient_45"]
    other["centre_x"] = 1 - other["centre_x"]
    for name in APPEARANCE:
        np.testing.assert_allclose(other[name], one[name], rtol=1e-4, atol=1e-3, err_msg=name)


@given(seed=seeds, height=sides, width=sides, value=st.floats(-1e6, 1e6, width=32))
def test_means_of_a_constant(seed, height, width, value):
    _, mask_map, ids, _ = random_image(seed, height, width)
    found = borders(mask_map, ids)
    means = neighbour_means(np.full((len(ids), 2), value), found, len(ids))
    v = found.vertical
    below, above, beside = set(found.first[v]), set(found.second[v]), {*found.first[~v], *found.second[~v]}
    for row in range(len(ids)):
        expected = np.repeat([value if row in kind else 0 for kind in (below, above, beside)], 2)
        np.testing.assert_allclose(means[row], expected, rtol=1e-6)


@given(seeds_of=st.lists(seeds, max_size=4))
def test_images_put_together_have_the_means_of_each(seeds_of):
    parts, values, single, start = [], [np.empty((0, 3), dtype=np.float32)], [np.empty((0, 9))], 0
    for seed in seeds_of:
        _, mask_map, ids, rng = random_image(seed, 6, 9)
        found = borders(mask_map, ids)
        values.append(rng.normal(size=(len(ids), 3)).astype(np.float32))
        single.append(neighbour_means(values[-1], found, len(ids)))
        parts.append(found.shifted(start))
        start += len(ids)
    whole = neighbour_means(np.concatenate(values), Borders.concat(parts), start)
    np.testing.assert_array_equal(whole, np.concatenate(single))
