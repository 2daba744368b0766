"""Run the stages of a round that need a network, in a process beside `a2lc serve`, until people are needed.

It works under the lock that the server holds, reports on its output in JSON lines, and ends when its input is closed: with
the server, however that ends.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from a2lc.errors import A2LCError
from a2lc.io.progress import Advance
from a2lc.project.project import Project
from a2lc.rounds.loop import Loop
from a2lc.rounds.plan import RoundPlan
from a2lc.rounds.result import StageResult
from a2lc.rounds.shards import available_cores
from a2lc.rounds.stages import next_stage

__all__ = ["main"]


def report(**fields: Any) -> None:
    """Print a line for the server."""
    print(json.dumps(fields), flush=True)


def _end_with_server() -> None:
    while sys.stdin.read(1):
        pass
    os._exit(3)


@contextmanager
def track(what: str, total: int) -> Iterator[Advance]:
    """Report progress, at most twice a second."""
    done, last = 0, 0.0

    def advance(steps: int = 1) -> None:
        nonlocal done, last
        done += steps
        if time.monotonic() - last > 0.5 or done >= total:
            last = time.monotonic()
            report(progress=f"{what}: {done:,} of {total:,}")

    yield advance


def report_stage(result: StageResult) -> None:
    """Send the result of a stage to the server, as lines."""
    for line in result.lines():
        report(line=line)


def main(folder: Path, trains: bool) -> int:
    """Run stages that need a network, or only score masks; return the exit code."""
    threading.Thread(target=_end_with_server, daemon=True).start()
    try:
        with Project(folder) as project:
            plan = RoundPlan.of(project.config)
            loop = Loop(project, plan, workers=available_cores(), track=track, on_stage=report_stage)
            stages = {"train", "evaluate", "score"} if trains else {"score"}
            if trains and not loop.method.corrects and loop.method.pixel_labels is not None:
                stages.add("correct")
            while (stage := next_stage(project)[1]) in stages:
                report(stage=stage)
                loop.run_stage(stage)
    except A2LCError as error:
        report(error=str(error))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2] == "train"))
