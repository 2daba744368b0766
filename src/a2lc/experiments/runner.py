"""Runs of a benchmark, each in a process of its own, so that its peak memory and a crash are its own.

Everything lies below one folder:

    out/scenes-*/               made-up scenes, where the protocol asks for them
    out/subsets/                label files of the images that starts from a subset have ground truth of
    out/beginnings/*.a2lc       projects at the end of round 0, which runs that begin alike are copied from
    out/runs/METHOD-SEED.a2lc   the project of a run, with bench.json: what decided it, and what came out
    out/results.*, curves.*     written anew at the end of each call

A process that is killed loses what its open stage did: the project goes on by itself when the same command is given again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from a2lc.demo.scenes import write_scenes
from a2lc.errors import A2LCError, ConfigError, LockedError, MissingExtraError, require_known
from a2lc.experiments.execution import (
    MISSING,
    MISTAKE,
    Failed,
    Outcome,
    Say,
    execute,
    fault_file,
    format_figure,
    one_line,
    read_state,
    run_folder,
    scene_settings,
    scenes_place,
    sources_of,
)
from a2lc.experiments.protocol import FilesData, Protocol, Run, ScenesData, planned_runs
from a2lc.io.files import write_text

__all__ = ["Bench"]


@dataclass(kw_only=True)
class Bench:
    """A protocol and the folder that its runs lie in.

    Attributes:
        protocol: What to run.
        out: Where to.
        root: Folder of the data, None for made-up scenes.
        isolate: Each run in a process of its own.
        say: Gets a line as runs and rounds end.
    """

    protocol: Protocol
    out: Path
    root: Path | None = None
    isolate: bool = True
    say: Say = field(default=lambda line: None)

    def plan(self, seeds: Iterable[int] | None = None, methods: Iterable[str] | None = None) -> list[Run]:
        """Return the runs asked for.

        Args:
            seeds: In place of the protocol's.
            methods: Labels, where not all are wanted.

        Raises:
            UnknownNameError: The protocol has no such method.
        """
        runs = planned_runs(self.protocol, seeds=seeds)
        labels = list(dict.fromkeys(run.label for run in runs))
        wanted = labels if methods is None else [require_known("method of the protocol", m, labels) for m in methods]
        return [run for run in runs if run.label in wanted]

    def run(self, runs: Iterable[Run]) -> None:
        """Run what is not finished yet; a run that fails is noted, and the others go on.

        Raises:
            ConfigError: A run was begun by another protocol.
            LockedError: Another process works in the folder.
            MissingFileError: The data is not there.
        """
        runs = list(runs)
        _check_begun(self.out, runs)
        if isinstance(self.protocol.data, FilesData):
            sources_of(self.protocol.data, self.out, self.root)  # refused before anything is written
        self.out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.out / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise LockedError(
                f"Another a2lc bench is using {self.out}. Wait for it, or set `out` to another folder."
            ) from None
        try:
            finished = [run for run in runs if _finished(self.out, run)]
            self.say(f"{len(runs)} runs, {len(finished)} of them finished before")
            if len(finished) < len(runs):
                self._data()
            for number, run in enumerate(runs, start=1):
                if run not in finished:
                    self._one(run, f"[{number}/{len(runs)}]")
        finally:
            lock.release()

    def outcomes(self, seeds: Iterable[int] | None = None) -> list[Outcome]:
        """Return the outcomes of the protocol's runs, and of other seeds asked for; those never begun are left out.

        Raises:
            ConfigError: A run was begun by another protocol.
        """
        runs = planned_runs(self.protocol, seeds=[*self.protocol.seeds, *(seeds or ())])
        _check_begun(self.out, runs)
        found = []
        for run in runs:
            fault = fault_file(self.out, run)
            state = read_state(run_folder(self.out, run))
            if "result" in state and _finished(self.out, run):
                found.append(Outcome(run=run, found=state["result"]))
            elif fault.is_file():
                found.append(Outcome(run=run, **json.loads(fault.read_text(encoding="utf-8"))))
        return found

    def _data(self) -> None:
        """Write the scenes that the protocol asks for."""
        data = self.protocol.data
        if isinstance(data, ScenesData) and not (place := scenes_place(self.out, data)).exists():
            write_scenes(place, scene_settings(data))
            self.say(f"{data.images} synthetic scenes in {place}")

    def _one(self, run: Run, count: str) -> None:
        fault = fault_file(self.out, run)
        fault.unlink(missing_ok=True)
        told: dict[str, Any] | None = None
        try:
            found = (self._apart if self.isolate else self._here)(run)
        except MissingExtraError as error:
            told = {"fault": str(error), "skipped": run.optional}
        except Failed as error:
            told = {"fault": str(error)}
        if told is not None:
            write_text(fault, json.dumps(told))
            self.say(f"{count} {run.name}: {'left out' if told.get('skipped') else 'FAILED'}: {told['fault']}")
            return
        last = found["rounds"][-1] if found["rounds"] else {}
        seconds = sum(sum(row["seconds"].values()) for row in found["rounds"])
        note = f"; {found['note']}" if found["note"] else ""
        self.say(
            f"{count} {run.name}: finished, data mIoU {format_figure(last.get('data_miou'))}, model mIoU "
            f"{format_figure(last.get('model_miou'))}, {seconds:,.0f} s, {found['peak_mib']:,.0f} MiB{note}"
        )

    def _here(self, run: Run) -> dict[str, Any]:
        try:
            return execute(run, self.out, self.root, self.say)
        except MissingExtraError:
            raise
        except (A2LCError, OSError) as error:
            raise Failed(one_line(error)) from None
        except Exception as error:  # any other run may still be well
            raise Failed(f"{type(error).__name__}: {one_line(error)}") from error

    def _apart(self, run: Run) -> dict[str, Any]:
        log = self.out / "runs" / f"{run.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        job = {"run": run.model_dump(mode="json"), "out": str(self.out), "root": self.root and str(self.root)}
        command = [sys.executable, "-m", "a2lc.experiments.execution"]
        with log.open("a", encoding="utf-8") as errors:
            start = errors.tell()
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True)
            assert process.stdin is not None and process.stdout is not None
            try:
                # The pipe stays open: its end tells the run that nobody waits for it any more.
                process.stdin.write(json.dumps(job) + "\n")
                process.stdin.flush()
                for line in process.stdout:
                    self.say(line.rstrip("\n"))
                code = process.wait()
            except BrokenPipeError:  # it ended before it was told what to do
                code = process.wait()
            finally:
                process.kill()
                process.wait()
        if not code:
            return dict(read_state(run_folder(self.out, run))["result"])
        lines = [
            line for line in log.read_bytes()[start:].decode("utf-8", errors="replace").splitlines() if line.strip()
        ]
        reason = lines[-1] if lines else "no output"
        if code == MISSING:
            raise MissingExtraError(reason)
        if code < 0:
            reason = f"killed by signal {-code}" + (", probably out of memory" if code == -9 else "")
        raise Failed(reason + ("" if code == MISTAKE else f"; see {log}"))


def _check_begun(out: Path, runs: Iterable[Run]) -> None:
    for run in runs:
        begun = read_state(run_folder(out, run)).get("digest")
        if begun is not None and begun != run.digest:
            raise ConfigError(
                f"Run {run.name} in {out} was started with other settings than the protocol has now. Set `out` to "
                f"another folder, or delete {run_folder(out, run)}."
            )


def _finished(out: Path, run: Run) -> bool:
    state = read_state(run_folder(out, run))
    return "result" in state and bool(state["result"]["asked_rounds"] >= run.rounds)
