"""Plain-loop versions of merging, localisation, class sets and clusters, in double precision.

Written from the papers' equations and descriptions, as `plain.py` is: no vector operation, no shared helper.
"""

from __future__ import annotations

import math
from collections import deque


def touching(mask_map) -> set[tuple[int, int]]:
    """Pairs of mask ids, the smaller first, with pixels beside or below each other; 0 is no mask."""
    found = set()
    for r in range(len(mask_map)):
        for c in range(len(mask_map[0])):
            for dr, dc in ((0, 1), (1, 0)):
                if r + dr < len(mask_map) and c + dc < len(mask_map[0]):
                    a, b = int(mask_map[r][c]), int(mask_map[r + dr][c + dc])
                    if a != b and a != 0 and b != 0:
                        found.add((min(a, b), max(a, b)))
    return found


def sqrt_js(p, q) -> float:
    """sqrt((KL(p || m) + KL(q || m)) / 2), m = (p + q) / 2."""

    def kl(a, b) -> float:
        return sum(x * math.log(x / y) for x, y in zip(a, b, strict=True) if x > 0)

    middle = [(x + y) / 2 for x, y in zip(p, q, strict=True)]
    return math.sqrt(max((kl(p, middle) + kl(q, middle)) / 2, 0.0))


def merge(probs, uncertainty, edges, epsilon: float, *, depth_first: bool) -> list[int]:
    """Root of each mask's region. An absorbed mask takes on the root's feature, which is then what is compared."""
    features = [[float(v) for v in row] for row in probs]
    neighbours: dict[int, list[int]] = {}
    for i, j in edges:
        neighbours.setdefault(int(i), []).append(int(j))
        neighbours.setdefault(int(j), []).append(int(i))
    roots = [-1] * len(features)
    for root in sorted(range(len(features)), key=lambda m: (-uncertainty[m], m)):
        if roots[root] != -1:
            continue
        roots[root] = root
        waiting = deque([root])
        while waiting:
            member = waiting.pop() if depth_first else waiting.popleft()
            for other in neighbours.get(member, []):
                if roots[other] == -1 and sqrt_js(features[member], features[other]) < epsilon:
                    roots[other] = root
                    features[other] = features[root]
                    waiting.append(other)
    return roots


def interpolate(grid, height: int, width: int) -> list[list[float]]:
    """Bilinear, pixel centres at halves, edges repeated: a map (h, w) at the size (height, width)."""

    def place(i: int, size: int, cells: int) -> tuple[int, int, float]:
        x = min(max((i + 0.5) * cells / size - 0.5, 0.0), cells - 1.0)
        low = min(int(x), cells - 1)
        return low, min(low + 1, cells - 1), x - low

    found = []
    for r in range(height):
        top, bottom, down = place(r, height, len(grid))
        line = []
        for c in range(width):
            left, right, across = place(c, width, len(grid[0]))
            upper = float(grid[top][left]) * (1 - across) + float(grid[top][right]) * across
            lower = float(grid[bottom][left]) * (1 - across) + float(grid[bottom][right]) * across
            line.append(upper * (1 - down) + lower * down)
        found.append(line)
    return found


def dot(a, b) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def median(values) -> float:
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def localise(features, logits, mask_map, answered, *, variant, expand, expand_single, keep=-3):
    """Labels (H, W), and the smallest difference of two cosines that were compared and are not equal.

    Args:
        features: (D, H, W) at the size of the image; logits: (K, H, W) likewise.
    """
    height, width = len(mask_map), len(mask_map[0])
    pixels: dict[int, list[tuple[int, int]]] = {}
    for r in range(height):
        for c in range(width):
            pixels.setdefault(int(mask_map[r][c]), []).append((r, c))

    def feature(pixel) -> list[float]:
        return [float(features[d][pixel[0]][pixel[1]]) for d in range(len(features))]

    def probability(k: int, pixel) -> float:
        values = [float(logits[j][pixel[0]][pixel[1]]) for j in range(len(logits))]
        return math.exp(values[k]) / sum(math.exp(v) for v in values)

    labels = [[keep] * width for _ in range(height)]
    inside: dict[tuple[int, int], int] = {}
    differences = [math.inf]
    for mask in sorted(answered):
        classes = sorted(answered[mask])
        if not classes:
            continue
        prototypes = {}
        for c in classes:
            best = pixels[mask][0]
            for p in pixels[mask]:
                if probability(c, p) > probability(c, best):
                    best = p
            prototypes[c] = feature(best)
        cosines: dict[int, list[float]] = {c: [] for c in classes}
        for p in pixels[mask]:
            values = {c: dot(feature(p), prototypes[c]) for c in classes}
            label = classes[0]
            for c in classes:
                if values[c] > values[label]:
                    label = c
            inside[p] = label
            cosines[label].append(values[label])
            differences += [values[label] - v for v in values.values()]
        if not expand or (len(classes) == 1 and not expand_single):
            continue
        thresholds = {c: median(cosines[c]) if cosines[c] else 1.0 for c in classes}
        near = set()
        for r, c in pixels[mask]:
            for dr in (-1, 0, 1):
                for dc in (-1, 0, 1):
                    if 0 <= r + dr < height and 0 <= c + dc < width:
                        near.add(int(mask_map[r + dr][c + dc]))
        for other in near - {0} - set(answered):
            for p in pixels[other]:
                values = {c: dot(feature(p), prototypes[c]) for c in classes}
                passing = [c for c in classes if values[c] > thresholds[c]]
                differences += [abs(values[c] - thresholds[c]) for c in classes]
                if passing:
                    choice = passing if variant == "slides" else classes
                    labels[p[0]][p[1]] = max(choice, key=lambda c: (values[c], -c))
    for (r, c), label in inside.items():
        labels[r][c] = label
    return labels, min(d for d in differences if d > 0)


