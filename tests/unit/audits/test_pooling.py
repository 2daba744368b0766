"""Draws of earlier rounds as evidence of what is unknown now."""

from __future__ import annotations

import numpy as np
import pytest

from a2lc.audits import draw, draw_by_stake, estimate_quality
from a2lc.audits.pooling import AuditDraws, pool, with_shares
from a2lc.classes.sentinels import UNKNOWN
from a2lc.errors import InputError, ShapeError

MASKS, CLASSES = 600, 3


def world(seed=0):
    rng = np.random.default_rng(seed)
    area = rng.lognormal(3, 0.5, MASKS).astype(np.int64) + 1
    truth = rng.integers(0, CLASSES, MASKS)
    labels = np.where(rng.random(MASKS) < 0.85, truth, rng.integers(0, CLASSES, MASKS))
    posterior = np.full((MASKS, CLASSES + 1), 0.02)
    posterior[np.arange(MASKS), labels] = rng.uniform(0.5, 0.94, MASKS)
    return area, labels, posterior / posterior.sum(axis=1, keepdims=True), truth


def three_draws(rng, area, labels, posterior, truth, asked):
    """A draw of all masks, one of proposals with replacement, masks asked about by their score, and a draw of now."""
    told = np.full(MASKS, UNKNOWN)
    first = np.full(MASKS, 50 / MASKS)
    drawn = draw(first, rng)
    told[drawn] = truth[drawn]
    told[asked] = truth[asked]
    proposed = posterior[np.arange(MASKS), labels] < 0.6
    open_ = np.flatnonzero(proposed & (told == UNKNOWN))
    stakes = area[open_].astype(float)
    second = np.zeros(MASKS)
    second[open_] = 20 * stakes / stakes.sum()
    twice = open_[draw_by_stake(stakes, 20, rng)]
    told[twice] = truth[twice]
    now = np.where(told == UNKNOWN, 1.0, 0.0)
    now *= 50 / now.sum()
    last = draw(now, rng)
    told[last] = truth[last]
    none = np.zeros(MASKS)
    parts = [
        AuditDraws(rows=drawn, expected=first, replaced=False, share=none),
        AuditDraws(rows=twice, expected=second, replaced=True, share=none),
        AuditDraws(rows=last, expected=now, replaced=False, share=none),
    ]
    right = posterior[np.arange(MASKS), labels]
    return told, last, now, with_shares(parts, area, right, told == UNKNOWN, proposed)


@pytest.mark.slow
def test_pooled_estimates_are_unbiased_and_nearer_the_truth():
    area, labels, posterior, truth = world()
    rng = np.random.default_rng(1)
    asked = np.argsort(posterior[np.arange(MASKS), labels])[:60]
    exact = float(area[labels == truth].sum() / area.sum())
    alone, together = [], []
    for _ in range(250):
        told, last, now, earlier = three_draws(rng, area, labels, posterior, truth, asked)
        for errors, given in ((alone, ()), (together, earlier)):
            found = estimate_quality(area, labels, posterior, told, last, now[last], earlier=given)
            errors.append(found.pixel_accuracy.estimate - exact)
    assert abs(np.mean(together)) < 3 * np.std(together) / np.sqrt(250) + 1e-3
    assert np.std(together) < 0.85 * np.std(alone)


def test_pooled_intervals_are_narrower_and_hold():
    area, labels, posterior, truth = world(2)
    rng = np.random.default_rng(3)
    asked = np.argsort(posterior[np.arange(MASKS), labels])[:60]
    exact = estimate_quality(area, labels, posterior, truth, [], []).miou.estimate
    widths, held = [], []
    for _ in range(60):
        told, last, now, earlier = three_draws(rng, area, labels, posterior, truth, asked)
        alone = estimate_quality(area, labels, posterior, told, last, now[last]).miou
        found = estimate_quality(area, labels, posterior, told, last, now[last], earlier=earlier).miou
        widths.append((alone.high - alone.low, found.high - found.low))
        held.append(found.low <= exact <= found.high)
    alone, together = np.mean(widths, axis=0)
    assert together < 0.85 * alone and np.mean(held) >= 0.93


def test_shares_of_a_mask_sum_to_at_most_1():
    area, labels, posterior, truth = world()
    _, _, now, earlier = three_draws(np.random.default_rng(0), area, labels, posterior, truth, np.arange(60))
    total = sum(draws.share for draws in earlier)
    assert (total <= 1 + 1e-12).all() and total.max() > 0.3
    # Draws of proposals say nothing of the rest.
    assert (earlier[1].share[earlier[1].expected == 0] == 0).all()
    assert now.sum() == pytest.approx(50)


def test_old_draws_count_little_in_a_group_that_was_asked_about():
    area, right = np.ones(MASKS, dtype=np.int64), np.full(MASKS, 0.5)
    none = np.zeros(MASKS)
    old = AuditDraws(rows=np.arange(20), expected=np.full(MASKS, 20 / MASKS), replaced=False, share=none)
    proposed = np.zeros(MASKS, dtype=bool)
    shares = []
    for left in (MASKS - 20, 60):
        unknown = np.arange(MASKS) >= MASKS - left
        expected = np.where(np.arange(MASKS) >= MASKS - left - 20, 20 / (left + 20), 0.0)
        now = AuditDraws(rows=np.arange(20), expected=expected, replaced=False, share=none)
        shares.append(with_shares([old, now], area, right, unknown, proposed)[0].share.max())
    assert shares[0] == pytest.approx(0.5, abs=0.02) and shares[1] < 0.03


def test_masks_that_would_change_are_left_to_the_draws_of_now():
    area, right, none = np.ones(MASKS, dtype=np.int64), np.full(MASKS, 0.5), np.zeros(MASKS)
    both = [AuditDraws(rows=np.arange(9), expected=np.full(MASKS, 0.1), replaced=False, share=none)] * 2
    proposed = np.arange(MASKS) % 2 == 0
    (old,) = with_shares(both, area, right, np.arange(MASKS) > 8, proposed, proposals=False)
    assert (old.share[proposed] == 0).all() and (old.share[~proposed] > 0).all()


def test_draws_of_one_time_are_as_they_were():
    known = np.zeros(MASKS, dtype=bool)
    drawn = np.arange(10)
    known[drawn] = True
    found = pool(drawn, np.linspace(0.1, 1.0, 10), (), known)
    np.testing.assert_allclose(found.weight, 1 / np.linspace(0.1, 1.0, 10) - 1)
    assert found.added == 1.0 and not len(found.since) and found.random.tolist() == [True] * 9 + [False]


def test_what_does_not_fit_is_refused():
    known = np.arange(MASKS) < 10
    good = {"rows": np.arange(10), "expected": np.full(MASKS, 0.1), "replaced": False, "share": np.zeros(MASKS)}
    for change, error in (
        ({"share": np.zeros(3)}, ShapeError),
        ({"rows": np.arange(11)}, InputError),
        ({"expected": np.zeros(MASKS)}, InputError),
        ({"share": np.full(MASKS, 1.5)}, InputError),
    ):
        with pytest.raises(error):
            AuditDraws(**good | change).check(MASKS, known)
    AuditDraws(**good).check(MASKS, known)
