"""Class probabilities, one image at a time: from a trained model or from files."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.classes.edits import class_change, view_of
from a2lc.errors import ImageFileError, InputError, MissingFileError, ShapeError
from a2lc.project.config import TrainingConfig
from a2lc.project.project import Project
from a2lc.records import ImageRecord, Inspection
from a2lc.statistics.features import FeatureMap, interpolation_matrix

__all__ = ["Predictor", "predict_from_files", "predict_from_model", "predict_uniform"]


class Predictor:
    """From an image to what a network says of it.

    Attributes:
        forward_seconds: Time spent in the network so far, or in reading files that stand for it.
    """

    def __init__(
        self,
        read: Callable[[ImageRecord], Any],
        forward: Callable[[ImageRecord, Any], Inspection],
        show_features: Callable[[], None] = lambda: None,
    ) -> None:
        self._read = read
        self._forward = forward
        self._show_features = show_features
        self._last: tuple[int, Inspection] | None = None
        self._shown = False
        self.forward_seconds = 0.0

    def __call__(self, image: ImageRecord) -> Inspection:
        """Return what the network predicts, its probabilities (K, H, W) float32 a NumPy array, or a torch tensor on a GPU."""
        if self._last is not None and self._last[0] == image.index:
            return self._last[1]
        given = self._read(image)
        began = time.perf_counter()
        found = self._forward(image, given)
        self.forward_seconds += time.perf_counter() - began
        # A method that asks for the same image again while it is worked on gets what is there.
        self._last = (image.index, found)
        return found

    def inspect(self, image: ImageRecord) -> Inspection:
        """Return the same, all of it NumPy arrays, with penultimate features where the network has some."""
        if not self._shown:
            # Those who only ask for probabilities do not pay for features.
            self._shown, self._last = True, None
            self._show_features()
        found = self(image)
        probs: Any = found.probs
        return found if isinstance(probs, np.ndarray) else replace(found, probs=probs.cpu().numpy())


def predict_from_model(
    project: Project,
    config: TrainingConfig,
    weights: Path,
    model: Any | None = None,
    *,
    change: NDArray[np.float32] | None = None,
) -> Predictor:
    """Predict with a model of the project, on the GPU where there is one.

    Args:
        project: Opened.
        config: The settings the model was trained by.
        weights: Its weights.
        model: One's own network, in place of one that the settings name.
        change: (K', K) that makes probabilities over the classes it was trained on those over the classes there are now,
            where classes were edited since; see `a2lc.class_edits.class_change`.
    """
    import torch

    from a2lc.models.heads import HeadOutput
    from a2lc.training.canvas import normalise, to_probs
    from a2lc.training.dataset import canvas_tensor
    from a2lc.training.fit import load_model, pick_precision, project_canvas
    from a2lc.training.module import resized_logits

    use_gpu = config.accelerator in {"auto", "gpu", "cuda"} and torch.cuda.is_available()
    device = torch.device("cuda" if use_gpu else "cpu")
    trained_on = project.classes.num_classes if change is None else change.shape[1]
    network = load_model(config, trained_on, weights, model).to(device).eval()
    # A class that the model does not know must not have a probability of 0: logarithms are taken of it.
    turn = None if change is None else torch.from_numpy(np.maximum(change, 1e-6)).to(device)
    canvas = project_canvas(project, config)
    kind = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(pick_precision(config))
    seen: dict[str, Any] = {}

    def show_features() -> None:
        head = getattr(network, "segmentation_head", None)
        if isinstance(head, torch.nn.Module):

            def keep(module: Any, inputs: tuple[Any, ...]) -> None:
                seen["features"] = inputs[0]

            head.register_forward_pre_hook(keep)

    def read(image: ImageRecord) -> Any:
        return canvas_tensor(project.pixels(image), canvas)

    def forward(image: ImageRecord, given: Any) -> Inspection:
        with _one_thread(torch, not use_gpu):
            return compute(image, *given)

    def compute(image: ImageRecord, tensor: Any, fitted: Any) -> Inspection:
        batch = normalise(tensor[None].to(device)).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), torch.autocast(device.type, dtype=kind, enabled=kind is not None):
            output = network(batch)
            logits = resized_logits(output, batch.shape[-2:])[0]
        size = (image.height, image.width)
        on_device = to_probs(logits, fitted, size)
        if turn is not None:
            on_device = torch.einsum("nk,khw->nhw", turn, on_device.to(turn.dtype))
            on_device = on_device / on_device.sum(dim=0, keepdim=True)
        probs: Any = on_device if use_gpu else on_device.numpy()
        found = Inspection(probs=probs)
        own = isinstance(output, HeadOutput)
        shown = output.features if own else seen.get("features")
        if shown is None:
            return found
        height, width = shown.shape[-2:]
        rows = interpolation_matrix(size[0], fitted[0], height, batch.shape[-2] / height)
        cols = interpolation_matrix(size[1], fitted[1], width, batch.shape[-1] / width)
        features = FeatureMap(values=shown[0].float().cpu().numpy(), rows=rows, cols=cols)
        if not own:
            return replace(found, features=features)
        errors = None
        if output.errors is not None:
            errors = features.upsample(torch.sigmoid(output.errors).float().cpu().numpy())[0]
        shown_logits = output.class_logits[0].float()
        if turn is not None:
            shown_logits = torch.einsum("nk,khw->nhw", turn, shown_logits.softmax(dim=0)).log()
        class_logits = shown_logits.cpu().numpy()
        return replace(found, features=features, class_logits=class_logits, errors=errors)

    return Predictor(read, forward, show_features)


@contextmanager
def _one_thread(torch: Any, wanted: bool) -> Iterator[None]:
    """Compute on one thread: the number of threads changes the last bits of what a network predicts."""
    threads = torch.get_num_threads()
    if wanted:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def predict_uniform(project: Project) -> Predictor:
    """Predict every class alike, which is what is known before anything was trained."""
    num_classes = project.classes.num_classes

    def forward(image: ImageRecord, given: Any) -> Inspection:
        return Inspection(probs=np.full((num_classes, image.height, image.width), 1 / num_classes, dtype=np.float32))

    return Predictor(lambda image: None, forward)


def predict_from_files(project: Project, folder: Path) -> Predictor:
    """Read probabilities that someone else computed: IMAGE_ID.npy below a folder, (K, H, W) float16 or float32.

    K is the number of classes there are now, or, where classes were edited, of those that were imported.

    Raises:
        MissingFileError: There is no such folder; later, when called, no file of an image.
        InputError: It cannot be told of which classes the files are.
    """
    if not folder.is_dir():
        raise MissingFileError(f"No folder of probabilities at {folder}.")
    num_classes = project.classes.num_classes
    change = class_change(view_of(project.imported_classes), project.view)
    turn = None if change is None else np.maximum(change, 1e-6)
    if turn is not None and project.imported_classes.num_classes == num_classes:
        # As many classes as at first, and others: which of both a file has cannot be told from its shape.
        made = max((edit.time for edit in project.ledger.class_edits()), default="")
        newest = datetime.fromisoformat(made).timestamp()
        old = next((path for path in sorted(folder.rglob("*.npy")) if path.stat().st_mtime < newest), None)
        if old is not None:
            raise InputError(
                f"{old} is older than the last edit of the classes, and the number of classes is the same as "
                "before, so it is unclear which classes it uses. Save the probabilities again for the current "
                "classes."
            )

    def forward(image: ImageRecord, given: Any) -> Inspection:
        path = folder / f"{image.image_id}.npy"
        if not path.is_file():
            raise MissingFileError(f"There are no probabilities of image {image.image_id}; expected {path}.")
        try:
            probs = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ImageFileError(f"{path}: not a plain NumPy array: {error}.") from None
        expected = (num_classes, image.height, image.width)
        imported = project.imported_classes.num_classes
        if turn is not None and probs.shape == (imported, *expected[1:]) and imported != num_classes:
            # Files of the classes as they were imported, before some were edited.
            now = np.tensordot(turn, np.asarray(probs, dtype=np.float32), axes=1)
            return Inspection(probs=np.asarray(now / np.maximum(now.sum(axis=0), 1e-12), dtype=np.float32))
        if probs.shape != expected or not np.issubdtype(probs.dtype, np.floating):
            raise ShapeError(f"{path}: expected floats of shape {expected}, found {probs.dtype} {probs.shape}.")
        return Inspection(probs=np.asarray(probs, dtype=np.float32))

    return Predictor(lambda image: None, forward)
