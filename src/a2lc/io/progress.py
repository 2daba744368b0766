"""Progress of anything that takes over a second, with the time left."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

__all__ = ["Advance", "Track", "console_progress", "no_progress"]

Advance = Callable[..., None]


class Track(Protocol):
    """Opens a progress bar; the block is handed a function that advances it by one, or by its argument."""

    def __call__(self, what: str, total: int) -> AbstractContextManager[Advance]:
        """Begin a bar of `total` steps."""
        ...


@contextmanager
def no_progress(what: str, total: int) -> Iterator[Advance]:
    """Show nothing: for library calls and tests."""
    yield lambda steps=1: None


def console_progress() -> Track:
    """Return what draws bars on standard error where that is a terminal, and nothing anywhere else."""

    @contextmanager
    def track(what: str, total: int) -> Iterator[Advance]:
        if not sys.stderr.isatty():
            yield lambda steps=1: None
            return
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(what, total=total)
            yield lambda steps=1: progress.advance(task, steps)

    return track
