"""The label correction module (LCM) of A2LC: learns from answers, proposes classes for masks nobody looked at."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from a2lc.errors import InputError, MissingExtraError, ShapeError
from a2lc.statistics.mask_stats import MaskStats

if TYPE_CHECKING:
    from torch import nn

__all__ = ["LabelCorrectionModule", "class_loss_weights"]


def class_loss_weights(classes: NDArray[Any], num_classes: int) -> NDArray[np.float64]:
    """Return the weights λ of the module's loss: inverse frequency among the answers, normalised; 0 for a class without any.

    Args:
        classes: (n,) class of each answered mask.
        num_classes: K.

    Returns:
        (K,) float64 summing to 1.

    Source:
        A2LC (arXiv:2506.11599) as coded: λ_k = (N/N_k) / Σ_c (N/N_c).

    Example:
        >>> class_loss_weights(np.array([3] * 7 + [0] * 5 + [1] * 5), 6).round(4)
        array([0.3684, 0.3684, 0.    , 0.2632, 0.    , 0.    ])
    """
    counts = np.bincount(classes, minlength=num_classes).astype(np.float64)
    inverse = np.divide(counts.sum(), counts, out=np.zeros(num_classes), where=counts > 0)
    total = inverse.sum()
    return np.asarray(inverse / total if total > 0 else inverse)


@dataclass(kw_only=True)
class LabelCorrectionModule:
    """A small network from a mask's mean softmax to its class, fitted on the masks answered in a round.

    As published: K→256→128→64→K with ReLU and a softmax at the end, whose output goes into a cross entropy that
    applies another softmax. So the loss never falls below ln((e + K − 1)/e) and the confidences are not those of a
    calibrated classifier; `double_softmax=False` trains on the logits instead.

    Attributes:
        hidden: Widths of the hidden layers.
        learning_rate: Of Adam.
        epochs: Passes over the answers.
        batch_size: Masks a step.
        double_softmax: Train on softmax of softmax, as the authors' code does.
        seed: Of weights and order; the authors' code sets none.
    """

    hidden: tuple[int, ...] = (256, 128, 64)
    learning_rate: float = 1e-4
    epochs: int = 100
    batch_size: int = 8
    double_softmax: bool = True
    seed: int = 0

    def fit(self, stats: MaskStats, classes: NDArray[Any]) -> Self:
        """Learn from answered masks, from scratch.

        Args:
            stats: Statistics of n answered masks.
            classes: (n,) their classes in [0, K); masks without a class are to be left out.

        Raises:
            ShapeError: Not a class for each mask.
            InputError: There is no mask to learn from, or a class is none.
            MissingExtraError: torch is not installed.
        """
        torch = _torch()
        if np.shape(classes) != (len(stats),):
            raise ShapeError(f"Expected a class for each of {len(stats)} masks, found {np.shape(classes)}.")
        if not len(stats):
            raise InputError("The label correction module needs at least one answered mask with a class.")
        classes = np.asarray(classes)
        if classes.min() < 0 or classes.max() >= stats.num_classes:
            raise InputError(
                f"Answered classes must be in [0, {stats.num_classes}), found {classes.min()}..{classes.max()}."
            )
        features = torch.from_numpy(stats.mean_probs)
        targets = torch.from_numpy(classes.astype(np.int64))
        weights = torch.from_numpy(class_loss_weights(classes, stats.num_classes)).float()
        generator = torch.Generator().manual_seed(self.seed)
        threads = torch.get_num_threads()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self._network = self._build(stats.num_classes)
        optimizer = torch.optim.Adam(self._network.parameters(), lr=self.learning_rate, fused=True)
        try:
            # Batches of eight rows are smaller than what handing them to a second thread costs.
            torch.set_num_threads(1)
            for _ in range(self.epochs):
                for batch in torch.randperm(len(targets), generator=generator).split(self.batch_size):
                    output = self._network(features[batch])
                    if self.double_softmax:
                        output = torch.softmax(output, dim=1)
                    loss = torch.nn.functional.cross_entropy(output, targets[batch], weight=weights)
                    optimizer.zero_grad(set_to_none=True)
                    loss.backward()
                    optimizer.step()
        finally:
            torch.set_num_threads(threads)
        return self

    def propose(self, stats: MaskStats) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Predict the classes of masks, and how sure the network is of them.

        Args:
            stats: Statistics of M masks.

        Returns:
            (M,) classes, and (M,) largest softmax values in [0, 1].

        Raises:
            InputError: `fit` was not called.
        """
        torch = _torch()
        if not hasattr(self, "_network"):
            raise InputError("The label correction module is not fitted: call fit first.")
        with torch.no_grad():
            sure = torch.softmax(self._network(torch.from_numpy(stats.mean_probs)), dim=1)
        confidences, classes = sure.max(dim=1)
        return classes.numpy().astype(np.int32), confidences.numpy()

    def _build(self, num_classes: int) -> nn.Module:
        layer = _torch().nn
        widths = [num_classes, *self.hidden]
        layers: list[Any] = []
        for before, after in pairwise(widths):
            layers += [layer.Linear(before, after), layer.ReLU()]
        network: nn.Module = layer.Sequential(*layers, layer.Linear(widths[-1], num_classes))
        return network


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        raise MissingExtraError("The label correction module needs PyTorch: pip install 'a2lc[train]'") from None
    return torch
