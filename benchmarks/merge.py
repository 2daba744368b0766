"""Merge 8,192 masks of a 1024 x 2048 image: which of them touch, and which of these become one region.

python benchmarks/merge.py
"""

import time

import numpy as np

from a2lc.masks.merge import adjacency, merge_masks


def best(function, repeats=7):
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return min(times) * 1e3


def bricks(height, width, rows, cols, rng):
    """Masks like bricks in a wall with ragged edges: most touch six others, as superpixels do."""
    row, col = np.mgrid[:height, :width]
    row = np.clip(row + rng.integers(-2, 3, width), 0, height - 1) * rows // height
    shifted = (col + (row % 2) * width // cols // 2 + rng.integers(-2, 3, (height, 1))) % width
    return (row * cols + shifted * cols // width + 1).astype(np.int32)


def main():
    rng = np.random.default_rng(0)
    height, width, rows, cols, classes = 1024, 2048, 64, 128, 19
    mask_map = bricks(height, width, rows, cols, rng)
    mask_ids = np.arange(1, rows * cols + 1, dtype=np.int32)
    print("| masks | edges | probabilities | regions | adjacency ms | merge ms | both ms |")
    print("|---|---|---|---|---|---|---|")
    for kind, patch in (("in large patches", 8), ("in small patches", 2), ("all alike", 0), ("random", 1)):
        side = (max(1, rows // patch), max(1, cols // patch)) if patch else (1, 1)
        coarse = rng.normal(size=(*side, classes)) * 4
        place = np.arange(rows)[:, None] * side[0] // rows, np.arange(cols) * side[1] // cols
        logits = coarse[place].reshape(-1, classes) + 0.1 * rng.normal(size=(rows * cols, classes))
        probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        uncertainty = np.sort(probs, axis=1)[:, -2] / probs.max(axis=1)
        edges = adjacency(mask_map, mask_ids)  # compiles
        regions = merge_masks(probs, uncertainty, edges)
        touch = best(lambda: adjacency(mask_map, mask_ids))
        merge = best(lambda probs=probs, u=uncertainty, edges=edges: merge_masks(probs, u, edges))
        print(
            f"| {len(mask_ids):,} | {len(edges):,} | {kind} | {len(np.unique(regions)):,} | {touch:.1f} | {merge:.1f} | "
            f"{touch + merge:.1f} |"
        )


if __name__ == "__main__":
    main()
