"""Worth of answers, labels and batches on any small data set."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from a2lc.acquisition.gain import best_labels, class_unions, expected_iou_gain, label_values, pick_batch


@st.composite
def data_sets(draw):
    """Areas, labels and a posterior, some of it sure."""
    rng = np.random.default_rng(draw(st.integers(0, 2**20)))
    masks, classes = draw(st.integers(1, 40)), draw(st.integers(1, 6))
    area = np.ceil(rng.lognormal(3, draw(st.sampled_from([0.0, 1.0, 3.0])), masks)).astype(np.int64)
    labels = rng.integers(-1, classes, masks)
    posterior = rng.dirichlet(np.full(classes + 1, draw(st.sampled_from([0.05, 0.5, 5.0]))), masks)
    sure = rng.random(masks) < draw(st.sampled_from([0.0, 0.5, 1.0]))
    posterior[sure] = np.eye(classes + 1)[rng.integers(0, classes + 1, sure.sum())]
    return area, labels, posterior.astype(draw(st.sampled_from([np.float32, np.float64])))


@given(data=data_sets())
def test_an_answer_is_never_worth_less_than_nothing(data):
    area, labels, posterior = data
    found = expected_iou_gain(area, labels, posterior)
    assert found.dtype == np.float64 and np.isfinite(found).all() and (found >= 0).all()
    named = labels >= 0
    sure = named & (posterior[np.arange(len(area)), np.where(named, labels, 0)] == 1)
    sure |= ~named & (posterior[:, -1] == 1)
    assert (found[sure] == 0).all()
    # All that is wrong leaves at most its own pixels and those of its class: one each, as no union is below the mask's part.
    assert (found <= 2 * area / area.mean() + 1e-9).all()


@given(data=data_sets(), factor=st.sampled_from([2, 1024, 1000]))
def test_only_relative_areas_count(data, factor):
    area, labels, posterior = data
    np.testing.assert_allclose(
        expected_iou_gain(area * factor, labels, posterior), expected_iou_gain(area, labels, posterior), rtol=1e-9
    )
    unions, ious = class_unions(area, labels, posterior)
    larger, same = class_unions(area * factor, labels, posterior)
    np.testing.assert_allclose(larger, unions * factor, rtol=1e-9)
    np.testing.assert_allclose(same, ious, rtol=1e-9)


@given(data=data_sets(), seed=st.integers(0, 1000))
def test_the_order_of_masks_and_classes_does_not_count(data, seed):
    area, labels, posterior = data
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(area))
    classes = posterior.shape[1] - 1
    names = rng.permutation(classes)
    renamed = np.where(labels >= 0, np.argsort(names)[labels], -1)
    moved = posterior[:, [*names, classes]]
    found = expected_iou_gain(area, labels, posterior)
    np.testing.assert_allclose(expected_iou_gain(area[rows], labels[rows], posterior[rows]), found[rows], rtol=1e-5)
    np.testing.assert_allclose(expected_iou_gain(area, renamed, moved), found, rtol=1e-5, atol=1e-12)


@given(data=data_sets())
def test_ious_are_shares_and_values_are_bounded(data):
    area, labels, posterior = data
    unions, ious = class_unions(area, labels, posterior)
    assert (unions > 0).all() and (ious >= 0).all() and (ious < 1 + 1e-6).all()
    values = label_values(posterior, unions, ious)
    assert (values <= 1 / unions * (1 + 1e-6)).all() and (values >= -1 / unions * (1 + 1e-6)).all()


@given(data=data_sets(), floor=st.floats(0, 1), seed=st.integers(0, 1000))
def test_labels_change_only_where_they_may(data, floor, seed):
    area, labels, posterior = data
    known = np.random.default_rng(seed).random(len(area)) < 0.4
    found = best_labels(area, labels, posterior, known=known, floor=floor)
    changed = found != labels
    assert not changed[known].any() and (found[changed] >= 0).all()
    assert (posterior[changed, found[changed]] >= floor).all()
    assert (found[labels >= 0] >= 0).all()
    # What is surely right is left; the class it surely has is given.
    classes = posterior.shape[1] - 1
    sure = posterior[:, :classes].max(axis=1) == 1
    np.testing.assert_array_equal(found[sure & ~known], posterior[sure & ~known, :classes].argmax(axis=1))


@given(
    seed=st.integers(0, 2**20),
    masks=st.integers(0, 60),
    count=st.integers(0, 20),
    pool=st.integers(1, 8),
    alike=st.sampled_from([0.3, 0.9, 1.5]),
    levels=st.sampled_from([2, 1000]),
)
def test_a_batch(seed, masks, count, pool, alike, levels):
    rng = np.random.default_rng(seed)
    scores = rng.integers(-levels // 4, levels, masks) / levels
    scores[rng.random(masks) < 0.1] = np.nan
    looks = rng.normal(size=(5, 4))[rng.integers(0, 5, masks)] + rng.normal(size=(masks, 4)) * 0.2
    found = pick_batch(scores, looks, count, alike=alike, pool=pool)
    assert len(set(found.tolist())) == len(found) == min(count, int((scores > 0).sum()))
    assert (scores[found] > 0).all() and (np.diff(scores[found]) <= 0).all()
    if not len(found):
        return
    assert found[0] == np.nanargmax(scores)
    units = looks / np.linalg.norm(looks, axis=1, keepdims=True)
    close = units @ units.T >= alike
    order = np.lexsort((np.arange(masks), -np.nan_to_num(scores)))
    candidates = [i for i in order if scores[i] > 0][: count * pool]
    assert set(found.tolist()) <= set(candidates)
    if close[np.ix_(found, found)].sum() > len(found) * (alike <= 1):
        # Two alike were taken: then none is left that is like none of those taken.
        left = [i for i in candidates if i not in set(found.tolist())]
        assert all(close[i, found].any() for i in left)
