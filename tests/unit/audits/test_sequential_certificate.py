"""Audits one after another: the e-value against plain loops, its validity at any time, the draw, and the plan."""

import math

import numpy as np
import pytest

from a2lc.audits.sequential_certificate import (
    certify_in_order,
    draw_in_order,
    log_e_in_order,
    plan_test,
    successive_inclusion,
    worth_going_on,
)
from a2lc.errors import InputError, ShapeError


def plain_log_e(stakes, drawn, effects, total, expected):
    """The equations of the module, one audit after another."""
    bets = [(0.5 / 9, share / 10) for share in range(1, 10)] + [(0.5, min(max(expected, 0.1), 0.95))]
    products = [1.0] * len(bets)
    left, found = sum(stakes), 0.0
    for row, effect in zip(drawn, effects, strict=True):
        mean = (total - found) / left
        if mean <= -1:
            return math.inf
        mean = min(mean, 1.0)
        shifted = (effect / stakes[row] - mean) / (1 + mean)
        products = [product * (1 + bet * shifted) for product, (_, bet) in zip(products, bets, strict=True)]
        left, found = left - stakes[row], found + effect
    return math.log(sum(weight * product for (weight, _), product in zip(bets, products, strict=True)))


@pytest.mark.parametrize("total", [-1.0, 0.0, 0.7, 3.0])
def test_the_e_value_is_that_of_a_plain_loop(rng, total):
    stakes = rng.exponential(size=20)
    drawn = draw_in_order(stakes, 8, rng)
    effects = stakes[drawn] * rng.uniform(-1, 1, 8)
    found = log_e_in_order(stakes, drawn, effects, total, 0.4)
    assert found == pytest.approx(plain_log_e(stakes, drawn, effects, total, 0.4), abs=1e-9)


def test_each_draw_is_proportional_to_what_is_left():
    stakes, rng = np.array([4.0, 2.0, 1.0, 0.0]), np.random.default_rng(0)
    orders = np.array([draw_in_order(stakes, 4, rng) for _ in range(20_000)])
    assert orders.shape == (20_000, 3), "what has no stake is never drawn"
    assert np.bincount(orders[:, 0]) / 20_000 == pytest.approx([4 / 7, 2 / 7, 1 / 7], abs=0.01)
    second = orders[orders[:, 0] == 0, 1]
    assert np.bincount(second)[1:] / len(second) == pytest.approx([2 / 3, 1 / 3], abs=0.015)


def test_inclusion_is_near_what_draws_show():
    stakes, rng = np.array([8.0, 4.0, 2.0, 1.0, 1.0, 1.0, 1.0, 0.0]), np.random.default_rng(1)
    seen = np.zeros(8)
    for _ in range(5000):
        seen[draw_in_order(stakes, 3, rng)] += 1
    found = successive_inclusion(stakes, 3)
    assert found.sum() == pytest.approx(3)
    assert found == pytest.approx(seen / 5000, abs=0.04)
    assert successive_inclusion(stakes, 7).tolist() == [1.0] * 7 + [0.0]
    assert successive_inclusion(stakes, 0).tolist() == [0.0] * 8


def harmful(rng, kind):
    """A set whose effects sum to just below 0."""
    stakes = rng.exponential(size=60) + 0.05
    ratio = rng.choice([-1.0, 1.0], 60) if kind == "signs" else rng.uniform(-1, 1, 60)
    if kind == "few":
        ratio = np.where(np.argsort(np.argsort(-stakes)) < 6, 1.0, -0.5)
    effects = stakes * ratio
    return stakes, np.clip(effects - stakes * (effects.sum() / stakes.sum()) - 1e-9, -stakes, stakes)


@pytest.mark.parametrize("kind", ["signs", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("even", "few"))])
def test_a_set_that_does_not_gain_is_rarely_accepted_at_any_time(kind):
    rng, runs, wrong = np.random.default_rng(2), 30, 0
    for _ in range(runs):
        stakes, effects = harmful(rng, kind)
        order = draw_in_order(stakes, 40, rng)
        # Whoever looks again and again and stops as soon as they like is wrong no more often than said.
        for count in range(4, 41, 3):
            rows = order[:count]
            promise = certify_in_order(stakes, rows, effects[rows], expected=0.5, confidence=0.9)
            if promise.accepted.any():
                wrong += effects[promise.accepted].sum() < promise.unseen.low
                break
    assert wrong <= 0.1 * runs + 3 * math.sqrt(runs * 0.1 * 0.9)
    assert wrong < runs, "the set is refused"


