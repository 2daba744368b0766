"""The Lightning module: cross entropy over pixels that carry a class, polynomial decay, mIoU of a validation set."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch import nn
from torch.nn import functional

from a2lc.config import TrainingConfig
from a2lc.metrics import ConfusionCounts
from a2lc.models.build import encoder_parameters
from a2lc.training.canvas import normalise, to_probs

__all__ = ["SegmentationModule", "logits_of"]


def logits_of(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """(B, K, H, W) logits of normalised images, brought to their size where the network's are smaller."""
    output = model(images)
    logits: torch.Tensor = output if isinstance(output, torch.Tensor) else output.logits
    if logits.shape[-2:] != images.shape[-2:]:
        logits = functional.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)
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
        """Mean cross entropy over the pixels of a batch that carry a class."""
        images, targets = batch
        logits = logits_of(self.model, self._ready(images)).float()
        total = functional.cross_entropy(logits, targets, ignore_index=self.ignore_index, reduction="sum")
        # A batch without a single labelled pixel has loss 0 and not 0/0.
        loss = total / (targets != self.ignore_index).sum().clamp(min=1)
        self.log("loss", loss)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Counts of the whole set start at nothing."""
        self._confusion = ConfusionCounts(self.num_classes, self.ignore_index)

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor, Any], index: int) -> None:
        """Count an image's prediction at its own size."""
        image, truth, fitted = batch
        logits = logits_of(self.model, self._ready(image))[0]
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
