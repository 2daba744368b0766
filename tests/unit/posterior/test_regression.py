"""Features of masks, the regression on them, its temperature and the errors taken out of it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from a2lc.errors import InputError, ShapeError
from a2lc.posterior import regression
from a2lc.posterior.calibration import calibrate
from a2lc.posterior.features import COLUMNS, MaskFeatures, mask_features
from a2lc.posterior.prior import prior_posterior
from a2lc.posterior.regression import Posterior, fit_posterior, softmax
from a2lc.statistics.appearance import APPEARANCE, Borders
from a2lc.statistics.mask_stats import _DTYPES, _WIDE, LAYOUT, MaskStats

WIDTH = len(APPEARANCE)


def stats_of(probs, area=None) -> MaskStats:
    """Statistics of masks of these mean probabilities, one pair each."""
    masks, classes = probs.shape
    area = np.full(masks, 10, dtype=np.int32) if area is None else area
    values = {
        "mask_ids": np.arange(1, masks + 1, dtype=np.int32),
        "area": area,
        "prob_sums": (probs * area[:, None]).astype(np.float32),
        "pred_counts": np.round(probs * area[:, None]).astype(np.int32),
        "pair_row": np.arange(masks, dtype=np.int32),
    }
    for name in LAYOUT:
        shape = (masks, classes) if name in _WIDE else (masks,)
        values.setdefault(name, np.zeros(shape, dtype=_DTYPES[name]))
    return MaskStats(num_classes=classes, ignore_index=255, **values)


def chain(masks) -> Borders:
    """Each mask beside the next."""
    rows = np.arange(max(masks - 1, 0), dtype=np.int32)
    return Borders(
        first=rows,
        second=rows + np.int32(1),
        length=np.ones(len(rows), dtype=np.float32),
        vertical=np.zeros(len(rows), dtype=bool),
    )


def made_up(rng, masks=400, classes=3, *, apart=3.0, embedding=0):
    """Features and truth of classes that differ in how they look; the model knows nothing."""
    truth = rng.integers(0, classes, masks)
    looks = (rng.normal(size=(classes, WIDTH)) * apart)[truth] + rng.normal(size=(masks, WIDTH))
    probs = np.full((masks, classes), 1 / classes)
    inner = rng.normal(size=(masks, embedding)) + truth[:, None] if embedding else None
    first = np.full(masks, -1)
    return mask_features(stats_of(probs), looks, chain(masks), first, inner, random=32), truth


def plain_features(base) -> MaskFeatures:
    return MaskFeatures(base=np.asarray(base, dtype=np.float32), blocks=(), scale=1.0)


def likelihood(probs, classes) -> float:
    return float(np.log(np.maximum(probs[np.arange(len(classes)), classes], 1e-9)).mean())


# ---- features ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("embedding", [0, 5, 100])
def test_features_have_one_scale(rng, make_stats, embedding):
    stats = make_stats(images=8)
    masks, classes = len(stats), stats.num_classes
    first = rng.integers(-1, classes, masks)
    looks = rng.normal(size=(masks, WIDTH)) * 100
    inner = rng.normal(size=(masks, embedding)) if embedding else None
    features = mask_features(stats, looks, chain(masks), first, inner, random=16)
    kept = min(embedding, 64) if masks > 64 else embedding
    model, around = 3 * classes + 6, 3 * (2 * classes + 6)
    assert features.base.shape == (masks, model + classes + WIDTH + around + kept)
    assert features.base.dtype == np.float32 and np.isfinite(features.base).all() and len(features) == masks
    assert np.abs(features.base).max() <= 8
    rows = features.rows(slice(None))
    assert rows.shape == (masks, features.width) and features.width == features.base.shape[1] + 33
    assert rows.dtype == np.float32 and (rows[:, -1] == 1).all()
    # BLAS may add up a product of two rows in another order than one of all.
    np.testing.assert_allclose(features.rows(np.array([3, 1])), rows[[3, 1]], rtol=1e-5, atol=1e-5)


def test_random_features_are_of_looks_and_of_what_lies_around(rng):
    """And not of the embedding, whose columns come last."""
    features, _ = made_up(rng, embedding=5)
    (look, _, _), (near, _, _) = features.blocks
    assert look.stop - look.start == WIDTH and near.start == look.stop
    assert near.stop == features.base.shape[1] - 5
    weights = rng.normal(size=(features.width, 4)).astype(np.float32)
    which = np.array([5, 0, 7])
    expected = features.start[which] + features.rows(which) @ weights
    np.testing.assert_allclose(features.logits(which, weights), expected, rtol=1e-4, atol=1e-4)


def test_the_random_kernel_falls_with_distance(rng):
    features, _ = made_up(rng, masks=600, apart=0.0)
    look = features.blocks[0][0]
    made = features.rows(slice(None))[:, features.base.shape[1] : -1][:, :32]
    assert np.abs(made).max() <= features.scale + 1e-6
    apart = np.linalg.norm(features.base[:, look] - features.base[0, look], axis=1)
    likeness = made @ made[0]
    assert np.corrcoef(apart, likeness)[0, 1] < -0.3


def test_the_same_seed_gives_the_same_features(rng, make_stats):
    stats = make_stats(images=12)
    looks, inner = rng.normal(size=(len(stats), WIDTH)), rng.normal(size=(len(stats), 80))
    first = np.zeros(len(stats), dtype=int)
    one, two, other = (
        mask_features(stats, looks, chain(len(stats)), first, inner, random=8, seed=s).rows(slice(None))
        for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)


def test_only_the_columns_named_are_read(rng, make_stats):
    stats = make_stats()
    few = MaskStats.from_table(stats.to_table().select(sorted((COLUMNS - {"pair_row"}) & set(LAYOUT))))
    looks, first = rng.normal(size=(len(stats), WIDTH)), np.zeros(len(stats), dtype=int)
    one, two = (mask_features(s, looks, chain(len(stats)), first, random=4) for s in (stats, few))
    np.testing.assert_array_equal(one.base, two.base)


def test_constant_columns_become_zero(rng):
    masks = 200
    looks = np.full((masks, WIDTH), 12345.678)
    looks[:, 0] = rng.normal(size=masks)
    inner = np.full((masks, 70), 0.1, dtype=np.float32)
    inner[:, 3] = rng.normal(size=masks)
    features = mask_features(
        stats_of(np.full((masks, 2), 0.5)), looks, chain(masks), np.zeros(masks, dtype=int), inner, random=4
    )
    look = features.blocks[0][0]
    assert np.abs(features.base[:, look][:, 1:]).max() == 0
    assert features.base[:, look][:, 0].std() == pytest.approx(2.0, rel=0.05)
    inside = features.base[:, -64:]
    spread = np.flatnonzero(inside.std(axis=0) > 0.1)
    assert np.isfinite(features.base).all() and spread.tolist() == [0]
    assert abs(np.corrcoef(inside[:, 0], inner[:, 3])[0, 1]) > 0.99


@pytest.mark.parametrize("embedding", [0, 100])
@pytest.mark.parametrize("masks", [0, 1, 2])
def test_few_masks(masks, embedding):
    inner = np.ones((masks, embedding)) if embedding else None
    first = np.zeros(masks, dtype=int)
    features = mask_features(
        stats_of(np.full((masks, 2), 0.5)), np.ones((masks, WIDTH)), chain(masks), first, inner, random=4
    )
    assert features.rows(slice(None)).shape == (masks, features.width)
    assert Posterior(weights=np.zeros((features.width, 3), dtype=np.float32)).predict(features).shape == (masks, 3)
    if masks:
        found = fit_posterior(features, np.array([0]), np.array([1]), np.ones(1), num_classes=2).predict(features)
        assert found.argmax(axis=1).tolist() == [1] * masks and np.isfinite(found).all()


def test_one_class(rng):
    masks = 30
    features = mask_features(
        stats_of(np.ones((masks, 1))),
        rng.normal(size=(masks, WIDTH)),
        chain(masks),
        np.zeros(masks, dtype=int),
        random=4,
    )
    rows = np.arange(masks)
    found = fit_posterior(
        features, rows, np.zeros(masks, dtype=int), np.ones(masks), num_classes=1, errors=np.full(masks, 0.05)
    )
    probs = found.predict(features)
    assert probs.shape == (masks, 2) and probs[:, 0].min() > 0.8


def test_masks_without_first_label_have_no_one(rng):
    masks, classes = 50, 3
    stats = stats_of(rng.dirichlet(np.ones(classes), masks))
    looks = rng.normal(size=(masks, WIDTH))
    none = mask_features(stats, looks, chain(masks), np.full(masks, -1), random=4)
    label = slice(3 * classes + 6, 4 * classes + 6)
    assert np.abs(none.base[:, label]).max() == 0
    first = np.tile([-1, 0, 2], masks)[:masks]
    some = mask_features(stats, looks, chain(masks), first, random=4).base[:, label]
    assert (some[first == -1] < some.max(axis=0) - 1e-3)[:, [0, 2]].all() and np.abs(some[:, 1]).max() == 0
    prior = prior_posterior(stats, first)
    np.testing.assert_allclose(prior.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(prior[first == -1, :classes], stats.mean_probs[first == -1], rtol=1e-5)
    np.testing.assert_allclose(prior[first == 2, 2], 0.5 + 0.5 * stats.mean_probs[first == 2, 2], rtol=1e-5)
    assert (prior[:, classes] == 0).all()


@pytest.mark.parametrize("wrong", ["appearance", "first", "embedding"])
def test_arrays_of_other_masks_are_refused(wrong):
    given = {"appearance": np.zeros((4, WIDTH)), "first": np.zeros(4, dtype=int), "embedding": np.zeros((4, 3))}
    given[wrong] = given[wrong][:-1]
    with pytest.raises(ShapeError, match=f"{wrong} of 4 masks, found 3"):
        mask_features(stats_of(np.full((4, 2), 0.5)), given["appearance"], chain(4), given["first"], given["embedding"])


# ---- the fit -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("embedding", [0, 7, 90])
def test_it_learns_what_can_be_told_apart(rng, embedding):
    features, truth = made_up(rng, embedding=embedding)
    rows = np.arange(100)
    fitted = fit_posterior(features, rows, truth[rows], np.ones(100), num_classes=3)
    probs = fitted.predict(features)
    assert probs.shape == (400, 4) and probs.dtype == np.float32 and fitted.weights.dtype == np.float32
    np.testing.assert_allclose(probs.sum(axis=1), 1, rtol=1e-5)
    assert (probs[100:].argmax(axis=1) == truth[100:]).mean() > 0.97
    assert likelihood(probs[100:], truth[100:]) > np.log(0.6)
    again = fit_posterior(features, rows, truth[rows], np.ones(100), num_classes=3)
    np.testing.assert_array_equal(again.weights, fitted.weights)


def test_a_class_nobody_named_gets_little(rng):
    features, truth = made_up(rng)
    rows = np.flatnonzero(truth[:150] < 2)
    fitted = fit_posterior(features, rows, truth[rows], np.ones(len(rows)), num_classes=3)
    probs = fitted.predict(features)
    assert probs[truth < 2][:, 2:].max() < 0.1
    assert probs[truth < 2][:, 2:].min() > 0
    assert np.abs(fitted.weights).max() < 10


def test_weights_count_as_repeats(rng):
    features, truth = made_up(rng, apart=0.3)
    rows = np.arange(60)
    twice = fit_posterior(features, np.tile(rows, 2), np.tile(truth[rows], 2), np.ones(120), num_classes=3, steps=400)
    heavy = fit_posterior(features, rows, truth[rows], np.full(60, 2.0), num_classes=3, steps=400)
    np.testing.assert_allclose(heavy.predict(features), twice.predict(features), atol=6e-3)


def test_without_answers_it_is_what_label_and_model_say(rng):
    features, truth = made_up(rng, apart=0.3)
    features = replace(features, start=rng.normal(size=(len(features), 4)).astype(np.float32))
    nothing = fit_posterior(features, np.arange(60), truth[:60], np.zeros(60), num_classes=3)
    np.testing.assert_allclose(nothing.predict(features), softmax(features.start.copy()), rtol=1e-5)
    plain = replace(features, start=None)
    nothing = fit_posterior(plain, np.arange(60), truth[:60], np.zeros(60), num_classes=3)
    np.testing.assert_allclose(nothing.predict(plain), 0.25)


def test_more_ridge_says_less(rng):
    features, truth = made_up(rng)
    sure = [
        fit_posterior(features, np.arange(80), truth[:80], np.ones(80), num_classes=3, ridge=ridge)
        .predict(features)
        .max(axis=1)
        .mean()
        for ridge in (1.0, 30.0, 1000.0)
    ]
    assert sure[0] > sure[1] > sure[2]


def test_a_warm_start_agrees_and_takes_fewer_steps(rng, monkeypatch):
    features, truth = made_up(rng, masks=600, apart=0.5)
    steps = []
    minimize = regression.minimize

    def counted(*args, **kwargs):
        found = minimize(*args, **kwargs)
        steps.append(found.nfev)
        return found

    monkeypatch.setattr(regression, "minimize", counted)

    def fit(count, start=None):
        rows = np.arange(count)
        return fit_posterior(features, rows, truth[rows], np.ones(count), num_classes=3, start=start, steps=500)

    before, cold = fit(290), fit(300)
    warm = fit(300, before)
    np.testing.assert_allclose(warm.predict(features), cold.predict(features), atol=1e-2)
    assert steps[2] <= 0.75 * steps[1]
    fit(300, cold)
    assert steps[3] <= 2
    # Weights of other features are no start.
    other = Posterior(weights=np.full((5, 4), 9.0, dtype=np.float32))
    np.testing.assert_array_equal(fit(300, other).weights, cold.weights)


def test_nothing_or_a_class_that_is_none_is_refused(rng):
    features, _ = made_up(rng, masks=10)
    none = np.empty(0, dtype=int)
    with pytest.raises(InputError, match="no answer"):
        fit_posterior(features, none, none, np.empty(0), num_classes=3)
    for wrong in (-1, 4):
        with pytest.raises(InputError, match=r"\[0, 3\]"):
            fit_posterior(features, np.array([0, 1]), np.array([0, wrong]), np.ones(2), num_classes=3)


# ---- prediction ----------------------------------------------------------------------------------------------------


def test_chunks_change_nothing(rng, monkeypatch):
    features, truth = made_up(rng)
    fitted = fit_posterior(features, np.arange(80), truth[:80], np.ones(80), num_classes=3, errors=np.full(80, 0.1))
    whole = fitted.predict(features)
    chosen = np.flatnonzero(rng.random(400) < 0.3)[::-1]
    monkeypatch.setattr("a2lc.posterior.features.CHUNK", 7)
    monkeypatch.setattr("a2lc.posterior.regression.CHUNK", 7)
    np.testing.assert_allclose(fitted.predict(features), whole, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(fitted.predict(features, chosen), whole[chosen], rtol=1e-4, atol=1e-6)
    named = np.zeros(400, dtype=bool)
    named[chosen] = True
    np.testing.assert_allclose(fitted.predict(features, named), whole[named], rtol=1e-4, atol=1e-6)
    assert fitted.predict(features, np.empty(0, dtype=int)).shape == (0, 4)


def test_features_in_chunks_are_the_same(rng, monkeypatch, make_stats):
    stats = make_stats(images=14)
    looks, inner = rng.normal(size=(len(stats), WIDTH)), rng.normal(size=(len(stats), 80)) ** 3
    first = rng.integers(-1, 4, len(stats))
    whole = mask_features(stats, looks, chain(len(stats)), first, inner, random=4).base
    monkeypatch.setattr("a2lc.posterior.features.CHUNK", 7)
    monkeypatch.setattr("a2lc.posterior.regression.CHUNK", 7)
    np.testing.assert_allclose(
        mask_features(stats, looks, chain(len(stats)), first, inner, random=4).base, whole, atol=2e-4
    )


def test_temperature_flattens():
    features = plain_features([[2.0], [-1.0]])
    weights = np.array([[1, -1, 0], [0, 0.5, 0]], dtype=np.float32)
    for temperature in (1.0, 2.5):
        logits = np.array([[2, -1.5, 0], [-1, 1.5, 0]]) / temperature
        expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        found = Posterior(weights=weights, temperature=temperature).predict(features)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_errors_are_taken_out_as_they_came_in():
    """Answers that name another class alike, at a known rate: what is fitted is the truth, not what is said."""
    true, rate, masks = np.array([0.7, 0.2, 0.1, 0.0]), 0.15, 4000
    said = (1 - rate) * true + rate / 3 * (1 - true)
    classes = np.repeat(np.arange(4), np.round(masks * said).astype(int))
    features = plain_features(np.zeros((masks, 0)))
    rows, ones = np.arange(len(classes)), np.ones(len(classes))
    fit = partial(fit_posterior, features, rows, classes, ones, num_classes=3, steps=500)
    np.testing.assert_allclose(fit(errors=np.full(masks, rate)[rows]).predict(features)[0], true, atol=0.01)
    np.testing.assert_allclose(fit().predict(features)[0], said, atol=0.01)


def test_errors_of_0_change_nothing(rng):
    features, truth = made_up(rng)
    fit = partial(fit_posterior, features, np.arange(80), truth[:80], np.ones(80), num_classes=3)
    np.testing.assert_array_equal(fit().weights, fit(errors=np.zeros(80)).weights)


def test_whoever_errs_more_teaches_less(rng):
    """Half of the answers come from someone who errs in four of ten."""
    masks, classes = 3000, 3
    truth = rng.integers(0, classes, masks)
    features = plain_features(np.eye(classes)[truth] + rng.normal(size=(masks, classes)) * 0.5)
    errors = np.where(np.arange(masks) % 2, 0.4, 0.01)
    said = np.where(rng.random(masks) < errors, (truth + rng.integers(1, classes + 1, masks)) % (classes + 1), truth)
    rows = np.arange(400)
    scores = [
        likelihood(
            fit_posterior(
                features, rows, said[rows], np.ones(400), num_classes=classes, ridge=1.0, errors=given
            ).predict(features)[400:],
            truth[400:],
        )
        for given in (None, np.full(400, errors.mean()), errors[rows])
    ]
    assert scores[0] < scores[1] < scores[2]


def test_known_errors_taken_out_foretell_the_truth_better(rng):
    masks, classes, rate = 3000, 3, 0.2
    truth = rng.integers(0, classes, masks)
    features = plain_features(np.eye(classes)[truth] * 2 + rng.normal(size=(masks, classes)) * 0.3)
    said = np.where(rng.random(masks) < rate, (truth + rng.integers(1, classes + 1, masks)) % (classes + 1), truth)
    rows = np.arange(1500)
    scores = []
    for given in (0.0, rate):
        probs = fit_posterior(
            features, rows, said[rows], np.ones(1500), num_classes=classes, ridge=1.0, errors=np.full(1500, given)
        ).predict(features)[1500:]
        np.testing.assert_allclose(probs.sum(axis=1), 1, rtol=1e-5)
        right = probs.argmax(axis=1) == truth[1500:]
        scores.append((likelihood(probs, truth[1500:]), abs(probs.max(axis=1).mean() - right.mean())))
    assert scores[1][0] > scores[0][0] + 0.1
    assert scores[1][1] < 0.08 < 0.15 < scores[0][1]


# ---- calibration ---------------------------------------------------------------------------------------------------


def over_confident(rng, masks=600, columns=60):
    """Many columns of noise and no ridge to speak of: the fit is sure of what it cannot know."""
    truth = rng.integers(0, 3, masks)
    base = rng.normal(size=(masks, columns))
    base[:, :3] += np.eye(3)[truth]
    return plain_features(base), truth


def test_over_confidence_is_cooled(rng):
    features, truth = over_confident(rng)
    rows, ones = np.arange(120), np.ones(120)
    found = calibrate(features, rows, truth[rows], ones, ones, num_classes=3, ridge=0.01)
    assert found > 1.5
    fitted = fit_posterior(features, rows, truth[rows], ones, num_classes=3, ridge=0.01)
    rest = np.arange(120, 600)
    plain = fitted.predict(features, rest)
    cooled = Posterior(weights=fitted.weights, temperature=found).predict(features, rest)
    assert likelihood(cooled, truth[rest]) > likelihood(plain, truth[rest]) + 0.2


def test_a_timid_fit_is_sharpened(rng):
    features, truth = made_up(rng, apart=4.0)
    rows, ones = np.arange(150), np.ones(150)
    assert calibrate(features, rows, truth[rows], ones, ones, num_classes=3, ridge=300.0) < 0.8


def test_few_draws_change_nothing(rng):
    features, truth = over_confident(rng)
    rows, ones = np.arange(120), np.ones(120)
    for draws, expected in ((0, True), (23, True), (24, False)):
        drawn = np.where(rows < draws, 3.0, 0.0)
        found = calibrate(features, rows, truth[rows], ones, drawn, num_classes=3, ridge=0.01)
        assert (found == 1.0) is expected


def test_a_mask_is_never_learnt_from_where_it_is_foretold(rng):
    """Each mask twice, once drawn: were its twin kept, the fit would know the answer and no cooling would be found."""
    features, truth = over_confident(rng)
    rows, ones = np.tile(np.arange(100), 2), np.ones(200)
    drawn = np.repeat([1.0, 0.0], 100)
    assert calibrate(features, rows, truth[rows], ones, drawn, num_classes=3, ridge=0.01) > 1.5


def test_draws_of_one_mask_cannot_be_foretold(rng):
    features, _ = over_confident(rng)
    rows, ones = np.zeros(30, dtype=int), np.ones(30)
    assert calibrate(features, rows, np.zeros(30, dtype=int), ones, ones, num_classes=3) == 1.0


def test_one_heavy_draw_does_not_decide_alone(rng):
    features, truth = over_confident(rng)
    rows, ones = np.arange(120), np.ones(120)
    light = calibrate(features, rows, truth[rows], ones, ones, num_classes=3, ridge=0.01)
    for place in range(8):  # right ones among them, which alone would ask for no cooling
        drawn = ones.copy()
        drawn[place] = 1e9
        heavy = calibrate(features, rows, truth[rows], ones, drawn, num_classes=3, ridge=0.01)
        assert abs(np.log(heavy / light)) < 0.4
