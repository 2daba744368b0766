"""Time `a2lc status` as a user waits for it: a new process, from start to exit, on a project that exists.

    python benchmarks/status.py my.a2lc

The project is copied first. The figures are the least and the median of the runs, in seconds: of the whole command, of a
process that only imports what the command imports, and of the work alone, in this process. Compare them on one machine.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from a2lc.project.project import Project
from a2lc.rounds.status import project_status

IMPORTS = "import a2lc.cli.inspect, a2lc.project.project, a2lc.rounds.status, sqlalchemy.dialects.sqlite"


def times(call: Callable[[], object], runs: int) -> list[float]:
    call()  # what the first call reads is in the page cache then
    found = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return found


def started(*arguments: str) -> Callable[[], object]:
    return lambda: subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)


def work(folder: Path) -> None:
    with Project(folder) as project:
        project_status(project)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path)
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(shutil.copytree(options.project, Path(scratch) / "copy.a2lc"))
        measured = {
            "command": times(started("-m", "a2lc", "status", str(folder)), options.runs),
            "imports": times(started("-c", IMPORTS), options.runs),
            "work": times(lambda: work(folder), options.runs),
        }
    for name, seconds in measured.items():
        print(f"{name:<8} least {min(seconds):.3f}  median {statistics.median(seconds):.3f}")


if __name__ == "__main__":
    main()
