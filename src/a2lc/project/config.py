"""project.yaml: classes, sources, method, training, seed; validated, and unknown keys are errors."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from a2lc.errors import ConfigError, MissingFileError, NewerProjectError, require_known
from a2lc.images.limits import MAX_PIXELS
from a2lc.images.options import ReadingOptions
from a2lc.io.files import write_text
from a2lc.io.yaml_text import YAMLError, read_yaml, to_yaml

__all__ = [
    "FORMAT_VERSION",
    "PRESETS",
    "AnnotatorConfig",
    "FeaturesConfig",
    "MethodConfig",
    "ProjectConfig",
    "SourcesConfig",
    "TrainingConfig",
    "apply_settings",
    "config_error",
    "read_config",
    "reading_of",
    "with_options",
]


def reading_of(config: ProjectConfig) -> dict[str, Any]:
    """Return what decides the class index of a pixel, fixed for the life of a project; names and colours are not."""
    classes = config.classes
    return {
        "ids": [row["id"] for row in classes["classes"]],
        "ignore": classes["ignore"],
        "value_map": {str(value): becomes for value, becomes in sorted(config.sources.value_map.items())},
    }


FORMAT_VERSION = 1
"""Version of the project folder that this package writes."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SourcesConfig(_Strict):
    """Where the user's files are, and how they are read."""

    format: str = "folder"
    images: str | None = None
    """Folder of images; None for a project without, or with images of its own alone."""
    labels: str | None = None
    masks: str | None = None
    ground_truth: str | None = None
    validation_images: str | None = None
    validation_ground_truth: str | None = None
    exif: Literal["refuse", "apply", "ignore", "bake"] = "refuse"
    """What is done with an image whose EXIF orientation says that it is shown turned."""
    value_map: dict[int, int] = Field(default_factory=dict)
    """Value in the user's label files -> the value it is read as."""
    colours: bool = False
    """Coloured label files are read through the colours of the classes."""
    snap: int | None = None
    """Pixels of lossy label files were read as a known value or colour at most so far away."""
    max_pixels: int = Field(default=MAX_PIXELS, gt=0)
    """Images with more pixels are refused before they are decoded."""
    partial: bool = False
    """Images without a label map started without labels, in place of being refused."""
    partial_ground_truth: bool = False
    """Some images have no ground truth: figures are of the others."""
    tile: int | None = None
    """Larger images were cut into tiles of at most so many pixels a side."""
    bands: list[int] | None = None
    """The bands that were taken for red, green and blue, or for grey, from 1."""
    stretch: str | None = None
    """Which values of images with more than 8 bits became 0 and 255."""

    @classmethod
    def of(cls, options: ReadingOptions, **places: Any) -> SourcesConfig:
        """Return the record of reading options, as `project.yaml` stores it.

        Args:
            options: How the files are read. `ignore` is stored with the classes, and `skip_bad` is of the import alone.
            **places: The format and the paths of the files: the other fields.
        """
        return cls(
            **places,
            exif=options.exif,  # type: ignore[arg-type]
            value_map=options.value_map,
            colours=options.colours,
            snap=options.snap,
            max_pixels=options.max_pixels,
            partial=options.partial,
            partial_ground_truth=options.partial_truth,
            tile=options.tile,
            bands=None if options.bands is None else list(options.bands),
            stretch=None if options.stretch is None else str(options.stretch),
        )

    @property
    def reading(self) -> ReadingOptions:
        """The options that the files were read with, but for `ignore` and `skip_bad`."""
        from a2lc.images.multiband import Stretch

        return ReadingOptions(
            exif=self.exif,
            value_map=dict(self.value_map),
            colours=self.colours,
            snap=self.snap,
            max_pixels=self.max_pixels,
            partial=self.partial,
            partial_truth=self.partial_ground_truth,
            tile=self.tile,
            bands=None if self.bands is None else tuple(self.bands),
            stretch=None if self.stretch is None else Stretch.parse(self.stretch),
        )


class MethodConfig(_Strict):
    """Which method runs, and its settings; both are checked against the registry of methods."""

    name: str = "gain"
    settings: dict[str, Any] = Field(default_factory=dict)
    budget: float = Field(default=500, gt=0)
    """Clicks a round."""


