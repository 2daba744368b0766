"""The training process as the server sees it: begun, listened to, ended."""

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
    """A process that runs the stages which need a network, as far as it can."""

    def __init__(self, folder: Path, wake: Callable[[], None], say: Callable[[str], None], *, trains: bool) -> None:
        self._began = time.monotonic()
        self.ended_after = 0.0
        """Seconds after which it was over; 0 while it is not."""
        self._wake = wake
        self._say = say
        self._stage, self._line, self._error = "train", "", ""
        # Its input stays open as long as this process lives: when it ends, however that ends, so does the training.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "a2lc.serve.trainer", str(folder), "train" if trains else "score"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self._errors: deque[str] = deque(maxlen=20)
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._listen, self._hear_errors)]
        for thread in self._threads:
            thread.start()

    @property
    def ended(self) -> bool:
        """Whether it is over, and all it said has been heard."""
        over = self._process.poll() is not None and not any(thread.is_alive() for thread in self._threads)
        if over and not self.ended_after:
            self.ended_after = time.monotonic() - self._began
        return over

    def told(self) -> dict[str, Any]:
        """`stage`, `line` of progress, `seconds` since it began, and `error`, None while there is none."""
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
        """End it; a training goes on where it was another time."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        for thread in self._threads:
            thread.join()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for text in self._process.stdout:
            try:
                told = json.loads(text)
            except ValueError:
                continue  # something a library printed
            if "stage" in told:
                self._stage, self._line = told["stage"], ""
            if "progress" in told:
                self._line = told["progress"]
            if "error" in told:
                self._error = told["error"]
            if "line" in told:
                self._say(told["line"])
                self._wake()
        self._wake()

    def _hear_errors(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._errors.append(line.rstrip())
