"""Class probabilities, one image at a time: from a trained model or from files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.config import TrainingConfig
from a2lc.errors import ImageFileError, MissingFileError, ShapeError
from a2lc.project import Project
from a2lc.records import ImageRecord

__all__ = ["Predictor", "probabilities_from_files", "probabilities_from_model"]

Predictor = Callable[[ImageRecord], Any]
"""From an image to its probabilities (K, H, W) float32: a NumPy array, or a torch tensor on a GPU."""


def probabilities_from_model(
    project: Project, config: TrainingConfig, weights: Path, model: Any | None = None
) -> Predictor:
    """Predict with a model of the project, on the GPU where there is one."""
    import torch

    from a2lc.training.dataset import canvas_tensor
    from a2lc.training.fit import load_model, pick_precision, project_canvas
    from a2lc.training.canvas import normalise, to_probs
    from a2lc.training.module import logits_of

    use_gpu = config.accelerator in {"auto", "gpu", "cuda"} and torch.cuda.is_available()
    device = torch.device("cuda" if use_gpu else "cpu")
    network = load_model(config, project.classes.num_classes, weights, model).to(device)
    canvas = project_canvas(project, config)
    kind = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(pick_precision(config))

    def predict(image: ImageRecord) -> Any:
        tensor, fitted = canvas_tensor(project.pixels(image), canvas)
        batch = normalise(tensor[None].to(device)).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), torch.autocast(device.type, dtype=kind, enabled=kind is not None):
            logits = logits_of(network, batch)[0]
        probs = to_probs(logits, fitted, (image.height, image.width))
        return probs if use_gpu else probs.numpy()

    return predict


def probabilities_from_files(project: Project, folder: Path) -> Predictor:
    """Read probabilities that someone else computed: IMAGE_ID.npy below a folder, (K, H, W) float16 or float32."""
    if not folder.is_dir():
        raise MissingFileError(f"No folder of probabilities at {folder}.")
    num_classes = project.classes.num_classes

    def predict(image: ImageRecord) -> NDArray[Any]:
        path = folder / f"{image.image_id}.npy"
        if not path.is_file():
            raise MissingFileError(f"No probabilities of image {image.image_id}: expected {path}.")
        try:
            probs = np.load(path, mmap_mode="r", allow_pickle=False)
        except ValueError as error:
            raise ImageFileError(f"{path}: not a plain NumPy array: {error}.") from None
        expected = (num_classes, image.height, image.width)
        if probs.shape != expected or not np.issubdtype(probs.dtype, np.floating):
            raise ShapeError(f"{path}: expected floats of shape {expected}, found {probs.dtype} {probs.shape}.")
        return np.asarray(probs, dtype=np.float32)

    return predict
