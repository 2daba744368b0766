"""The terminal: output, errors, and the application object."""

from __future__ import annotations

import sys

import typer
from rich.console import Console

__all__ = ["app", "console", "error_console", "print_line"]


app = typer.Typer(
    name="a2lc",
    help="Active and automated label correction for semantic segmentation data sets.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class _Console(Console):
    """A console that leaves a reader who went away to `main`: Rich would exit with 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


# Tables of results are 100 characters wide whether a terminal or a file reads them.
console = _Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)


error_console = _Console(stderr=True, highlight=False, soft_wrap=True)


def print_line(text: str) -> None:
    console.print(text, markup=False)
    # Whoever reads through a pipe sees each line when it is said.
    console.file.flush()
