"""Options that several commands share, and the parsers of their values."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    "takes_plan",
]


ProjectDir = Annotated[Path, typer.Argument(metavar="DIR", help="Project folder.")]


Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


MethodName = Annotated[
    str | None, typer.Option("--method", help="Method; `a2lc methods` lists them. Also package.module:Class.")
]


Budget = Annotated[float | None, typer.Option("--budget", min=0, help="Clicks per round.")]


Annotator = Annotated[
    str | None, typer.Option("--annotator", help="Annotator: oracle (simulated from ground truth) or human.")
]


ErrorRate = Annotated[float | None, typer.Option("--error-rate", help="Share of the oracle's answers that are wrong.")]


Preset = Annotated[str | None, typer.Option("--preset", help="Training preset: cpu, paper or tiny.")]


Preview = Annotated[bool, typer.Option("--preview", help="With `correct`: show what would change, and change nothing.")]


ValueMap = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="VALUE=VALUE", help="Read one label value as another, such as 34=255."),
]


Ignore = Annotated[
    int | None,
    typer.Option(
        "--ignore", min=0, max=65535, help="Label value of unlabeled pixels; default: that of the classes file."
    ),
]


Colours = Annotated[
    bool, typer.Option("--colours", help="Translate colour-coded labels by the colours of the classes file.")
]


Snap = Annotated[
    int | None,
    typer.Option(
        "--snap", min=0, max=255, help="Read each pixel of JPEG labels as the nearest known value within this distance."
    ),
]


Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        help="Number of processes that share the work on images; default: one per core. Results do not depend on it.",
    ),
]


MinPrecision = Annotated[
    float | None,
    typer.Option(
        "--min-precision", help="Minimum precision of automatic corrections that audits must prove, such as 0.9 (gain)."
    ),
]


Confidence = Annotated[
    float | None,
    typer.Option("--confidence", help="Confidence level of guarantees and intervals; default: 0.95 (gain)."),
]


Guarantee = Annotated[
    str | None,
    typer.Option(
        "--guarantee",
        help="What automatic corrections rest on: proven by audits, expected to help (and marked so), or none (gain).",
    ),
]


Segmenter = Annotated[
    str,
    typer.Option(
        "--segmenter", help="Weights of the segmenter: a name listed in docs/pseudo.md, OWNER/NAME, or a folder."
    ),
]


BackboneName = Annotated[
    str | None,
    typer.Option(
        "--backbone",
        help="Frozen network of the learned features: efficientnet-lite0, timm:NAME or transformers:NAME; NAME may be a folder.",
    ),
]


Device = Annotated[str, typer.Option("--device", help="Device of the foundation models: auto, cpu, cuda or cuda:N.")]


Download = Annotated[bool, typer.Option("--download", help="Download weights that are not on this machine.")]


AcceptLicense = Annotated[
    list[str] | None,
    typer.Option("--accept-license", metavar="NAME", help="Name of weights whose licence you have read and accept."),
]


Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting, such as training.iterations=600 or method.lcm=false."),
]


Probabilities = Annotated[
    Path | None,
    typer.Option(
        "--probabilities", help="Folder of class probabilities, IMAGE_ID.npy of shape (K, H, W), instead of a model."
    ),
]


PLAN: dict[str, Any] = {
    "method": MethodName,
    "budget": Budget,
    "annotator": Annotator,
    "error_rate": ErrorRate,
    "preset": Preset,
    "backbone": BackboneName,
    "settings": Settings,
    "probabilities": Probabilities,
    "min_precision": MinPrecision,
    "confidence": Confidence,
    "guarantee": Guarantee,
}
"""The options that change how a project's rounds are run, as `a2lc.cli.settings.configure` takes them; none has a default."""


def takes_plan(*without: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that puts the options of `PLAN` in the place of a command's parameter `plan`.

    The command gets them as a dictionary, by name.

    Args:
        *without: Names of options that the command does not have.
    """
    names = [name for name in PLAN if name not in without]

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(**given: Any) -> None:
            plan = {name: given.pop(name) for name in names}
            function(**given, plan=plan)

        own = inspect.signature(function, eval_str=True)
        options = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=PLAN[name])
            for name in names
        ]
        parameters = [
            new
            for old in own.parameters.values()
            for new in (options if old.name == "plan" else [old.replace(kind=inspect.Parameter.KEYWORD_ONLY)])
        ]
        command.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return command

    return decorate


def parse_classes(given: str) -> ClassTable:
    """Read a classes file, or names separated by commas."""
    from a2lc.classes.table import ClassTable, read_classes

    path = Path(given)
    if path.suffix.lower() in {".json", ".yaml", ".yml", ".txt"} or path.is_file() or "," not in given:
        return read_classes(path)
    names = [name.strip().strip("\"'").strip() for name in given.split(",")]
    return ClassTable.from_json({"classes": [{"name": name} for name in names]}, "--classes")


def is_number(text: str) -> bool:
    """Return whether text is a whole number of fewer than ten digits; unlike `isdigit`, superscripts do not count."""
    return text.isascii() and text.isdecimal() and len(text) < 10


def parse_bands(given: str | None) -> tuple[int, ...] | None:
    """Parse band numbers such as `4,3,2`: one or three, counted from 1."""
    if given is None:
        return None
    parts = given.split(",")
    if len(parts) not in (1, 3) or not all(is_number(part.strip()) and int(part) > 0 for part in parts):
        raise InputError(f"--bands {given}: expected one band or three, counted from 1, such as 4,3,2.")
    return tuple(int(part) for part in parts)


def parse_stretch(given: str | None) -> Stretch | None:
    """Parse the values that become black and white, such as `0:3000` or `2%:98%`."""
    from a2lc.images.multiband import Stretch

    return None if given is None else Stretch.parse(given)


def parse_value_map(pairs: list[str]) -> dict[int, int]:
    """Parse pairs such as `34=255` into a map from label values to the values they are read as."""
    mapping = {}
    for pair in pairs:
        value, sign, becomes = pair.partition("=")
        try:
            if not sign:
                raise ValueError
            mapping[int(value)] = int(becomes)
        except ValueError:
            raise InputError(f"--map {pair}: expected VALUE=VALUE, such as --map 34=255.") from None
    return mapping


def parse_seeds(text: str) -> list[int]:
    """Parse seeds separated by commas."""
    parts = [part.strip() for part in text.split(",")]
    # The same range as `--seed` of `a2lc init`.
    if not all(part.isascii() and part.isdigit() and int(part) < 2**31 for part in parts):
        raise InputError(f"--seeds {text}: expected whole numbers from 0, such as --seeds 1,2,3.")
    return [int(part) for part in parts]


def check_names(*, preset: str | None = None, method: str | None = None, backbone: str | None = None) -> None:
    """Raise an error for an unknown preset, method or backbone, before anything is read."""
    from a2lc.methods import find_method
    from a2lc.project.config import PRESETS

    if preset is not None:
        require_known("preset", preset, PRESETS)
    if method is not None:
        find_method(method)
    if backbone is not None:
        from a2lc.features.choice import find_backbone

        find_backbone(backbone)
