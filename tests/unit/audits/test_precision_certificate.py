"""The certificate: what is accepted, what is promised of it, and why nothing is."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import hypergeom

from a2lc.audits import certify, smallest_sample
from a2lc.audits.precision_certificate import lower_bound
from a2lc.errors import InputError, ShapeError


def every(step, total):
    return np.arange(0, total, step)


def test_all_right_is_accepted_whole_without_the_audited():
    promise = certify(np.linspace(1, 0, 1000), every(10, 1000), np.ones(100, dtype=bool))
    assert promise.accepted.sum() == 900
    assert not promise.accepted[every(10, 1000)].any()
    assert (promise.threshold, promise.estimate, promise.audits, promise.reason) == (0.0, 1.0, 100, "")
    assert 0.9 <= promise.lower < 1


def test_the_smallest_sample_suffices_and_one_fewer_does_not():
    k = smallest_sample(0.9, 0.95)
    assert certify(np.zeros(5000), np.arange(k), np.ones(k, dtype=bool)).accepted.sum() == 5000 - k
    few = certify(np.zeros(100_000), np.arange(k - 1), np.ones(k - 1, dtype=bool))
    assert not few.accepted.any() and few.reason == "too few"


@pytest.mark.parametrize(("precision", "confidence", "audits"), [(0.9, 0.95, 29), (0.95, 0.95, 59), (0.9, 0.81, 16)])
def test_smallest_sample(precision, confidence, audits):
    assert smallest_sample(precision, confidence) == audits
    assert precision**audits <= 1 - confidence < precision ** (audits - 1)


def test_only_the_surest_where_the_rest_is_wrong():
    promise = certify(np.linspace(1, 0, 1000), every(5, 1000), np.arange(200) < 140)
    assert promise.accepted.sum() == 700 - 140
    assert promise.accepted[:700].sum() == 560


def test_sets_share_the_error():
    # Seven wrong among the surest of 100 prove 0.86 of the whole alone, but not as one of several sets.
    right = np.arange(100) >= 7
    promise = certify(np.linspace(1, 0, 1000), every(10, 1000), right, min_precision=0.87)
    alone = (lower_bound(1000, 100, 93, 0.05) - 93) / 900
    assert alone >= 0.87 > (lower_bound(1000, 100, 93, 0.025) - 93) / 900
    assert not promise.accepted.any() and promise.lower < 0.87
    assert certify(np.zeros(1000), every(10, 1000), right, min_precision=0.87).accepted.sum() == 900


def test_equal_scores_stand_together():
    scores = np.repeat([3.0, 2.0, 1.0], [200, 500, 300])
    promise = certify(scores, every(5, 1000), scores[every(5, 1000)] > 1)
    assert promise.threshold == 2.0
    np.testing.assert_array_equal(promise.accepted, (scores > 1) & (np.arange(1000) % 5 != 0))


@pytest.mark.parametrize(
    ("total", "drawn", "right", "reason"),
    [(0, [], [], "no proposals"), (50, [], [], "no audits"), (3, [0, 1, 2], [1, 1, 1], "all audited"),
     (500, range(40), [False] * 40, "audits support only 0.00"), (500, range(5), [1] * 5, "too few")],
)  # fmt: skip
def test_why_nothing_is_accepted(total, drawn, right, reason):
    promise = certify(np.zeros(total), np.array(list(drawn), dtype=int), np.array(right, dtype=bool))
    assert promise.reason == reason
    assert promise.accepted.shape == (total,) and not promise.accepted.any() and promise.threshold == math.inf
    assert math.isnan(promise.estimate) == (len(right) == 0)


def test_what_the_audits_support_is_said():
    promise = certify(np.zeros(1000), np.arange(100), np.arange(100) < 70)
    assert promise.reason == f"audits support only {math.floor(promise.lower * 100) / 100:.2f}"
    assert promise.lower == (lower_bound(1000, 100, 70, 0.05) - 70) / 900 and 0.6 < promise.lower < 0.7


@pytest.mark.parametrize(("size", "audits", "hits"), [(20, 5, 4), (20, 5, 0), (37, 12, 12), (500, 60, 55), (9, 8, 3)])
def test_lower_bound_is_the_last_not_refused(size, audits, hits):
    found = lower_bound(size, audits, hits, 0.05)
    tail = [hypergeom.sf(hits - 1, size, right, audits) for right in range(size + 1)]
    possible = [r for r in range(hits, size - audits + hits + 1) if tail[r] > 0.05]
    assert found == min(possible)


def test_refused():
    ok = np.ones(3)
    for drawn, right, error in [([0], [1, 1], ShapeError), ([0, 0], [1, 1], InputError), ([3], [1], InputError),
                                ([-1], [1], InputError)]:  # fmt: skip
        with pytest.raises(error):
            certify(ok, np.array(drawn), np.array(right, dtype=bool))
    with pytest.raises(InputError, match="NaN"):
        certify(np.array([1, math.nan]), np.array([0]), np.array([True]))
    with pytest.raises(InputError, match="between 0 and 1"):
        certify(ok, np.array([0]), np.array([True]), min_precision=1.0)
    with pytest.raises(InputError, match="between 0 and 1"):
        smallest_sample(0.9, 0.0)
