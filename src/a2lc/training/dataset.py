"""Training images with corrected labels as targets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional

from a2lc.project.config import TrainingConfig
from a2lc.project.project import Project
from a2lc.training.canvas import Canvas, fit_ids, fit_image
from a2lc.training.tasks import Task

__all__ = ["StepSampler", "TrainingSet", "ValidationSet", "canvas_tensor"]


class StepSampler(Sampler[int]):
    """The images of every training step, in random order: a function of seed, step and process alone.

    A resumed training goes on at its step with the images that unbroken training would have taken. The length stays
    that of the whole training, as Lightning expects of loaders that resume.
    """

    def __init__(
        self, images: int, batch_size: int, steps: int, seed: int, *, start: int = 0, rank: int = 0, world: int = 1
    ) -> None:
        self.images = images
        self.batch_size = batch_size
        self.steps = steps
        self.seed = seed
        self.start = start
        self.rank = rank
        self.world = world

    def __len__(self) -> int:
        """Return the samples of the whole training, for one process."""
        return self.steps * self.batch_size

    def __iter__(self) -> Iterator[int]:
        """Keys of the samples: epoch · 2³² + image."""
        order, of_epoch = None, -1
        for step in range(self.start, self.steps):
            first = (step * self.world + self.rank) * self.batch_size
            for position in range(first, first + self.batch_size):
                epoch, place = divmod(position, self.images)
                if epoch != of_epoch:
                    order, of_epoch = np.random.default_rng([self.seed, epoch]).permutation(self.images), epoch
                assert order is not None
                # The epoch rides along, so that workers, which hold copies of the data set, know it too.
                yield epoch * 2**32 + int(order[place])


class TrainingSet(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Images and their targets, augmented by a function of seed, epoch and image alone."""

    def __init__(self, project: Project, task: Task, canvas: Canvas, config: TrainingConfig, seed: int) -> None:
        self.project = project
        self.task = task
        self.canvas = canvas
        self.config = config
        self.seed = seed
        self._cache: dict[int, tuple[NDArray[Any], NDArray[Any]]] = {}
        self._cache_left = config.cache_megabytes * 2**20
        jitter = config.colour_jitter
        self._jitter = v2.ColorJitter(brightness=jitter, contrast=jitter, saturation=jitter) if jitter else None

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.task.images)

    def __getitem__(self, key: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Image (3, h, w) uint8 and target (h, w) int64 of a sampler's key."""
        epoch, index = divmod(key, 2**32)
        pixels, labels = self._load(index)
        image = tv_tensors.Image(torch.from_numpy(pixels).permute(2, 0, 1))
        target = tv_tensors.Mask(torch.from_numpy(labels.astype(np.int32)))
        rng = np.random.default_rng([self.seed, epoch, index])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**62)))
            image, target = self._augment(image, target, rng)
        return torch.as_tensor(image), torch.as_tensor(target).long()

    def _load(self, index: int) -> tuple[NDArray[Any], NDArray[Any]]:
        position = self.task.images[index]  # an image may stand there more than once
        if position in self._cache:
            return self._cache[position]
        record = self.project.images[position]
        pixels = fit_image(self.project.pixels(record), self.canvas)
        labels = fit_ids(self.task.targets(record), self.canvas)
        size = pixels.nbytes + labels.nbytes
        if size <= self._cache_left:
            self._cache_left -= size
            self._cache[position] = (pixels, labels)
        return pixels, labels

    def _augment(self, image: Any, target: Any, rng: np.random.Generator) -> tuple[Any, Any]:
        config = self.config
        if self._jitter is not None:
            image = self._jitter(image)
        if config.flip and rng.random() < 0.5:
            image, target = functional.horizontal_flip(image), functional.horizontal_flip(target)
        low, high = config.scale
        if high > low:
            scale = float(rng.uniform(low, high))
            size = [max(1, round(side * scale)) for side in image.shape[-2:]]
            image = functional.resize(image, size, antialias=True)
            target = functional.resize(target, size, interpolation=InterpolationMode.NEAREST)
        height, width = self.crop_size(image.shape[-2:])
        bottom, right = max(0, height - image.shape[-2]), max(0, width - image.shape[-1])
        if bottom or right:
            # Padding carries no class: filling labels with 0 would train it as the first one.
            image = functional.pad(image, [0, 0, right, bottom], fill=[124, 116, 104])
            target = functional.pad(target, [0, 0, right, bottom], fill=self.task.fill)
        top = int(rng.integers(image.shape[-2] - height + 1))
        left = int(rng.integers(image.shape[-1] - width + 1))
        return (
            functional.crop(image, top, left, height, width),
            functional.crop(target, top, left, height, width),
        )

    def crop_size(self, size: Sequence[int]) -> tuple[int, int]:
        """Height and width that every image of a batch is cropped or padded to."""
        if self.config.crop is not None:
            return self.config.crop, self.config.crop
        return self.canvas.padded(size[0], size[1])


class ValidationSet(Dataset[tuple[torch.Tensor, torch.Tensor, tuple[int, int]]]):
    """Validation images on their canvas, with ground truth at their own size."""

    def __init__(self, project: Project, canvas: Canvas) -> None:
        self.project = project
        self.canvas = canvas

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.project.validation_images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor, tuple[int, int]]:
        """Image (3, h, w) uint8, ground truth (H, W) int64, and the part of the canvas the image fills."""
        record = self.project.validation_images[index]
        image, fitted = canvas_tensor(self.project.pixels(record), self.canvas)
        return image, torch.from_numpy(self.project.truth.pixels(record).astype(np.int64)), fitted


def canvas_tensor(pixels: NDArray[np.uint8], canvas: Canvas) -> tuple[torch.Tensor, tuple[int, int]]:
    """Fit an image on its canvas, (3, h, w) uint8, and return the part of it that it fills."""
    small = fit_image(pixels, canvas)
    fitted = (small.shape[0], small.shape[1])
    height, width = canvas.padded(*fitted)
    whole = np.empty((height, width, 3), dtype=np.uint8)
    whole[:] = (124, 116, 104)
    whole[: fitted[0], : fitted[1]] = small
    return torch.from_numpy(whole).permute(2, 0, 1).contiguous(), fitted
