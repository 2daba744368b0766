"""Run a stage's work on images shard by shard, in this process or in a pool of processes, with the same results.

The work on a shard is a function `work(context, round_index, shard)`, importable by its name, whose result depends on
its arguments and on files alone. In a pool, each worker process opens the project itself and keeps it, and the model it
has loaded, for the next shard. Networks predict on one thread in either case, for the number of threads changes their
last bits; several processes use several cores.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from a2lc.project.project import Project
from a2lc.records import ImageRecord
from a2lc.rounds.context import Context
from a2lc.rounds.plan import RoundPlan

__all__ = ["Shard", "available_cores", "close_pools", "map_shards", "shards_of"]

_R = TypeVar("_R")


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Some images of a project, by their positions.

    Attributes:
        index: Position of the shard.
        images: Positions of its images in `Project.all_images`.
    """

    index: int
    images: tuple[int, ...]

    def records(self, project: Project) -> list[ImageRecord]:
        """Return the records of the images."""
        return [project.all_images[index] for index in self.images]


ShardWork = Callable[[Context, int, Shard], _R]
"""Work on a shard: context, round, and shard to a result that can be pickled."""


def available_cores() -> int:
    """Count the cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def shards_of(images: Sequence[ImageRecord], size: int) -> list[Shard]:
    """Cut images into shards of `size`, the last one smaller."""
    return [
        Shard(index=number, images=tuple(image.index for image in images[start : start + size]))
        for number, start in enumerate(range(0, len(images), size))
    ]


def map_shards(
    context: Context, round_index: int, work: ShardWork[_R], shards: Sequence[Shard], what: str
) -> Iterator[_R]:
    """Yield the results of some work on each shard, in order.

    Args:
        context: Of the run; its `workers` decide where the work is done.
        round_index: The round.
        work: The work.
        shards: The shards to work on.
        what: What the progress bar is called.
    """
    with context.track(what, sum(len(shard.images) for shard in shards)) as advance:
        # Below two shards for each worker, starting the processes costs more than they save.
        if context.workers < 2 or len(shards) < 2 * context.workers or context.models.has_own_model:
            for shard in shards:
                yield work(context, round_index, shard)
                advance(len(shard.images))
            return
        networks = context.plan.training.model not in {"probabilities", "head"} or context.needs_network
        pool = _pool(context.workers, networks)
        setup = _Setup(context.project.folder, context.plan, context.shard_size, _revision(context.project))
        waiting: deque[tuple[Shard, Future[_R]]] = deque()
        todo = deque(shards)
        try:
            while todo or waiting:
                # Two per worker in flight: no worker waits, and few results are held.
                while todo and len(waiting) < 2 * context.workers:
                    shard = todo.popleft()
                    waiting.append((shard, pool.submit(_work, setup, round_index, work, shard)))
                shard, future = waiting.popleft()
                yield future.result()
                advance(len(shard.images))
        finally:
            for _, future in waiting:
                future.cancel()


@dataclass(frozen=True)
class _Setup:
    """What a worker process makes its own context of."""

    folder: Path
    plan: RoundPlan
    shard_size: int
    revision: tuple[int, ...]

    def context(self) -> Context:
        """Open the project; nothing is locked, for workers write no ledger."""
        return Context(project=Project(self.folder), plan=self.plan, shard_size=self.shard_size)


_context: tuple[_Setup, Context] | None = None  # of this worker process


def _work(setup: _Setup, round_index: int, work: ShardWork[_R], shard: Shard) -> _R:
    global _context
    if _context is None or _context[0] != setup:
        if _context is not None:
            _context[1].project.close()
        _context = (setup, setup.context())
    return work(_context[1], round_index, shard)


def _revision(project: Project) -> tuple[int, ...]:
    """Return what changes when the ledger does, so that workers read it anew."""
    stages = project.ledger.stages()
    return len(stages), len(project.ledger.class_edits()), len(project.corrections())


_pools: dict[int, ProcessPoolExecutor] = {}


def _pool(workers: int, networks: bool) -> ProcessPoolExecutor:
    """Return the pool of this process, made when first needed and kept for all rounds.

    Args:
        workers: Its processes.
        networks: Whether they will run networks: then torch is loaded once, before they are forked.
    """
    if workers not in _pools:
        # Forked processes would inherit threads' locks; a fork server has none and loads the modules once.
        method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
        mp = multiprocessing.get_context(method)
        if method == "forkserver":
            stages = ["a2lc.rounds.score", "a2lc.rounds.evaluate", "a2lc.rounds.pixels", "a2lc.rounds.source"]
            mp.set_forkserver_preload([*stages, *(["a2lc.training.fit"] if networks else [])])
        _pools[workers] = ProcessPoolExecutor(workers, mp_context=mp)
    return _pools[workers]


def close_pools() -> None:
    """End the worker processes."""
    while _pools:
        _, pool = _pools.popitem()
        pool.shutdown(cancel_futures=True)


atexit.register(close_pools)
