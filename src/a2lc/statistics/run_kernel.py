"""Compiled loops over a block or a run of pixels, from which the kernel of `mask_statistics` is built.

Numba's cache of `kernel.py` watches that file alone: after a change here, delete `__pycache__` or touch that file.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from a2lc.statistics.kernel_math import BASE, E1, E2, E3, E4, E5, LN2, MANTISSA, P0, P1, P2, P3, P4, P5, P6, SHIFT

__all__ = ["SOFTMIN_TEMPERATURE", "add_inside", "add_pixels", "add_run", "doubts", "nearest", "scan"]


FloatArray = NDArray[np.float32]


IntArray = NDArray[np.int32]


SOFTMIN_TEMPERATURE = 0.1
"""Temperature of the soft minimum of label confidences: cleanlab's default (Lad and Mueller 2023, arXiv:2307.05080)."""


_SOFTMIN_SCALE = np.float32(1 / (SOFTMIN_TEMPERATURE * math.log(2)))


_FAST = {"reassoc", "contract", "nsz", "arcp"}


@njit(inline="always")
def _p_log2_p(p: Any) -> Any:
    """Compute p·log2(p) without a call, so that a loop over pixels becomes vector code; 0 at 0."""
    shifted = np.int32(np.float32(p).view(np.int32) + SHIFT)
    exponent = np.float32(np.int32(np.int32(shifted >> np.int32(23)) - np.int32(127)))
    t = np.int32(np.int32(shifted & MANTISSA) + BASE).view(np.float32) - np.float32(1)
    poly = P6
    poly = poly * t + P5
    poly = poly * t + P4
    poly = poly * t + P3
    poly = poly * t + P2
    poly = poly * t + P1
    poly = poly * t + P0
    return p * (exponent + t * poly)


# Reassociation (_FAST) lets sums over pixels use vector registers; NaN and infinity keep their meaning, so that
# bad input is still seen. Every integer is said to be 32 bits wide for the same reason.
@njit(cache=True, nogil=True, fastmath=_FAST)
def scan(
    probs: FloatArray,
    start: int,
    size: int,
    best: FloatArray,
    second: FloatArray,
    top: IntArray,
    square: FloatArray,
    entropy: FloatArray,
) -> None:
    """Best and second-best probability, predicted class, squared norm and entropy (bits) of a block of pixels."""
    best[:] = np.float32(-1)
    second[:] = np.float32(0)
    top[:] = 0
    square[:] = np.float32(0)
    entropy[:] = np.float32(0)
    for k in range(probs.shape[0]):
        row = probs[k, start : start + size]
        this = np.int32(k)
        for j in range(size):
            p = row[j]
            b = best[j]
            loser = p if p < b else b
            second[j] = loser if loser > second[j] else second[j]
            top[j] = this if p > b else top[j]
            best[j] = p if p > b else b
            square[j] += p * p
            entropy[j] -= _p_log2_p(p)


@njit(cache=True, nogil=True, fastmath=_FAST)
def doubts(
    probs: FloatArray,
    labels: IntArray,
    rows: IntArray,
    top: IntArray,
    square: FloatArray,
    start: int,
    ignore_index: int,
    norms: FloatArray,
    doubt: FloatArray,
    weight: FloatArray,
    soft: FloatArray,
    kind: NDArray[np.int64],
) -> None:
    """CIL, CIL over the norm, soft-min weight, and kind of a block of pixels.

    Pixels of one kind have the same mask, the same label and, where they carry none, the same predicted class; -1 is
    outside masks. One number to compare makes runs cheap to find.
    """
    size = norms.size
    classes = np.int32(probs.shape[0])
    for j in range(size):
        given = labels[start + j]
        row = rows[start + j]
        place = np.int32(classes + top[j]) if given == ignore_index else given
        kind[j] = row * np.int64(2 * classes) + place if row >= 0 else -1
    for j in range(size):
        given = labels[start + j]
        # Outside masks a label may be anything: it is not looked up.
        label = top[j] if given == ignore_index or rows[start + j] < 0 else given
        doubt[j] = np.float32(1) - probs[label, start + j]
    for j in range(size):
        norms[j] = np.float32(math.sqrt(max(square[j], np.float32(1e-30))))
        weight[j] = doubt[j] / norms[j]
    for j in range(size):
        # exp(doubt / temperature) as 2^whole · 2^part; whole is at most 14, so the exponent bits never overflow.
        power = doubt[j] * _SOFTMIN_SCALE
        whole = np.int32(power)
        t = power - np.float32(whole)
        poly = E5
        poly = poly * t + E4
        poly = poly * t + E3
        poly = poly * t + E2
        poly = poly * t + E1
        poly = poly * t + np.float32(1)
        soft[j] = poly * np.int32((whole + np.int32(127)) << np.int32(23)).view(np.float32)


