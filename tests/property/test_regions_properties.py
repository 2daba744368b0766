"""Invariances of merging, sieving, localisation, class sets and clusters."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from a2lc.classes.sentinels import KEEP
from a2lc.correction.clusters import ClassClusters, ClusterSums
from a2lc.correction.localise import localise
from a2lc.correction.multilabel import class_sets, trim_borders
from a2lc.correction.sieve import knee_threshold, sieve
from a2lc.masks.merge import adjacency, merge_masks, sqrt_js
from a2lc.statistics.features import FeatureMap, interpolation_matrix

seeds = st.integers(0, 2**16)


def distributions(rng, shape, classes=4):
    return rng.dirichlet(np.full(classes, 0.7), size=shape)


def graph(seed, masks=30, kinds=3):
    """Masks of a few kinds of prediction, and edges between neighbours on a ring and some others."""
    rng = np.random.default_rng(seed)
    probs = 0.92 * distributions(rng, kinds)[rng.integers(0, kinds, masks)] + 0.08 * distributions(rng, masks)
    around = np.stack([np.arange(masks - 1), np.arange(1, masks)], axis=1)
    others = np.sort(rng.integers(0, masks, size=(masks, 2)), axis=1)
    edges = np.unique(np.concatenate([around, others[others[:, 0] != others[:, 1]]]), axis=0)
    return probs, rng.permutation(masks) / masks, edges, rng


def by_search(probs, uncertainty, edges, epsilon, *, last_first):
    """Regions by a queue or by a stack."""
    touching = [[] for _ in probs]
    for i, j in edges:
        touching[i].append(j)
        touching[j].append(i)
    region = [-1] * len(probs)
    for root in np.argsort(-uncertainty, kind="stable").tolist():
        if region[root] >= 0:
            continue
        region[root], open_masks = root, [root]
        while open_masks:
            member = open_masks.pop(-1 if last_first else 0)
            for other in touching[member]:
                if region[other] < 0 and sqrt_js(probs[root], probs[other]) < epsilon:
                    region[other] = root
                    open_masks.append(other)
    return region


# ---- merging -----------------------------------------------------------------------------------------------------


@given(p=seeds, q=seeds, r=seeds)
def test_distance_is_a_metric(p, q, r):
    p, q, r = (distributions(np.random.default_rng(s), 5) for s in (p, q, r))
    np.testing.assert_array_equal(sqrt_js(p, q), sqrt_js(q, p))
    np.testing.assert_array_equal(sqrt_js(p, p), 0)
    assert (sqrt_js(p, r) <= sqrt_js(p, q) + sqrt_js(q, r) + 1e-12).all()
    assert (sqrt_js(p, q) <= np.sqrt(np.log(2)) + 1e-12).all()


@given(seed=seeds)
def test_breadth_first_and_depth_first_give_the_same_regions(seed):
    probs, uncertainty, edges, _ = graph(seed)
    found = merge_masks(probs, uncertainty, edges).tolist()
    assert found == by_search(probs, uncertainty, edges, 0.1, last_first=False)
    assert found == by_search(probs, uncertainty, edges, 0.1, last_first=True)


@given(seed=seeds, limit=st.none() | st.integers(0, 40))
def test_regions_are_connected_near_their_root_and_named_by_their_most_uncertain_mask(seed, limit):
    probs, uncertainty, edges, _ = graph(seed)
    found = merge_masks(probs, uncertainty, edges, max_absorbed=limit)
    assert (found[found] == found).all()
    others = np.arange(len(found)) != found
    assert (sqrt_js(probs, probs[found])[others] < 0.1).all()
    assert (uncertainty[found] >= uncertainty).all()
    assert limit is None or others.sum() <= limit
    within = edges[found[edges[:, 0]] == found[edges[:, 1]]]
    ones = coo_array((np.ones(len(within)), within.T), shape=(len(found), len(found)))
    assert connected_components(ones, directed=False)[0] == len(np.unique(found))


@given(seed=seeds)
def test_edges_and_classes_may_come_in_any_order(seed):
    probs, uncertainty, edges, rng = graph(seed)
    turned = np.where(rng.random(len(edges))[:, None] < 0.5, edges, edges[:, ::-1])
    other = merge_masks(
        probs[:, rng.permutation(probs.shape[1])], uncertainty, np.tile(rng.permutation(turned), (2, 1))
    )
    np.testing.assert_array_equal(other, merge_masks(probs, uncertainty, edges))


@given(seed=seeds)
def test_turning_the_image_leaves_which_masks_touch(seed):
    rng = np.random.default_rng(seed)
    mask_map = rng.integers(0, 7, size=(5, 8))
    ids = np.arange(1, 7)
    for turned in (mask_map.T, mask_map[::-1], mask_map[:, ::-1]):
        np.testing.assert_array_equal(adjacency(turned, ids), adjacency(mask_map, ids))


# ---- sieving -----------------------------------------------------------------------------------------------------


@given(seed=seeds, count=st.integers(0, 400), scale=st.sampled_from([0.25, 1.0, 4.0]))
def test_sieving_keeps_the_most_confident_pixels(seed, count, scale):
    rng = np.random.default_rng(seed)
    confidences = rng.beta(5, 1, size=count)
    keep = sieve(confidences)
    assert keep.shape == confidences.shape
    if count:
        assert keep[confidences.argmax()]
        assert confidences[keep].min() >= confidences[~keep].max(initial=-1)
        # Powers of two: nothing is rounded.
        np.testing.assert_array_equal(sieve(confidences * scale), keep)
        order = rng.permutation(count)
        np.testing.assert_array_equal(sieve(confidences[order]), keep[order])
    threshold = knee_threshold(confidences)
    assert threshold is None or threshold in confidences


# ---- localisation and class sets ---------------------------------------------------------------------------------


def scene(seed, height=11, width=17, classes=4, depth=6):
    rng = np.random.default_rng(seed)
    grid = rng.normal(size=(depth, 4, 6))
    features = FeatureMap(
        values=(grid / np.linalg.norm(grid, axis=0)).astype(np.float32),
        rows=interpolation_matrix(height, 16, 4, 4),
        cols=interpolation_matrix(width, 24, 6, 4),
    )
    logits = np.einsum("kd,dhw->khw", rng.normal(size=(classes, depth)), features.values)
    rows, cols = np.arange(height)[:, None] * 3 // height, np.arange(width) * 4 // width
    mask_map = rows * 4 + cols + 1
    answered = {
        int(m): tuple(rng.choice(classes, size=rng.integers(1, 4), replace=False).tolist())
        for m in rng.choice(12, size=4, replace=False) + 1
    }
    return features, logits, mask_map, answered, rng


@given(seed=seeds, variant=st.sampled_from(["slides", "code"]))
def test_labels_inside_an_answered_region_are_of_its_classes(seed, variant):
    features, logits, mask_map, answered, _ = scene(seed)
    found = localise(features, logits, mask_map, answered, variant=variant)
    alone = localise(features, logits, mask_map, answered, variant=variant, expand=False)
    inside = np.isin(mask_map, list(answered))
    for mask, classes in answered.items():
        assert set(found[mask_map == mask].tolist()) <= set(classes)
    np.testing.assert_array_equal(found[inside], alone[inside])
    assert (alone[~inside] == KEEP).all()
    named = {c for classes in answered.values() for c in classes}
    assert set(found.ravel().tolist()) <= named | {KEEP}


@given(seed=seeds)
def test_the_variants_say_something_of_the_same_pixels(seed):
    features, logits, mask_map, answered, _ = scene(seed)
    slides, code = (localise(features, logits, mask_map, answered, variant=v) for v in ("slides", "code"))
    np.testing.assert_array_equal(slides == KEEP, code == KEEP)


@given(seed=seeds)
def test_ids_may_be_others_of_the_same_order(seed):
    features, logits, mask_map, answered, rng = scene(seed)
    ids = np.concatenate([[0], np.sort(rng.choice(60000, size=12, replace=False)) + 1])
    other = localise(features, logits, ids[mask_map], {int(ids[m]): c for m, c in answered.items()})
    np.testing.assert_array_equal(other, localise(features, logits, mask_map, answered))


@given(seed=seeds)
def test_a_wider_band_leaves_fewer_pixels(seed):
    _, _, mask_map, _, rng = scene(seed)
    mask_map = mask_map // rng.integers(1, 4)
    kept = [trim_borders(mask_map, kernel) for kernel in (1, 3, 5)]
    assert (kept[1] <= kept[0]).all()
    assert (kept[2] <= kept[1]).all()
    np.testing.assert_array_equal(trim_borders(mask_map.T), kept[2].T)


@given(seed=seeds)
def test_class_sets_hold_what_is_in_the_region(seed):
    _, _, mask_map, _, rng = scene(seed, height=30, width=44)
    truth = rng.choice([0, 1, 2, 255], size=mask_map.shape, p=[0.97, 0.01, 0.01, 0.01])
    ids = rng.permutation(np.unique(mask_map))
    found = class_sets(mask_map, truth, ids, num_classes=3)
    for mask, classes in zip(ids, found, strict=True):
        assert set(classes) <= set(truth[mask_map == mask].tolist()) - {255}
        assert class_sets(mask_map, truth, np.array([mask]), num_classes=3) == [classes]


# ---- clusters ----------------------------------------------------------------------------------------------------


def samples(seed, classes=3, depth=5, count=90):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, size=count)
    features = 4 * rng.normal(size=(classes, depth))[labels] + rng.normal(size=(count, depth))
    new = np.concatenate([features[:30] + 0.5 * rng.normal(size=(30, depth)), 4 * rng.normal(size=(30, depth))])
    return features, labels, new, rng


def assert_same_decision(one, other, classes=None):
    np.testing.assert_allclose(one.margin, other.margin, rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(one.undecided, other.undecided)
    np.testing.assert_array_equal(one.classes, other.classes if classes is None else classes)


@given(seed=seeds)
def test_turning_and_moving_the_feature_space_leaves_decisions(seed):
    features, labels, new, rng = samples(seed)
    turn = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    move = 10 * rng.normal(size=5)
    one = ClassClusters.fit(features, labels, 3).decide(new)
    assert_same_decision(one, ClassClusters.fit(features @ turn + move, labels, 3).decide(new @ turn + move))


@given(seed=seeds, scale=st.sampled_from([0.01, 3.0, 100.0]))
def test_scaling_the_feature_space_leaves_decisions(seed, scale):
    features, labels, new, _ = samples(seed)
    one = ClassClusters.fit(features, labels, 3).decide(new)
    assert_same_decision(one, ClassClusters.fit(scale * features, labels, 3).decide(scale * new))


@given(seed=seeds)
def test_names_of_classes_do_not_matter(seed):
    features, labels, new, rng = samples(seed)
    names = rng.permutation(7)[:3]
    one = ClassClusters.fit(features, labels, 3).decide(new)
    other = ClassClusters.fit(features, names[labels], 7).decide(new)
    assert_same_decision(other, one, np.where(one.undecided, KEEP, names[one.classes.clip(0)]))


@given(seed=seeds, parts=st.integers(1, 6), capacity=st.sampled_from([7, 1024]))
def test_batches_may_be_cut_anywhere(seed, parts, capacity):
    features, labels, _, rng = samples(seed)
    whole, cut = (ClusterSums(num_classes=3, depth=5, capacity=capacity) for _ in range(2))
    whole.add(features, labels)
    for part in np.split(np.arange(90), np.sort(rng.integers(0, 91, size=parts))):
        cut.add(features[part], labels[part])
    for name in ("count", "weight", "mean", "scatter"):
        np.testing.assert_allclose(getattr(cut, name), getattr(whole, name), rtol=1e-9, atol=1e-9)
    for c in range(3):
        for one, other in zip(cut.sample(c), whole.sample(c), strict=True):
            np.testing.assert_array_equal(one, other)


@given(seed=seeds)
def test_a_larger_margin_decides_less(seed):
    features, labels, new, _ = samples(seed)
    clusters = ClassClusters.fit(features, labels, 3)
    loose = clusters.decide(new, margin=0.0)
    decided = loose.margin[~loose.undecided]
    strict = clusters.decide(new, margin=float(np.median(decided)))
    assert (loose.undecided <= strict.undecided).all()
    assert 0 < (~strict.undecided).sum() < len(decided)
    np.testing.assert_array_equal(loose.classes[~strict.undecided], strict.classes[~strict.undecided])
