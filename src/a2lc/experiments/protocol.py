"""What a benchmark runs: a TOML file, checked whole before anything begins."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import tomllib
import typing
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from a2lc.creation.masks import MASK_METHODS
from a2lc.errors import A2LCError, ConfigError, MissingFileError, require_known
from a2lc.methods import create_method, find_method
from a2lc.project.config import AnnotatorConfig, TrainingConfig, config_error

__all__ = [
    "FilesData",
    "MasksConfig",
    "Protocol",
    "Run",
    "ScenesData",
    "planned_runs",
    "protocol_names",
    "read_protocol",
]

Start = Literal["pseudo", "nothing", "subset"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ScenesData(_Strict):
    """Made-up street scenes, written into the output folder; the same ones for every seed of the runs."""

    kind: Literal["scenes"]
    images: int = Field(default=24, ge=1)
    validation_images: int = Field(default=8, ge=1)
    height: int = Field(default=96, ge=16)
    width: int = Field(default=128, ge=16)
    seed: int = Field(default=0, ge=0)
    difficulty: float | Literal["easy", "normal", "hard"] = "normal"


class FilesData(_Strict):
    """The user's own files, all below one folder."""

    kind: Literal["files"]
    root: str = ""
    """Relative to the protocol file; --data has the say over it."""
    format: str = "folder"
    images: str = "images"
    labels: str | None = None
    masks: str | None = None
    ground_truth: str
    classes: str | None = None
    """File with the classes; only the VOC layout knows its own."""
    validation_images: str | None = None
    validation_ground_truth: str | None = None


class MasksConfig(_Strict):
    """How masks are made, as by `a2lc masks`."""

    method: str
    count: int = Field(default=1024, ge=1)
    size: int = Field(default=32, ge=1)

    @field_validator("method")
    @classmethod
    def _known(cls, value: str) -> str:
        return require_known("mask method", value, MASK_METHODS)


class SubsetConfig(_Strict):
    """The share of images that a start from a subset has ground truth of."""

    images: int = Field(ge=1)


class MethodEntry(_Strict):
    """A method to run, and where it differs from the protocol."""

    name: str
    label: str = ""
    start: Start | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    budget: float | None = Field(default=None, gt=0)
    rounds: int | None = Field(default=None, ge=1)
    training: dict[str, Any] = Field(default_factory=dict)
    masks: MasksConfig | None = None
    optional: bool = False
    """Left out with a note where a package it needs is not installed."""

    @property
    def shown(self) -> str:
        """What it is called in tables."""
        return self.label or self.name


class Protocol(_Strict):
    """The whole of a protocol file."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    rounds: int = Field(ge=1)
    budget: float = Field(gt=0)
    """Clicks a round."""
    seeds: list[Annotated[int, Field(ge=0, lt=2**31)]] = Field(min_length=1)
    data: Annotated[ScenesData | FilesData, Field(discriminator="kind")]
    masks: MasksConfig | None = None
    """Of starts from nothing and from a subset; those of the data are kept where labels are."""
    subset: SubsetConfig | None = None
    training: dict[str, Any] = Field(default_factory=dict)
    training_nothing: dict[str, Any] = Field(default_factory=dict)
    """On top of it, for starts other than `pseudo`."""
    annotator: AnnotatorConfig = AnnotatorConfig()
    methods: list[MethodEntry] = Field(min_length=1)

    @property
    def digest(self) -> str:
        """Names all that the protocol says, in sixteen digits."""
        return _digest(self.model_dump(mode="json"))


class Run(_Strict):
    """One method with one seed: all that decides what comes out, beside the data's files."""

    label: str
    seed: int
    method: str
    settings: dict[str, Any]
    start: Start
    masks: MasksConfig | None
    budget: float
    rounds: int
    training: TrainingConfig
    annotator: AnnotatorConfig
    data: Annotated[ScenesData | FilesData, Field(discriminator="kind")]
    subset: int | None
    optional: bool

    @property
    def name(self) -> str:
        """Of its folder and in lines of progress."""
        return f"{_slug(self.label)}-{self.seed}"

    @property
    def digest(self) -> str:
        """Names what decides the run.

        More rounds only make it longer, and the place of the data may change; what it is called decides nothing.
        """
        told = self.model_dump(mode="json", exclude={"label": True, "rounds": True, "optional": True, "data": {"root"}})
        return _digest(told)

    @property
    def beginning(self) -> str:
        """Names what decides the run up to the end of round 0: runs that agree in it share that round."""
        told = self.model_dump(mode="json", include={"seed", "start", "masks", "data", "subset"})
        told["data"].pop("root", None)
        if self.start != "nothing":  # else nothing is trained
            network = create_method(self.method).network
            told |= {"training": self.training.model_dump(mode="json"), "head": network.head, "on": network.objective}
        return f"{self.start}-{self.seed}-{_digest(told)[:8]}"


