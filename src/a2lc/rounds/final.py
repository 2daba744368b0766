"""The final network: trained on the corrected labels after the rounds, kept with what it was trained on, and handed over."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from a2lc.classes.sentinels import VOID
from a2lc.errors import InputError, MissingExtraError
from a2lc.features.choice import BUILT_IN
from a2lc.features.weights import weights_file
from a2lc.images.normalisation import IMAGENET_MEAN, IMAGENET_STD
from a2lc.io.files import atomic_path, json_safe, sha256, write_text
from a2lc.io.progress import Track, no_progress
from a2lc.ledger.replay import SOURCES, MaskState
from a2lc.project.config import TrainingConfig
from a2lc.project.project import Project
from a2lc.rounds.evaluate import count_predictions
from a2lc.rounds.models import NETWORK
from a2lc.rounds.proof import not_proven
from a2lc.rounds.providers import ConfiguredModels
from a2lc.training.objectives import LabelObjective
from a2lc.training.provider import ModelProvider
from a2lc.version import versions

__all__ = ["FinalModel", "check_out", "copy_weights", "final_config", "final_model", "train_final"]

_LOG = logging.getLogger(__name__)

FOLDER = "final"
"""Folder of the project that holds the final network."""

_ENCODER = "tu-tf_efficientnet_lite0"  # the package's weights are those of this encoder


@dataclass(frozen=True, kw_only=True)
class FinalModel:
    """A final network of a project.

    Attributes:
        weights: Its file of safetensors, with `about` in its metadata too.
        about: What it was trained on and how, as `model.json` says.
        is_current: Whether the labels are still those that it was trained on.
        trained: Whether it was trained by this call.
    """

    weights: Path
    about: dict[str, Any]
    is_current: bool
    trained: bool = False

    @property
    def sentence(self) -> str:
        """What it is, in a sentence for people."""
        evaluation, labels = self.about["evaluation"], self.about["labels"]
        miou, where = evaluation["model_miou"], evaluation["measured_on"]
        measured = "not measured, for want of ground truth" if miou is None else f"model mIoU {miou:.4f} on the {where}"
        changed = "" if self.is_current else ". The labels have changed since: train it again"
        network = self.about["training"]["model"]
        return (
            f"final network {network}, trained on {labels['images']:,} images with the labels after round {labels['rounds']}: "
            f"{measured}{changed}"
        )


def final_config(training: TrainingConfig) -> TrainingConfig:
    """Return the settings of the final network: those of the project, with a network and a pretrained encoder if they name none.

    Args:
        training: The project's settings.
    """
    changes: dict[str, Any] = {}
    if training.model in {"head", "probabilities"}:
        changes |= {"model": NETWORK, "probabilities": None}
        standard = TrainingConfig(preset=training.preset)
        if (training.encoder, training.encoder_weights) == (standard.encoder, standard.encoder_weights) and (
            training.encoder_weights is None
        ):
            try:
                weights_file()
            except MissingExtraError as error:
                _LOG.warning("The final network starts from random weights, which need more training. %s", error)
            else:
                changes |= {"encoder": _ENCODER, "encoder_weights": BUILT_IN}
    return training.model_copy(update=changes)


def train_final(project: Project, *, models: ModelProvider | None = None, track: Track = no_progress) -> FinalModel:
    """Train a network on the corrected labels as an export writes them; pixels without a label are ignored.

    The result lies in `final/`: `model.safetensors`, and `model.json` with what it was trained on. A call that was interrupted is
    resumed by the next, if labels and settings are the same; one that has nothing to do returns what is there.

    Args:
        project: Opened, its lock held by the caller.
        models: Who trains and predicts; by default, networks of PyTorch.
        track: Shows progress.

    Raises:
        InputError: There are no images or no labels to learn from.
        ConfigError: The training settings do not fit each other.
        MissingExtraError: The extra `train` is not installed.
    """
    if not project.has_images:
        raise InputError("The project has no images to train a network on. Create it with `images`.")
    config, state = final_config(project.config.training), project.state()
    objective = LabelObjective(state=state)
    images = objective.images(project)
    if not images:
        raise InputError("No pixel has a label, so there is nothing to train a network on. Run a round first.")
    digest = _labels_digest(project, state)
    settings = config.model_dump(mode="json") | {"seed": project.config.seed}
    there = final_model(project)
    if there is not None and there.is_current and there.about["training"] == settings:
        return there
    models = models or ConfiguredModels()
    folder = project.folder / FOLDER
    work = folder / f"work-{digest[:16]}"
    for other in folder.glob("work-*"):
        if other != work:
            shutil.rmtree(other)  # of labels that have changed since
    seed = int(np.random.default_rng([project.config.seed, 9]).integers(2**31))
    fitted = models.fit(project, config, objective, work, seed=seed, track=track)
    about = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "project": project.config.name,
        "training": settings,
        "fitted": asdict(fitted),
        "classes": project.classes.to_json(),
        "input": {"mean": list(IMAGENET_MEAN), "std": list(IMAGENET_STD), "range": [0, 1]},
        "labels": _about_labels(project, state, len(images)) | {"digest": digest},
        "evaluation": _evaluate(project, models, config, work / "model.ckpt", track),
        "versions": versions(),
    }
    weights = _put_in_place(folder, work / "model.ckpt", json_safe(about))
    shutil.rmtree(work)
    found = final_model(project)
    assert found is not None and found.weights == weights
    return FinalModel(weights=found.weights, about=found.about, is_current=True, trained=True)


def final_model(project: Project) -> FinalModel | None:
    """Return the final network of a project; None if none was trained.

    Raises:
        InputError: Its description is damaged.
    """
    path = project.folder / FOLDER / "model.json"
    weights = path.with_name("model.safetensors")
    if not path.is_file() or not weights.is_file():
        return None
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        digest = about["labels"]["digest"]
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path} is damaged. Train the network again: a2lc train {project.folder} --final") from None
    return FinalModel(weights=weights, about=about, is_current=digest == _labels_digest(project, project.state()))


def copy_weights(model: FinalModel, out: Path) -> None:
    """Copy the weights to a new file, whole or not at all.

    Raises:
        InputError: There is a file already, or it is named otherwise than as safetensors.
    """
    check_out(out)
    with atomic_path(out) as temporary:
        shutil.copyfile(model.weights, temporary)


def check_out(out: Path) -> None:
    """Refuse a path that `copy_weights` cannot write to.

    Raises:
        InputError: There is a file already, or it is named otherwise than as safetensors.
    """
    if out.suffix != ".safetensors":
        raise InputError(f"`out` is {out}; expected the name of a file that ends in .safetensors.")
    if out.exists():
        raise InputError(f"{out} exists. Set `out` to a new file.")


def _labels_digest(project: Project, state: MaskState) -> str:
    """Return the SHA-256 of all that the corrected labels depend on."""
    total = hashlib.sha256(json.dumps(project.classes.to_json(), sort_keys=True).encode())
    masks = project.masks
    for array in (masks.keys, masks.area, masks.pair_label, state.classes):
        total.update(np.ascontiguousarray(array).tobytes())
    if state.layer is not None:
        files = project.ledger.layer_files(state.layer)
        total.update(json.dumps(files, sort_keys=True, default=str).encode())
        total.update(b"" if state.newer is None else state.newer.tobytes())
    return total.hexdigest()


def _about_labels(project: Project, state: MaskState, images: int) -> dict[str, Any]:
    """Return what the labels are, in numbers."""
    labelled = project.masks.current(state) != VOID
    return {
        "rounds": max((stage.round for stage in project.ledger.stages() if stage.stage == "evaluate"), default=0),
        "images": images,
        "labelled_masks": int(labelled.sum()),
        "masks": len(labelled),
        "manual_masks": int((state.source == SOURCES.index("manual")).sum()),
        "automatic_masks": int((state.source == SOURCES.index("automatic")).sum()),
        "not_proven_masks": int(not_proven(project, state).sum()),
    }


def _evaluate(
    project: Project, models: ModelProvider, config: TrainingConfig, weights: Path, track: Track
) -> dict[str, Any]:
    """Measure a network on validation images, or else on the training images, if there is ground truth."""
    images = project.validation_images or (project.images if project.has_ground_truth else [])
    if not images:
        return {"model_miou": None, "model_iou": None, "measured_on": None}
    counts = count_predictions(project, models.from_weights(project, config, weights), images, track)
    return {
        "model_miou": counts.miou,
        "model_iou": [None if np.isnan(value) else float(value) for value in counts.iou],
        "measured_on": "validation images" if project.validation_images else "training images",
    }


def _put_in_place(folder: Path, checkpoint: Path, about: dict[str, Any]) -> Path:
    """Write weights and description; a process killed in between leaves no description of other weights."""
    from a2lc.training.final_weights import write_final

    weights, path = folder / "model.safetensors", folder / "model.json"
    path.unlink(missing_ok=True)
    write_final(checkpoint, weights, about)
    write_text(path, json.dumps(about | {"sha256": sha256(weights)}, indent=1))
    return weights
