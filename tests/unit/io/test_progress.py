"""Progress bars: drawn on a terminal alone, and gone when they end."""

import io
import sys

import pytest

from a2lc.io.progress import console_progress, no_progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_shows_what_is_done_and_how_far(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with console_progress()("reading", 3) as advance:
        advance()
        advance(2)
    assert "reading" in terminal.getvalue() and "3/3" in terminal.getvalue()


@pytest.mark.parametrize("track", [no_progress, console_progress()])
def test_elsewhere_nothing_is_written(monkeypatch, track):
    monkeypatch.setattr(sys, "stderr", written := io.StringIO())
    with track("reading", 2) as advance:
        advance()
    assert written.getvalue() == ""
