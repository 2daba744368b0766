"""Start, follow and stop the training process beside the server."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["Training"]


class Training:
    """A process that runs the stages which need a network, until people are needed.

    Attributes:
        ended_after: Seconds that the process ran; 0 while it runs.
    """

    def __init__(self, folder: Path, wake: Callable[[], None], log: Callable[[str], None], *, trains: bool) -> None:
        """Start the process.

        Args:
            folder: The project's folder.
            wake: Called when a stage or the process has ended.
            log: Receives a line as each stage ends.
            trains: Train models; otherwise masks are only scored.
        """
        self._began = time.monotonic()
        self.ended_after = 0.0
        self._wake = wake
        self._log = log
        self._stage, self._line, self._error = "train", "", ""
        # The training ends when its input closes, which the system does when this process ends in whatever way.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "a2lc.serve.trainer", str(folder), "train" if trains else "score"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self._errors: deque[str] = deque(maxlen=20)
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._read_output, self._read_errors)]
        for thread in self._threads:
            thread.start()

    @property
    def ended(self) -> bool:
        """Whether the process is over and all its output has been read."""
        over = self._process.poll() is not None and not any(thread.is_alive() for thread in self._threads)
        if over and not self.ended_after:
            self.ended_after = time.monotonic() - self._began
        return over

    def state(self) -> dict[str, Any]:
        """Return `stage`, `line` of progress, `seconds` since the start, and `error`, None if there is none."""
        error = self._error
        if self.ended and self._process.returncode != 0 and not error:
            last = [line for line in self._errors if line.strip()]
            error = (
                f"The training ended with exit code {self._process.returncode}: {last[-1] if last else 'no message'}"
            )
        return {
            "stage": self._stage,
            "line": self._line,
            "seconds": round(time.monotonic() - self._began, 1),
            "error": error or None,
        }

    def stop(self) -> None:
        """Stop the process; an interrupted training resumes the next time."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        for thread in self._threads:
            thread.join()

    def _read_output(self) -> None:
        assert self._process.stdout is not None
        for text in self._process.stdout:
            try:
                message = json.loads(text)
            except ValueError:
                continue  # something a library printed
            if "stage" in message:
                self._stage, self._line = message["stage"], ""
            if "progress" in message:
                self._line = message["progress"]
            if "error" in message:
                self._error = message["error"]
            if "line" in message:
                self._log(message["line"])
                self._wake()
        self._wake()

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._errors.append(line.rstrip())
