"""Error rates of annotators against expectation maximisation written as plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest

from a2lc.audits.annotators import CLASSES, PERSON, PRIOR, estimate_errors


def plain_errors(answers_of, people_of, weights, num_people, classes):
    """Rates of people and confusions by expectation maximisation, mask by mask and answer by answer."""
    everyone = PRIOR[0] / sum(PRIOR)
    rate = {person: everyone for person in range(num_people)}
    confusion = [[0.0 if c == t else 1 / (classes - 1) for c in range(classes)] for t in range(classes)]
    share = [1 / classes] * classes
    for _ in range(200):
        wrong = {person: 0.0 for person in range(num_people)}
        given = {person: 0.0 for person in range(num_people)}
        named = [[0.0] * classes for _ in range(classes)]
        counts = [1.0] * classes
        for answers, people, weight in zip(answers_of, people_of, weights, strict=True):
            chances = []
            for t in range(classes):
                chance = share[t]
                for answer, person in zip(answers, people, strict=True):
                    chance *= 1 - rate[person] if answer == t else rate[person] * confusion[t][answer]
                chances.append(chance)
            chances = [chance / math.fsum(chances) for chance in chances]
            for t in range(classes):
                counts[t] += weight * chances[t]
            for answer, person in zip(answers, people, strict=True):
                wrong[person] += weight * (1 - chances[answer])
                given[person] += weight
                for t in range(classes):
                    if t != answer:
                        named[t][answer] += weight * chances[t]
        everyone = (PRIOR[0] + sum(wrong.values())) / (sum(PRIOR) + sum(given.values()))
        raw = {p: (PERSON * everyone + wrong[p]) / (PERSON + given[p]) for p in rate}
        mean = math.fsum(given[p] * raw[p] for p in rate) / math.fsum(given.values())
        rate = {p: everyone * raw[p] / mean for p in rate}
        for t in range(classes):
            row = [0.0 if c == t else CLASSES / (classes - 1) + named[t][c] for c in range(classes)]
            confusion[t] = [value / math.fsum(row) for value in row]
        share = [value / math.fsum(counts) for value in counts]
    return everyone, rate, confusion


@pytest.mark.parametrize("seed", range(4))
def test_rates_and_confusions_are_those_of_plain_loops(seed):
    rng = np.random.default_rng(seed)
    classes, num_people = 4, 3
    answers_of, people_of, flat = [], [], []
    for mask in range(40):
        true = int(rng.integers(classes))
        people = rng.integers(0, num_people, rng.integers(2, 4))
        answers = [int(rng.integers(classes)) if rng.random() < 0.1 * (1 + person) else true for person in people]
        answers_of.append(answers)
        people_of.append(people.tolist())
        flat += [(mask, person, answer) for person, answer in zip(people.tolist(), answers, strict=True)]
    # Answers to one mask need not stand together; those to masks with one answer change nothing.
    flat += [(100 + i, 0, i % classes) for i in range(5)]
    order = rng.permutation(len(flat))
    masks, people, answers = np.array(flat, dtype=np.int64)[order].T
    found = estimate_errors(masks, people, answers, np.ones(len(masks)), num_people=num_people, num_answers=classes)
    everyone, rate, confusion = plain_errors(answers_of, people_of, [1.0] * 40, num_people, classes)
    np.testing.assert_allclose(found.confusion, confusion, atol=1e-7)
    np.testing.assert_allclose(found.factors(), [rate[person] / everyone for person in range(num_people)], atol=1e-6)
    assert found.repeated == 40
    assert found.differ == sum(len(set(answers)) > 1 for answers in answers_of)


def test_the_distribution_of_the_rate_is_that_of_its_likelihood():
    """One person, equal confusions: two answers agree with probability (1 - e)² + e²/(C - 1)."""
    pairs, differ, classes = 60, 5, 5
    rng = np.random.default_rng(0)
    said = np.repeat(rng.integers(0, classes, pairs), 2)
    said[: 2 * differ : 2] = (said[: 2 * differ : 2] + 1 + np.arange(differ) % (classes - 1)) % classes
    found = estimate_errors(
        np.repeat(np.arange(pairs), 2),
        np.zeros(2 * pairs, dtype=np.int64),
        said,
        np.full(2 * pairs, 3.0),
        num_people=1,
        num_answers=classes,
    )
    e = np.linspace(1e-6, 0.6, 20001)
    same = (1 - e) ** 2 + e**2 / (classes - 1)
    log = (PRIOR[0] - 1) * np.log(e) + (PRIOR[1] - 1) * np.log1p(-e) + (pairs - differ) * np.log(same)
    log += differ * np.log(1 - same)
    density = np.exp(log - log.max())
    density /= density.sum()
    assert found.rate == pytest.approx(float(e @ density), rel=0.05)
    for share in (0.05, 0.5, 0.95):
        exact = float(e[np.searchsorted(density.cumsum(), share)])
        assert found.quantile(share) == pytest.approx(exact, rel=0.1)
