"""First questions where nothing is known: spread over the features, by area, each mask once."""

import numpy as np

from a2lc.acquisition.spread import spread_rows


def test_few_draws_see_every_kind_of_mask():
    rng = np.random.default_rng(0)
    kind = np.repeat(np.arange(5), [400, 60, 20, 10, 5])
    looks = 20 * np.eye(5)[kind] + rng.normal(size=(len(kind), 5)) * 0.3
    area = np.full(len(kind), 100)
    spread = [len(set(kind[spread_rows(area, looks, 8, np.random.default_rng(seed))])) for seed in range(30)]
    plain = [len(set(kind[np.random.default_rng(seed).choice(len(kind), 8)])) for seed in range(30)]
    assert np.mean(spread) > 4.9 and np.mean(plain) < 3.5


def test_a_large_mask_is_drawn_before_small_ones_as_far_away():
    looks = np.array([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]])
    drawn = [int(spread_rows([1, 99, 1], looks, 1, np.random.default_rng(s), taken=[0])[0]) for s in range(100)]
    assert drawn.count(1) > 90


def test_no_row_twice_and_none_that_was_taken():
    looks = np.zeros((6, 3))  # all alike, so distance tells nothing
    found = spread_rows(np.ones(6), looks, 10, np.random.default_rng(3), taken=np.array([2]))
    assert sorted(found.tolist()) == [0, 1, 3, 4, 5] and found.dtype == np.int64
    assert spread_rows(np.ones(2), looks[:2], 3, np.random.default_rng(0), taken=[0, 1]).tolist() == []
    assert spread_rows(np.ones(0), looks[:0], 3, np.random.default_rng(0)).tolist() == []


def test_the_same_draws_give_the_same_rows():
    looks = np.random.default_rng(1).normal(size=(50, 4))
    one, two = (spread_rows(np.arange(1, 51), looks, 9, np.random.default_rng(7)).tolist() for _ in range(2))
    assert one == two and len(set(one)) == 9
