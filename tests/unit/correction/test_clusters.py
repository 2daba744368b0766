from __future__ import annotations

import numpy as np
import pytest

from a2lc.classes.sentinels import KEEP
from a2lc.correction.clusters import ClassClusters, ClusterSums
from a2lc.errors import InputError, ShapeError


def blobs(rng, classes, depth, count, apart=6.0):
    """Features of Gaussian clusters of different shapes, `apart` the distance of their means to the origin."""
    means = rng.normal(size=(classes, depth))
    means *= apart / np.linalg.norm(means, axis=1, keepdims=True)
    shapes = [np.eye(depth) + 0.3 * rng.normal(size=(depth, depth)) for _ in range(classes)]

    def draw(n):
        truth = rng.integers(0, classes, size=n)
        noise = rng.normal(size=(n, depth))
        return np.stack([means[c] + noise[i] @ shapes[c] for i, c in enumerate(truth)]), truth

    return draw(count), draw


def test_planted_wrong_labels_are_put_right(rng):
    (features, classes), draw = blobs(rng, 5, 16, 1500, apart=8)
    new, truth = draw(2000)
    current = np.where(rng.random(2000) < 0.3, (truth + rng.integers(1, 5, 2000)) % 5, truth)
    found = ClassClusters.fit(features, classes, 5).decide(new, current=current)
    changed = found.classes != current
    assert (found.classes[changed] == truth[changed]).mean() > 0.95
    assert (~found.undecided).mean() > 0.8
    assert changed[current != truth].mean() > 0.8
    np.testing.assert_array_equal(found.classes[found.undecided], current[found.undecided])
    assert found.classes.dtype == np.int32
    assert found.margin.min() >= 0
    assert found.margin.max() <= 1


@pytest.mark.parametrize("depth", [2, 16, 64])
def test_classes_that_overlap_are_left_to_a_person(rng, depth):
    features, classes = rng.normal(size=(5000, depth)), rng.integers(0, 3, 5000)
    found = ClassClusters.fit(features, classes, 3).decide(rng.normal(size=(1000, depth)))
    assert found.undecided.mean() > 0.9


def test_a_class_nobody_has_labelled_is_not_forced_into_another(rng):
    (features, classes), draw = blobs(rng, 4, 8, 2000)
    known = classes != 3
    new, truth = draw(1000)
    clusters = ClassClusters.fit(features[known], classes[known], 4)
    found = clusters.decide(new)
    assert found.undecided[truth == 3].mean() > 0.9
    assert found.undecided[truth != 3].mean() < 0.3
    assert clusters.classes.tolist() == [0, 1, 2]
    # It is the cap that tells: without it nearly all of them are decided.
    uncapped = ClassClusters(
        **{**vars(clusters), "euclidean_caps": np.full(3, 1e9), "mahalanobis_caps": np.full(3, 1e9)}
    )
    assert uncapped.decide(new).undecided[truth == 3].mean() < 0.7


@pytest.mark.parametrize("cap", ["euclidean_caps", "mahalanobis_caps"])
def test_either_cap_is_enough(rng, cap):
    (features, classes), _ = blobs(rng, 3, 6, 600)
    clusters = ClassClusters.fit(features, classes, 3)
    closed = ClassClusters(**{**vars(clusters), cap: np.zeros(3)})
    assert closed.decide(features).undecided.all()
    assert not clusters.decide(features).undecided.all()


@pytest.mark.parametrize("count", [90, 150, 3000])
def test_caps_admit_new_features_however_few_there_were_to_learn_from(rng, count):
    """64 numbers a feature: of a cluster fitted to a few more, its own features would all seem near."""
    features, new = rng.normal(size=(count, 64)), rng.normal(size=(2000, 64))
    clusters = ClassClusters.fit(features, np.zeros(count, dtype=int), 1, distance_quantile=0.9)
    distance = np.linalg.norm((new - clusters.means[0]) @ clusters.whiteners[0].T, axis=1)
    assert (distance <= clusters.mahalanobis_caps[0]).mean() == pytest.approx(0.9, abs=0.1)
    assert (np.linalg.norm(new - clusters.means[0], axis=1) <= clusters.euclidean_caps[0]).mean() == pytest.approx(
        0.9, abs=0.1
    )


