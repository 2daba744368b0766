"""Invariances of mask statistics, scores, selection and counts."""

from __future__ import annotations

from dataclasses import fields
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2lc.acquisition.functions import ACQUISITIONS, class_weights, score
from a2lc.acquisition.selection import top_masks
from a2lc.statistics.mask_stats import MaskStats, mask_statistics
from a2lc.statistics.metrics import ConfusionCounts

seeds = st.integers(0, 2**16)
FIELDS = [field.name for field in fields(MaskStats)]


def random_image(seed, classes=4, height=7, width=11):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(classes, height, width)) * 2
    probs = (np.exp(logits) / np.exp(logits).sum(axis=0)).astype(np.float32)
    labels = rng.integers(0, classes, size=(height, width))
    labels[rng.random((height, width)) < 0.1] = 255
    return probs, labels, rng.integers(0, 6, size=(height, width)), rng


def random_stats(seed, classes=4):
    return mask_statistics(*random_image(seed, classes)[:3])


def assert_same(one, other, names=FIELDS):
    for name in names:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
        if isinstance(getattr(one, name), np.ndarray):
            assert getattr(one, name).dtype == getattr(other, name).dtype, name


@given(seed=seeds)
def test_renumbering_masks_permutes_scores(seed):
    probs, labels, masks, rng = random_image(seed)
    new_ids = np.array([0, *(1 + rng.permutation(60000)[:5])])
    one, other = mask_statistics(probs, labels, masks), mask_statistics(probs, labels, new_ids[masks])
    where = np.searchsorted(other.mask_ids, new_ids[one.mask_ids])
    np.testing.assert_array_equal(other.mask_ids[where], new_ids[one.mask_ids])
    weights = class_weights(np.array([500, 3, 80, 9]))
    for name in ACQUISITIONS:
        if name != "random":
            np.testing.assert_allclose(
                score(name, other, weights=weights)[where], score(name, one, weights=weights), rtol=1e-6, err_msg=name
            )


@given(seed=seeds)
def test_permuting_classes_permutes_sums_and_leaves_scores(seed):
    probs, labels, masks, rng = random_image(seed)
    order = rng.permutation(4)  # class c becomes order[c]
    other_probs = np.empty_like(probs)
    other_probs[order] = probs
    one = mask_statistics(probs, labels, masks)
    other = mask_statistics(other_probs, np.append(order, [0] * 251 + [255])[labels], masks)
    np.testing.assert_allclose(other.prob_sums[:, order], one.prob_sums, rtol=1e-6)
    for name in ("entropy", "margin", "lcil", "softmin"):
        np.testing.assert_allclose(score(name, other), score(name, one), rtol=1e-4, err_msg=name)


@given(seeds_of=st.lists(seeds, min_size=1, max_size=5), cuts=st.lists(st.integers(0, 4), max_size=3))
def test_concat_of_parts_is_the_concat_of_all(seeds_of, cuts):
    parts = [random_stats(s).with_image(i) for i, s in enumerate(seeds_of)]
    whole = MaskStats.concat(parts)
    cuts = sorted({min(c, len(parts)) for c in cuts} | {0, len(parts)})
    groups = [MaskStats.concat(parts[a:b]) for a, b in pairwise(cuts) if b > a]
    assert_same(whole, MaskStats.concat(groups))
    for i, part in enumerate(parts):
        assert_same(part, whole.take(whole.image == i))


@given(seed=seeds, keep=st.sets(st.integers(0, 4)))
def test_take_keeps_scores_and_is_the_same_by_index_or_flag(seed, keep):
    stats = random_stats(seed)
    index = np.array(sorted(k for k in keep if k < len(stats)), dtype=int)
    flags = np.isin(np.arange(len(stats)), index)
    assert_same(stats.take(index), stats.take(flags))
    weights = np.array([0.1, 0.5, 1, 0.2])
    for name in ACQUISITIONS:
        np.testing.assert_array_equal(
            score(name, stats.take(index), weights=weights), score(name, stats, weights=weights)[index], err_msg=name
        )


