"""The same mask statistics as `a2lc.stats`, computed where the probabilities are: on a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from a2lc.errors import LabelRangeError, ShapeError
from a2lc.statistics.mask_stats import MaskStats, finish, flat_ids
from a2lc.statistics.run_kernel import SOFTMIN_TEMPERATURE

__all__ = ["mask_statistics_torch"]


def mask_statistics_torch(
    probs: torch.Tensor, labels: NDArray[Any], mask_map: NDArray[Any], ignore_index: int = 255
) -> MaskStats:
    """Reduce an image's class probabilities to a row per mask, on the device the probabilities are on.

    Args:
        probs: Class probabilities, (K, H, W) float32 tensor, summing to 1 over K.
        labels: Current labels, (H, W) integer array, in [0, K) or `ignore_index`.
        mask_map: Mask ids, (H, W) integer array; 0 where there is no mask.
        ignore_index: Id of pixels that carry no class.

    Returns:
        What `a2lc.stats.mask_statistics` returns, but for rounding: a GPU adds in any order.

    Raises:
        ShapeError: The arrays do not belong to one image.
        LabelRangeError: A label inside a mask is neither a class nor `ignore_index`.
        InputError: `probs` are not probabilities.
    """
    if probs.ndim != 3 or probs.shape[0] < 1:
        raise ShapeError(f"Expected probs (K, H, W), found a tensor of shape {tuple(probs.shape)}.")
    device, classes = probs.device, probs.shape[0]
    flat_labels = flat_ids("labels", labels, tuple(probs.shape[1:]))
    flat_masks = flat_ids("mask_map", mask_map, tuple(probs.shape[1:]))
    inside = np.flatnonzero(flat_masks)
    mask_ids, row = np.unique(flat_masks[inside], return_inverse=True)
    if len(mask_ids) and mask_ids[0] < 0:
        raise ShapeError(f"Expected mask ids of 0 and above, found {mask_ids[0]}.")
    given = flat_labels[inside].astype(np.int64)
    bad = (given != ignore_index) & ((given < 0) | (given >= classes))
    if bad.any():
        raise LabelRangeError(
            f"Label {given[bad][0]} is neither one of the {classes} classes nor ignore_index={ignore_index}."
        )
    masks = len(mask_ids)
    pixels = torch.from_numpy(inside).to(device)
    rows = torch.from_numpy(row.ravel()).to(device)
    first_labels = torch.from_numpy(given).to(device)
    f = probs.reshape(classes, -1).float()[:, pixels].T.contiguous()  # (n, K)
    norms = f.norm(dim=1).clamp(min=1e-15)
    top = f.topk(min(2, classes), dim=1)
    # topk does not say which of equals comes first; argmax takes the smallest class, as the kernel does.
    pred = f.argmax(dim=1)
    void = first_labels == ignore_index
    label = torch.where(void, pred, first_labels)
    doubt = 1 - f.gather(1, label[:, None])[:, 0]

    def count(index: torch.Tensor, columns: int) -> torch.Tensor:
        return torch.bincount(rows * columns + index, minlength=masks * columns).reshape(masks, columns)

    def add(values: torch.Tensor, index: torch.Tensor, size: int) -> torch.Tensor:
        shape = (size, *values.shape[1:])
        return torch.zeros(shape, dtype=torch.float64, device=device).index_add_(0, index, values.double())

    pred_counts = count(pred, classes)
    label_counts = count(torch.where(void, torch.full_like(label, classes), first_labels), classes + 1)
    dominant = pred_counts.argmax(dim=1)
    in_dominant = pred == dominant[rows]
    dominant_rows = rows[in_dominant]
    direction = add(f[in_dominant], dominant_rows, masks)
    direction = direction / pred_counts.gather(1, dominant[:, None]).clamp(min=1)
    unit = direction / direction.norm(dim=1, keepdim=True).clamp(min=1e-30)

    # The nearest pixel of the dominant part, the first of equals: the least index among those at the least distance.
    distance = (f[in_dominant].double() / norms[in_dominant, None] - unit[dominant_rows]).square().sum(dim=1)
    least = torch.full((masks,), torch.inf, dtype=torch.float64, device=device)
    least.scatter_reduce_(0, dominant_rows, distance, "amin")
    positions = torch.nonzero(in_dominant)[:, 0]
    candidate = torch.where(distance <= least[dominant_rows], positions, torch.full_like(positions, len(pixels)))
    nearest = torch.full((masks,), len(pixels), dtype=torch.int64, device=device)
    nearest.scatter_reduce_(0, dominant_rows, candidate, "amin")
    nearest = nearest.clamp(max=max(len(pixels) - 1, 0))  # all found, unless the probabilities are not numbers

    ratio = top.values[:, 1] / top.values[:, 0].clamp(min=1e-30) if classes > 1 else torch.zeros_like(doubt)
    soft = torch.exp(doubt / SOFTMIN_TEMPERATURE)
    entropy = -torch.special.xlogy(f, f).sum(dim=1)
    pixel_sums = add(torch.stack([entropy, soft * (1 - doubt), soft], dim=1), rows, masks)
    pred_bvsb = add(ratio, rows * classes + pred, masks * classes).reshape(masks, classes)

    pair_key, pair = torch.unique(rows * classes + label, return_inverse=True)
    pairs = len(pair_key)

    def host(tensor: torch.Tensor) -> NDArray[Any]:
        return tensor.cpu().numpy()

    return finish(
        mask_ids,
        classes,
        ignore_index,
        host(pred_counts.sum(dim=1)),
        host(label_counts),
        host(add(f, rows, masks)),
        host(pred_counts),
        host(dominant),
        host(direction),
        host(pixels[nearest]) if masks else np.empty(0),
        host(f[nearest]) if masks else np.empty((0, classes)),
        host(doubt[nearest]) if masks else np.empty(0),
        host(pixel_sums),
        host(pred_bvsb),
        host(pair_key // classes),
        host(pair_key % classes),
        host(torch.bincount(pair, minlength=pairs)),
        host(add(doubt, pair, pairs)),
        host(add(f * (doubt / norms)[:, None], pair, pairs)),
    )
