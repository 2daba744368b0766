"""Superpixels of a 1,024 x 2,048 image, beside sorting as many numbers as it has values, one thread, in one run.

python benchmarks/superpixels.py [IMAGE]
"""

import sys
import time
from pathlib import Path

import cv2
import numpy as np

from a2lc.images.rgb import read_rgb
from a2lc.masks.superpixels import grid, seeds, slic

HEIGHT, WIDTH = 1024, 2048


def best(function, repeats=3):
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return min(times)


def picture(rng):
    """Smooth fields of colour with edges and some noise."""
    fields = cv2.resize(rng.normal(size=(17, 33, 5)).astype(np.float32), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    colours = rng.integers(0, 256, (5, 3))[fields.argmax(axis=2)]
    return np.clip(colours + 12 * fields[..., :3] + rng.normal(0, 6, (HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8)


def main():
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    if len(sys.argv) > 1:
        pixels = cv2.resize(read_rgb(Path(sys.argv[1])), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    else:
        pixels = picture(rng)
    values = rng.random(pixels.size)
    reference = best(lambda: np.sort(values))
    print("| superpixels | asked for | found | seconds | times np.sort |")
    print("|---|---|---|---|---|")
    runs = {
        "SEEDS": [(count, lambda count=count: seeds(pixels, count)) for count in (2048, 8192)],
        "SLIC": [(count, lambda count=count: slic(pixels, count)) for count in (2048, 8192)],
        "squares of 32": [("", lambda: grid(HEIGHT, WIDTH, 32))],
    }
    for name, calls in runs.items():
        for count, call in calls:
            seconds, found = best(call), int(call().max())
            print(f"| {name} | {count} | {found} | {seconds:.2f} | {seconds / reference:.1f} |", flush=True)
    print(f"np.sort of {values.size:,} numbers: {reference:.2f} s")


if __name__ == "__main__":
    main()