class AnnotatorConfig(_Strict):
    """Who answers, and what an answer costs."""

    kind: Literal["oracle", "human"] = "oracle"
    error_rate: float = Field(default=0.0, ge=0, lt=1)
    """Share of answers in which the simulated annotator names a wrong class."""
    confirm_clicks: float = Field(default=1.0, gt=0)
    correct_clicks: float = Field(default=1.0, gt=0)


class FeaturesConfig(_Strict):
    """The backbone that learned features come from."""

    backbone: str = "efficientnet-lite0"
    """`efficientnet-lite0`, or `timm:NAME` or `transformers:NAME` with a folder or a pinned `NAME@COMMIT` for NAME."""
    device: str = "auto"
    """Of a backbone of timm or transformers: `auto`, `cpu`, `cuda` or `cuda:N`."""
    mixed_precision: bool = False
    """Half precision on a GPU."""
    accepted_licenses: list[str] = Field(default_factory=list)
    """Names of weights whose licence was accepted."""


def _devices(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.lstrip("-").isdigit() else value


class TrainingConfig(_Strict):
    """The segmentation model and how it is trained. A preset fills in what is not said."""

    preset: Literal["cpu", "paper", "tiny"] = "cpu"
    model: str = "head"
    """`head`, a classifier on learned features that needs no torch; a network of the registry, or `package.module:function`
    for one's own; or `probabilities` for files."""
    probabilities: str | None = None
    """Folder of probability files, with `model: probabilities`: IMAGE_ID.npy, (K, H, W), in place of a model."""
    encoder: str = "resnet18"
    encoder_weights: str | None = None
    """Pretrained weights: by the name segmentation-models-pytorch knows, fetched only when named; `efficientnet-lite0`, those of
    the learned features' package; or a file. None starts at random."""
    output_stride: Literal[8, 16] = 16
    head: Literal["linear", "cosine", "error"] = "linear"
    """Classifier of the network; a method that needs another one than `linear` takes it."""
    resize: int | None = Field(default=192, ge=16)
    """Short side of the canvas every image is fitted into; None keeps the image's own size."""
    crop: int | None = Field(default=None, ge=32)
    """Side of the square crops that are trained on; None trains on whole canvases."""
    scale: tuple[float, float] = (0.75, 1.5)
    """Range of random scaling in training."""
    colour_jitter: float = Field(default=0.2, ge=0, le=1)
    flip: bool = True
    batch_size: int = Field(default=8, ge=1)
    iterations: int = Field(default=450, ge=1)
    """Steps of the first training, and of each one where `warm_start` is off."""
    warm_start: bool = True
    """Later rounds go on from the weights of the round before, for `warm_iterations` steps."""
    warm_iterations: int = Field(default=200, ge=1)
    optimizer: Literal["sgd", "adamw"] = "adamw"
    learning_rate: float = Field(default=1e-3, gt=0)
    """Of the head; the encoder gets `encoder_rate` times it."""
    encoder_rate: float = Field(default=1.0, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=1e-4, ge=0)
    power: float = Field(default=0.9, ge=0)
    """Of the polynomial decay of the learning rate."""
    floor: float = Field(default=1e-6, ge=0)
    """Lowest learning rate of that decay."""
    checkpoint: Literal["auto", "best", "last"] = "auto"
    """Which weights a round keeps: the best on validation ground truth, or the last; `auto` takes the best if it can."""
    validate_every: int = Field(default=100, ge=2)
    """Steps between validations, where there is validation ground truth."""
    checkpoint_every: int = Field(default=50, ge=1)
    """Steps between checkpoints: what a killed training loses at most."""
    workers: int = Field(default=0, ge=0)
    """Processes that load training data; 0 loads in the main one."""
    cache_megabytes: int = Field(default=1024, ge=0)
    """Memory for resized images between epochs."""
    accelerator: str = "auto"
    devices: Annotated[int | str | list[int], BeforeValidator(_devices)] = 1
    strategy: str = "auto"
    num_nodes: int = Field(default=1, ge=1)
    precision: str = "auto"
    """Of Lightning's Trainer; `auto` is bf16-mixed where the machine computes in it, 16-mixed on older GPUs, else 32."""
    logger: Literal["csv", "tensorboard", "none"] = "csv"

    @model_validator(mode="before")
    @classmethod
    def _fill_preset(cls, data: Any) -> Any:
        if isinstance(data, dict):
            preset = data.get("preset", "cpu")
            return {**(PRESETS.get(preset, {}) if isinstance(preset, str) else {}), **data}
        return data

    @model_validator(mode="after")
    def _agree(self) -> TrainingConfig:
        if (self.model == "probabilities") != (self.probabilities is not None):
            raise ValueError("`model: probabilities` requires the folder `probabilities: DIR`, and the other way round")
        if self.devices in (0, []) or (isinstance(self.devices, int) and self.devices < -1):
            raise ValueError(f"devices {self.devices}: expected a number from 1, -1 for all, or a list of devices")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale {self.scale} is not a range of two positive numbers")
        return self


PRESETS: dict[str, dict[str, Any]] = {
    # The head, in seconds. A network, if one is named, in minutes on two cores: a small one on images of about 192 x 256.
    "cpu": {},
    # For the built-in scenes and tests: the same, a network at their own size, seconds a round.
    "tiny": {
        "resize": 96,
        "batch_size": 8,
        "iterations": 100,
        "warm_iterations": 40,
        "colour_jitter": 0.1,
        "scale": (1.0, 1.3),
    },
    # A2LC's published settings for PASCAL VOC (docs/methods/a2lc.md has those for Cityscapes).
    "paper": {
        "model": "deeplabv3plus",
        "encoder": "resnet101",
        "encoder_weights": "imagenet",
        "resize": None,
        "crop": 513,
        "scale": (0.5, 2.0),
        "colour_jitter": 0.0,
        "batch_size": 16,
        "iterations": 30_000,
        "warm_start": False,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "encoder_rate": 0.1,
        "workers": 8,
        "checkpoint_every": 500,
        "cache_megabytes": 0,
    },
}
"""What each preset says in place of the defaults."""


class ProjectConfig(_Strict):
    """The whole of project.yaml."""

    format_version: int
    created_by: str
    name: str
    seed: int = Field(default=0, ge=0, lt=2**31)
    classes: dict[str, Any]
    sources: SourcesConfig
    method: MethodConfig = MethodConfig()
    features: FeaturesConfig = FeaturesConfig()
    training: TrainingConfig = TrainingConfig()
    annotator: AnnotatorConfig = AnnotatorConfig()

    def save(self, path: Path) -> None:
        """Write project.yaml, whole or not at all; training and features keep only what differs from their defaults."""
        data = self.model_dump(mode="json")
        preset = TrainingConfig(preset=self.training.preset).model_dump(mode="json")
        kept = {key: value for key, value in data["training"].items() if key == "preset" or value != preset[key]}
        data["training"] = kept
        standard = FeaturesConfig().model_dump(mode="json")
        data["features"] = {key: value for key, value in data["features"].items() if value != standard[key]}
        if not data["features"]:
            del data["features"]
        write_text(path, to_yaml(data))


def read_config(path: Path) -> ProjectConfig:
    """Read and check project.yaml.

    Raises:
        MissingFileError: It is not there.
        NewerProjectError: A newer version of the package wrote it.
        ConfigError: It is not valid; the message names the key.
    """
    try:
        data = read_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingFileError(
            f"There is no project at {path.parent}: {path.name} is missing. Create one with: a2lc init"
        ) from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected settings as keys and values, found {type(data).__name__}.")
    _keep_first_network(data)
    version = data.get("format_version")
    version = int(version) if isinstance(version, str) and version.isdecimal() else version
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise NewerProjectError(
            f"{path} has format version {version}, written by {data.get('created_by', 'a newer a2lc')}; this a2lc "
            f"reads versions up to {FORMAT_VERSION}. Install that version or a newer one: pip install -U a2lc"
        )
    try:
        return ProjectConfig.model_validate(data)
    except ValidationError as error:
        raise config_error(error, str(path), ProjectConfig) from None


def _keep_first_network(data: dict[str, Any]) -> None:
    """Name the network of projects that versions before 0.2 made: they trained it by default, and did not write it down."""
    made_by, training = str(data.get("created_by", "")), data.get("training") or {}
    if made_by.startswith("a2lc 0.1.") and isinstance(training, dict) and "model" not in training:
        data["training"] = {"model": "deeplabv3plus", **training}


def config_error(error: ValidationError, where: str, model: type[BaseModel]) -> ConfigError:
    """Word the first error of a validation as one line, an unknown key with the nearest known one."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        known: list[str] = list(model.model_fields)
        for part in first["loc"][:-1]:
            field = model.model_fields.get(str(part))
            if field is not None and isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                model = field.annotation
                known = list(model.model_fields)
        close = difflib.get_close_matches(str(first["loc"][-1]), known, n=1, cutoff=0.5)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        return ConfigError(f"{where}: unknown key {key!r}.{hint} Known: {', '.join(known)}{more}")
    shown = first["type"] != "missing" and not isinstance(first.get("input"), dict)
    found = f", found {first.get('input')!r}" if shown else ""
    message = first["msg"].removeprefix("Value error, ")
    return ConfigError(f"{where}: {key or 'settings'}: {message}{found if key else ''}.{more}")


def apply_settings(config: ProjectConfig, settings: dict[str, Any]) -> ProjectConfig:
    """Return a configuration with dotted settings changed, such as `training.iterations` = 100.

    `training.preset` also resets what the preset fills in, unless the settings say otherwise.

    Raises:
        ConfigError: A key is unknown or a value does not fit.
    """
    data = config.model_dump(mode="python")
    if "training.preset" in settings:
        require_known("preset", str(settings["training.preset"]), PRESETS)
        training = config.training
        chosen = training.model != TrainingConfig(preset=training.preset).model
        keep = {"model": training.model, "probabilities": training.probabilities} if chosen else {}
        data["training"] = {"preset": settings["training.preset"], **keep}
    for key, value in settings.items():
        parts = key.split(".")
        level: Any = data
        for part in parts[:-1]:
            level = level.setdefault(part, {}) if isinstance(level, dict) else None
            if not isinstance(level, dict):
                raise ConfigError(f"{key}: {part!r} has no settings of its own.")
        level[parts[-1]] = value
    try:
        return ProjectConfig.model_validate(data)
    except ValidationError as error:
        raise config_error(error, "settings", ProjectConfig) from None


def with_options(
    config: ProjectConfig,
    *,
    method: str | None = None,
    budget: float | None = None,
    annotator: str | None = None,
    error_rate: float | None = None,
    preset: str | None = None,
    probabilities: Path | None = None,
    backbone: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> ProjectConfig:
    """Return a configuration with the options that are given.

    Args:
        config: As it is.
        method: Name of the method; another one drops the settings of the one before.
        budget: Clicks per round.
        annotator: `oracle` or `human`.
        error_rate: Share of wrong answers of the oracle.
        preset: Training preset; another one resets what the preset fills in.
        probabilities: Folder of probabilities in place of a network.
        backbone: Backbone of the learned features.
        settings: Dotted settings below `method`, `features`, `training` and `annotator`. A setting of the method may leave out
            `settings`: `method.batch` is short for `method.settings.batch`.

    Raises:
        UnknownNameError: There is no such preset, annotator or group of settings.
        ConfigError: A key is unknown or a value does not fit.
    """
    changes: dict[str, Any] = {}
    if preset is not None and preset != config.training.preset:
        changes["training.preset"] = preset
    if probabilities is not None:
        changes["training.model"] = "probabilities"
        changes["training.probabilities"] = str(probabilities.absolute())
    if backbone is not None:
        changes["features.backbone"] = backbone
    if method is not None and method != config.method.name:
        changes |= {"method.name": method, "method.settings": {}}
    if budget is not None:
        changes["method.budget"] = budget
    if annotator is not None:
        changes["annotator.kind"] = require_known("annotator", annotator, ["oracle", "human"])
    if error_rate is not None:
        changes["annotator.error_rate"] = error_rate
    for key, value in (settings or {}).items():
        group = require_known("group of settings", key.split(".")[0], ["method", "features", "training", "annotator"])
        name = key.removeprefix("method.")
        if key == "training.encoder_weights" and isinstance(value, str) and Path(value).is_file():
            value = str(Path(value).absolute())
        own = group == "method" and name not in {"name", "budget"} and name.split(".")[0] != "settings"
        changes[f"method.settings.{name}" if own else key] = value
    return apply_settings(config, changes) if changes else config
