"""Estimates of label quality where answers are wrong."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.stats import beta

from a2lc.audits import audit_sizes, draw, estimate_quality, inclusion_probabilities
from a2lc.audits.answer_noise import AnswerNoise
from a2lc.classes.sentinels import UNKNOWN
from a2lc.errors import InputError, ShapeError

CLASSES = 4


@dataclasses.dataclass
class Scene:
    """Masks, half of them answered, and audits of the rest; a share of all answers is wrong."""

    area: np.ndarray
    labels: np.ndarray
    posterior: np.ndarray
    truth: np.ndarray
    told: np.ndarray
    drawn: np.ndarray
    pi: np.ndarray

    @property
    def accuracy(self):
        return float(self.area[self.labels == self.truth].sum() / self.area.sum())


def scene(seed, rate, masks=800, known=0.5, count=60):
    rng = np.random.default_rng(seed)
    area = rng.lognormal(4, 0.5, masks).astype(np.int64) + 1
    posterior = np.zeros((masks, CLASSES + 1))
    posterior[:, :CLASSES] = rng.dirichlet(np.full(CLASSES, 0.1), masks)
    truth = np.array([rng.choice(CLASSES + 1, p=row) for row in posterior])
    labels = np.where(rng.random(masks) < 0.8, truth, rng.integers(0, CLASSES, masks))
    # The posterior knows the label, too.
    posterior[:, :CLASSES] *= 0.8 * np.eye(CLASSES)[labels] + 0.2 / CLASSES
    posterior /= posterior.sum(axis=1, keepdims=True)
    wrong = rng.random(masks) < rate
    answers = np.where(wrong, (truth + rng.integers(1, CLASSES + 1, masks)) % (CLASSES + 1), truth)
    answers = np.where(answers == CLASSES, -1, answers)
    told = np.where(rng.random(masks) < known, answers, UNKNOWN)
    pi = inclusion_probabilities(audit_sizes(area, labels, posterior, told == UNKNOWN), count)
    drawn = draw(pi, rng)
    told[drawn] = answers[drawn]
    # As a posterior fitted to answers has it.
    posterior = (1 - rate) * posterior + rate * (1 - posterior) / CLASSES
    return Scene(area, labels, posterior, truth, told, drawn, pi[drawn])


def noise(masks, rates, factor=1.0):
    apart = 1 - np.eye(CLASSES + 1)
    return AnswerNoise(rates=np.asarray(rates, dtype=float), factor=np.full(masks, factor), confusion=apart / CLASSES)


def estimate(made, noise, **more):
    return estimate_quality(made.area, made.labels, made.posterior, made.told, made.drawn, made.pi, noise=noise, **more)


def ends(found):
    return [
        (one.low, one.estimate, one.high)
        for one in (found.pixel_accuracy, found.miou, *found.precision, *found.recall, *found.iou, found.wrong_masks)
    ]


@pytest.mark.parametrize("given", [{"rates": [0.0]}, {"rates": [0.1], "factor": 0.0}])
def test_answers_that_are_right_change_nothing(given):
    made = scene(0, 0.0)
    np.testing.assert_allclose(ends(estimate(made, noise(800, **given))), ends(estimate(made, None)), rtol=1e-9)


@pytest.mark.slow
def test_where_answers_are_wrong_intervals_hold_the_truth():
    spread = np.linspace(0.02, 0.1, 10)
    held = {"taken for right": [], "reckoned with": []}
    for seed in range(40):
        made = scene(seed, 0.06)
        for name, given in (("taken for right", None), ("reckoned with", noise(800, spread))):
            found = estimate(made, given).pixel_accuracy
            held[name].append(found.low <= made.accuracy <= found.high)
    assert np.mean(held["reckoned with"]) >= 0.93
    assert np.mean(held["taken for right"]) < 0.8


@pytest.mark.slow
def test_estimates_lose_their_bias():
    off = np.array(
        [
            [estimate(made, given).pixel_accuracy.estimate - made.accuracy for given in (None, noise(800, [0.06]))]
            for made in (scene(seed, 0.06) for seed in range(30))
        ]
    ).mean(axis=0)
    assert off[0] < -0.02 and abs(off[1]) < 0.012


def test_where_all_is_answered_intervals_are_no_points():
    made = scene(1, 0.05, known=2.0, count=0)
    found = estimate(made, noise(800, [0.05]))
    assert found.pixel_accuracy.low < found.pixel_accuracy.estimate < found.pixel_accuracy.high
    assert found.pixel_accuracy.low <= made.accuracy <= found.pixel_accuracy.high
    exact = estimate(made, None)
    assert exact.pixel_accuracy.low == exact.pixel_accuracy.high


def test_answers_that_are_foretold_well_rule_errors_out():
    """Rates up to one fifth are allowed, and yet hardly any answer is doubted where each was foretold."""
    made = scene(2, 0.0)
    found = estimate(made, noise(800, np.linspace(0, 0.2, 20))).pixel_accuracy
    plain = estimate(made, None).pixel_accuracy
    assert found.high - found.low < 1.25 * (plain.high - plain.low)


def test_the_same_comes_out_each_time():
    made = scene(3, 0.05)
    given = noise(800, [0.02, 0.05, 0.08])
    assert ends(estimate(made, given)) == ends(estimate(made, given))


def test_a_blind_posterior_does_not_explain_errors_of_labels_away():
    """It is sure of all labels, a fifth of which are wrong; answers are right, and nobody knows that they are."""
    rng = np.random.default_rng(4)
    masks, held = 2000, []
    for _ in range(15):
        truth = rng.integers(0, CLASSES, masks)
        labels = np.where(rng.random(masks) < 0.8, truth, rng.integers(0, CLASSES, masks))
        posterior = np.full((masks, CLASSES + 1), 1e-4)
        posterior[np.arange(masks), labels] = 1.0
        posterior /= posterior.sum(axis=1, keepdims=True)
        pi = np.full(masks, 60 / masks)
        drawn = draw(pi, rng)
        told = np.full(masks, UNKNOWN)
        told[drawn] = truth[drawn]
        given = noise(masks, beta(1, 29).ppf((np.arange(20) + 0.5) / 20))
        found = estimate_quality(np.ones(masks), labels, posterior, told, drawn, pi[drawn], noise=given)
        held.append(found.pixel_accuracy.low <= (labels == truth).mean() <= found.pixel_accuracy.high)
    assert np.mean(held) >= 0.9


def test_what_does_not_fit_is_refused():
    made = scene(0, 0.0)
    with pytest.raises(ShapeError):
        estimate(made, noise(799, [0.0]))
    with pytest.raises(InputError):
        estimate(made, noise(800, []))
    with pytest.raises(InputError):
        estimate(made, noise(800, [-0.1]))
