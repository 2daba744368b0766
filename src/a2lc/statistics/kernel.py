"""The compiled kernel behind `mask_statistics`: three passes over the pixels of an image."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from a2lc.statistics.kernel_math import LN2
from a2lc.statistics.run_kernel import (
    FloatArray,
    IntArray,
    add_inside,
    add_pixels,
    add_run,
    doubts,
    nearest,
    scan,
)

__all__ = ["reduce_pixels"]


_SHORT = 8


_BLOCK = 1024  # pixels at a time: K=21 of them stay in the second-level cache


def reduce_pixels(probs: FloatArray, labels: IntArray, rows: IntArray, masks: int, ignore_index: int) -> Any:
    """Compute all that `finish` takes from flat (K, N) probabilities, (N,) labels and (N,) rows, -1 outside masks."""
    classes, pixels = probs.shape
    label_counts = np.zeros((masks, classes + 1), dtype=np.int32)
    turns = np.zeros((4, masks, classes), dtype=np.int32)
    bvsb_turns = np.zeros((4, masks, classes), dtype=np.float32)
    pixel_sums = np.zeros((masks, 3))
    prob_sums = np.zeros((masks, classes))
    # A pair of a mask and a label gets a slot when first met: few of the M·K occur.
    pair_slot = np.full((masks, classes), -1, dtype=np.int32)
    pair_vector = np.zeros((masks + _BLOCK, classes))
    pair_doubt = np.zeros(masks + _BLOCK)
    pair_ids = np.zeros((3, masks + _BLOCK), dtype=np.int32)

    preds = np.empty(pixels, dtype=np.int32)
    norms = np.empty(pixels, dtype=np.float32)
    work = np.empty((7, _BLOCK), dtype=np.float32)
    kind = np.empty(_BLOCK, dtype=np.int64)
    # Arrays are made and enlarged here: each allocation inside compiled code costs seconds of compilation.
    start = pairs = 0
    while start < pixels:
        if pairs + _BLOCK > pair_doubt.size:  # a block may meet as many new pairs as it has pixels
            pair_vector = np.concatenate((pair_vector, np.zeros_like(pair_vector)))
            pair_doubt = np.concatenate((pair_doubt, np.zeros_like(pair_doubt)))
            pair_ids = np.concatenate((pair_ids, np.zeros_like(pair_ids)), axis=1)
        start, pairs = _sum_blocks(
            probs,
            labels,
            rows,
            ignore_index,
            start,
            pairs,
            label_counts,
            turns,
            bvsb_turns,
            pixel_sums,
            prob_sums,
            pair_slot,
            pair_vector,
            pair_doubt,
            pair_ids,
            preds,
            norms,
            work,
            kind,
        )
    pred_counts = turns[0] + turns[1] + turns[2] + turns[3]
    pred_bvsb = bvsb_turns[0] + bvsb_turns[1] + bvsb_turns[2] + bvsb_turns[3]
    dominant = np.argmax(pred_counts, axis=1).astype(np.int32)

    # The dominant part is known only now: its mean is a second look at the pixels, its nearest pixel a third.
    direction = np.zeros((masks, classes))
    unit = np.zeros((masks, classes), dtype=np.float32)
    _mean_directions(probs, rows, preds, pred_counts, dominant, work[0], direction, unit)
    representative_pixel = np.full(masks, -1, dtype=np.int32)
    representative = np.zeros((masks, classes), dtype=np.float32)
    representative_doubt = np.zeros(masks)
    _representatives(
        probs,
        labels,
        rows,
        ignore_index,
        preds,
        norms,
        dominant,
        unit,
        np.full(masks, 5.0),
        work[0],
        representative_pixel,
        representative,
        representative_doubt,
    )
    pair_row, pair_label, pair_pixels = pair_ids[:, :pairs]
    return (
        pred_counts.sum(axis=1),
        label_counts,
        prob_sums,
        pred_counts,
        dominant,
        direction,
        representative_pixel,
        representative,
        representative_doubt,
        pixel_sums,
        pred_bvsb,
        pair_row,
        pair_label,
        pair_pixels,
        pair_doubt[:pairs],
        pair_vector[:pairs],
    )


@njit(cache=True, nogil=True)
def _sum_blocks(
    probs: FloatArray,
    labels: IntArray,
    rows: IntArray,
    ignore_index: int,
    start: int,
    pairs: int,
    label_counts: IntArray,
    turns: IntArray,
    bvsb_turns: FloatArray,
    pixel_sums: NDArray[np.float64],
    prob_sums: NDArray[np.float64],
    pair_slot: IntArray,
    pair_vector: NDArray[np.float64],
    pair_doubt: NDArray[np.float64],
    pair_ids: IntArray,
    preds: IntArray,
    norms: FloatArray,
    work: FloatArray,
    kind: NDArray[np.int64],
) -> tuple[int, int]:
    """Add blocks of pixels, from `start`, while there is room for their pairs; return where to go on and the pairs."""
    classes, pixels = probs.shape
    best, second, square, entropy = work[0], work[1], work[2], work[3]
    doubt, weight, soft = work[4], work[5], work[6]
    while start < pixels and pairs + _BLOCK <= pair_doubt.size:
        size = min(_BLOCK, pixels - start)
        top = preds[start : start + size]
        scan(probs, start, size, best, second, top, square, entropy)
        doubts(
            probs,
            labels,
            rows,
            top,
            square,
            start,
            ignore_index,
            norms[start : start + size],
            doubt,
            weight,
            soft,
            kind,
        )
        for i in range(size):
            second[i] /= max(best[i], np.float32(1e-30))
        j: Any = np.int64(0)  # not the literal 0, for which all that it is handed to would be compiled once more
        while j < size:
            # A run of pixels of one kind.
            first = j
            this = kind[j]
            while j < size and kind[j] == this:
                j += 1
            if this < 0:
                continue
            m = rows[start + first]
            given = labels[start + first]
            label = top[first] if given == ignore_index else given
            length = j - first
            label_counts[m, classes if given == ignore_index else given] += length
            pair = pair_slot[m, label]
            if pair < 0:
                pair = pairs
                pair_slot[m, label] = pair
                pair_ids[0, pair] = m
                pair_ids[1, pair] = label
                pairs += 1
            pair_ids[2, pair] += length
            if length < _SHORT:  # setting up vector loops would cost more than these pixels do
                for i in range(first, j):
                    for k in range(classes):
                        p = probs[k, start + i]
                        prob_sums[m, k] += p
                        pair_vector[pair, k] += p * weight[i]
                    turns[0, m, top[i]] += 1
                    bvsb_turns[0, m, top[i]] += second[i]
                    pair_doubt[pair] += doubt[i]
                    pixel_sums[m, 0] += entropy[i] * LN2
                    pixel_sums[m, 1] += soft[i] * (np.float32(1) - doubt[i])
                    pixel_sums[m, 2] += soft[i]
                continue
            add_run(probs, start, first, length, weight, m, pair, prob_sums, pair_vector)
            pair_doubt[pair] += add_pixels(first, length, entropy, doubt, soft, m, pixel_sums)
            # Neighbours mostly agree, and adding to one number twice in a row waits for the first to be stored:
            # four tables take turns.
            whole = first + (length // 4) * 4
            for i in range(first, whole, 4):
                turns[0, m, top[i]] += 1
                turns[1, m, top[i + 1]] += 1
                turns[2, m, top[i + 2]] += 1
                turns[3, m, top[i + 3]] += 1
                bvsb_turns[0, m, top[i]] += second[i]
                bvsb_turns[1, m, top[i + 1]] += second[i + 1]
                bvsb_turns[2, m, top[i + 2]] += second[i + 2]
                bvsb_turns[3, m, top[i + 3]] += second[i + 3]
            for i in range(whole, j):
                turns[0, m, top[i]] += 1
                bvsb_turns[0, m, top[i]] += second[i]
        start += size
    return start, pairs


@njit(cache=True, nogil=True)
def _mean_directions(
    probs: FloatArray,
    rows: IntArray,
    preds: IntArray,
    pred_counts: IntArray,
    dominant: IntArray,
    inside: FloatArray,
    direction: NDArray[np.float64],
    unit: FloatArray,
) -> None:
    """Compute the mean probabilities of each mask's dominant part, (M, K), and the unit vectors along them."""
    classes, pixels = probs.shape
    for start in range(0, pixels, _BLOCK):
        stop = min(start + _BLOCK, pixels)
        x = start
        while x < stop:
            m = rows[x]
            first = x
            while x < stop and rows[x] == m:
                x += 1
            if m >= 0:
                add_inside(probs, first, x - first, preds, dominant[m], inside, m, direction)
    for m in range(dominant.size):
        square = 0.0
        for k in range(classes):
            direction[m, k] /= pred_counts[m, dominant[m]]
            square += direction[m, k] ** 2
        norm = max(math.sqrt(square), 1e-30)
        for k in range(classes):
            unit[m, k] = direction[m, k] / norm


