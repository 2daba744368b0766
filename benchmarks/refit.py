"""Seconds of what happens between two batches of questions: refit, posteriors, worth, labels, choice.

OMP_NUM_THREADS=2 MKL_NUM_THREADS=2 python benchmarks/refit.py [--masks 18101] [--embedding 256] [--answers 500 2500]

Masks are made up: class centres in every group of features, K = 11. Times are the best of a few runs; the ratio is to one matrix
product (M, B) by (B, R) of the features without the random ones and as many columns as there are random ones. On a busy machine
one thread is faster than two: the fit is many small products, and in each of them two threads wait for each other.
"""

from __future__ import annotations

import argparse
import os
import resource
import time

import numpy as np

from a2lc.acquisition.gain import best_labels, expected_iou_gain, pick_batch
from a2lc.posterior.calibration import calibrate
from a2lc.posterior.features import mask_features
from a2lc.posterior.regression import fit_posterior
from a2lc.statistics.appearance import APPEARANCE, Borders
from a2lc.statistics.mask_stats import _DTYPES, _WIDE, LAYOUT, MaskStats

CLASSES = 11


def data_set(masks, embedding, rng):
    """Statistics, appearance, borders, first labels, embedding and truth of made-up masks."""
    share = 0.75 ** np.arange(CLASSES)
    truth = rng.choice(CLASSES, size=masks, p=share / share.sum())
    first = np.where(rng.random(masks) < 0.2, rng.integers(0, CLASSES, masks), truth)
    area = np.maximum(rng.lognormal(6, 1.2, masks), 1).astype(np.int32)
    logits = rng.normal(size=(masks, CLASSES), scale=1.5).astype(np.float32)
    logits[np.arange(masks), truth] += 3
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    doubt = 1 - probs[np.arange(masks), first]
    values = {
        "image": np.arange(masks, dtype=np.int32) // 50,
        "mask_ids": np.arange(masks, dtype=np.int32) % 50 + 1,
        "area": area,
        "label": first.astype(np.int32),
        "prob_sums": probs * area[:, None].astype(np.float32),
        "pred_counts": (probs * area[:, None]).astype(np.int32),
        "entropy_sum": (-(probs * np.log(probs)).sum(axis=1) * area).astype(np.float32),
        "bvsb_sum": (rng.random(masks) * area).astype(np.float32),
        "softmin": rng.random(masks).astype(np.float32),
        "pair_row": np.arange(masks, dtype=np.int32),
        "pair_label": first.astype(np.int32),
        "pair_doubt": (doubt * area).astype(np.float32),
        "pair_similar": (doubt * area * 0.9).astype(np.float32),
    }
    for name in LAYOUT:
        shape = (masks, CLASSES) if name in _WIDE else (masks,)
        values.setdefault(name, np.broadcast_to(np.zeros((), dtype=_DTYPES[name]), shape))
    stats = MaskStats(num_classes=CLASSES, ignore_index=255, **values)
    centres = rng.normal(size=(CLASSES, len(APPEARANCE)))
    appearance = (centres[truth] + rng.normal(size=(masks, len(APPEARANCE)))).astype(np.float32)
    beside = np.arange(masks - 7, dtype=np.int32)
    neighbours = Borders(
        first=np.concatenate([beside, beside, beside]),
        second=np.concatenate([beside + 1, beside + 5, beside + 7]).astype(np.int32),
        length=np.ones(3 * len(beside), dtype=np.float32),
        vertical=np.repeat([False, True, True], len(beside)),
    )
    inner = None
    if embedding:
        inner = rng.standard_normal((masks, embedding), dtype=np.float32)
        inner += rng.normal(size=(CLASSES, embedding)).astype(np.float32)[truth]
    return stats, appearance, neighbours, first, inner, truth


def seconds(call, runs):
    """Best of a few runs, and what it returned."""
    best, found = np.inf, None
    for _ in range(runs):
        began = time.perf_counter()
        found = call()
        best = min(best, time.perf_counter() - began)
    return best, found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--masks", type=int, default=18_101)
    parser.add_argument("--embedding", type=int, default=256, help="0 for none")
    parser.add_argument("--answers", type=int, nargs="+", default=[500, 2_500])
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    stats, appearance, neighbours, first, embedding, truth = data_set(args.masks, args.embedding, rng)
    made, features = seconds(lambda: mask_features(stats, appearance, neighbours, first, embedding), 1)
    random = sum(len(phases) for _, _, phases in features.blocks)
    other = rng.standard_normal((features.base.shape[1], random), dtype=np.float32)
    unit, _ = seconds(lambda: features.base @ other, args.runs)
    print(
        f"{args.masks:,} masks, {features.width} features, {os.environ.get('OMP_NUM_THREADS', 'all')} threads, "
        f"load {os.getloadavg()[0]:.1f}; matrix product {unit:.3f} s; mask_features {made:.3f} s ({made / unit:.1f}x)"
    )
    area = stats.area
    for answers in args.answers:
        rows = rng.choice(args.masks, answers, replace=False)
        ones = np.ones(answers)
        earlier = rows[: max(answers - args.batch, 1)]
        before = fit_posterior(features, earlier, truth[earlier], ones[: len(earlier)], num_classes=CLASSES)
        known = np.zeros(args.masks, dtype=bool)
        known[rows] = True
        steps = {}
        steps["cold fit"], _ = seconds(
            lambda rows=rows, ones=ones: fit_posterior(features, rows, truth[rows], ones, num_classes=CLASSES),
            args.runs,
        )
        steps["calibrate"], _ = seconds(
            lambda rows=rows, ones=ones: calibrate(features, rows, truth[rows], ones, ones, num_classes=CLASSES), 1
        )
        steps["refit"], fitted = seconds(
            lambda rows=rows, ones=ones, before=before: fit_posterior(
                features, rows, truth[rows], ones, num_classes=CLASSES, start=before
            ),
            args.runs,
        )
        steps["predict"], posterior = seconds(lambda fitted=fitted: fitted.predict(features), args.runs)
        steps["gain"], gain = seconds(lambda p=posterior: expected_iou_gain(area, first, p), args.runs)
        steps["labels"], labels = seconds(lambda p=posterior, k=known: best_labels(area, first, p, known=k), args.runs)
        scores = np.where(known, 0, gain)
        steps["pick"], _ = seconds(lambda s=scores: pick_batch(s, features.base, args.batch), args.runs)
        total = sum(steps[name] for name in ("refit", "predict", "gain", "labels", "pick"))
        each = ", ".join(f"{name} {value:.3f}" for name, value in steps.items())
        right = (posterior.argmax(axis=1) == truth).mean()
        print(
            f"{answers:,} answers: {total:.3f} s ({total / unit:.1f}x) for a batch of {args.batch}; {each}; "
            f"right {right:.3f}, labels {(first == truth).mean():.3f} -> {(labels == truth).mean():.3f}"
        )
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB")


if __name__ == "__main__":
    main()
