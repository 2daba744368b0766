"""Plain-loop versions, in double precision, of what the package computes fast.

Written from the equations of the papers, pixel by pixel, and never from the package's code: no vector operation, no
shared helper. Probabilities come as nested access `probs[k][r][c]`; masks are dictionaries of lists of pixels.
"""

from __future__ import annotations

import math
from collections import Counter


def pixels_by_mask(mask_map) -> dict[int, list[tuple[int, int]]]:
    """Pixels of each mask in reading order; 0 is no mask."""
    found: dict[int, list[tuple[int, int]]] = {}
    for r in range(len(mask_map)):
        for c in range(len(mask_map[0])):
            mask = int(mask_map[r][c])
            if mask != 0:
                found.setdefault(mask, []).append((r, c))
    return dict(sorted(found.items()))


def vector(probs, pixel) -> list[float]:
    r, c = pixel
    return [float(probs[k][r][c]) for k in range(len(probs))]


def predicted(f: list[float]) -> int:
    best = 0
    for k in range(1, len(f)):
        if f[k] > f[best]:
            best = k
    return best


def label_of(probs, labels, pixel, ignore: int) -> int:
    """The label a pixel is scored with: its own or, where that is void, what the model predicts."""
    given = int(labels[pixel[0]][pixel[1]])
    return predicted(vector(probs, pixel)) if given == ignore else given


def cosine(a: list[float], b: list[float]) -> float:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b))


def most_frequent(values) -> int:
    """Ties go to the smallest."""
    counts = Counter(values)
    return min(counts, key=lambda v: (-counts[v], v))


def cil(probs, labels, pixel, ignore: int = 255) -> float:
    """a_CIL(x) = 1 - f(y(x); x)."""
    return 1.0 - vector(probs, pixel)[label_of(probs, labels, pixel, ignore)]


def dominant_class(probs, pixels) -> int:
    return most_frequent([predicted(vector(probs, p)) for p in pixels])


def dominant_part(probs, pixels) -> list[tuple[int, int]]:
    dominant = dominant_class(probs, pixels)
    return [p for p in pixels if predicted(vector(probs, p)) == dominant]


def mean_vector(probs, pixels) -> list[float]:
    total = [0.0] * len(probs)
    for p in pixels:
        for k, value in enumerate(vector(probs, p)):
            total[k] += value
    return [value / len(pixels) for value in total]


def representative_pixel(probs, pixels) -> tuple[int, int]:
    """argmax over the dominant part of the cosine to its mean; the first of equals."""
    part = dominant_part(probs, pixels)
    centre = mean_vector(probs, part)
    best, best_cosine = part[0], -2.0
    for p in part:
        value = cosine(vector(probs, p), centre)
        if value > best_cosine + 1e-15:
            best, best_cosine = p, value
    return best


def abc(probs, labels, pixels, weights=None, ignore: int = 255) -> float:
    """sum over the mask of cos(f(x), f(m')) w[label] a_CIL(x)."""
    centre = mean_vector(probs, dominant_part(probs, pixels))
    total = 0.0
    for p in pixels:
        weight = 1.0 if weights is None else weights[label_of(probs, labels, p, ignore)]
        total += cosine(vector(probs, p), centre) * weight * cil(probs, labels, p, ignore)
    return total


def sim(probs, labels, pixels, representative=None, ignore: int = 255) -> float:
    """sum over the mask of cos(f(x_r), f(x)) a_CIL(x)."""
    r = vector(probs, representative or representative_pixel(probs, pixels))
    return sum(cosine(vector(probs, p), r) * cil(probs, labels, p, ignore) for p in pixels)


def lcil(probs, labels, pixels, ignore: int = 255) -> float:
    return sum(cil(probs, labels, p, ignore) for p in pixels) / len(pixels)


def entropy(f: list[float]) -> float:
    return -sum(p * math.log(p) for p in f if p > 0)


def bvsb(f: list[float]) -> float:
    """Second-best over best; 0 where there is no second class."""
    ordered = sorted(f, reverse=True)
    return ordered[1] / ordered[0] if len(ordered) > 1 else 0.0


def class_balance(probs, masks: list[list]) -> tuple[list[float], list[float]]:
    """Scores of ClassBal and AMSS of all masks of a pool: u(s) e^{-p}, p by masks and by pixels."""
    uncertain = [sum(bvsb(vector(probs, p)) for p in pixels) / len(pixels) for pixels in masks]
    dominant = [dominant_class(probs, pixels) for pixels in masks]
    by_mask, by_pixel = [], []
    everything = sum(len(pixels) for pixels in masks)
    for u, c in zip(uncertain, dominant, strict=True):
        share = dominant.count(c) / len(masks)
        pixels_share = sum(len(pixels) for pixels, d in zip(masks, dominant, strict=True) if d == c) / everything
        by_mask.append(u * math.exp(-share))
        by_pixel.append(u * math.exp(-pixels_share))
    return by_mask, by_pixel


def pixbal(probs, masks: list[list], nu: float = 6.0) -> list[float]:
    """Mean over pixels of BvSB / (1 + nu P(top class))^2, P the mean probability over the pool."""
    pool = [p for pixels in masks for p in pixels]
    classes = len(probs)
    mean = [sum(vector(probs, p)[k] for p in pool) / len(pool) for k in range(classes)]
    scores = []
    for pixels in masks:
        total = 0.0
        for p in pixels:
            f = vector(probs, p)
            total += bvsb(f) / (1 + nu * mean[predicted(f)]) ** 2
        scores.append(total / len(pixels))
    return scores


def softmin(confidences: list[float], temperature: float = 0.1) -> float:
    """Cleanlab's soft minimum: sum of s_i softmax((1 - s_i) / temperature)."""
    weights = [math.exp((1 - s) / temperature) for s in confidences]
    return sum(s * w for s, w in zip(confidences, weights, strict=True)) / sum(weights)


