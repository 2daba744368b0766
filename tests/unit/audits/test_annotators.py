"""Error rates of annotators: what repeats show, and what few of them leave open."""

from __future__ import annotations

import numpy as np
import pytest

from a2lc.audits.annotators import PRIOR, estimate_errors
from a2lc.errors import InputError, ShapeError


def repeats(rng, masks, rates, classes, confusion=None, times=2):
    """Two or more answers to each mask by people drawn at random, who err at their rates."""
    true = np.repeat(rng.integers(0, classes, masks), times)
    people = rng.integers(0, len(rates), times * masks)
    other = (true + rng.integers(1, classes, times * masks)) % classes
    if confusion is not None:
        other = np.array([rng.choice(classes, p=confusion[t]) for t in true])
    wrong = rng.random(times * masks) < np.array(rates)[people]
    return np.repeat(np.arange(masks), times), people, np.where(wrong, other, true)


def estimate(data, num_people, classes, weights=None):
    masks, people, answers = data
    weights = np.ones(len(masks)) if weights is None else weights
    return estimate_errors(masks, people, answers, weights, num_people=num_people, num_answers=classes)


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.2])
def test_many_repeats_show_the_rate(rate):
    found = estimate(repeats(np.random.default_rng(0), 3000, [rate], 6), 1, 6)
    assert found.rate == pytest.approx(rate, abs=0.01)
    assert found.quantile(0.01) <= rate + 1e-3 and found.quantile(0.99) >= rate
    assert found.factors() == pytest.approx([1.0])


def test_people_differ():
    found = estimate(repeats(np.random.default_rng(1), 3000, [0.01, 0.05, 0.2], 6), 3, 6)
    np.testing.assert_allclose(found.people, [0.01, 0.05, 0.2], atol=0.015)


def test_someone_who_answered_little_errs_like_the_others():
    masks, people, answers = repeats(np.random.default_rng(2), 500, [0.1], 6)
    people[0], answers[:2] = 1, 3
    found = estimate((masks, people, answers), 3, 6)
    np.testing.assert_allclose(found.people, found.rate, rtol=0.1)


def test_confusions_are_learnt_where_there_are_many():
    confusion = np.array([[0, 0.9, 0.1], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    found = estimate(repeats(np.random.default_rng(3), 4000, [0.2], 3, confusion, times=3), 1, 3)
    np.testing.assert_allclose(found.confusion, confusion, atol=0.1)
    few = estimate(repeats(np.random.default_rng(3), 10, [0.2], 3, confusion), 1, 3)
    np.testing.assert_allclose(few.confusion.sum(axis=1), 1)
    assert np.abs(few.confusion - 0.5 * (1 - np.eye(3))).max() < 0.15


def test_without_repeats_the_prior_stands():
    found = estimate((np.arange(9), np.zeros(9, dtype=int), np.zeros(9, dtype=int)), 1, 4)
    assert (found.repeated, found.differ) == (0, 0)
    assert found.rate == pytest.approx(PRIOR[0] / sum(PRIOR), rel=0.05)


def test_repeats_that_agree_lower_the_rate_and_others_raise_it():
    rates = []
    for differ in (0, 1, 3):
        answers = np.zeros(16, dtype=int)
        answers[: 2 * differ : 2] = 1
        rates.append(estimate((np.repeat(np.arange(8), 2), np.zeros(16, dtype=int), answers), 1, 4).rate)
    assert rates[0] < PRIOR[0] / sum(PRIOR) < rates[1] < rates[2]


def test_repeats_drawn_for_their_doubt_are_weighted():
    """Half of the repeats, with many errors, were ten times as likely to be drawn."""
    rng = np.random.default_rng(4)
    rough, fine = repeats(rng, 1000, [0.2], 5), repeats(rng, 1000, [0.02], 5)
    both = (
        np.concatenate([rough[0], 1000 + fine[0]]),
        *(np.concatenate(pair) for pair in zip(rough[1:], fine[1:], strict=True)),
    )
    found = estimate(both, 1, 5, np.repeat([1.0, 10.0], 2000))
    # A weight counts at most five times the median, which is between the two here.
    assert found.rate == pytest.approx((0.2 + 10 * 0.02) / 11, abs=0.015)


def test_order_and_names_of_masks_do_not_matter():
    masks, people, answers = repeats(np.random.default_rng(6), 50, [0.1, 0.2], 5)
    order = np.random.default_rng(7).permutation(len(masks))
    first, second = (
        estimate((masks, people, answers), 2, 5),
        estimate((9 * masks[order], people[order], answers[order]), 2, 5),
    )
    assert first.rate == pytest.approx(second.rate, rel=1e-9)


def test_what_does_not_fit_is_refused():
    one = np.zeros(2, dtype=int)
    with pytest.raises(ShapeError):
        estimate((one, one, one[:1]), 1, 3)
    with pytest.raises(InputError):
        estimate((one, one, one + 3), 1, 3)
    with pytest.raises(InputError):
        estimate((one, one, one), 1, 3, np.zeros(2))
