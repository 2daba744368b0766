"""Images of 67 million pixels that unpack from 200 kB each: how long the doctor and the import take, and how much memory.

python benchmarks/large_images.py [--images 4] [--side 8190]
"""

from __future__ import annotations

import argparse
import json
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

_RUN = """
import resource, sys
from a2lc.cli.app import _main
code = _main(sys.argv[1:])
print(code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, file=sys.stderr)
"""


def write_zeros(path: Path, side: int, channels: int) -> None:
    """A PNG of nothing but zeros, written a row at a time."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    packer, row = zlib.compressobj(9), bytes(1 + side * channels)
    body = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    head = struct.pack(">IIBBBBB", side, side, 8, {1: 0, 3: 2}[channels], 0, 0, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b""))


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--side", type=int, default=8190)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        for number in range(options.images):
            write_zeros(root / "set" / "images" / f"{number}.png", options.side, 3)
            write_zeros(root / "set" / "labels" / f"{number}.png", options.side, 1)
        (root / "set" / "classes.json").write_text(json.dumps({"classes": ["road", "car"]}))
        given = [f"--{kind}={root / 'set' / kind}" for kind in ("images", "labels")]
        for command in (
            ["doctor", str(root / "set")],
            ["init", str(root / "p.a2lc"), *given, "--classes", str(root / "set" / "classes.json")],
        ):
            began = time.perf_counter()
            done = subprocess.run([sys.executable, "-c", _RUN, *command], capture_output=True, text=True, check=True)
            code, megabytes = done.stderr.split()[-2:]
            print(f"{command[0]:6} exit {code}, {time.perf_counter() - began:.1f} s, {megabytes} MiB at most")
    return 0


if __name__ == "__main__":
    sys.exit(main())
