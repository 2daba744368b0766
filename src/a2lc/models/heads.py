"""Classifiers that show their features: cosine similarity to class weights, and a head that predicts errors."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from a2lc.errors import ConfigError

__all__ = ["COSINE_TEMPERATURE", "HeadOutput", "HeadedNet"]

COSINE_TEMPERATURE = 0.1
"""τ of the cosine classifier, as published with multi-class queries (arXiv:2309.09319)."""


class HeadOutput(NamedTuple):
    """What a network with a head of ours gives for a batch.

    Attributes:
        logits: (B, K, h, w), on the features' grid.
        features: (B, D, h, w) of unit length.
        class_logits: (B, K, h, w) products of features and class weights, without temperature.
        errors: (B, h, w) logit of the prediction being wrong, or None.
    """

    logits: torch.Tensor
    features: torch.Tensor
    class_logits: torch.Tensor
    errors: torch.Tensor | None


class HeadedNet(nn.Module):
    """Encoder and decoder of a segmentation-models-pytorch network under a classifier that shows its features.

    `cosine`: features and weights of unit length, no bias, logits are cosines over τ (arXiv:2309.09319, classifier).
    `error`: a linear classifier, and beside it a small head that says where its prediction is wrong. That head sees
    features and logits but sends no gradient into them, so that judging does not change what is judged.
    """

    def __init__(self, base: nn.Module, num_classes: int, head: str, temperature: float = COSINE_TEMPERATURE) -> None:
        super().__init__()
        try:
            parts: Any = base
            self.encoder: nn.Module = parts.encoder
            self.decoder: nn.Module = parts.decoder
            first = next(m for m in parts.segmentation_head.modules() if isinstance(m, nn.Conv2d))
        except (AttributeError, StopIteration):
            raise ConfigError(
                f"A {head} classifier needs a network with encoder, decoder and segmentation_head, as "
                f"segmentation-models-pytorch builds them; {type(base).__name__} has none."
            ) from None
        self.head = head
        self.temperature = temperature
        self.classifier = nn.Conv2d(first.in_channels, num_classes, 1, bias=head != "cosine")
        self.error_head: nn.Module | None = None
        if head == "error":
            self.error_head = nn.Sequential(
                nn.Conv2d(first.in_channels + num_classes, 64, 1), nn.ReLU(), nn.Conv2d(64, 1, 1)
            )

    def forward(self, images: torch.Tensor) -> HeadOutput:
        """Logits, features and, with an error head, the logit of an error, on the decoder's grid."""
        decoded: Any = self.decoder(self.encoder(images))
        features = functional.normalize(decoded.float(), dim=1, eps=1e-6)
        if self.head == "cosine":
            # In single precision whatever the rest computes in: cosines over τ differ in the third digit.
            with torch.autocast(features.device.type, enabled=False):
                weights = functional.normalize(self.classifier.weight.float(), dim=1, eps=1e-6)
                products = functional.conv2d(features, weights)
            return HeadOutput(products / self.temperature, features, products, None)
        logits = self.classifier(decoded).float()
        errors = None
        if self.error_head is not None:
            seen = torch.cat([features.detach(), torch.softmax(logits.detach(), dim=1)], dim=1)
            errors = self.error_head(seen)[:, 0].float()
        return HeadOutput(logits, features, logits, errors)