def mask_statistics(probs, labels, mask_map, ignore: int = 255, representatives=None) -> dict[str, list]:
    """Every field of MaskStats, as lists.

    Args:
        representatives: Flat index of the representative pixel of each mask, where the caller decides between pixels
            that rounding cannot tell apart.
    """
    classes, width = len(probs), len(mask_map[0])
    out: dict[str, list] = {
        name: []
        for name in [
            "image",
            "mask_ids",
            "area",
            "label",
            "void_pixels",
            "prob_sums",
            "pred_counts",
            "dominant",
            "direction",
            "representative",
            "representative_pixel",
            "representative_doubt",
            "entropy_sum",
            "bvsb_sum",
            "pred_bvsb",
            "softmin",
            "pair_row",
            "pair_label",
            "pair_pixels",
            "pair_doubt",
            "pair_similar",
            "pair_similar_representative",
        ]
    }
    for row, (mask, pixels) in enumerate(pixels_by_mask(mask_map).items()):
        given = [int(labels[r][c]) for r, c in pixels]
        # Void stands behind all classes: it loses ties.
        label = most_frequent([math.inf if g == ignore else g for g in given])
        part = dominant_part(probs, pixels)
        direction = mean_vector(probs, part)
        if representatives is None:
            r = representative_pixel(probs, pixels)
        else:
            r = divmod(int(representatives[row]), width)
            assert r in part
        sums = [0.0] * classes
        predictions = [0] * classes
        for p in pixels:
            f = vector(probs, p)
            predictions[predicted(f)] += 1
            for k in range(classes):
                sums[k] += f[k]
        out["image"].append(0)
        out["mask_ids"].append(mask)
        out["area"].append(len(pixels))
        out["label"].append(ignore if label == math.inf else label)
        out["void_pixels"].append(sum(g == ignore for g in given))
        out["prob_sums"].append(sums)
        out["pred_counts"].append(predictions)
        out["dominant"].append(dominant_class(probs, pixels))
        out["direction"].append(direction)
        out["representative"].append(vector(probs, r))
        out["representative_pixel"].append(r[0] * width + r[1])
        out["representative_doubt"].append(cil(probs, labels, r, ignore))
        out["entropy_sum"].append(sum(entropy(vector(probs, p)) for p in pixels))
        out["bvsb_sum"].append(sum(bvsb(vector(probs, p)) for p in pixels))
        by_class = [0.0] * classes
        for p in pixels:
            by_class[predicted(vector(probs, p))] += bvsb(vector(probs, p))
        out["pred_bvsb"].append(by_class)
        out["softmin"].append(softmin([1 - cil(probs, labels, p, ignore) for p in pixels]))
        for pair in sorted({label_of(probs, labels, p, ignore) for p in pixels}):
            mine = [p for p in pixels if label_of(probs, labels, p, ignore) == pair]
            out["pair_row"].append(row)
            out["pair_label"].append(pair)
            out["pair_pixels"].append(len(mine))
            out["pair_doubt"].append(sum(cil(probs, labels, p, ignore) for p in mine))
            out["pair_similar"].append(
                sum(cosine(vector(probs, p), direction) * cil(probs, labels, p, ignore) for p in mine)
            )
            out["pair_similar_representative"].append(
                sum(cosine(vector(probs, p), vector(probs, r)) * cil(probs, labels, p, ignore) for p in mine)
            )
    return out


def class_weights(counts: dict[int, int], power: float = 3.0) -> dict[int, float]:
    """w[c] = (min N / N[c]) ** KL^3, KL = sum P ln(P n), over classes that occur; void is a class like any other."""
    present = {c: n for c, n in counts.items() if n > 0}
    if not present:
        return {c: 0.0 for c in counts}
    total = sum(present.values())
    divergence = 0.0
    for n in present.values():
        divergence += n / total * math.log(n / total * len(present))
    exponent = max(divergence, 0.0) ** power
    least = min(present.values())
    return {c: (least / counts[c]) ** exponent if c in present else 0.0 for c in counts}


def order_by_rarity(answered: list[int], classes: int) -> list[int]:
    """Sort ascending by count; among equals classes that occur, by falling count and first met, then missing ones."""
    counts: dict[int, int] = {}
    for c in answered:
        counts[c] = counts.get(c, 0) + 1
    listing = [c for c, _ in Counter(answered).most_common()]
    for c in range(classes):
        if c not in listing:
            listing.append(c)
    ranked: list[int] = []
    while listing:
        least = min(counts.get(c, 0) for c in listing)
        for c in list(listing):
            if counts.get(c, 0) == least:
                ranked.append(c)
                listing.remove(c)
    return ranked


def automatic(
    proposed: int, confidence: float, current: int, asked: bool, answered: list[int], classes: int, tau: float
) -> bool:
    """Whether a mask is changed: the five skips of A2LC, one after another, alpha 0.5."""
    ranks = order_by_rarity(answered, classes)
    if proposed == current:
        return False
    if asked:
        return False
    if confidence < tau:
        return False
    if proposed in ranks[: classes // 2]:
        return False
    return current != ranks[0]


def manual(labels: list[int], truth: list[int], ignore: int = 255) -> list[int]:
    """A mask's labels after A2LC's simulated answer: relabelled by the mode of the truth where acc <= 0.5."""
    right = sum(a == b and b != ignore for a, b in zip(labels, truth, strict=True))
    if right / len(labels) <= 0.5:
        mode = most_frequent([math.inf if t == ignore else t for t in truth])
        return [ignore if mode == math.inf else int(mode)] * len(labels)
    return list(labels)