def test_the_two_distances_must_agree():
    """Class 1 is long and flat: a point far along it may be much nearer to the mean of class 0."""
    rng = np.random.default_rng(1)
    ball, line = rng.normal(size=(500, 2)) + np.array([15, 6]), rng.normal(size=(500, 2)) * [20, 0.5]
    clusters = ClassClusters.fit(
        np.concatenate([ball, line]), np.repeat([0, 1], 500), 2, shrinkage=0, distance_quantile=1.0
    )
    found = clusters.decide(np.array([[5.0, 0.0], [15.0, 1.0], [15.0, 6.0]]))
    assert found.classes.tolist() == [1, KEEP, 0]
    assert (found.margin > 0.5).all()


def test_the_margin():
    """One number a feature, two clusters of variance 1 around 0 and 10, by hand: t / (t + max(m, D))."""
    side = np.array([-1.0, 1.0, -1.0, 1.0])[:, None]
    clusters = ClassClusters.fit(
        np.concatenate([side, side + 10]), np.repeat([0, 1], 4), 2, shrinkage=0, distance_quantile=1
    )
    np.testing.assert_allclose(clusters.log_dets, 0, atol=1e-8)
    found = clusters.decide(np.array([[0.5], [1.2], [4.9], [5.0]]))
    expected = [1 - 1 / (9.5**2 - 0.5**2 + 1), 1 - 1.2**2 / 8.8**2, 1 - 4.9**2 / 5.1**2, 0]
    np.testing.assert_allclose(found.margin, expected, rtol=1e-6, atol=1e-8)
    assert found.undecided.tolist() == [False, False, True, True], "the cap is 4/3"
    assert clusters.decide(np.array([[1.2]]), margin=0.99).undecided.all()


def test_covariance_is_shrunk_to_a_sphere_of_the_same_trace(rng):
    features = rng.normal(size=(50, 3)) * [1, 2, 5]
    s = np.cov(features.T, bias=True)
    for shrinkage in (0.0, 0.25, 1.0):
        clusters = ClassClusters.fit(features, np.zeros(50, dtype=int), 1, shrinkage=shrinkage)
        expected = (1 - shrinkage) * s + shrinkage * np.trace(s) / 3 * np.eye(3)
        inverse = clusters.whiteners[0].T @ clusters.whiteners[0]
        np.testing.assert_allclose(inverse @ expected, np.eye(3), atol=1e-9)
        assert clusters.log_dets[0] == pytest.approx(np.linalg.slogdet(expected)[1])


def test_a_class_of_one_feature_is_left_out(rng):
    features = np.concatenate([rng.normal(size=(30, 4)), [[9.0] * 4], rng.normal(size=(30, 4)) - 9])
    classes = np.array([0] * 30 + [1] + [3] * 30)
    clusters = ClassClusters.fit(features, classes, 5)
    assert clusters.classes.tolist() == [0, 3]
    assert set(clusters.decide(features).classes.tolist()) == {0, 3, KEEP}
    assert clusters.decide(np.full((1, 4), 9.0)).undecided.all()


def test_one_class_alone_is_decided_by_the_cap(rng):
    clusters = ClassClusters.fit(rng.normal(size=(200, 3)), np.full(200, 2), 4)
    found = clusters.decide(np.array([[0.0, 0, 0], [9, 9, 9]]))
    assert found.classes.tolist() == [2, KEEP]
    assert found.margin.tolist() == [1, 1]


def test_nothing_labelled_decides_nothing():
    clusters = ClassClusters.fit(np.empty((0, 3)), np.empty(0, dtype=int), 4)
    found = clusters.decide(np.ones((2, 3)), current=np.array([3, -1]))
    assert found.classes.tolist() == [3, -1]
    assert found.undecided.all()
    assert clusters.decide(np.empty((0, 3))).classes.shape == (0,)


def test_features_without_spread(rng):
    """Equal features, a dimension that is always 0, fewer features than dimensions, and no shrinkage to help."""
    same = np.tile([1.0, 2.0, 0.0, 0.0], (5, 1))
    flat = rng.normal(size=(3, 4)) * [1, 1, 1, 0] + 20
    for shrinkage in (0.0, 0.1):
        clusters = ClassClusters.fit(np.concatenate([same, flat]), np.repeat([0, 1], [5, 3]), 2, shrinkage=shrinkage)
        for values in (clusters.whiteners, clusters.log_dets, clusters.mahalanobis_caps):
            assert np.isfinite(values).all()
        assert clusters.decide(same).classes.tolist() == [0] * 5


