"""Class probabilities, one image at a time: from a trained model or from files."""

from __future__ import annotations

import time
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


class Predictor:
    """From an image to its probabilities (K, H, W) float32: a NumPy array, or a torch tensor on a GPU.

    Attributes:
        forward_seconds: Time spent in the network so far, or in reading files that stand for it.
    """

    def __init__(self, read: Callable[[ImageRecord], Any], forward: Callable[[ImageRecord, Any], Any]) -> None:
        self._read = read
        self._forward = forward
        self.forward_seconds = 0.0

    def __call__(self, image: ImageRecord) -> Any:
        """Probabilities of one image, at its own size."""
        given = self._read(image)
        began = time.perf_counter()
        probs = self._forward(image, given)
        self.forward_seconds += time.perf_counter() - began
        return probs


def probabilities_from_model(
    project: Project, config: TrainingConfig, weights: Path, model: Any | None = None
) -> Predictor:
    """Predict with a model of the project, on the GPU where there is one."""
    import torch

    from a2lc.training.canvas import normalise, to_probs
    from a2lc.training.dataset import canvas_tensor
    from a2lc.training.fit import load_model, pick_precision, project_canvas
    from a2lc.training.module import logits_of

    use_gpu = config.accelerator in {"auto", "gpu", "cuda"} and torch.cuda.is_available()
    device = torch.device("cuda" if use_gpu else "cpu")
    network = load_model(config, project.classes.num_classes, weights, model).to(device).eval()
    canvas = project_canvas(project, config)
    kind = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(pick_precision(config))

    def read(image: ImageRecord) -> Any:
        return canvas_tensor(project.pixels(image), canvas)

    def forward(image: ImageRecord, given: Any) -> Any:
        tensor, fitted = given
        batch = normalise(tensor[None].to(device)).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), torch.autocast(device.type, dtype=kind, enabled=kind is not None):
            logits = logits_of(network, batch)[0]
        probs = to_probs(logits, fitted, (image.height, image.width))
        return probs if use_gpu else probs.numpy()

    return Predictor(read, forward)


def probabilities_from_files(project: Project, folder: Path) -> Predictor:
    """Read probabilities that someone else computed: IMAGE_ID.npy below a folder, (K, H, W) float16 or float32.

    Raises:
        MissingFileError: There is no such folder; later, when called, no file of an image.
    """
    if not folder.is_dir():
        raise MissingFileError(f"No folder of probabilities at {folder}.")
    num_classes = project.classes.num_classes

    def forward(image: ImageRecord, given: Any) -> NDArray[Any]:
        path = folder / f"{image.image_id}.npy"
        if not path.is_file():
            raise MissingFileError(f"No probabilities of image {image.image_id}: expected {path}.")
        try:
            probs = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ImageFileError(f"{path}: not a plain NumPy array: {error}.") from None
        expected = (num_classes, image.height, image.width)
        if probs.shape != expected or not np.issubdtype(probs.dtype, np.floating):
            raise ShapeError(f"{path}: expected floats of shape {expected}, found {probs.dtype} {probs.shape}.")
        return np.asarray(probs, dtype=np.float32)

    return Predictor(lambda image: None, forward)
