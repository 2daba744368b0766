"""The Lightning module: cross entropy over pixels that carry a class, polynomial decay, mIoU of a validation set."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from a2lc.models.build import encoder_parameters
from a2lc.project.config import TrainingConfig
from a2lc.statistics.metrics import ConfusionCounts
from a2lc.training.canvas import normalise, to_probs

__all__ = [
    "HELD_OUT",
    "RegionModule",
    "SegmentationModule",
    "SemiModule",
    "logits_of",
    "region_losses",
    "resized_logits",
]


def logits_of(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Compute (B, K, H, W) logits of normalised images, resized to the images if the network's are smaller."""
    return resized_logits(model(images), images.shape[-2:])


def resized_logits(output: Any, size: Sequence[int]) -> torch.Tensor:
    """Return (B, K, H, W) logits of a network's output, resized to a size if they are smaller."""
    logits: torch.Tensor = output if isinstance(output, torch.Tensor) else output.logits
    if logits.shape[-2:] != tuple(size):
        logits = functional.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)
    return logits


class SegmentationModule(lightning.LightningModule):
    """Fits a network to corrected labels.

    Every step begins from a random state that is a function of seed and step, so that resumed training takes the
    same steps as unbroken training.
    """

    def __init__(
        self, model: nn.Module, config: TrainingConfig, num_classes: int, ignore_index: int, steps: int, seed: int
    ) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.steps = steps
        self.seed = seed
        self._confusion = ConfusionCounts(num_classes, ignore_index)

    def configure_optimizers(self) -> Any:
        """SGD or AdamW with lower rate for the encoder, and polynomial decay to a floor, every step."""
        config = self.config
        encoder, rest = encoder_parameters(self.model)
        groups: list[dict[str, Any]] = [
            {"params": encoder, "lr": config.learning_rate * config.encoder_rate},
            {"params": rest, "lr": config.learning_rate},
        ]
        groups = [group for group in groups if group["params"]]
        optimizer: torch.optim.Optimizer
        if config.optimizer == "sgd":
            optimizer = torch.optim.SGD(groups, momentum=config.momentum, weight_decay=config.weight_decay)
        else:
            # One pass over the weights in place of one an operation, where the device has it.
            fused = all(parameter.device.type in {"cpu", "cuda"} for group in groups for parameter in group["params"])
            optimizer = torch.optim.AdamW(groups, weight_decay=config.weight_decay, fused=fused)
        rates = [float(group["lr"]) for group in optimizer.param_groups]

        def decay(rate: float) -> Any:
            return lambda step: max((1 - min(step, self.steps) / self.steps) ** config.power, config.floor / rate)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, [decay(rate) for rate in rates])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_batch_start(self, batch: Any, index: int) -> None:
        """Dropout draws from the global generator: it begins each step from a known state."""
        torch.manual_seed((self.seed * 1_000_003 + self.global_step) % 2**62)

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> torch.Tensor:
        """Compute the mean cross entropy over the pixels of a batch that carry a class."""
        images, targets = batch
        logits = logits_of(self.model, self._ready(images)).float()
        total = functional.cross_entropy(logits, targets, ignore_index=self.ignore_index, reduction="sum")
        # A batch without a single labelled pixel has loss 0 and not 0/0.
        loss = total / (targets != self.ignore_index).sum().clamp(min=1)
        self.log("loss", loss)
        return loss

    def finish(self) -> None:
        """Run once all steps are taken, before the last weights are measured and kept."""

    def kept_model(self) -> nn.Module:
        """Return the network whose weights are kept."""
        return self.model

    def on_validation_epoch_start(self) -> None:
        """Reset the counts of the whole set."""
        self._confusion = ConfusionCounts(self.num_classes, self.ignore_index)

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor, Any], index: int) -> None:
        """Count an image's prediction at its own size."""
        image, truth, fitted = batch
        logits = logits_of(self.kept_model(), self._ready(image))[0]
        size = (int(truth.shape[-2]), int(truth.shape[-1]))
        pred = to_probs(logits, (int(fitted[0]), int(fitted[1])), size).argmax(dim=0)
        self._confusion.update(pred.cpu().numpy(), truth[0].cpu().numpy())

    def on_validation_epoch_end(self) -> None:
        """MIoU from counts summed over the set, and over all devices."""
        counts = torch.from_numpy(self._confusion.counts).to(self.device)
        gathered = self.all_gather(counts)
        assert isinstance(gathered, torch.Tensor)
        total = gathered.reshape(-1, self.num_classes, self.num_classes).sum(dim=0)
        self._confusion.counts = total.cpu().numpy()
        self.log("val_miou", self._confusion.miou, sync_dist=False)

    def _ready(self, images: torch.Tensor) -> torch.Tensor:
        # Channels last is what convolutions are fastest in, on CPUs and on GPUs.
        return normalise(images).contiguous(memory_format=torch.channels_last)


