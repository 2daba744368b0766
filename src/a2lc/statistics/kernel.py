"""The compiled kernel behind `mask_statistics`: one pass over the pixels of an image."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from a2lc.errors import ShapeError
from a2lc.statistics.kernel_math import BASE, E1, E2, E3, E4, E5, LN2, MANTISSA, P0, P1, P2, P3, P4, P5, P6, SHIFT

__all__ = ["SOFTMIN_TEMPERATURE", "first_bad_label", "reduce_pixels", "rows_of"]


SOFTMIN_TEMPERATURE = 0.1
"""Temperature of the soft minimum of label confidences: cleanlab's default (Lad and Mueller 2023, arXiv:2307.05080)."""


FloatArray = NDArray[np.float32]


IntArray = NDArray[np.int32]


def rows_of(masks: IntArray) -> tuple[IntArray, IntArray]:
    """Mask ids that occur, ascending, and each pixel's row among them, -1 outside masks."""
    low, high = (int(masks.min()), int(masks.max())) if masks.size else (0, 0)
    if low < 0:
        raise ShapeError(f"Expected mask ids of 0 and above, found {low}.")
    if high <= 4 * masks.size + 65536:
        return _rows_by_table(masks, high)
    # Ids as sparse as panoptic ones would make a table larger than the image.
    ids, rows = np.unique(masks, return_inverse=True)
    shift = int(ids[0] == 0)
    return ids[shift:].astype(np.int32), (rows.ravel() - shift).astype(np.int32)


@njit(cache=True, nogil=True)
def _rows_by_table(masks: IntArray, high: int) -> tuple[IntArray, IntArray]:
    table = np.full(high + 1, -1, dtype=np.int32)
    for x in range(masks.size):
        table[masks[x]] = 0
    table[0] = -1
    count = 0
    for mask in range(1, high + 1):
        if table[mask] == 0:
            table[mask] = count
            count += 1
    ids = np.empty(count, dtype=np.int32)
    for mask in range(1, high + 1):
        if table[mask] >= 0:
            ids[table[mask]] = mask
    rows = np.empty(masks.size, dtype=np.int32)
    for x in range(masks.size):
        rows[x] = table[masks[x]]
    return ids, rows


@njit(cache=True, nogil=True)
def first_bad_label(labels: IntArray, rows: IntArray, num_classes: int, ignore_index: int) -> int:
    """Return the position of the first label inside a mask that is neither a class nor the ignore index; -1 if none."""
    bad = 0
    for x in range(labels.size):  # no early way out: the common case, none, is then vector code
        label = labels[x]
        bad += (rows[x] >= 0) & (label != ignore_index) & ((label < 0) | (label >= num_classes))
    if bad:
        for x in range(labels.size):
            if rows[x] >= 0 and labels[x] != ignore_index and not (0 <= labels[x] < num_classes):
                return x
    return -1


_SOFTMIN_SCALE = np.float32(1 / (SOFTMIN_TEMPERATURE * math.log(2)))


_SHORT = 8


_BLOCK = 1024  # pixels at a time: K=21 of them stay in the second-level cache


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
def _scan(
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
def _doubt(
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
def _add_run(
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
def _add_pixels(
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
def _add_inside(
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
def _nearest(
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
        _scan(probs, start, size, best, second, top, square, entropy)
        _doubt(
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
        for j in range(size):
            second[j] /= max(best[j], np.float32(1e-30))
        j = np.int64(0)  # not the literal 0, for which all that it is handed to would be compiled once more
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
            _add_run(probs, start, first, length, weight, m, pair, prob_sums, pair_vector)
            pair_doubt[pair] += _add_pixels(first, length, entropy, doubt, soft, m, pixel_sums)
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
                _add_inside(probs, first, x - first, preds, dominant[m], inside, m, direction)
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
            least, pixel = _nearest(probs, first, x - first, preds, dominant[m], norms, m, unit, distance)
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