def class_sets(mask_map, truth, mask_ids, kernel: int, void: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Classes in each region outside a square around every pixel that has a neighbour of another region."""
    height, width = len(mask_map), len(mask_map[0])
    band = set()
    for r in range(height):
        for c in range(width):
            for dr, dc in ((0, 1), (1, 0), (0, -1), (-1, 0)):
                if 0 <= r + dr < height and 0 <= c + dc < width and mask_map[r + dr][c + dc] != mask_map[r][c]:
                    reach = kernel // 2
                    band |= {(r + i, c + j) for i in range(-reach, reach + 1) for j in range(-reach, reach + 1)}
    found = []
    for mask in mask_ids:
        whole = [(r, c) for r in range(height) for c in range(width) if mask_map[r][c] == mask]
        left = [p for p in whole if p not in band] or whole
        found.append(tuple(sorted({int(truth[r][c]) for r, c in left} - set(void))))
    return found


def inverse_and_log_det(matrix) -> tuple[list[list[float]], float]:
    """By Gauss-Jordan elimination with pivots; of a positive definite matrix."""
    size = len(matrix)
    rows = [[float(v) for v in row] + [float(i == j) for j in range(size)] for i, row in enumerate(matrix)]
    log_det = 0.0
    for i in range(size):
        pivot = max(range(i, size), key=lambda r: abs(rows[r][i]))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        log_det += math.log(abs(rows[i][i]))
        rows[i] = [v / rows[i][i] for v in rows[i]]
        for r in range(size):
            if r != i:
                rows[r] = [a - rows[r][i] * b for a, b in zip(rows[r], rows[i], strict=True)]
    return [row[size:] for row in rows], log_det


def gaussian(features, shrinkage: float):
    """Mean, covariance (1-g) S + g (tr S / D) I, its inverse and log determinant."""
    count, depth = len(features), len(features[0])
    mean = [sum(float(f[d]) for f in features) / count for d in range(depth)]
    s = [
        [sum((float(f[a]) - mean[a]) * (float(f[b]) - mean[b]) for f in features) / count for b in range(depth)]
        for a in range(depth)
    ]
    trace = sum(s[d][d] for d in range(depth))
    sigma = [
        [(1 - shrinkage) * s[a][b] + shrinkage * trace / depth * (a == b) for b in range(depth)] for a in range(depth)
    ]
    return mean, sigma, *inverse_and_log_det(sigma)


def squared(h, mean, inverse) -> float:
    deviation = [float(x) - m for x, m in zip(h, mean, strict=True)]
    return sum(
        deviation[a] * inverse[a][b] * deviation[b] for a in range(len(deviation)) for b in range(len(deviation))
    )


def quantile(values, share: float) -> float:
    """The smallest value that at least this share of them do not exceed."""
    ordered = sorted(values)
    return ordered[math.ceil(share * len(ordered) - 1e-9) - 1]


def decide(labelled: dict[int, list], features, shrinkage: float, share: float, margin: float):
    """Class or None, and the margin, of each feature. Caps: distances of features their cluster was made without.

    Without a feature the scatter's sphere stays as it is: only the scatter itself loses the feature.
    """
    clusters = {}
    for c, mine in labelled.items():
        if len(mine) < 2:
            continue
        mean, _, inverse, log_det = gaussian(mine, shrinkage)
        count, depth = len(mine), len(mine[0])
        trace = sum((float(f[d]) - mean[d]) ** 2 for f in mine for d in range(depth)) / count
        euclidean, mahalanobis = [], []
        for i, f in enumerate(mine):
            rest = mine[:i] + mine[i + 1 :]
            without, s, _, _ = gaussian(rest, 0.0) if len(rest) > depth else _raw(rest)
            sigma = [
                [
                    (1 - shrinkage) * s[a][b] + shrinkage * trace / depth * (count / (count - 1)) * (a == b)
                    for b in range(depth)
                ]
                for a in range(depth)
            ]
            mahalanobis.append(math.sqrt(squared(f, without, inverse_and_log_det(sigma)[0])))
            euclidean.append(math.sqrt(sum((float(x) - m) ** 2 for x, m in zip(f, without, strict=True))))
        clusters[c] = (mean, inverse, log_det, quantile(euclidean, share), quantile(mahalanobis, share))
    found = []
    for h in features:
        m = {c: squared(h, mean, inverse) for c, (mean, inverse, _, _, _) in clusters.items()}
        e = {
            c: math.sqrt(sum((float(x) - y) ** 2 for x, y in zip(h, mean, strict=True)))
            for c, (mean, _, _, _, _) in clusters.items()
        }
        scores = {c: m[c] + clusters[c][2] for c in clusters}
        ranked = sorted(scores, key=lambda c: scores[c])
        best = ranked[0]
        lead = scores[ranked[1]] - scores[best] if len(ranked) > 1 else math.inf
        relative = lead / (lead + max(m[best], len(h))) if len(ranked) > 1 else 1.0
        agreed = best == min(e, key=lambda c: e[c])
        close = math.sqrt(m[best]) <= clusters[best][4] and e[best] <= clusters[best][3]
        found.append((best if agreed and close and relative > margin else None, relative))
    return found


def _raw(features):
    """Mean and covariance alone, of features too few for an inverse."""
    count, depth = len(features), len(features[0])
    mean = [sum(float(f[d]) for f in features) / count for d in range(depth)]
    s = [
        [sum((float(f[a]) - mean[a]) * (float(f[b]) - mean[b]) for f in features) / count for b in range(depth)]
        for a in range(depth)
    ]
    return mean, s, None, None