@given(seeds_of=st.lists(seeds, min_size=1, max_size=3), classes=st.integers(1, 6), rows=st.tuples(seeds, seeds))
def test_table_round_trip(seeds_of, classes, rows):
    stats = MaskStats.concat([random_stats(s, classes).with_image(i) for i, s in enumerate(seeds_of)])
    table = stats.to_table()
    assert table.num_rows == len(stats)
    assert_same(stats, MaskStats.from_table(table))
    begin, end = sorted(r % (len(stats) + 1) for r in rows)
    part = stats.take(np.arange(begin, end))
    assert_same(part, MaskStats.from_table(table.slice(begin, end - begin)))
    joined = pa.concat_tables([table.slice(0, begin), table.slice(begin)])  # two chunks a column
    assert_same(stats, MaskStats.from_table(joined))


def test_table_round_trip_of_no_masks_and_of_some_columns(make_stats, tmp_path):
    import pyarrow.parquet as pq

    stats = make_stats()
    none = stats.take(np.zeros(len(stats), dtype=bool))
    assert_same(none, MaskStats.from_table(none.to_table()))
    pq.write_table(stats.to_table(), tmp_path / "stats.parquet")
    assert_same(stats, MaskStats.from_table(pq.read_table(tmp_path / "stats.parquet")))
    for name, acquisition in ACQUISITIONS.items():
        few = MaskStats.from_table(pq.read_table(tmp_path / "stats.parquet", columns=sorted(acquisition.columns)))
        weights = np.array([0.5, 1, 0.1, 0.3])
        np.testing.assert_array_equal(
            score(name, few, weights=weights), score(name, stats, weights=weights), err_msg=f"{name} reads more columns"
        )


@given(seed=seeds)
def test_a_model_sure_of_every_label_scores_no_doubt(seed):
    _, _, masks, rng = random_image(seed)
    labels = rng.integers(0, 4, size=masks.shape)
    probs = np.zeros((4, *masks.shape), dtype=np.float32)
    np.put_along_axis(probs, labels[None], 1, axis=0)
    stats = mask_statistics(probs, labels, masks)
    for name in ("abc", "sim", "cil", "lcil", "softmin", "entropy", "margin"):
        np.testing.assert_array_equal(score(name, stats, weights=np.array([1, 0.5, 0.2, 0.1])), 0, err_msg=name)


@given(seed=seeds)
def test_ranges_of_scores(seed):
    stats = random_stats(seed)
    for name in ("cil", "lcil", "softmin", "margin"):
        values = score(name, stats)
        assert ((values >= 0) & (values <= 1)).all(), name
    assert (score("entropy", stats) <= np.log(4) + 1e-6).all()
    for name in ("abc", "sim"):
        values = score(name, stats)
        assert ((values >= 0) & (values <= stats.area)).all(), name


# ---- selection ---------------------------------------------------------------------------------------------------


@given(
    seed=seeds,
    total=st.integers(0, 40),
    count=st.integers(0, 45),
    cuts=st.lists(st.integers(0, 40), max_size=5),
)
def test_splitting_into_parts_in_any_order_leaves_the_chosen_alone(seed, total, count, cuts):
    rng = np.random.default_rng(seed)
    keys = rng.permutation(200)[:total]
    images, masks = keys // 10, keys % 10 + 1
    scores = rng.choice([-np.inf, 0.0, 0.25, 0.5, 1.0], size=total)  # many ties
    allowed = [i for i in range(total) if scores[i] > -np.inf]
    expected = sorted(allowed, key=lambda i: (-scores[i], images[i], masks[i]))[:count]
    bounds = sorted({min(c, total) for c in cuts} | {0, total})
    parts = [(images[a:b], masks[a:b], scores[a:b]) for a, b in pairwise(bounds)]
    for order in (parts, parts[::-1]):
        found = top_masks(iter(order), count)
        assert found[0].tolist() == [images[i] for i in expected]
        assert found[1].tolist() == [masks[i] for i in expected]
        assert found[2].tolist() == [scores[i] for i in expected]


