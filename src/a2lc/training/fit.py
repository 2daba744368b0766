"""Fit a segmentation model to the corrected labels of a project, resuming where a killed run stopped."""

from __future__ import annotations

import json
import logging
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import nn
from torch.utils.data import DataLoader

from a2lc.errors import ConfigError
from a2lc.io.files import atomic_path, write_text
from a2lc.io.progress import Advance, Track, no_progress
from a2lc.models.build import build_model
from a2lc.models.heads import HeadedNet
from a2lc.project.config import TrainingConfig
from a2lc.project.project import Project
from a2lc.training.canvas import Canvas, canvas_for
from a2lc.training.dataset import StepSampler, TrainingSet, ValidationSet
from a2lc.training.objectives import Fitted
from a2lc.training.tasks import Task

__all__ = ["Fitted", "fit_model", "load_model", "pick_precision", "project_canvas", "save_model"]

_log = logging.getLogger("a2lc")


class _AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints written whole or not at all: a killed run must find the last one readable."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        with atomic_path(Path(path)) as temporary:
            super().save_checkpoint(checkpoint, temporary, storage_options)


class _SaveLast(Callback):
    """Writes a checkpoint every so many steps, and never at a step that is about to be validated.

    A validation runs after the step has ended. Were the checkpoint written before it, a run killed in between would go
    on without that validation, and might keep other weights than an unbroken one.
    """

    def __init__(self, path: Path, every: int, validated: int | None, saved: int) -> None:
        self.path, self.every, self.validated, self.saved = path, every, validated, saved

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        step = trainer.global_step
        if step - self.saved >= self.every and (self.validated is None or step % self.validated):
            trainer.save_checkpoint(self.path)
            self.saved = step


class _Progress(Callback):
    """Moves the project's own progress bar."""

    def __init__(self, advance: Advance) -> None:
        self.advance = advance

    def on_train_batch_end(self, *_: Any) -> None:
        self.advance()


def project_canvas(project: Project, config: TrainingConfig) -> Canvas:
    """Choose the canvas that all images of a project are fitted into."""
    return canvas_for([(image.height, image.width) for image in project.images], config.resize)


def pick_precision(config: TrainingConfig) -> Any:
    """Return Lightning's precision: as configured, or what this machine computes fast in.

    Raises:
        ConfigError: The precision is not one of Lightning's.
    """
    if config.precision != "auto":
        known = ("32-true", "32", "16-mixed", "bf16-mixed", "bf16-true", "16-true", "64-true", "transformer-engine")
        if config.precision not in known:
            raise ConfigError(f"training.precision {config.precision!r}: expected auto or one of {', '.join(known)}.")
        return config.precision
    if config.accelerator in {"auto", "gpu", "cuda"} and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    # Only processors with matrix units for it gain from bfloat16; others emulate it, slower than single precision.
    amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return "bf16-mixed" if config.accelerator in {"auto", "cpu"} and amx() else "32-true"


