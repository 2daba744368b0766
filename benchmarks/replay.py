"""Replay a million corrections over 100,000 masks, from the ledger file to the state of every mask.

python benchmarks/replay.py
"""

import tempfile
import time
from pathlib import Path

import numpy as np

from a2lc.ledger import Ledger, mask_keys, replay
from a2lc.records import ImageRecord, Source


def main():
    rng = np.random.default_rng(0)
    count = 1_000_000
    image, mask, classes = rng.integers(0, 100, count), rng.integers(1, 1001, count), rng.integers(0, 19, count)
    keys = np.unique(mask_keys(np.repeat(np.arange(100), 1000), np.tile(np.arange(1, 1001), 100)))
    with tempfile.TemporaryDirectory() as root:
        ledger = Ledger(Path(root) / "ledger.sqlite")
        ledger.add_images(
            [
                ImageRecord(
                    index=i, image_id=f"i{i}", file=f"{i}.png", width=8, height=8, split="train", sha256="0" * 64
                )
                for i in range(100)
            ]
        )
        ledger.open_round(1, method="a2lc", config={}, model="m", seed=0, versions={})
        ledger.add_corrections(
            1, Source.AUTOMATIC, image, mask, classes, classes, confidences=rng.random(count), model="m"
        )
        began = time.perf_counter()
        rows = ledger.correction_rows()
        read = time.perf_counter() - began
        state = replay(rows, keys)
        total = time.perf_counter() - began
        corrected = int((state.winner >= 0).sum())
        print(
            f"{count:,} corrections over {len(keys):,} masks: read {read:.2f} s, in all {total:.2f} s, {corrected:,} corrected"
        )
        ledger.close()


if __name__ == "__main__":
    main()
