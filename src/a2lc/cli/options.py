"""Options that several commands share, and the parsers of their values."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from a2lc.errors import InputError, require_known

if TYPE_CHECKING:
    from a2lc.classes.table import ClassTable
    from a2lc.images.multiband import Stretch

__all__ = [
    "check_names",
    "is_number",
    "parse_bands",
    "parse_classes",
    "parse_seeds",
    "parse_stretch",
    "parse_value_map",
]


ProjectDir = Annotated[Path, typer.Argument(metavar="DIR", help="Project folder.")]


Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


MethodName = Annotated[str | None, typer.Option("--method", help="Method, see `a2lc methods`.")]


Budget = Annotated[float | None, typer.Option("--budget", min=0, help="Clicks a round.")]


Annotator = Annotated[str | None, typer.Option("--annotator", help="oracle (simulated, needs ground truth) or human.")]


ErrorRate = Annotated[float | None, typer.Option("--error-rate", help="Share of wrong answers of the oracle.")]


Preset = Annotated[str | None, typer.Option("--preset", help="Training preset: cpu, paper or tiny.")]


Preview = Annotated[bool, typer.Option("--preview", help="Of `correct`: only show what would change.")]


ValueMap = Annotated[
    list[str] | None, typer.Option("--map", metavar="VALUE=VALUE", help="Read a label value as another.")
]


Ignore = Annotated[
    int | None,
    typer.Option("--ignore", min=0, max=65535, help="Label value that means no class; default: the classes file's."),
]


Colours = Annotated[
    bool, typer.Option("--colours", help="Read coloured labels through the colours of the classes file.")
]


Snap = Annotated[
    int | None,
    typer.Option("--snap", min=0, max=255, help="Read pixels of JPEG labels as the known value at most so far away."),
]


Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        help="Processes that share the work on images; default: one per core. Results do not change.",
    ),
]


MinPrecision = Annotated[
    float | None,
    typer.Option("--min-precision", help="Change unseen masks only if audits prove so many right, such as 0.9 (gain)."),
]


Confidence = Annotated[
    float | None, typer.Option("--confidence", help="Of promises and intervals; default 0.95 (gain).")
]


Segmenter = Annotated[
    str, typer.Option("--segmenter", help="Weights that find masks: a name of docs/pseudo.md, OWNER/NAME, or a folder.")
]


Device = Annotated[str, typer.Option("--device", help="Of foundation models: auto, cpu, cuda or cuda:N.")]


Download = Annotated[bool, typer.Option("--download", help="Fetch weights that are not on this machine.")]


AcceptLicense = Annotated[
    list[str] | None,
    typer.Option("--accept-license", metavar="NAME", help="Weights whose licence you have read and accept."),
]


Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting, such as training.iterations=600 or method.lcm=false."),
]


def parse_classes(given: str) -> ClassTable:
    """A classes file, or names with commas between them."""
    from a2lc.classes.table import ClassTable, read_classes

    path = Path(given)
    if path.suffix.lower() in {".json", ".yaml", ".yml", ".txt"} or path.is_file() or "," not in given:
        return read_classes(path)
    names = [name.strip().strip("\"'").strip() for name in given.split(",")]
    return ClassTable.from_json({"classes": [{"name": name} for name in names]}, "--classes")


def is_number(text: str) -> bool:
    """Whether text is a whole number of few digits: `isdigit` is also true of superscripts, which no number is made of."""
    return text.isascii() and text.isdecimal() and len(text) < 10


def parse_bands(given: str | None) -> tuple[int, ...] | None:
    if given is None:
        return None
    parts = given.split(",")
    if len(parts) not in (1, 3) or not all(is_number(part.strip()) and int(part) > 0 for part in parts):
        raise InputError(f"--bands {given}: expected one band or three, from 1, such as 4,3,2.")
    return tuple(int(part) for part in parts)


def parse_stretch(given: str | None) -> Stretch | None:
    """Parse the value of `--stretch`."""
    from a2lc.images.multiband import Stretch

    return None if given is None else Stretch.parse(given)


def parse_value_map(pairs: list[str]) -> dict[int, int]:
    found = {}
    for pair in pairs:
        value, sign, becomes = pair.partition("=")
        try:
            if not sign:
                raise ValueError
            found[int(value)] = int(becomes)
        except ValueError:
            raise InputError(f"--map {pair}: expected VALUE=VALUE, such as --map 34=255.") from None
    return found


def parse_seeds(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    # As in `a2lc init`.
    if not all(part.isascii() and part.isdigit() and int(part) < 2**31 for part in parts):
        raise InputError(f"--seeds {text}: expected numbers of 0 or more, such as --seeds 1,2,3.")
    return [int(part) for part in parts]


def check_names(*, preset: str | None = None, method: str | None = None) -> None:
    """Refuse names that are in no registry, before anything is read."""
    from a2lc.methods import find_method
    from a2lc.project.config import PRESETS

    if preset is not None:
        require_known("preset", preset, PRESETS)
    if method is not None:
        find_method(method)
