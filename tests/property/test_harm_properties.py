"""The certificate of gain: a bound exact over every sample of small distributions, monotone, blind to order."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from a2lc.audits import certify_gain, draw_by_stake
from a2lc.audits.gain_certificate import _coins, _log_e, lower_mean

ratios = st.floats(-1, 1)


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(support=st.lists(ratios, min_size=2, max_size=3), data=st.data(), level=st.sampled_from([0.05, 0.2, 0.5]))
def test_the_e_value_has_mean_one_and_the_bound_fails_as_rarely_as_said(support, data, level):
    support = np.array(support)
    weights = np.array(data.draw(st.lists(st.floats(0.05, 1), min_size=len(support), max_size=len(support))))
    weights /= weights.sum()
    k = data.draw(st.integers(1, 5))
    mean = float(support @ weights)
    expected = missed = 0.0
    for rows in itertools.product(range(len(support)), repeat=k):
        values, chance = support[list(rows)], float(np.prod(weights[list(rows)]))
        if -0.99 < mean < 0.99:
            expected += chance * np.exp(_log_e(values, mean, *_coins(values, level)))
        missed += chance * (lower_mean(values, level) > mean + 1e-9)
    if -0.99 < mean < 0.99:
        assert expected == pytest.approx(1)
    assert missed <= level + 1e-9


@settings(max_examples=50, deadline=None)
@given(st.lists(ratios, min_size=1, max_size=30), st.floats(0, 1), st.sampled_from([0.01, 0.05, 0.3]))
@pytest.mark.slow
def test_a_better_answer_never_lowers_the_bound(values, up, level):
    values = np.array(values)
    before = lower_mean(values, level)
    assert -1 <= before <= values.mean() + 1e-9
    assert lower_mean(values[::-1], level) == pytest.approx(before, abs=1e-8)
    values[0] = min(1.0, values[0] + up)
    assert lower_mean(values, level) >= before - 1e-8


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**16), st.integers(1, 200), st.integers(0, 60), st.floats(-0.5, 1))
def test_promises_are_consistent(seed, total, count, shift):
    rng = np.random.default_rng(seed)
    size, scores = rng.lognormal(0, 1, total), rng.integers(0, 20, total)
    gained = size * np.clip(rng.normal(shift, 0.5, total), -1, 1)
    rows = draw_by_stake(size, count, rng)
    found = certify_gain(scores, size, rows, gained[rows])
    assert not found.accepted[rows].any() and found.accepted.any() == (found.reason == "")
    if found.accepted.any():
        inside = scores >= found.threshold
        assert found.audits == inside[rows].sum() and 0 < found.gain.low <= found.gain.estimate <= found.gain.high
        seen = gained[np.setdiff1d(np.flatnonzero(inside), np.flatnonzero(found.accepted))].sum()
        assert found.unseen.low == pytest.approx(found.gain.low - seen) and found.unseen.low > 0
        assert found.unseen.high == pytest.approx(size[found.accepted].sum())