_EPS = 1e-8

HELD_OUT = 2**17  # above every class and every ignore value
"""Added to the class of a labelled pixel that only an error head learns from."""

PADDING = -1
"""Target of pixels that are no part of the image, where those without a label are trained on too."""


def region_losses(
    logits: torch.Tensor, targets: torch.Tensor, table: torch.Tensor, pooling: str = "code"
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Compute MulActSeg's three losses of pixels whose region's classes are known (arXiv:2309.09319).

    Args:
        logits: (B, K, h, w), temperature applied.
        targets: (B, h, w) row of each pixel's region in `table`, below 0 for none.
        table: (R, K) bool, the classes of each region.
        pooling: `code`: sums over all pixels by their count plus one, and a mean over all pairs of region and class;
            `slides`: a mean over regions of means over their pixels, and over their classes.

    Returns:
        Cross entropy on regions of one class; merged positive loss, −log Σ_{c∈Y} P(c|x), on regions of several;
        prototypical pixel loss, −log max_{x∈s} P(c|x) for each class c of a region of several.
    """
    flat = targets.flatten()
    inside = torch.nonzero(flat >= 0)[:, 0]
    probs = torch.softmax(logits.float(), dim=1).permute(0, 2, 3, 1).reshape(-1, logits.shape[1])[inside]
    image = inside // (targets.shape[-2] * targets.shape[-1])
    # A region is a region of one image: the same row in two crops of a batch counts twice.
    key, region = torch.unique(image * table.shape[0] + flat[inside], return_inverse=True)
    sets = table[key % table.shape[0]]
    several = sets.sum(dim=1) > 1
    count = len(key)
    nothing = logits.sum() * 0.0
    if not count:
        return nothing, nothing, nothing
    loss = -torch.log((probs * sets[region]).sum(dim=1) + _EPS)
    of_several = several[region]
    best = torch.zeros((count, probs.shape[1]), device=probs.device)
    best = best.scatter_reduce(0, region[:, None].expand_as(probs), probs, "amax", include_self=True)
    pixel_loss = -torch.log(best + _EPS)
    if pooling == "code":
        single = loss[~of_several].sum() / ((~of_several).sum() + 1)
        merged = loss[of_several].sum() / (of_several.sum() + 1)
        pairs = sets & several[:, None]
        return single, merged, pixel_loss[pairs].sum() / (pairs.sum() + 1)
    pixels = torch.bincount(region, minlength=count).clamp(min=1)
    mean = torch.zeros(count, device=loss.device).index_add(0, region, loss) / pixels
    by_class = (pixel_loss * sets).sum(dim=1) / sets.sum(dim=1).clamp(min=1)
    alone, together = (~several).sum().clamp(min=1), several.sum().clamp(min=1)
    return mean[~several].sum() / alone, mean[several].sum() / together, by_class[several].sum() / together


class RegionModule(SegmentationModule):
    """Fits a network to sets of classes of regions: MulActSeg's first stage."""

    def __init__(
        self, *args: Any, table: NDArray[np.bool_], pooling: str = "code", weights: dict[str, float], **more: Any
    ) -> None:
        super().__init__(*args, **more)
        self.register_buffer("table", torch.from_numpy(table), persistent=False)
        self.pooling = pooling
        self.weights = weights

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> torch.Tensor:
        """Compute the weighted sum of the three losses."""
        images, targets = batch
        logits = logits_of(self.model, self._ready(images))
        table = self.table
        assert isinstance(table, torch.Tensor)
        single, merged, prototype = region_losses(logits, targets, table, self.pooling)
        weights = self.weights
        loss = weights["single"] * single + weights["several"] * merged + weights["prototype"] * prototype
        self.log("loss", loss)
        return loss


class SemiModule(SegmentationModule):
    """Fits a student to labels and to its teacher, and an error head, its friend, to labels that both never saw.

    Our reading of PLAR's teacher, student and friend (arXiv:2501.19227); its equations were not available. The teacher is
    the moving average of the student. Where a pixel has no label the student learns the teacher's, weighed by how sure
    the teacher is and by how little the friend expects an error. The friend learns from held-out labels whether the
    student is wrong there.
    """

    _DECAY = 0.99
    _RAMP = 0.3  # share of the steps before the teacher counts in full

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.teacher = copy.deepcopy(self.model).requires_grad_(False)

    def on_train_start(self) -> None:
        """Keep the teacher's layers as at prediction."""
        self.teacher.eval()

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> torch.Tensor:
        """Cross entropy on labels, on the teacher's elsewhere, and of errors on the held-out ones."""
        images, targets = batch
        if self.global_step:
            self._follow()
        self.teacher.eval()
        ready = self._ready(images)
        with torch.no_grad():
            taught = self.teacher(ready)
            size = targets.shape[-2:]
            teacher = torch.softmax(resized_logits(taught, size).float(), dim=1)
            sure, pseudo = teacher.max(dim=1)
            fault = functional.interpolate(torch.sigmoid(taught.errors.float())[:, None], size=size)[:, 0]
        output = self.model(self._disturbed(ready))
        logits = resized_logits(output, size).float()
        held = targets >= HELD_OUT
        image = targets != PADDING
        labelled = (targets != self.ignore_index) & ~held & image
        of_label = functional.cross_entropy(
            logits, torch.where(labelled, targets, self.ignore_index), ignore_index=self.ignore_index, reduction="sum"
        ) / labelled.sum().clamp(min=1)
        weight = sure.square() * (1 - fault) * (image & ~labelled)
        of_pseudo = (functional.cross_entropy(logits, pseudo, reduction="none") * weight).sum()
        of_pseudo = of_pseudo / (image & ~labelled).sum().clamp(min=1)
        ramp = min(1.0, self.global_step / max(1.0, self._RAMP * self.steps))
        loss = of_label + ramp * of_pseudo
        if held.any():
            wrong = (logits.detach().argmax(dim=1) != targets - HELD_OUT).float()
            doubt = functional.interpolate(output.errors[:, None].float(), size=size, mode="bilinear")[:, 0]
            loss = loss + functional.binary_cross_entropy_with_logits(doubt[held], wrong[held])
        else:  # training on several devices wants every weight to be part of the loss
            loss = loss + 0 * output.errors.sum()
        self.log("loss", loss)
        return loss

    def finish(self) -> None:
        """Follow the last step's student too."""
        self._follow()

    def _follow(self) -> None:
        """Move the teacher towards the student.

        At the start of the next step, not at the end of this one: checkpoints are written in between, and a resumed
        training must follow once, not twice or never.
        """
        decay = min(self._DECAY, 1 - 1 / (self.global_step + 1))
        with torch.no_grad():
            for kept, now in zip(self.teacher.parameters(), self.model.parameters(), strict=True):
                kept.lerp_(now, 1 - decay)
            for mean, current in zip(self.teacher.buffers(), self.model.buffers(), strict=True):
                mean.copy_(current)

    def kept_model(self) -> nn.Module:
        """Return the teacher."""
        return self.teacher

    def _disturbed(self, images: torch.Tensor) -> torch.Tensor:
        """Shift colours and add noise: the student learns to predict what the teacher does on the clean image."""
        shape = (len(images), images.shape[1], 1, 1)
        gain = 1 + 0.2 * torch.randn(shape, device=images.device)
        shift = 0.2 * torch.randn(shape, device=images.device)
        return images * gain + shift + 0.1 * torch.randn_like(images)
