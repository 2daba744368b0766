"""Mask statistics against torch.softmax over the same array, one thread, in one run.

python benchmarks/mask_statistics.py
"""

import time
from functools import partial

import numpy as np
import torch

from a2lc.acquisition.functions import score
from a2lc.statistics.mask_stats import mask_statistics


def best(function, repeats=25):
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return min(times) * 1e3


def image(classes, height, width, rows, cols, smooth, rng):
    """Logits of a smooth field with some noise, a grid of masks, and a label a mask."""
    coarse = rng.normal(size=(1, classes, height // smooth + 1, width // smooth + 1)).astype(np.float32) * 3
    logits = torch.nn.functional.interpolate(torch.from_numpy(coarse), size=(height, width), mode="bilinear")[0]
    logits = logits + 0.3 * torch.from_numpy(rng.normal(size=logits.shape).astype(np.float32))
    row, col = np.arange(height)[:, None] * rows // height, np.arange(width)[None] * cols // width
    masks = (row * cols + col + 1).astype(np.int32)
    labels = rng.integers(0, classes, masks.max() + 1)[masks].astype(np.uint8)
    return logits.contiguous(), masks, labels


def statistics_and_score(probs, labels, masks):
    return score("abc", mask_statistics(probs, labels, masks))


def main():
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    print("| array | masks | labels | mask_statistics ms | + abc ms | torch.softmax ms | ratio |")
    print("|---|---|---|---|---|---|---|")
    for classes, height, width, rows, cols in ((21, 375, 500, 4, 5), (19, 1024, 2048, 40, 50)):
        logits, masks, labels = image(classes, height, width, rows, cols, 16, rng)
        probs = torch.softmax(logits, dim=0).numpy()
        for kind, given in (("one a mask", labels), ("random a pixel", rng.integers(0, classes, labels.shape))):
            stats = mask_statistics(probs, given, masks)  # compiles
            calls = (
                partial(mask_statistics, probs, given, masks),
                partial(statistics_and_score, probs, given, masks),
                partial(torch.softmax, logits, dim=0),
            )
            # Turn by turn, so that a slow moment of the machine meets all.
            ours, both, theirs = zip(*([best(call, 8) for call in calls] for _ in range(5)), strict=True)
            print(
                f"| {classes} x {height} x {width} | {len(stats)} | {kind} | {min(ours):.2f} | {min(both):.2f} | "
                f"{min(theirs):.2f} | {min(both) / min(theirs):.2f} |"
            )


if __name__ == "__main__":
    main()