def test_a_wrong_bound_would_be_seen():
    """A draw of the surest in place of a random one is wrong nearly always: the simulation above can fail."""
    rng, wrong = np.random.default_rng(3), 0
    for _ in range(20):
        stakes, effects = harmful(rng, "signs")
        rows = np.argsort(-effects / stakes)[:20]
        wrong += certify_in_order(stakes, rows, effects[rows], confidence=0.9).accepted.any()
    assert wrong > 15


def test_few_audits_that_all_gain_are_enough():
    promise = certify_in_order(np.ones(200), np.arange(10), np.ones(10), expected=0.8)
    assert promise.accepted.sum() == 190 and not promise.accepted[:10].any()
    assert promise.gain.low - 10 == pytest.approx(promise.unseen.low) and promise.unseen.low > 0
    assert promise.gain.estimate == 200 and promise.gain.high == 200
    assert not certify_in_order(np.ones(200), np.arange(3), np.ones(3)).accepted.any()


def test_wrong_answers_weaken_the_proof():
    lows = [
        certify_in_order(np.ones(500), np.arange(30), np.ones(30), wrong_answers=share).gain.low
        for share in (0.0, 0.05, 0.3)
    ]
    assert lows[0] > lows[1] > lows[2]


def test_what_was_audited_alone_proves_nothing_of_the_rest():
    # One proposal holds nearly everything that is at stake, and it was audited.
    stakes = np.append(np.full(30, 0.01), 100.0)
    effects = np.append(np.full(30, -0.01), 100.0)
    rows = np.array([30, 0, 1, 2])
    promise = certify_in_order(stakes, rows, effects[rows])
    assert not promise.accepted.any() and promise.gain.low > 90


def test_all_audited_leaves_nothing_to_accept():
    promise = certify_in_order(np.ones(5), np.arange(5), np.ones(5))
    assert not promise.accepted.any() and promise.gain.low == pytest.approx(5) == promise.gain.high


def test_more_audits_are_worth_it_while_they_may_prove():
    assert worth_going_on(np.ones(100), np.arange(5), np.ones(5), 10, expected=0.7)
    assert not worth_going_on(np.ones(100), np.arange(8), -np.ones(8), 5, expected=0.7)
    assert not worth_going_on(np.ones(100), np.arange(8), np.ones(8), 0, expected=0.7)
    assert not worth_going_on(np.ones(6), np.arange(5), np.ones(5), 10, expected=0.7), "nothing would remain"


def test_the_plan_takes_the_surer_part_where_few_audits_can_be_paid_for():
    expected = np.concatenate([np.full(100, 0.8), np.full(100, 0.4)])
    few, many = (plan_test(expected, np.ones(200), most) for most in (15, 200))
    assert few.inside.sum() < many.inside.sum() == 200
    assert few.inside[:100].sum() == few.inside.sum(), "the surest come first"
    assert few.audits <= 15 and 0.2 <= few.chance <= 1
    assert plan_test(np.full(50, -0.1), np.ones(50), 99) is None
    assert plan_test(np.full(50, 0.9), np.zeros(50), 9) is None
    assert plan_test(np.empty(0), np.empty(0), 9) is None
    assert plan_test(np.full(50, 0.9), np.ones(50), 0) is None


@pytest.mark.slow
def test_the_planned_number_of_audits_does_prove():
    rng, proved = np.random.default_rng(5), 0
    plan = plan_test(np.full(300, 0.6), np.ones(300), 60)
    for _ in range(200):
        effects = rng.choice([-1.0, 1.0], 300, p=[0.2, 0.8])
        order = draw_in_order(np.ones(300), plan.audits, rng)
        proved += certify_in_order(np.ones(300), order, effects[order], expected=plan.expected).accepted.any()
    assert proved / 200 == pytest.approx(plan.chance, abs=0.12)


@pytest.mark.parametrize(
    "arguments",
    [
        {"drawn": [0, 0], "effects": [1, 1]},
        {"drawn": [9], "effects": [1]},
        {"drawn": [0], "effects": [2]},
        {"confidence": 1.0},
        {"wrong_answers": 1.0},
    ],
)
def test_bad_audits_are_refused(arguments):
    given = {"drawn": [0], "effects": [1.0]} | arguments
    with pytest.raises(InputError):
        certify_in_order(np.ones(5), given.pop("drawn"), given.pop("effects"), **given)


def test_lengths_must_agree():
    with pytest.raises(ShapeError):
        certify_in_order(np.ones(5), [0, 1], [1.0])
    with pytest.raises(ShapeError):
        plan_test(np.ones(3), np.ones(4), 5)
    with pytest.raises(InputError):
        draw_in_order(np.ones(3), -1, np.random.default_rng(0))