def test_no_part_at_all():
    assert [len(column) for column in top_masks(iter([]), 5)] == [0, 0, 0]


# ---- confusion ---------------------------------------------------------------------------------------------------


@given(seed=seeds, cut=st.integers(1, 8))
def test_counts_of_two_halves_add_up(seed, cut):
    rng = np.random.default_rng(seed)
    labels, truth = rng.choice([0, 1, 2, 255], size=(2, 9, 4))
    whole, top, bottom = (ConfusionCounts(3) for _ in range(3))
    whole.update(labels, truth)
    top.update(labels[:cut], truth[:cut])
    bottom.update(labels[cut:], truth[cut:])
    both = top + bottom
    np.testing.assert_array_equal(both.counts, whole.counts)
    assert both.unlabelled == whole.unlabelled
    np.testing.assert_array_equal(both.iou, whole.iou)
    assert int(whole.counts.sum()) == int(((labels != 255) & (truth != 255)).sum())
    assert whole.unlabelled == int(((labels == 255) & (truth != 255)).sum())


def test_miou_of_a_data_set_is_not_the_mean_over_images():
    # One image all right for class 0; in the other, class 0 has one pixel in four right.
    truths = [np.zeros((1, 8), dtype=int), np.array([[0, 0, 0, 0, 1, 1, 1, 1]])]
    labels = [np.zeros((1, 8), dtype=int), np.array([[0, 1, 1, 1, 1, 1, 1, 1]])]
    whole = ConfusionCounts(2)
    single = []
    for label, truth in zip(labels, truths, strict=True):
        whole.update(label, truth)
        one = ConfusionCounts(2)
        one.update(label, truth)
        single.append(one.miou)
    np.testing.assert_allclose(whole.iou, [9 / 12, 4 / 7])
    assert whole.miou == pytest.approx((9 / 12 + 4 / 7) / 2)
    assert np.mean(single) == pytest.approx((1 + (1 / 4 + 4 / 7) / 2) / 2)
    assert whole.miou != pytest.approx(float(np.mean(single)), abs=0.01)


# ---- class weights -----------------------------------------------------------------------------------------------

counts_of = st.lists(st.integers(0, 10**6), min_size=1, max_size=21)


@given(counts=counts_of, factor=st.integers(2, 1000))
def test_weights_do_not_depend_on_the_unit_of_counts(counts, factor):
    np.testing.assert_allclose(
        class_weights(np.array(counts) * factor), class_weights(np.array(counts)), rtol=1e-7, atol=1e-12
    )


@given(counts=counts_of.filter(any))
def test_numerator_of_the_weights_is_one_constant(counts):
    """w is N ** -KL^3 times one number: rarer classes never weigh less, the rarest weighs 1, absent ones 0."""
    weights, counts = class_weights(np.array(counts)), np.array(counts)
    present = counts > 0
    np.testing.assert_array_equal(weights[~present], 0)
    assert weights[present].max() == pytest.approx(1)
    order = np.argsort(counts[present])
    assert (np.diff(weights[present][order]) <= 1e-12).all()
    share = counts[present] / counts.sum()
    power = max(0.0, float((share * np.log(share * present.sum())).sum())) ** 3
    ratio = np.log(weights[present]) + power * np.log(counts[present].astype(float))
    np.testing.assert_allclose(ratio, ratio[0], atol=1e-6)


@given(seed=seeds, factor=st.floats(1e-3, 1e3))
def test_a_constant_factor_of_the_weights_leaves_the_ranking(seed, factor):
    stats = random_stats(seed)
    weights = class_weights(np.array([900, 20, 100, 3]))
    np.testing.assert_allclose(
        score("abc", stats, weights=weights * factor), score("abc", stats, weights=weights) * factor, rtol=1e-9
    )


@given(counts=counts_of.filter(any))
def test_power_0_weighs_by_inverse_frequency(counts):
    counts = np.array(counts)
    expected = np.divide(counts[counts > 0].min(), counts, out=np.zeros(len(counts)), where=counts > 0)
    np.testing.assert_allclose(class_weights(counts, power=0), expected)