# The helpers below are handed whole arrays and a place in them: a slice made by the caller costs more than a short run.
@njit(cache=True, nogil=True, fastmath=_FAST)
def add_run(
    probs: FloatArray,
    start: int,
    first: int,
    length: int,
    weights: FloatArray,
    m: int,
    pair: int,
    prob_sums: NDArray[np.float64],
    pair_vector: NDArray[np.float64],
) -> None:
    """Add a run of pixels to the sums of its mask and of its pair, class by class over contiguous memory."""
    weight = weights[first : first + length]
    for k in range(probs.shape[0]):
        row = probs[k, start + first : start + first + length]
        plain = np.float32(0)
        weighted = np.float32(0)
        for i in range(length):
            plain += row[i]
            weighted += row[i] * weight[i]
        prob_sums[m, k] += plain
        pair_vector[pair, k] += weighted


@njit(cache=True, nogil=True, fastmath=_FAST)
def add_pixels(
    first: int,
    length: int,
    entropies: FloatArray,
    doubts: FloatArray,
    softs: FloatArray,
    m: int,
    sums: NDArray[np.float64],
) -> float:
    """Add a run's entropy (nats) and soft-min terms to those of its mask; return its summed doubt."""
    stop = first + length
    entropy, doubt, soft = entropies[first:stop], doubts[first:stop], softs[first:stop]
    doubt_sum = np.float32(0)
    entropy_sum = np.float32(0)
    top = np.float32(0)
    bottom = np.float32(0)
    for i in range(length):
        doubt_sum += doubt[i]
        entropy_sum += entropy[i]
        top += soft[i] * (np.float32(1) - doubt[i])
        bottom += soft[i]
    sums[m, 0] += entropy_sum * LN2
    sums[m, 1] += top
    sums[m, 2] += bottom
    return np.float64(doubt_sum)


@njit(cache=True, nogil=True, fastmath=_FAST)
def add_inside(
    probs: FloatArray,
    first: int,
    length: int,
    all_preds: IntArray,
    most: int,
    inside: FloatArray,
    m: int,
    totals: NDArray[np.float64],
) -> None:
    """Add the probabilities of those pixels of a run that are predicted as class `most`."""
    preds = all_preds[first : first + length]
    for i in range(length):
        inside[i] = np.float32(1) if preds[i] == most else np.float32(0)
    for k in range(probs.shape[0]):
        row = probs[k, first : first + length]
        plain = np.float32(0)
        for i in range(length):
            plain += row[i] * inside[i]
        totals[m, k] += plain


@njit(cache=True, nogil=True, fastmath=_FAST)
def nearest(
    probs: FloatArray,
    first: int,
    length: int,
    all_preds: IntArray,
    most: int,
    all_norms: FloatArray,
    m: int,
    units: FloatArray,
    distance: FloatArray,
) -> tuple[float, int]:
    """Find, among the pixels of a run predicted as `most`, the least squared distance to `unit`, and the first pixel at it.

    For unit vectors the largest cosine is the least distance; near 1 a cosine in single precision cannot tell
    directions 3e-4 apart, the distance can.
    """
    preds = all_preds[first : first + length]
    norms = all_norms[first : first + length]
    for i in range(length):
        distance[i] = np.float32(0)
        norms[i] = np.float32(1) / norms[i]
    for k in range(probs.shape[0]):
        row = probs[k, first : first + length]
        along = units[m, k]
        for i in range(length):
            apart = row[i] * norms[i] - along
            distance[i] += apart * apart
    least = np.float32(5)
    for i in range(length):
        distance[i] = distance[i] if preds[i] == most else np.float32(5)
        least = distance[i] if distance[i] < least else least
    for i in range(length):
        if distance[i] == least and preds[i] == most:
            return float(least), first + i
    return 5.0, -1
