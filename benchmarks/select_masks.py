"""Choose 10,000 of 10 million masks from statistics on disk: seconds and peak memory of the choice.

python benchmarks/select_masks.py [MILLIONS]
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

PART = 100_000


def write(folder, parts, classes=19):
    """Statistics files with the columns that scores read."""
    rng = np.random.default_rng(0)
    for part in range(parts):
        offsets = pa.array(np.arange(PART + 1, dtype=np.int32))
        table = pa.table(
            {
                "image": pa.array(np.repeat(np.arange(part * 1000, part * 1000 + 1000, dtype=np.int32), PART // 1000)),
                "mask_ids": pa.array(np.tile(np.arange(1, PART // 1000 + 1, dtype=np.int32), 1000)),
                "pair_label": pa.ListArray.from_arrays(
                    offsets, pa.array(rng.integers(0, classes, PART, dtype=np.int32))
                ),
                "pair_similar": pa.ListArray.from_arrays(
                    offsets, pa.array((rng.random(PART) * 1000).astype(np.float32))
                ),
            }
        ).replace_schema_metadata({"num_classes": str(classes), "ignore_index": "255"})
        pq.write_table(table, folder / f"part-{part:05d}.parquet")


def choose(folder, classes=19):
    """What the select stage does with the files of a round."""
    from a2lc.acquisition.functions import ACQUISITIONS, score
    from a2lc.acquisition.selection import top_masks
    from a2lc.statistics.mask_stats import MaskStats

    columns = sorted(ACQUISITIONS["abc"].columns)
    began = time.perf_counter()

    def parts():
        for path in sorted(folder.glob("part-*.parquet")):
            stats = MaskStats.from_table(pq.read_table(path, columns=columns, use_threads=False))
            yield stats.image, stats.mask_ids, score("abc", stats, weights=np.linspace(0.1, 1, classes))

    images, _, scores = top_masks(parts(), 10_000)
    seconds = time.perf_counter() - began
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{len(images):,} masks of highest ABC chosen in {seconds:.2f} s, peak memory {memory:.0f} MiB, lowest {scores[-1]:.2f}"
    )


def main():
    millions = float(sys.argv[1]) if len(sys.argv) > 1 else 10
    with tempfile.TemporaryDirectory() as root:
        write(Path(root), int(millions * 1e6) // PART)
        subprocess.run([sys.executable, __file__, "choose", root], check=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["choose"]:
        choose(Path(sys.argv[2]))
    else:
        main()
