"""The terminal: output, errors, and the application object."""

from __future__ import annotations

import sys
from typing import Any

import typer
from rich.console import Console
from typer.core import TyperCommand, TyperOption

__all__ = ["FormatCommand", "app", "console", "error_console", "print_line"]


app = typer.Typer(
    name="a2lc",
    help="Active and automated label correction for semantic segmentation data sets.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class FormatCommand(TyperCommand):
    """A command whose help names formats: `FORMATS_READ` and `FORMATS_WRITTEN` stand for them until help is shown."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help, with the names of the formats that are installed."""
        from a2lc.formats.registry import EXPORTS, FORMATS

        names = {"FORMATS_READ": _listed(list(FORMATS)), "FORMATS_WRITTEN": _listed(list(EXPORTS))}
        options = [option for option in self.params if isinstance(option, TyperOption)]
        texts = [option.help for option in options]
        for option in options:
            for word, listed in names.items():
                option.help = option.help and option.help.replace(word, listed)
        try:
            super().format_help(ctx, formatter)
        finally:
            for option, text in zip(options, texts, strict=True):
                option.help = text


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


class _Console(Console):
    """A console that raises `BrokenPipeError` for `main` to handle; Rich would exit with status 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


# Tables of results are 100 characters wide whether a terminal or a file reads them.
console = _Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)


error_console = _Console(stderr=True, highlight=False, soft_wrap=True)


def print_line(text: str) -> None:
    """Print a line as it is, without markup, and flush it."""
    console.print(text, markup=False)
    # A reader of a pipe then sees each line when it is printed.
    console.file.flush()