def test_means_far_from_zero_keep_their_digits(rng):
    (features, classes), _ = blobs(rng, 3, 5, 600)
    near = ClassClusters.fit(features, classes, 3)
    far = ClassClusters.fit(features + 1e6, classes, 3)
    np.testing.assert_allclose(far.log_dets, near.log_dets, atol=1e-6)
    sums = ClusterSums(num_classes=3, depth=5)
    for part in np.array_split(np.arange(600), 7):
        sums.add(features[part] + 1e6, classes[part])
    np.testing.assert_allclose(sums.mean, far.means, rtol=1e-12)
    np.testing.assert_allclose(ClassClusters.from_sums(sums).log_dets, near.log_dets, atol=1e-6)


def test_weights_count_as_repetitions(rng):
    features, classes = rng.normal(size=(40, 3)), rng.integers(0, 2, 40)
    times = rng.integers(0, 4, size=40)
    one = ClassClusters.fit(features, classes, 2, weights=times)
    other = ClassClusters.fit(np.repeat(features, times, axis=0), np.repeat(classes, times), 2)
    np.testing.assert_allclose(one.means, other.means)
    np.testing.assert_allclose(one.log_dets, other.log_dets)
    # A repeated feature leaves its twins behind, so the caps are another matter; equal weights are no weights.
    halves = ClassClusters.fit(features, classes, 2, weights=np.full(40, 0.5))
    plain = ClassClusters.fit(features, classes, 2)
    np.testing.assert_allclose(halves.mahalanobis_caps, plain.mahalanobis_caps)


def test_few_features_are_kept_and_each_is_as_likely(rng):
    sums = ClusterSums(num_classes=2, depth=1, capacity=50, seed=3)
    stream = np.arange(20000.0)[:, None]
    for part in np.array_split(stream, 13):
        sums.add(part, np.ones(len(part), dtype=int))
    sample, weights = sums.sample(1)
    assert sample.shape == (50, 1)
    assert weights.tolist() == [1] * 50
    assert len(np.unique(sample)) == 50
    assert sample.mean() == pytest.approx(10000, abs=4 * 20000 / np.sqrt(12 * 50))
    assert sums.sample(0)[0].shape == (0, 1)
    assert sums.count.tolist() == [0, 20000]


def test_another_seed_keeps_others(rng):
    kept = []
    for seed in (0, 0, 1):
        sums = ClusterSums(num_classes=1, depth=1, capacity=5, seed=seed)
        sums.add(np.arange(100.0)[:, None], np.zeros(100, dtype=int))
        kept.append(sums.sample(0)[0].ravel().tolist())
    assert kept[0] == kept[1] != kept[2]


def test_what_does_not_belong_together():
    features, classes = np.eye(4), np.array([0, 0, 1, 1])
    with pytest.raises(ShapeError, match=r"features \(n, D\)"):
        ClassClusters.fit(np.zeros(4), classes, 2)
    with pytest.raises(ShapeError, match="each of 4 features"):
        ClassClusters.fit(features, classes[:3], 2)
    with pytest.raises(ShapeError, match="each of 4 features"):
        ClassClusters.fit(features, classes, 2, weights=np.ones(3))
    with pytest.raises(InputError, match=r"\[0, 2\), found -1\.\.1"):
        ClassClusters.fit(features, np.array([0, -1, 1, 1]), 2)
    with pytest.raises(InputError, match="weights of at least 0"):
        ClassClusters.fit(features, classes, 2, weights=np.array([1, 1, -1, 1]))
    with pytest.raises(InputError, match="NaN or infinity"):
        ClassClusters.fit(np.full((4, 4), np.nan), classes, 2)
    for setting, match in (({"shrinkage": 1.5}, "sphere"), ({"distance_quantile": 0.0}, "quantile")):
        with pytest.raises(InputError, match=match):
            ClassClusters.fit(features, classes, 2, **setting)
    clusters = ClassClusters.fit(features, classes, 2)
    with pytest.raises(ShapeError, match=r"features \(n, 4\)"):
        clusters.decide(np.zeros((2, 3)))
    with pytest.raises(ShapeError, match="current class for each of 4"):
        clusters.decide(features, current=np.zeros(3))
    with pytest.raises(InputError, match="margin"):
        clusters.decide(features, margin=-0.1)
    with pytest.raises(InputError, match="at least one class"):
        ClusterSums(num_classes=0, depth=2)
