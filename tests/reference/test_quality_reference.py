"""Point estimates and the certificate against plain loops written from the equations."""

from __future__ import annotations

import math

import numpy as np
import pytest

from a2lc.audits import audit_sizes, certify, draw, estimate_quality, inclusion_probabilities
from a2lc.classes.sentinels import UNKNOWN


def plain_joint(area, labels, now, posterior, truth, audits, classes):
    """Pixels by label and truth: known ones, and for the others posterior + Σ (seen - posterior)·(1/π - 1)."""
    joint = {(lab, c): 0.0 for lab in range(-1, classes) for c in range(-1, classes)}
    for i in range(len(area)):
        if truth[i] != UNKNOWN:
            joint[int(now[i]), int(truth[i])] += area[i]
        else:
            for c in range(-1, classes):
                joint[int(labels[i]), c] += area[i] * posterior[i][c]  # column -1 is the last: void
    for i, pi in audits:
        for c in range(-1, classes):
            seen = 1.0 if truth[i] == c else 0.0
            joint[int(labels[i]), c] += area[i] * (seen - posterior[i][c]) * (1 / pi - 1)
    return joint


def plain_row(area, labels, now, posterior, truth, audits, c, classes):
    """Pixels labelled c that are right, and that are of any class: a ratio among audits of that label."""
    right = real = hidden = above = seen_right = seen_real = 0.0
    for i in range(len(area)):
        if truth[i] != UNKNOWN:
            if now[i] == c:
                right += area[i] * (truth[i] == c)
                real += area[i] * (truth[i] >= 0)
        elif labels[i] == c:
            hidden += area[i]
            right += area[i] * posterior[i][c]
            real += area[i] * (1 - posterior[i][classes])
    for i, pi in audits:
        if labels[i] == c:
            weight = 1 / pi - 1
            above += weight * area[i]
            seen_right += weight * area[i] * ((truth[i] == c) - posterior[i][c])
            seen_real += weight * area[i] * ((truth[i] >= 0) - (1 - posterior[i][classes]))
    if above > 0:
        right += hidden * seen_right / above
        real += hidden * seen_real / above
    return max(right, 0.0), max(real, max(right, 0.0))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("after", [False, True])
def test_point_estimates(seed, after):
    rng = np.random.default_rng(seed)
    masks, classes = 300, 3
    area = rng.integers(1, 200, masks)
    truth = rng.integers(-1, classes, masks)
    labels = np.where(rng.random(masks) < 0.6, truth, rng.integers(-1, classes, masks))
    posterior = rng.dirichlet(np.full(classes + 1, 0.7), masks)
    told = np.where(rng.random(masks) < 0.2, truth, UNKNOWN)
    pi = inclusion_probabilities(audit_sizes(area, labels, posterior, told == UNKNOWN), 60)
    drawn = draw(pi, rng)
    told[drawn] = truth[drawn]
    now = np.where(told != UNKNOWN, told, labels) if after else labels
    found = estimate_quality(area, labels, posterior, told, drawn, pi[drawn], now=now)

    audits = [(int(i), float(pi[i])) for i in drawn]
    joint = plain_joint(area, labels, now, posterior, told, audits, classes)
    inside = [joint[c, c] for c in range(classes)]
    label = [sum(joint[c, t] for t in range(classes)) for c in range(classes)]
    missed = [max(sum(joint[lab, c] for lab in range(classes)) - inside[c], 0.0) for c in range(classes)]
    truly = [sum(joint[lab, c] for lab in range(classes)) for c in range(classes)]
    counted = sum(label)
    assert found.pixel_accuracy.estimate == pytest.approx(sum(inside) / counted)
    assert found.miou.estimate == pytest.approx(
        sum(inside[c] / (label[c] + truly[c] - inside[c]) for c in range(classes)) / classes
    )
    unlabelled = max(sum(joint[-1, c] for c in range(classes)), 0.0)
    assert found.coverage.estimate == pytest.approx(counted / (counted + unlabelled))
    for c in range(classes):
        right, real = plain_row(area, labels, now, posterior, told, audits, c, classes)
        assert found.precision[c].estimate == pytest.approx(right / real)
        # Recall is never above what it would be if every unknown mask labelled c were right and no other were c.
        hidden = sum(area[i] for i in range(masks) if told[i] == UNKNOWN and labels[i] == c)
        known = sum(area[i] for i in range(masks) if told[i] == c and now[i] >= 0)
        hit = sum(area[i] for i in range(masks) if told[i] == c == now[i])
        most = (hit + hidden) / (known + hidden)
        assert found.recall[c].estimate == pytest.approx(min(right / (right + missed[c]), most))
        assert found.iou[c].estimate == pytest.approx(right / (real + missed[c]))

    wrong = pixels = 0.0
    for i in range(masks):
        if told[i] == UNKNOWN:
            wrong += 1 - posterior[i][labels[i]]
            pixels += area[i] * (1 - posterior[i][labels[i]])
    for i, p in audits:
        miss = (1 / p - 1) * (float(told[i] != labels[i]) - (1 - posterior[i][labels[i]]))
        wrong += miss
        pixels += area[i] * miss
    assert found.wrong_masks.estimate == pytest.approx(max(wrong, 0.0))
    assert found.wrong_pixels.estimate == pytest.approx(max(pixels, 0.0))


def plain_bound(size, audits, hits, level):
    """The smallest number of right ones that explains `hits` or more with a chance above the level."""
    for right in range(size + 1):
        ways = sum(math.comb(right, x) * math.comb(size - right, audits - x) for x in range(hits, audits + 1))
        if ways > level * math.comb(size, audits):
            return right
    return size


@pytest.mark.parametrize("seed", range(6))
def test_certificate_of_distinct_scores(seed):
    rng = np.random.default_rng(seed)
    total, audits = 240, 70
    scores = rng.permutation(total).astype(float)
    right = rng.random(total) < np.where(scores > 100, 0.99, 0.6 + 0.06 * seed)
    drawn = rng.choice(total, audits, replace=False)
    order = sorted(range(total), key=lambda i: -scores[i])

    def proves(size, k, hits, level):
        return plain_bound(size, k, hits, level) - hits >= 0.8 * (size - k)

    sets = [1.0]
    for share in (0.7, 0.5, 0.35, 0.25, 0.15):
        size = math.ceil(share * total)
        k = audits * size // total
        if not proves(size, k, k, 0.1 / (len(sets) + 1)):
            break
        sets.append(share)
    wanted = set()
    for share in sets:
        inside = set(order[: math.ceil(share * total)])
        seen = inside & set(drawn.tolist())
        if proves(len(inside), len(seen), sum(bool(right[i]) for i in seen), 0.1 / len(sets)):
            wanted = inside - seen
            break
    found = certify(scores, drawn, right[drawn], min_precision=0.8, confidence=0.9)
    assert set(np.flatnonzero(found.accepted).tolist()) == wanted
