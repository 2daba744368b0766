"""The same questions to every acquisition function."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from a2lc.acquisition.functions import ACQUISITIONS, score
from a2lc.errors import ShapeError, UnknownNameError
from a2lc.statistics.mask_stats import MaskStats, mask_statistics

every = pytest.mark.parametrize("name", sorted(ACQUISITIONS))
WEIGHTED = {"abc", "classbal", "amss", "pixbal"}


def good(name, stats, **more):
    values = score(name, stats, **more)
    assert values.shape == (len(stats),)
    assert values.dtype == np.float64
    assert np.isfinite(values).all()
    return values


def test_the_registry_has_what_the_design_names():
    named = "random entropy margin cil lcil sim abc classbal amss pixbal softmin"
    assert set(named.split()) <= set(ACQUISITIONS)


@every
def test_shape_and_determinism(name, make_stats):
    weights = np.array([0.1, 1, 0.5, 0.2])
    first, again = (good(name, make_stats(), weights=weights, seed=4) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert len(set(first.tolist())) > 1


@every
def test_only_random_looks_at_the_seed(name, make_stats):
    stats = make_stats()
    differ = not np.array_equal(good(name, stats, seed=1), good(name, stats, seed=2))
    assert differ == (name == "random")


@every
def test_only_weighted_ones_look_at_weights(name, make_stats):
    stats = make_stats()
    weights = np.array([0.1, 1, 0.5, 0.2])
    differ = not np.array_equal(good(name, stats, weights=np.ones(4)), good(name, stats, weights=weights))
    assert differ == (name in WEIGHTED)


@every
def test_unit_weights_are_no_weights(name, make_stats):
    stats = make_stats()
    plain = {"classbal": "margin", "amss": "margin", "pixbal": "margin"}.get(name, name)
    np.testing.assert_allclose(good(plain, stats), good(name, stats, weights=np.ones(4)), rtol=1e-6)


@every
@pytest.mark.parametrize("images", [1, 2])
def test_few_images_and_one_class(name, images, make_stats):
    good(name, make_stats(images=images))
    good(name, make_stats(images=images, classes=1), weights=np.ones(1))


@every
def test_a_mask_of_one_pixel(name):
    probs = np.array([[[0.25, 0.5]], [[0.75, 0.5]]])
    good(name, mask_statistics(probs, np.array([[0, 1]]), np.array([[3, 0]])))


@every
def test_no_masks(name, make_stats):
    stats = make_stats()
    none = stats.take(np.zeros(len(stats), dtype=bool))
    assert len(good(name, none, weights=np.ones(4))) == 0


@every
def test_all_void(name, make_probs, rng):
    stats = mask_statistics(make_probs(rng, 3, 4, 6), np.full((4, 6), 255), rng.integers(1, 4, size=(4, 6)))
    good(name, stats, weights=np.zeros(3))


@every
def test_columns_named_are_columns(name):
    assert ACQUISITIONS[name].columns <= {field.name for field in fields(MaskStats)}
    assert ACQUISITIONS[name].name == name
    assert ACQUISITIONS[name].summary


def test_random_depends_on_image_mask_and_seed_alone(make_stats):
    stats = make_stats()
    whole = score("random", stats, seed=9)
    np.testing.assert_array_equal(score("random", stats.take(stats.image == 1), seed=9), whole[stats.image == 1])
    assert ((whole >= 0) & (whole < 1)).all()
    assert len(set(whole.tolist())) == len(whole)


def test_random_is_uniform(make_stats):
    values = np.concatenate([score("random", make_stats(), seed=s) for s in range(400)])
    assert values.mean() == pytest.approx(0.5, abs=0.02)
    assert np.histogram(values, bins=10, range=(0, 1))[0].min() > 0.07 * len(values)


def test_unknown_name_and_wrong_weights(make_stats):
    with pytest.raises(
        UnknownNameError, match=r"Unknown acquisition function 'entropie'. Did you mean 'entropy'\? Known: .*abc"
    ):
        score("entropie", make_stats())
    with pytest.raises(ShapeError, match=r"a weight for each of 4 classes, found \(3,\)"):
        score("abc", make_stats(), weights=np.ones(3))
