"""Coverage and width of the intervals of label quality, in simulated data sets.

python benchmarks/quality_coverage.py --runs 300 --seed 0

A data set is drawn once per scenario, labels and all; each run draws audits from it and estimates. Posterior: of the
truth by a noisy observer, sharpened where it is over-confident. Errors follow the label: confusions prefer a class or
two, so that some rare class is hidden more than others.
"""

from __future__ import annotations

import argparse

import numpy as np

from a2lc.audits import audit_sizes, draw, estimate_quality, inclusion_probabilities
from a2lc.classes.sentinels import UNKNOWN

SCENARIOS = {
    "calibrated .90": {"accuracy": 0.90},
    "calibrated .50": {"accuracy": 0.50},
    "calibrated .99": {"accuracy": 0.99},
    "over-confident .90": {"accuracy": 0.90, "power": 4.0},
    "over-confident .97": {"accuracy": 0.97, "power": 4.0},
    "sure of all labels .90": {"accuracy": 0.90, "blind": True},
    "sure of all labels .97": {"accuracy": 0.97, "blind": True},
    "sure of all labels .99": {"accuracy": 0.99, "blind": True},
    "under-confident .95": {"accuracy": 0.95, "power": 0.3},
    "skewed areas .90": {"accuracy": 0.90, "power": 2.0, "sigma": 2.0},
}


def data_set(rng, *, accuracy, power=1.0, blind=False, sigma=1.2, masks=4000, classes=8):
    share = 0.6 ** np.arange(classes)
    truth = rng.choice(classes + 1, size=masks, p=np.append(share / share.sum() * 0.97, 0.03))
    area = np.maximum(rng.lognormal(5.0, sigma, masks), 1).astype(np.int64)
    # What a wrong label is of a class: mostly two others.
    confusion = rng.dirichlet(np.full(classes, 0.4), size=classes + 1)
    confusion[np.arange(classes), np.arange(classes)] = 0.0
    confusion /= confusion.sum(axis=1, keepdims=True)
    difficulty = rng.beta(0.5, 0.5 * accuracy / (1 - accuracy), masks)
    wrong = rng.random(masks) < difficulty
    other = (confusion[truth].cumsum(axis=1) < rng.random((masks, 1))).sum(axis=1).clip(0, classes - 1)
    labels = np.where(wrong | (truth == classes), other, truth)
    # The posterior given label and difficulty, by Bayes: calibrated up to its being asked of noise.
    prior = np.bincount(truth, minlength=classes + 1) / masks
    joint = np.zeros((masks, classes + 1))
    for c in range(classes + 1):
        miss = confusion[c][labels]
        hit = (labels == c).astype(float)
        joint[:, c] = prior[c] * np.where(c == classes, miss, difficulty * miss + (1 - difficulty) * hit)
    joint = (joint / joint.sum(axis=1, keepdims=True)) ** power
    if blind:
        joint = np.full((masks, classes + 1), 1e-4)
        joint[np.arange(masks), labels] = 1.0
    posterior = joint / joint.sum(axis=1, keepdims=True)
    return area, labels, posterior, np.where(truth == classes, -1, truth)


def exact(area, labels, posterior, truth):
    return estimate_quality(area, labels, posterior, truth, [], [])


def flat(found):
    return np.array(
        [
            (i.low, i.estimate, i.high)
            for i in (found.pixel_accuracy, found.miou, *found.recall, *found.precision, *found.iou)
        ]
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--audits", type=int, nargs="+", default=[20, 50, 100, 400])
    parser.add_argument("--sets", type=int, default=6, help="data sets a scenario")
    parser.add_argument("--scenario", default="")
    args = parser.parse_args()
    print("coverage (mean width) | bias of mIoU")
    print("| audits | scenario | accuracy | mIoU | recall | precision | IoU | wrong pixels | bias |\n|" + "---|" * 9)
    for count in args.audits:
        for name, options in SCENARIOS.items():
            if args.scenario not in name:
                continue
            covered, width, bias = [], [], []
            for number in range(args.sets):
                rng = np.random.default_rng([args.seed, number])
                area, labels, posterior, truth = data_set(rng, **options)
                asked = rng.random(len(area)) < 0.03
                target = flat(exact(area, labels, posterior, truth))[:, 1]
                sizes = audit_sizes(area, labels, posterior, ~asked)
                pi = inclusion_probabilities(sizes, count)
                for _ in range(args.runs // args.sets):
                    drawn = draw(pi, rng)
                    told = np.where(asked, truth, UNKNOWN)
                    told[drawn] = truth[drawn]
                    found = estimate_quality(area, labels, posterior, told, drawn, pi[drawn])
                    left = area[(told == UNKNOWN) & (labels != truth)].sum()
                    got = flat(found)
                    w = found.wrong_pixels
                    inside = (got[:, 0] - 1e-9 <= target) & (target <= got[:, 2] + 1e-9) | np.isnan(target)
                    wide = got[:, 2] - got[:, 0]
                    by = [[0], [1], *(range(2 + k * len(found.iou), 2 + (k + 1) * len(found.iou)) for k in range(3))]
                    covered.append([inside[list(k)].mean() for k in by] + [w.low <= left <= w.high])
                    width.append([np.nanmean(wide[list(k)]) for k in by] + [(w.high - w.low) / area.sum()])
                    bias.append(got[1, 1] - target[1])
            cells = [f"{c:.3f} ({v:.2f})" for c, v in zip(np.mean(covered, 0), np.mean(width, 0), strict=True)]
            print(f"| {count} | {name} | " + " | ".join(cells) + f" | {np.mean(bias):+.3f} |", flush=True)


if __name__ == "__main__":
    main()
