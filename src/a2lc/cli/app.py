"""The application: all commands, and the exit status of errors."""

from __future__ import annotations

import functools
import logging
import os
import sys
import traceback
from typing import Annotated, Any, NoReturn

import typer

from a2lc.cli import create, doctor, exchange, experiments, inspect, run
from a2lc.cli.classes import class_app
from a2lc.cli.console import app
from a2lc.cli.hints import with_flags
from a2lc.errors import A2LCError
from a2lc.io.files import free_space_error
from a2lc.version import __version__

__all__ = ["main"]

COMMANDS = (create, doctor, run, inspect, exchange, experiments)
"""Modules that register commands when they are imported, in the order of `a2lc --help`."""


app.add_typer(class_app, name="classes")


def _version(value: bool) -> None:
    if value:
        print(f"a2lc {__version__}")
        raise typer.Exit


@app.callback()
def _global(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Active and automated label correction for semantic segmentation data sets."""


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 on success, 2 for an error of input, printed in one line, 1 for a bug."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for name in ("PIL", "numba", "matplotlib", "httpx", "huggingface_hub", "fsspec"):
        logging.getLogger(name).setLevel(logging.WARNING)
    sys.exit(_main(arguments))


@functools.cache
def _command() -> Any:
    """Build the commands of the application: the options of all of them are read from their functions, once."""
    return typer.main.get_command(app)


def _main(arguments: list[str] | None) -> int:
    try:
        result = _command().main(args=arguments, prog_name="a2lc", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except A2LCError as error:
        return _mistake(with_flags(str(error)))
    except KeyboardInterrupt:
        return _mistake("interrupted; repeat the command to resume", 130)
    except BrokenPipeError:
        # The reader of our output went away, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if free_space_error(error):
            where = f" ({error.filename})" if error.filename else ""
            return _mistake(f"the disk is full{where}. Free some space, and repeat the command to resume.")
        if isinstance(error, PermissionError):
            return _mistake(f"no permission: {error.filename}. Choose another folder, or fix its permissions.")
        traceback.print_exc()
        return 1
    except Exception as error:
        # Typer's own exceptions say how they are to be shown.
        show = getattr(error, "format_message", None)
        if show is not None:
            return _mistake(" ".join(show().split()))
        if type(error).__name__ in {"Abort", "Exit"}:
            return int(getattr(error, "exit_code", 1))
        traceback.print_exc()
        return 1


def _mistake(message: str, code: int = 2) -> int:
    print(f"a2lc: {message}", file=sys.stderr)
    return code
