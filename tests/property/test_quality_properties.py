"""Promises of audits over every draw of small populations, draws with their probabilities, and unbiased totals."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom

from a2lc.audits import audit_sizes, certify, draw, estimate_quality, expected_gain, inclusion_probabilities
from a2lc.audits.precision_certificate import lower_bound
from a2lc.classes.sentinels import UNKNOWN

seeds = st.integers(0, 2**16)


# ---- the certificate ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    right=st.lists(st.booleans(), min_size=4, max_size=9),
    audits=st.integers(1, 6),
    precision=st.sampled_from([0.3, 0.5, 0.7]),
    confidence=st.sampled_from([0.5, 0.7, 0.9]),
    levels=st.integers(1, 9),
)
def test_false_promises_are_as_rare_as_said(right, audits, precision, confidence, levels):
    right = np.array(right)
    scores = -(np.arange(len(right)) * levels // len(right)).astype(float)
    audits = min(audits, len(right) - 1)
    false = low = total = 0
    for rows in combinations(range(len(right)), audits):
        rows = np.array(rows)
        promise = certify(scores, rows, right[rows], min_precision=precision, confidence=confidence)
        total += 1
        assert not promise.accepted[rows].any()
        if promise.accepted.any():
            reached = right[promise.accepted].mean()
            false += reached < precision
            low += reached < promise.lower - 1e-12
    assert false <= (1 - confidence) * total + 1e-9
    assert low <= (1 - confidence) * total + 1e-9


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 60), data=st.data(), level=st.floats(0.001, 0.5))
def test_the_bound_fails_no_more_often_than_its_level(size, data, level):
    audits = data.draw(st.integers(1, size))
    right = data.draw(st.integers(0, size))
    seen = range(max(0, audits - (size - right)), min(audits, right) + 1)
    missed = sum(
        hypergeom.pmf(hits, size, right, audits) for hits in seen if lower_bound(size, audits, hits, level) > right
    )
    assert missed <= level + 1e-9


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(20, 300), st.integers(10, 80))
def test_another_right_answer_never_lowers_the_promise(seed, total, audits):
    rng = np.random.default_rng(seed)
    rows = rng.choice(total, min(audits, total - 1), replace=False)
    right = rng.random(len(rows)) < 0.9
    right[0] = False
    scores = rng.random(total)
    before = certify(scores, rows, right)
    right[0] = True
    assert certify(scores, rows, right).accepted.sum() >= before.accepted.sum()


# ---- the draw ----------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.just(0.0), st.floats(1e-6, 1e6)), min_size=1, max_size=60), st.integers(0, 70), seeds)
def test_probabilities_sum_to_the_count_and_the_draw_has_it(sizes, count, seed):
    sizes = np.array(sizes)
    pi = inclusion_probabilities(sizes, count)
    positive = int((sizes > 0).sum())
    assert pi.sum() == pytest.approx(min(count, positive))
    assert ((pi >= 0) & (pi <= 1)).all() and (pi[sizes == 0] == 0).all()
    free = (pi > 0) & (pi < 1)
    if free.any():  # in proportion, and nothing smaller was capped before something larger
        np.testing.assert_allclose(pi[free] / sizes[free], (pi[free] / sizes[free])[0], rtol=1e-9)
        assert not (pi == 1).any() or sizes[pi == 1].min() >= sizes[free].max() * (1 - 1e-9)
    rows = draw(pi, np.random.default_rng(seed))
    assert len(rows) == len(set(rows.tolist())) == min(count, positive)


@pytest.mark.slow
@settings(max_examples=5, deadline=None)
@given(seeds)
def test_masks_are_drawn_as_often_as_their_probability_says(seed):
    rng = np.random.default_rng(seed)
    pi = inclusion_probabilities(rng.lognormal(0, 1, 12), 4)
    hits = np.zeros(12)
    runs = 6000
    for _ in range(runs):
        hits[draw(pi, rng)] += 1
    deviation = np.abs(hits / runs - pi) / np.sqrt(np.maximum(pi * (1 - pi), 1e-12) / runs)
    assert deviation[pi < 1].max(initial=0) < 5
    assert (hits[pi == 1] == runs).all()


# ---- the estimate ------------------------------------------------------------------------------------------------


def small(seed, masks, classes=3):
    rng = np.random.default_rng(seed)
    area = rng.integers(1, 100, masks)
    labels, truth = rng.integers(-1, classes, masks), rng.integers(-1, classes, masks)
    return rng, area, labels, rng.dirichlet(np.full(classes + 1, 0.4), masks), truth


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_estimates_of_totals_are_unbiased_over_all_draws(seed):
    _, area, labels, posterior, truth = small(seed, 7)
    # No void, so that accuracy is a total over a fixed number of pixels; void columns would make it a ratio.
    labels, truth = np.abs(labels), np.abs(truth)
    posterior = posterior[:, :3] / posterior[:, :3].sum(axis=1, keepdims=True)
    posterior = np.concatenate([0.5 * posterior + 0.5 / 3, np.zeros((7, 1))], axis=1)
    told = np.full(7, UNKNOWN)
    told[0] = truth[0]
    exact = estimate_quality(area, labels, posterior, truth, [], [])
    open_rows = np.arange(1, 7)
    draws = list(combinations(open_rows, 4))
    accuracy, left = [], []
    for rows in draws:
        rows = np.array(rows)
        answers = told.copy()
        answers[rows] = truth[rows]
        found = estimate_quality(area, labels, posterior, answers, rows, np.full(4, 4 / 6))
        accuracy.append(found.pixel_accuracy.estimate)
        unseen = answers == UNKNOWN
        left.append((found.wrong_pixels.estimate, area[unseen & (labels != truth)].sum(), area[unseen].sum()))
    clipped = any(a in (0.0, 1.0) for a in accuracy) or any(e in (0.0, most) for e, _, most in left)
    clipped |= not clipped and _touches(accuracy, area, labels, told, truth, draws)
    if not clipped:
        assert np.mean(accuracy) == pytest.approx(exact.pixel_accuracy.estimate)
        assert np.mean([e for e, _, _ in left]) == pytest.approx(np.mean([w for _, w, _ in left]))


def _touches(accuracy, area, labels, told, truth, draws):
    """Whether an estimate was cut to what is still possible."""
    for value, rows in zip(accuracy, draws, strict=True):
        known = told != UNKNOWN
        known[list(rows)] = True
        low = area[known & (labels == truth)].sum() / area.sum()
        if abs(value - low) < 1e-9 or abs(value - low - area[~known].sum() / area.sum()) < 1e-9:
            return True
    return False


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(1, 40))
def test_what_is_known_is_reported_as_it_is(seed, masks):
    _, area, labels, posterior, truth = small(seed, masks)
    found = estimate_quality(area, labels, posterior, truth, [], [])
    counted = (labels >= 0) & (truth >= 0)
    if counted.any():
        wanted = area[counted & (labels == truth)].sum() / area[counted].sum()
        assert found.pixel_accuracy.low == found.pixel_accuracy.estimate == found.pixel_accuracy.high
        assert found.pixel_accuracy.estimate == pytest.approx(wanted)
    else:
        assert np.isnan(found.pixel_accuracy.estimate) and np.isnan(found.miou.estimate)


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(5, 60), st.integers(1, 20), st.booleans())
def test_figures_are_ordered_in_range_and_do_not_depend_on_the_order_of_masks(seed, masks, count, known):
    rng, area, labels, posterior, truth = small(seed, masks)
    told = np.where(rng.random(masks) < 0.3, truth, UNKNOWN) if known else np.full(masks, UNKNOWN)
    pi = inclusion_probabilities(audit_sizes(area, labels, posterior, told == UNKNOWN), count)
    drawn = draw(pi, rng)
    told[drawn] = truth[drawn]
    found = estimate_quality(area, labels, posterior, told, drawn, pi[drawn])
    for each in (found.pixel_accuracy, found.miou, found.coverage, *found.precision, *found.recall, *found.iou):
        assert np.isnan(each.estimate) or 0 <= each.low <= each.estimate <= each.high <= 1
    order = rng.permutation(masks)
    place = np.argsort(order)
    again = estimate_quality(area[order], labels[order], posterior[order], told[order], place[drawn], pi[drawn])
    for a, b in ((found.pixel_accuracy, again.pixel_accuracy), (found.miou, again.miou)):
        assert (a.low, a.estimate, a.high) == pytest.approx((b.low, b.estimate, b.high), nan_ok=True)


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(8, 40), st.floats(0.0, 100.0))
def test_gain_scales_with_what_is_predicted(seed, asked, later):
    rng = np.random.default_rng(seed)
    predicted, realised = rng.exponential(size=asked), rng.normal(0.5, 1, asked)
    one, many = expected_gain(predicted, realised, 1.0), expected_gain(predicted, realised, later)
    assert 0 <= one.low <= one.estimate <= one.high
    assert many.estimate == pytest.approx(one.estimate * later) and many.high == pytest.approx(one.high * later)
