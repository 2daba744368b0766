"""Inclusion probabilities, the draw, and the sizes of the measure design."""

from __future__ import annotations

import numpy as np
import pytest

from a2lc.audits import audit_sizes, draw, inclusion_probabilities
from a2lc.errors import InputError, ShapeError


def test_probabilities_in_proportion_and_capped():
    np.testing.assert_allclose(inclusion_probabilities(np.array([1, 2, 3, 4]), 2), [0.2, 0.4, 0.6, 0.8])
    # Capping one leaves more for the others, which caps the next.
    np.testing.assert_allclose(inclusion_probabilities(np.array([100, 10, 1, 1]), 3), [1, 1, 0.5, 0.5])


@pytest.mark.parametrize(("count", "total"), [(0, 0), (1, 1), (3, 3), (4, 4), (9, 4)])
def test_they_sum_to_the_count_or_to_all_there_are(count, total):
    found = inclusion_probabilities(np.array([0, 5, 1, 1, 1]), count)
    assert found.sum() == pytest.approx(total)
    assert found[0] == 0 and found.max() <= 1


def test_nobody_to_draw():
    assert inclusion_probabilities(np.zeros(3), 2).tolist() == [0, 0, 0]
    assert draw(np.zeros(3), np.random.default_rng(0)).tolist() == []
    assert draw(np.zeros(0), np.random.default_rng(0)).tolist() == []


def test_the_sure_are_always_drawn_and_the_size_is_fixed():
    rng = np.random.default_rng(1)
    pi = inclusion_probabilities(np.array([100.0, 1, 2, 3, 0, 4, 5]), 3)
    for _ in range(200):
        rows = draw(pi, rng)
        assert len(rows) == 3 and rows[0] == 0 and 4 not in rows
        assert (np.diff(rows) > 0).all()


def test_a_sum_that_is_not_whole_gives_one_of_two_sizes():
    rng = np.random.default_rng(2)
    sizes = np.array([len(draw(np.full(5, 0.3), rng)) for _ in range(4000)])
    assert set(sizes.tolist()) == {1, 2} and sizes.mean() == pytest.approx(1.5, abs=0.04)


def mask_table():
    area = np.array([10, 30, 60, 100])
    labels = np.array([0, 1, -1, 0])
    posterior = np.array([[0.5, 0.4, 0.1], [0.2, 0.8, 0.0], [0.3, 0.3, 0.4], [1.0, 0.0, 0.0]])
    return area, labels, posterior


def test_sizes_are_the_mixture_of_their_parts():
    area, labels, posterior = mask_table()
    open_ = np.array([True, True, False, True])
    one = {"uniform": 0.0, "by_area": 0.0, "by_doubt": 0.0}
    uniform = audit_sizes(area, labels, posterior, open_, **(one | {"uniform": 3.0}))
    by_area = audit_sizes(area, labels, posterior, open_, **(one | {"by_area": 1.0}))
    by_doubt = audit_sizes(area, labels, posterior, open_, **(one | {"by_doubt": 1.0}))
    np.testing.assert_allclose(uniform, [1 / 3, 1 / 3, 0, 1 / 3])
    np.testing.assert_allclose(by_area, np.array([10, 30, 0, 100]) / 140)
    expected = area @ posterior
    doubt = np.array(
        [
            10 * (1 / 110 + 0.5 / expected[0] + 0.4 / expected[1]) * 0.5,
            30 * (1 / 30 + 0.2 / expected[0] + 0.8 / expected[1]) * 0.4,
            0,
            0,
        ]
    )
    np.testing.assert_allclose(by_doubt, doubt / doubt.sum())
    mixed = audit_sizes(area, labels, posterior, open_)
    np.testing.assert_allclose(mixed, 0.2 * uniform + 0.4 * by_area + 0.4 * by_doubt)


def test_a_sure_posterior_leaves_the_other_shares():
    area, labels, _ = mask_table()
    posterior = np.eye(3)[np.where(labels < 0, 2, labels)]
    found = audit_sizes(area, labels, posterior, np.ones(4, dtype=bool))
    np.testing.assert_allclose(found, (0.2 / 4 + 0.4 * area / 200) / 0.6)
    alone = audit_sizes(area, labels, posterior, np.ones(4, dtype=bool), uniform=0, by_area=0, by_doubt=1)
    np.testing.assert_allclose(alone, 0.25)


def test_nothing_open():
    assert audit_sizes(*mask_table(), np.zeros(4, dtype=bool)).tolist() == [0, 0, 0, 0]


def test_refused():
    area, labels, posterior = mask_table()
    for size, count in [([-1.0, 2.0], 1), ([np.nan, 1.0], 1), ([1.0, 2.0], -1)]:
        with pytest.raises(InputError):
            inclusion_probabilities(np.array(size), count)
    with pytest.raises(InputError):
        draw(np.array([1.2]), np.random.default_rng(0))
    with pytest.raises(ShapeError):
        audit_sizes(area, labels[:3], posterior, np.ones(4, dtype=bool))
    with pytest.raises(InputError):
        audit_sizes(area, labels, posterior, np.ones(4, dtype=bool), uniform=-1.0)
    with pytest.raises(InputError):
        audit_sizes(area, labels, posterior, np.ones(4, dtype=bool), uniform=0, by_area=0, by_doubt=0)