def fit_model(
    project: Project,
    config: TrainingConfig,
    task: Task,
    folder: Path,
    *,
    seed: int,
    start: Path | None = None,
    model: nn.Module | None = None,
    track: Track = no_progress,
) -> Fitted:
    """Train a network and write its weights into a folder.

    Args:
        project: Images and labels.
        config: How.
        task: What to.
        folder: Of the round. Checkpoints lie in `training/` below it until it ends.
        seed: Of weights, order and augmentation.
        start: Weights to go on from, for `warm_iterations` steps; None starts anew.
        model: A network in place of the configured one.
        track: Shows progress.

    Returns:
        What it came to.
    """
    _quiet()
    torch.manual_seed(seed)
    if model is None:
        # Weights to go on from take the place of those that the encoder would start with.
        built = config if start is None else config.model_copy(update={"encoder_weights": None})
        model = build_model(built, project.classes.num_classes)
    if config.head != "linear" and not isinstance(model, HeadedNet):
        model = HeadedNet(model, project.classes.num_classes, config.head)
    if start is not None:
        _load_weights(model, start)
    model = model.to(memory_format=torch.channels_last)
    steps = config.iterations if start is None else config.warm_iterations
    canvas = project_canvas(project, config)
    module = task.module(model, config, project.classes.num_classes, project.classes.ignore_index, steps, seed)
    work = folder / ("training" if task.weights == "model.ckpt" else f"training-{task.name}")
    best = task.validates and _keeps_best(project, config)
    last = work / "last.ckpt"
    settings = {"config": config.model_dump(mode="json"), "seed": seed, "warm": start is not None}
    settings |= {"task": task.name, "images": len(task.images), **task.stamp}
    _forget_other_settings(work, json.loads(json.dumps(settings)))
    done = _finished_steps(last) if last.is_file() else 0
    callbacks: list[Callback] = [
        _SaveLast(last, config.checkpoint_every, config.validate_every if best else None, done)
    ]
    keeper = None
    if best:
        # A version counter would leave a killed run with several best checkpoints.
        keeper = ModelCheckpoint(
            dirpath=work,
            filename="best",
            monitor="val_miou",
            mode="max",
            save_top_k=1,
            save_weights_only=True,
            enable_version_counter=False,
        )
        callbacks.append(keeper)
    with track("training", steps) as advance:
        try:
            trainer = lightning.Trainer(
                max_steps=steps,
                accelerator=config.accelerator,
                devices=config.devices,
                strategy=config.strategy,
                num_nodes=config.num_nodes,
                precision=pick_precision(config),
                logger=_logger(config, folder),
                callbacks=[*callbacks, _Progress(advance)],
                enable_checkpointing=keeper is not None,
                plugins=[_AtomicCheckpoints()],
                default_root_dir=work,
                enable_progress_bar=False,
                enable_model_summary=False,
                num_sanity_val_steps=0,
                check_val_every_n_epoch=None,
                val_check_interval=config.validate_every if best else None,
                limit_val_batches=1.0 if best else 0,
                log_every_n_steps=10,
                use_distributed_sampler=False,
            )
        except (ValueError, TypeError, MisconfigurationException) as error:
            raise ConfigError(f"Lightning rejects the training settings: {' '.join(str(error).split())}") from None
        data = TrainingSet(project, task, canvas, config, seed)
        sampler = StepSampler(
            len(data), config.batch_size, steps, seed, start=done, rank=trainer.global_rank, world=trainer.world_size
        )
        loader = DataLoader(
            data,
            batch_size=config.batch_size,
            sampler=sampler,
            num_workers=config.workers,
            persistent_workers=config.workers > 0,
        )
        validation = DataLoader(ValidationSet(project, canvas), batch_size=1) if best else None
        if done:
            _log.info("training resumes at step %d of %d", done, steps)
            advance(done)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Lightning's advice on workers and logging intervals
            trainer.fit(module, loader, validation, ckpt_path=str(last) if done else None, weights_only=True)
            module.finish()
            miou = None
            if best:
                # Whether or not the last step was a validated one, the last weights are a candidate.
                trainer.validate(module, validation, verbose=False)
                miou = float(trainer.callback_metrics["val_miou"])
    kept = "last"
    if keeper is not None and keeper.best_model_score is not None and miou is not None:
        score = float(keeper.best_model_score)
        if score > miou:
            kept, miou = "best", score
            weights = torch.load(keeper.best_model_path, map_location="cpu", weights_only=True)["state_dict"]
            module.load_state_dict(weights)
    if trainer.is_global_zero:
        save_model(module.kept_model(), folder / task.weights)
        shutil.rmtree(work, ignore_errors=True)
    return Fitted(steps=steps, kept=kept, validation_miou=miou)


def save_model(model: nn.Module, path: Path) -> None:
    """Write a network's weights, whole or not at all."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with atomic_path(path) as temporary:
        torch.save(weights, temporary)


def load_model(config: TrainingConfig, num_classes: int, path: Path, model: nn.Module | None = None) -> nn.Module:
    """Build the network of a configuration with weights that `save_model` wrote, ready to predict.

    Raises:
        ConfigError: The weights are not of that network.
    """
    if model is None:
        # The weights are in the file: none are fetched.
        model = build_model(config.model_copy(update={"encoder_weights": None}), num_classes)
    if config.head != "linear" and not isinstance(model, HeadedNet):
        model = HeadedNet(model, num_classes, config.head)
    _load_weights(model, path)
    return model.to(memory_format=torch.channels_last).eval()


def _load_weights(model: nn.Module, path: Path) -> None:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        weights = load_file(path)
    else:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ConfigError(
            f"{path} contains weights of a different network from the one in the training settings: "
            f"{str(error).splitlines()[0]}"
        ) from None


def _keeps_best(project: Project, config: TrainingConfig) -> bool:
    if config.checkpoint == "best" and not project.validation_images:
        raise ConfigError(
            "training.checkpoint is best, but the project has no validation images with ground truth. Use last or auto."
        )
    return config.checkpoint != "last" and bool(project.validation_images)


def _forget_other_settings(work: Path, settings: dict[str, Any]) -> None:
    """Delete checkpoints of a killed training with other settings, which cannot be resumed."""
    path = work / "settings.json"
    text = json.dumps(settings, sort_keys=True)
    if work.is_dir() and (not path.is_file() or path.read_text(encoding="utf-8") != text):
        _log.info("the training settings have changed; training starts again from step 0")
        shutil.rmtree(work)
    write_text(path, text)


def _finished_steps(path: Path) -> int:
    return int(torch.load(path, map_location="cpu", weights_only=True).get("global_step", 0))


def _logger(config: TrainingConfig, folder: Path) -> Any:
    if config.logger == "csv":
        return CSVLogger(save_dir=folder, name="", version="log")
    if config.logger == "tensorboard":
        try:
            return TensorBoardLogger(save_dir=folder, name="", version="log")
        except ModuleNotFoundError:
            raise ConfigError(
                "training.logger is tensorboard, which is missing: pip install tensorboard, or use csv."
            ) from None
    return False


def _quiet() -> None:
    """Let only warnings of Lightning reach the user; the project reports its own progress."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    os.environ.setdefault("PL_DISABLE_TIPS", "1")