@njit(cache=True, nogil=True)
def _representatives(
    probs: FloatArray,
    labels: IntArray,
    rows: IntArray,
    ignore_index: int,
    preds: IntArray,
    norms: FloatArray,
    dominant: IntArray,
    unit: FloatArray,
    closest: NDArray[np.float64],
    distance: FloatArray,
    pixel_of: IntArray,
    representative: FloatArray,
    doubt: NDArray[np.float64],
) -> None:
    """Find ALC's representative pixels: of the dominant part, the one nearest to its mean direction; the first of equals."""
    classes, pixels = probs.shape
    for start in range(0, pixels, _BLOCK):
        stop = min(start + _BLOCK, pixels)
        x = start
        while x < stop:
            m = rows[x]
            first = x
            while x < stop and rows[x] == m:
                x += 1
            if m < 0:
                continue
            least, pixel = nearest(probs, first, x - first, preds, dominant[m], norms, m, unit, distance)
            if least < closest[m]:
                closest[m] = least
                pixel_of[m] = pixel
    for m in range(pixel_of.size):
        x = pixel_of[m]
        if x < 0:  # only where the probabilities are not numbers: the caller refuses them
            continue
        for k in range(classes):
            representative[m, k] = probs[k, x]
        label = labels[x] if labels[x] != ignore_index else preds[x]
        doubt[m] = 1.0 - probs[label, x]
