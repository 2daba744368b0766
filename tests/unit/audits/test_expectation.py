"""What is expected to help: against plain loops, and that audits which turn withdraw it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2lc.audits.expectation import TRUST, expect_gain, expect_precision
from a2lc.audits.precision_certificate import FRACTIONS
from a2lc.audits.stakes import effects, expected_effects

NONE = np.empty(0)


def plain_gain(scores, stakes, expected, seen, ratios, weights):
    """The set of the largest estimate, by loops."""
    best, chosen = 0.0, set()
    order = sorted(scores, reverse=True)
    for share in FRACTIONS:
        threshold = order[max(1, int(np.ceil(share * len(scores)))) - 1]
        inside = [i for i, score in enumerate(scores) if score >= threshold]
        stake = sum(stakes[i] for i in inside)
        if stake <= 0:
            continue
        above = TRUST * sum(expected[i] for i in inside) / stake
        below = TRUST
        for score, ratio, weight in zip(seen, ratios, weights, strict=True):
            if score >= threshold:
                above, below = above + weight * ratio, below + weight
        if stake * above / below > best + 1e-12:
            best, chosen = stake * above / below, set(inside)
    return best, chosen


@given(st.integers(0, 10_000))
def test_the_chosen_set_is_that_of_plain_loops(seed):
    rng = np.random.default_rng(seed)
    count, audits = int(rng.integers(1, 30)), int(rng.integers(0, 12))
    scores = rng.choice([0.2, 0.4, 0.5, 0.7, 0.9, 0.95], count)
    stakes = rng.choice([0.0, 0.5, 2.0], count)
    expected = stakes * rng.uniform(-1, 1, count)
    seen, ratios = rng.choice([0.3, 0.5, 0.9], audits), rng.uniform(-1, 1, audits)
    weights = rng.choice([1.0, 0.5], audits)
    found = expect_gain(scores, stakes, expected, seen, ratios, weights)
    estimate, chosen = plain_gain(scores, stakes, expected, seen, ratios, weights)
    assert found.estimate == pytest.approx(estimate, abs=1e-9)
    assert abs(sum(stakes[found.accepted]) - sum(stakes[i] for i in chosen)) < 1e-9


def test_audits_that_turn_withdraw_what_the_posterior_proposed():
    scores, stakes, expected = np.full(50, 0.8), np.ones(50), np.full(50, 0.5)
    kept = expect_gain(scores, stakes, expected, np.full(4, 0.8), np.full(4, -1.0), np.ones(4))
    assert kept.accepted.all() and kept.estimate == pytest.approx(50 * (10 * 0.5 - 4) / 14)
    gone = expect_gain(scores, stakes, expected, np.full(6, 0.8), np.full(6, -1.0), np.ones(6))
    assert not gone.accepted.any() and gone.estimate == 0


def test_the_surest_are_taken_where_audits_speak_against_the_rest():
    scores = np.linspace(1, 0.3, 100)
    seen = np.array([0.35] * 40 + [0.95] * 10)
    ratios = np.array([-1.0] * 40 + [1.0] * 10)
    found = expect_gain(scores, np.ones(100), np.full(100, 0.3), seen, ratios, np.ones(50))
    assert 0 < found.accepted.sum() <= 70 and scores[found.accepted].min() > scores[~found.accepted].max()


def test_precision_takes_the_largest_set_that_is_precise_enough():
    scores = np.concatenate([np.full(50, 0.95), np.full(50, 0.6)])
    found = expect_precision(scores, NONE, NONE.astype(bool), NONE, min_precision=0.9)
    assert found.accepted[:50].all() and not found.accepted[50:].any() and found.estimate == pytest.approx(0.95)
    wrong = expect_precision(scores, np.full(5, 0.95), np.zeros(5, bool), np.ones(5), min_precision=0.9)
    assert not wrong.accepted.any()
    assert expect_precision(scores, NONE, NONE.astype(bool), NONE, min_precision=0.7).accepted.all()


def test_without_proposals_nothing_is_expected():
    assert not len(expect_gain(NONE, NONE, NONE, NONE, NONE, NONE).accepted)
    assert not len(expect_precision(NONE, NONE, NONE.astype(bool), NONE, min_precision=0.5).accepted)


def test_expected_effects_are_the_average_over_true_classes(rng):
    count, classes = 40, 4
    area, old = rng.integers(1, 50, count), rng.integers(-1, classes, count)
    new, posterior = rng.integers(-1, classes, count), rng.dirichlet(np.ones(classes + 1), count)
    unions, ious = rng.uniform(100, 400, classes), rng.uniform(0, 1, classes)
    expected = np.zeros(count)
    for true in range(-1, classes):
        expected += posterior[:, true] * effects(area, old, new, np.full(count, true), unions, ious)
    np.testing.assert_allclose(expected_effects(area, old, new, posterior, unions, ious), expected, atol=1e-12)
