"""The terminal: output, errors, and the application object."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand, TyperOption

__all__ = ["FormatCommand", "app", "print_line"]


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


# Names from files may hold signs that move the cursor or colour the terminal.
_CONTROL = {code: None for code in (*range(32), 127) if chr(code) not in "\t\n"}


def print_line(text: str) -> None:
    """Print text without control signs, and flush it: a reader of a pipe then sees each line when it is printed."""
    try:
        print(text.translate(_CONTROL), flush=True)
    except BrokenPipeError:
        raise BrokenPipeError from None  # without a number: Typer would exit with status 1, but `main` does with 0
