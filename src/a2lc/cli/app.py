"""The application: all commands, and the exit status of errors."""

from __future__ import annotations

import copy
import functools
import gc
import importlib
import logging
import os
import sys
import traceback
import warnings
from typing import Annotated, Any, NoReturn

import typer
from typer.models import CommandInfo

from a2lc.cli.console import app
from a2lc.cli.hints import with_flags
from a2lc.errors import A2LCError
from a2lc.io.files import free_space_error
from a2lc.version import __version__

__all__ = ["command", "main"]

MODULES = {
    "create": ("init", "masks", "pseudo", "demo"),
    "doctor": ("doctor",),
    "features": ("features",),
    "run": ("run", "score", "select", "answer", "correct", "train", "evaluate", "serve"),
    "inspect": ("status", "log", "diff", "undo", "report", "methods"),
    "exchange": ("handover", "takeback", "export"),
    "experiments": ("bench",),
    "classes": ("classes",),
}
"""The commands that each module registers when it is imported, in the order of `a2lc --help`."""

SHORT = frozenset({"status", "log", "diff", "methods"})
"""Commands that end before garbage matters: collecting it would take a twentieth of their time."""


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
    # Plugins of pydantic observe validation; looking for them reads the metadata of every installed package.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    gc.set_threshold(10_000, 20, 20)  # modules create long-lived objects: collect rarely
    if not SHORT.isdisjoint((sys.argv[1:] if arguments is None else arguments)[:1]):
        gc.disable()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for name in ("PIL", "numba", "matplotlib", "httpx", "huggingface_hub", "fsspec"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.showwarning = _note  # type: ignore[assignment]
    code = _main(arguments)
    gc.freeze()  # the interpreter's last collection would walk through all modules: a quarter of a short command's time
    sys.exit(code)


@functools.cache
def command(name: str | None = None) -> Any:
    """Build the command line, once: with the one command that is named, or else with all of them.

    Reading the options of a command from its function takes as long as importing it, and most calls need one command.
    """
    wanted = [name] if name else [one for names in MODULES.values() for one in names]
    for module, names in MODULES.items():
        if not set(names).isdisjoint(wanted):
            importlib.import_module(f"a2lc.cli.{module}")
    built = copy.copy(app)
    commands = {info.name or info.callback.__name__: info for info in app.registered_commands if info.callback}
    built.registered_commands = [commands[one] for one in wanted if one in commands]
    built.registered_groups = [info for info in app.registered_groups if info.name in wanted]
    return typer.main.get_command(built)


def _wanted(arguments: list[str]) -> Any:
    first = arguments[0] if arguments else "--help"
    if first in {"-h", "--help"}:
        return _summaries()
    return command(first if any(first in names for names in MODULES.values()) else None)


def _summaries() -> Any:
    """Build the command line as its own help shows it: the names and first lines of all commands, without options."""

    def without_options(name: str, text: str | None) -> CommandInfo:
        def none() -> None:
            raise AssertionError("only for help")

        none.__doc__ = text
        return CommandInfo(name, callback=none)

    for module in MODULES:
        importlib.import_module(f"a2lc.cli.{module}")
    texts = {
        info.name or info.callback.__name__: info.callback.__doc__ for info in app.registered_commands if info.callback
    }
    texts |= {str(info.name): info.typer_instance.info.help for info in app.registered_groups if info.typer_instance}
    built = copy.copy(app)
    built.registered_commands = [without_options(one, texts[one]) for names in MODULES.values() for one in names]
    built.registered_groups = []
    return typer.main.get_command(built)


def _main(arguments: list[str] | None) -> int:
    try:
        arguments = sys.argv[1:] if arguments is None else arguments
        result = _wanted(arguments).main(args=arguments, prog_name="a2lc", standalone_mode=False)
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
            return _mistake(f"permission denied: {error.filename}. Choose another folder, or fix its permissions.")
        traceback.print_exc()
        return 1
    except Exception as error:
        # Typer's own exceptions say how they are to be shown.
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message())  # type: ignore[attr-defined]
            return 0
        show = getattr(error, "format_message", None)
        if show is not None:
            return _mistake(" ".join(show().split()))
        if type(error).__name__ in {"Abort", "Exit"}:
            return int(getattr(error, "exit_code", 1))
        traceback.print_exc()
        return 1


def _note(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any) -> None:
    """Print a warning of ours as a line for people; others as Python does."""
    if category is UserWarning:
        print(f"note: {message}", file=sys.stderr)
    else:
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno))


def _mistake(message: str, code: int = 2) -> int:
    print(f"a2lc: {message}", file=sys.stderr)
    return code
