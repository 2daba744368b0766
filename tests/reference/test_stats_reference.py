"""The compiled pass over pixels, and the one in torch, agree with the plain loops."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import plain
import pytest

from a2lc.acquisition.functions import class_weights, score
from a2lc.statistics.mask_stats import MaskStats, mask_statistics

EXACT = {"image", "mask_ids", "area", "label", "void_pixels", "pred_counts", "dominant"}
EXACT |= {"pair_row", "pair_label", "pair_pixels"}


def fast_numba(probs, labels, mask_map, ignore_index=255):
    return mask_statistics(probs, labels, mask_map, ignore_index)


def fast_torch(probs, labels, mask_map, ignore_index=255):
    torch = pytest.importorskip("torch", reason="needs the extra [train]")
    from a2lc.statistics.torch_kernel import mask_statistics_torch

    return mask_statistics_torch(torch.from_numpy(np.array(probs)), labels, mask_map, ignore_index)


both = pytest.mark.parametrize("fast", [fast_numba, fast_torch], ids=["numba", "torch"])


def assert_agrees(fast, probs, labels, mask_map, ignore=255, *, exact_pixel=False) -> MaskStats:
    found = fast(probs, labels, mask_map, ignore)
    # Two pixels of the dominant part may be nearest but for the last bit: either will do, if it is as near.
    free = plain.pixels_by_mask(mask_map)
    if not exact_pixel:
        width = mask_map.shape[1]
        for row, pixels in enumerate(free.values()):
            part = plain.dominant_part(probs, pixels)
            centre = plain.mean_vector(probs, part)
            chosen = divmod(int(found.representative_pixel[row]), width)
            assert chosen in part
            best = max(plain.cosine(plain.vector(probs, p), centre) for p in part)
            assert plain.cosine(plain.vector(probs, chosen), centre) >= best - 1e-7
    expected = plain.mask_statistics(
        probs, labels, mask_map, ignore, None if exact_pixel else found.representative_pixel
    )
    assert found.num_classes == probs.shape[0]
    assert found.ignore_index == ignore
    names = {field.name for field in fields(MaskStats)} - {"num_classes", "ignore_index"}
    assert names == set(expected), "a field of MaskStats has no plain version"
    for name in sorted(names):
        actual = getattr(found, name)
        want = np.array(expected[name], dtype=np.float64).reshape(actual.shape)
        if name in EXACT or name == "representative_pixel":
            np.testing.assert_array_equal(actual, want, err_msg=name)
            assert actual.dtype == np.int32, name
        else:
            # Below 1e-6 single precision cannot tell one minus a probability near 1 from 0.
            np.testing.assert_allclose(actual, want, rtol=1e-4, atol=1e-6, err_msg=name)
            assert actual.dtype == np.float32, name
    np.testing.assert_allclose(found.mean_probs, found.prob_sums / found.area[:, None].clip(1), rtol=1e-6)
    return found


def image(rng, make_probs, classes, height, width, *, kind="random", sharp=2.0, masks=5, void=0.1):
    probs = make_probs(rng, classes, height, width, sharp)
    if kind == "random":
        labels = rng.integers(0, classes, size=(height, width))
        mask_map = rng.integers(0, masks + 1, size=(height, width))
    else:
        rows = np.arange(height)[:, None] * 2 // height
        cols = np.arange(width)[None, :] * 3 // width
        mask_map = (rows * 3 + cols).astype(np.int64)  # blocks; 0 is uncovered
        labels = rng.integers(0, classes, size=6)[mask_map]
    labels = np.where(rng.random((height, width)) < void, 255, labels)
    mask_map[height // 2, width // 2] = masks + 40  # a mask of one pixel
    return probs, labels, mask_map


@both
@pytest.mark.parametrize("kind", ["random", "blocks"])
@pytest.mark.parametrize(
    ("classes", "height", "width"), [(1, 5, 8), (2, 11, 6), (3, 7, 13), (21, 12, 17)], ids=["K1", "K2", "K3", "K21"]
)
def test_every_field_on_random_images(fast, kind, classes, height, width, rng, make_probs):
    probs, labels, mask_map = image(rng, make_probs, classes, height, width, kind=kind)
    found = assert_agrees(fast, probs, labels, mask_map)
    assert len(found) >= 5
    assert 1 in found.area


@both
@pytest.mark.parametrize("sharp", [0.0, 30.0], ids=["flat", "sure"])
def test_flat_and_nearly_certain_probabilities(fast, sharp, rng, make_probs):
    probs, labels, mask_map = image(rng, make_probs, 5, 9, 14, sharp=sharp)
    assert_agrees(fast, probs, labels, mask_map)


@both
def test_probabilities_of_exactly_zero_and_one(fast, rng):
    height, width = 6, 11
    probs = np.zeros((4, height, width), dtype=np.float32)
    top = rng.integers(0, 4, size=(height, width))
    np.put_along_axis(probs, top[None], 1.0, axis=0)
    labels = rng.integers(0, 4, size=(height, width))
    mask_map = rng.integers(0, 4, size=(height, width))
    found = assert_agrees(fast, probs, labels, mask_map, exact_pixel=True)
    np.testing.assert_array_equal(found.entropy_sum, 0)
    np.testing.assert_array_equal(found.bvsb_sum, 0)


@both
def test_ties_go_to_the_smallest_class_and_the_first_pixel(fast):
    # Two classes equally likely at each pixel, two predictions equally frequent, two labels equally frequent.
    probs = np.zeros((4, 2, 3), dtype=np.float32)
    probs[[1, 3], 0] = 0.5
    probs[[2, 3], 1] = 0.5
    labels = np.array([[3, 3, 0], [2, 2, 0]])
    mask_map = np.array([[9, 9, 9], [9, 9, 9]])
    found = assert_agrees(fast, probs, labels, mask_map, exact_pixel=True)
    assert (found.dominant[0], found.label[0], found.representative_pixel[0]) == (1, 0, 0)


@both
def test_void_loses_a_tie_of_labels(fast, rng, make_probs):
    probs = make_probs(rng, 3, 1, 4)
    found = assert_agrees(fast, probs, np.array([[255, 255, 2, 2]]), np.ones((1, 4), dtype=int))
    assert found.label[0] == 2
    found = assert_agrees(fast, probs, np.array([[255, 255, 255, 2]]), np.ones((1, 4), dtype=int))
    assert found.label[0] == 255


@both
def test_all_void(fast, rng, make_probs):
    probs, _, mask_map = image(rng, make_probs, 6, 8, 10)
    found = assert_agrees(fast, probs, np.full((8, 10), 255), mask_map)
    np.testing.assert_array_equal(found.void_pixels, found.area)
    assert set(found.label) == {255}


@both
def test_another_ignore_index(fast, rng, make_probs):
    probs, labels, mask_map = image(rng, make_probs, 4, 8, 10)
    found = assert_agrees(fast, probs, np.where(labels == 255, 65535, labels), mask_map, ignore=65535)
    assert found.void_pixels.sum() > 0


@both
@pytest.mark.parametrize("classes", [1, 3])
def test_no_mask_at_all(fast, classes, rng, make_probs):
    probs = make_probs(rng, classes, 4, 7)
    # Outside masks a label may be anything.
    found = fast(probs, np.full((4, 7), 77), np.zeros((4, 7), dtype=int))
    assert len(found) == 0
    assert found.prob_sums.shape == (0, classes)
    assert found.pair_row.shape == (0,)
    assert found.mean_probs.shape == (0, classes)


@both
@pytest.mark.parametrize(
    "ids", [(1, 65535), (65535, 65536, 70001), (3, 2_000_000_000)], ids=["16bit", "over", "sparse"]
)
def test_large_and_sparse_ids(fast, ids, rng, make_probs):
    probs, labels, _ = image(rng, make_probs, 3, 6, 9)
    mask_map = rng.choice(np.array([0, *ids]), size=(6, 9))
    found = assert_agrees(fast, probs, labels, mask_map)
    assert found.mask_ids.tolist() == sorted(ids)


@both
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64])
def test_any_integer_type(fast, dtype, rng, make_probs):
    probs, labels, mask_map = image(rng, make_probs, 3, 6, 9)
    assert_agrees(fast, probs, labels.astype(dtype), mask_map.astype(dtype))


def test_uncovered_pixels_and_a_mask_in_pieces(rng, make_probs):
    """Runs of pixels of one mask are cut by others: long and short runs, over the edge of a block of pixels."""
    probs = make_probs(rng, 3, 30, 83)  # 2490 pixels: more than two blocks
    labels = np.repeat(rng.integers(0, 3, size=(30, 9)), 10, axis=1)[:, :83]
    mask_map = np.repeat(rng.integers(0, 3, size=(30, 6)), 15, axis=1)[:, :83]
    assert_agrees(fast_numba, probs, labels, mask_map)


def test_double_precision_and_strided_input_give_the_same(rng, make_probs):
    probs, labels, mask_map = image(rng, make_probs, 3, 6, 9)
    one = mask_statistics(probs, labels, mask_map)
    wide = np.zeros((3, 12, 9), dtype=np.float64)
    wide[:, ::2] = probs
    other = mask_statistics(wide[:, ::2], np.asfortranarray(labels), mask_map[::-1][::-1])
    for field in fields(MaskStats):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))


@pytest.mark.parametrize("kind", ["random", "blocks"])
@pytest.mark.parametrize("classes", [1, 2, 7])
def test_scores_agree_with_the_equations(kind, classes, rng, make_probs):
    probs, labels, mask_map = image(rng, make_probs, classes, 10, 15, kind=kind)
    stats = mask_statistics(probs, labels, mask_map)
    counts = {c: int(rng.integers(1, 5000)) for c in range(classes)}
    weights = plain.class_weights(counts)
    array = class_weights(np.array([counts[c] for c in range(classes)]))
    expected = {name: [] for name in ("abc", "abc weighted", "sim", "cil", "lcil", "entropy", "margin", "softmin")}
    for row, pixels in enumerate(plain.pixels_by_mask(mask_map).values()):
        representative = divmod(int(stats.representative_pixel[row]), mask_map.shape[1])
        vectors = [plain.vector(probs, p) for p in pixels]
        expected["abc"].append(plain.abc(probs, labels, pixels))
        expected["abc weighted"].append(plain.abc(probs, labels, pixels, weights))
        expected["sim"].append(plain.sim(probs, labels, pixels, representative))
        expected["cil"].append(plain.cil(probs, labels, representative))
        expected["lcil"].append(plain.lcil(probs, labels, pixels))
        expected["entropy"].append(sum(map(plain.entropy, vectors)) / len(pixels))
        expected["margin"].append(sum(map(plain.bvsb, vectors)) / len(pixels))
        expected["softmin"].append(1 - plain.softmin([1 - plain.cil(probs, labels, p) for p in pixels]))
    masks = list(plain.pixels_by_mask(mask_map).values())
    expected["classbal"], expected["amss"] = plain.class_balance(probs, masks)
    expected["pixbal"] = plain.pixbal(probs, masks)
    for name, values in expected.items():
        found = score(name.split()[0], stats, weights=array if "weighted" in name else None)
        np.testing.assert_allclose(found, values, rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("classes", [1, 4])
def test_grouped_masks_are_as_if_they_had_been_one(classes, rng, make_probs):
    probs, labels, mask_map = image(rng, make_probs, classes, 12, 17, kind="blocks")
    stats = mask_statistics(probs, labels, mask_map)
    group = rng.integers(0, 3, size=len(stats))
    merged_map = np.zeros_like(mask_map)
    names = {g: int(stats.mask_ids[group == g].min()) for g in set(group.tolist())}
    for mask, g in zip(stats.mask_ids.tolist(), group.tolist(), strict=True):
        merged_map[mask_map == mask] = names[g]
    found, expected = stats.grouped(group), mask_statistics(probs, labels, merged_map)
    same = "image mask_ids area void_pixels prob_sums pred_counts dominant entropy_sum bvsb_sum pred_bvsb "
    for name in (same + "pair_row pair_label pair_pixels pair_doubt").split():
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=2e-5, atol=1e-5, err_msg=name)
    for name in ("entropy", "margin", "lcil", "classbal", "amss", "pixbal"):
        np.testing.assert_allclose(score(name, found), score(name, expected), rtol=1e-4, atol=1e-6, err_msg=name)


def test_groups_do_not_reach_across_images(make_stats):
    stats = make_stats(images=2)
    found = stats.grouped(np.zeros(len(stats), dtype=int))
    assert found.image.tolist() == sorted(set(stats.image.tolist()))
    assert found.area.sum() == stats.area.sum()
    none = stats.take(np.zeros(len(stats), dtype=bool))
    assert len(none.grouped(np.empty(0, dtype=int))) == 0
