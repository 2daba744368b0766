"""Effects, stakes and the e-value of the certificate of gain against plain loops."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from a2lc.audits import effects, stakes
from a2lc.audits.gain_certificate import _coins, _log_e, lower_mean


def plain_value(y, t, area, unions, ious):
    if y == -1 or t == -1:
        return 0.0
    return area / unions[y] if y == t else -area * ious[y] / unions[y]


@pytest.mark.parametrize("seed", range(4))
def test_effects_and_stakes(seed):
    rng = np.random.default_rng(seed)
    classes = 2 + seed
    unions, ious = rng.uniform(10, 900, classes), rng.random(classes)
    rows = list(itertools.product(range(-1, classes), repeat=3))
    old, new, truth = np.array(rows).T
    area = rng.integers(0, 40, len(rows))
    gained, size = effects(area, old, new, truth, unions, ious), stakes(area, old, new, unions, ious)
    for i, (before, after, t) in enumerate(rows):

        def change(true, a=float(area[i]), before=before, after=after):
            return plain_value(after, true, a, unions, ious) - plain_value(before, true, a, unions, ious)

        assert gained[i] == pytest.approx(change(t))
        assert size[i] == pytest.approx(max(abs(change(true)) for true in range(-1, classes)))


def plain_e(values, mean, level):
    """Half by bets, half by all ways in which the coins can fall."""
    k = len(values)
    strike = next((c for c in range(k + 1) if sum(math.comb(k, j) for j in range(c, k + 1)) / 2**k <= level / 4), k)
    bets = sum(math.prod(1 + lam / 10 * (y - mean) / (1 + mean) for y in values) for lam in range(1, 10)) / 9
    chance = fair = 0.0
    for coins in itertools.product((0, 1), repeat=k):
        if sum(coins) >= strike:
            chance += math.prod((1 + y) / 2 if c else (1 - y) / 2 for c, y in zip(coins, values, strict=True))
            fair += math.prod((1 + mean) / 2 if c else (1 - mean) / 2 for c in coins)
    return (bets + chance / fair) / 2


@pytest.mark.parametrize(("k", "level"), [(1, 0.05), (4, 0.2), (8, 0.05), (10, 0.1), (11, 0.02)])
def test_e_value_and_its_inversion(k, level):
    rng = np.random.default_rng(k)
    values = np.where(rng.random(k) < 0.7, 1.0, rng.uniform(-1, 1, k))
    strike, chance = _coins(values, level)
    for mean in (-0.9, -0.3, 0.0, 0.4):
        assert _log_e(values, mean, strike, chance) == pytest.approx(math.log(plain_e(values, mean, level)))
    bound = lower_mean(values, level)
    assert plain_e(values, bound + 1e-7, level) < 1 / level <= plain_e(values, bound - 1e-7, level)