def _digest(told: Any) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def _slug(label: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")


# ---- reading --------------------------------------------------------------------------------------------------------


def protocol_names() -> list[str]:
    """Protocols that come with the package."""
    folder = resources.files("a2lc.experiments") / "protocols"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def read_protocol(given: str) -> tuple[Protocol, Path]:
    """Read and check a protocol.

    Args:
        given: Path of a TOML file, or the name of one that comes with the package.

    Returns:
        The protocol, and the folder that its data root is relative to.

    Raises:
        UnknownNameError: There is no such file or name.
        ConfigError: It is not valid; the message names file and key.
    """
    path = Path(given)
    if not (path.suffix == ".toml" or path.is_file()):
        name = require_known("protocol", given, protocol_names())
        path = Path(str(resources.files("a2lc.experiments") / "protocols" / f"{name}.toml"))
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingFileError(
            f"There is no protocol at {path}. Built-in protocols are named without .toml: {', '.join(protocol_names())}"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {' '.join(str(error).split())}") from None
    try:
        protocol = Protocol.model_validate(data)
    except ValidationError as error:
        raise _fault(error, str(path)) from None
    planned_runs(protocol, str(path))  # names, settings and training of every method
    return protocol, path.absolute().parent


def planned_runs(protocol: Protocol, where: str = "protocol", seeds: Iterable[int] | None = None) -> list[Run]:
    """All runs of a protocol, method by method.

    Args:
        protocol: Read.
        where: What errors name.
        seeds: In place of the protocol's.

    Raises:
        ConfigError: What it says of a method does not fit.
    """
    runs: list[Run] = []
    taken: dict[str, str] = {}
    seeds = list(dict.fromkeys(protocol.seeds if seeds is None else seeds))
    if len(set(protocol.seeds)) != len(protocol.seeds):
        raise ConfigError(f"{where}: seeds: {protocol.seeds} contains a seed twice.")
    if protocol.annotator.kind != "oracle":
        raise ConfigError(f"{where}: annotator.kind: only the simulated annotator can be used; leave it at 'oracle'.")
    if isinstance(protocol.data, FilesData) and protocol.data.classes is None and protocol.data.format != "voc":
        raise ConfigError(
            f"{where}: data.classes is missing. Set it to the file that names the classes, relative to data.root."
        )
    for number, entry in enumerate(protocol.methods):
        key = f"{where}: methods[{number}]"
        slug = _slug(entry.shown)
        if not slug:
            raise ConfigError(f"{key}.label: {entry.shown!r} contains neither a letter nor a digit.")
        if "," in entry.shown:  # --methods takes labels between commas
            raise ConfigError(f"{key}.label: {entry.shown!r} contains a comma. Remove it.")
        if slug in taken:
            raise ConfigError(
                f"{key}.label: {entry.shown!r} is the same as {taken[slug]!r}. Give each method a label of its own."
            )
        taken[slug] = entry.shown
        try:
            create_method(entry.name, entry.settings)
        except A2LCError as error:
            raise ConfigError(f"{key}: {error}") from None
        start: Start = entry.start or typing.cast(Start, find_method(entry.name).starts)
        masks = entry.masks or (protocol.masks if start != "pseudo" else None)
        if start != "pseudo" and masks is None:
            raise ConfigError(f"{key}: {entry.shown!r} starts from {start} and needs masks: add a [masks] table.")
        if start == "subset" and protocol.subset is None:
            raise ConfigError(f"{key}: {entry.shown!r} starts from a subset: add a [subset] table with its images.")
        if start == "pseudo" and isinstance(protocol.data, FilesData) and protocol.data.labels is None:
            raise ConfigError(f"{key}: {entry.shown!r} starts from pseudo labels, but data.labels is not given.")
        told = protocol.training | ({} if start == "pseudo" else protocol.training_nothing) | entry.training
        try:
            training = TrainingConfig.model_validate(told)
        except ValidationError as error:
            raise config_error(error, f"{key}: training", TrainingConfig) from None
        subset = protocol.subset.images if start == "subset" and protocol.subset else None
        runs += [
            Run(
                label=entry.shown,
                seed=seed,
                method=entry.name,
                settings=entry.settings,
                start=start,
                masks=masks,
                budget=entry.budget or protocol.budget,
                rounds=entry.rounds or protocol.rounds,
                training=training,
                annotator=protocol.annotator,
                data=protocol.data,
                subset=subset,
                optional=entry.optional,
            )
            for seed in seeds
        ]
    return runs


def _fault(error: ValidationError, where: str) -> ConfigError:
    """Return the first fault as one line, an unknown key with the nearest known one."""
    # A key that is missing is often there under a misspelt name.
    first = min(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    models: list[type[BaseModel]] = [Protocol]
    key = ""
    for part in first["loc"]:
        if isinstance(part, int):
            key += f"[{part}]"
            continue
        tagged = [
            m for m in models if "kind" in m.model_fields and part in typing.get_args(m.model_fields["kind"].annotation)
        ]
        if tagged:  # the kind of data, which pydantic puts in between
            models = tagged
            continue
        key += f".{part}" if key else part
        if part == first["loc"][-1]:
            break
        fields = [m.model_fields[part].annotation for m in models if part in m.model_fields]
        models = [found for field in fields for found in _models(field)] or models
    more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        known = list(dict.fromkeys(name for model in models for name in model.model_fields))
        close = difflib.get_close_matches(str(first["loc"][-1]), known, n=1, cutoff=0.5)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        return ConfigError(f"{where}: unknown key {key!r}.{hint} Known: {', '.join(known)}{more}")
    shown = first["type"] != "missing" and not isinstance(first.get("input"), dict)
    found = f", found {first.get('input')!r}" if shown else ""
    return ConfigError(f"{where}: {key}: {first['msg'].removeprefix('Value error, ')}{found}.{more}")


def _models(annotation: Any) -> list[type[BaseModel]]:
    """Models that an annotation is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in typing.get_args(annotation) for found in _models(part)]
