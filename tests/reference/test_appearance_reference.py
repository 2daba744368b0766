"""The compiled passes over pixels and borders agree with plain loops in double precision."""

from __future__ import annotations

import math

import numpy as np
import pytest

from a2lc.statistics.appearance import APPEARANCE, Borders, borders, mask_appearance, neighbour_means

# ---- plain loops: from the docstrings, without any shared helper ----------------------------------------------------


def lab_of(pixel) -> tuple[float, float, float]:
    """IEC 61966-2-1 and CIE 15, D65."""
    linear = []
    for value in pixel:
        v = int(value) / 255
        linear.append(((v + 0.055) / 1.055) ** 2.4 if v > 0.04045 else v / 12.92)
    red, green, blue = linear
    x = (0.412453 * red + 0.357580 * green + 0.180423 * blue) / 0.95047
    y = 0.212671 * red + 0.715160 * green + 0.072169 * blue
    z = (0.019334 * red + 0.119193 * green + 0.950227 * blue) / 1.08883
    x, y, z = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in (x, y, z))
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def mean(values) -> float:
    return sum(values) / len(values)


def deviation(values) -> float:
    middle = mean(values)
    return math.sqrt(mean([(v - middle) ** 2 for v in values]))


def plain_row(lab, masks, mask, height, width) -> dict[str, float]:
    where = [(r, c) for r in range(height) for c in range(width) if masks[r][c] == mask]
    row: dict[str, float] = {}
    for k, name in enumerate("lab"):
        row[f"{name}_mean"] = mean([lab[r][c][k] for r, c in where])
        row[f"{name}_std"] = deviation([lab[r][c][k] for r, c in where])

    def light(r, c):
        return lab[min(max(r, 0), height - 1)][min(max(c, 0), width - 1)][0]

    sums = {0: 0.0, 45: 0.0, 90: 0.0, 135: 0.0}
    bend = 0.0
    for r, c in where:
        across, along = (light(r, c + 1) - light(r, c - 1)) / 2, (light(r + 1, c) - light(r - 1, c)) / 2
        angle = math.degrees(math.atan2(along, across)) % 180
        nearest = min(sums, key=lambda a, angle=angle: min(abs(angle - a), 180 - abs(angle - a)))
        sums[nearest] += math.hypot(across, along)
        around = light(r, c + 1) + light(r, c - 1) + light(r + 1, c) + light(r - 1, c)
        bend += abs(around - 4 * light(r, c))
    row["gradient"] = sum(sums.values()) / len(where)
    for angle, total in sums.items():
        row[f"gradient_{angle}"] = total / len(where)
    row["laplacian"] = bend / len(where)

    ys, xs = [(r + 0.5) / height for r, _ in where], [(c + 0.5) / width for _, c in where]
    row["centre_y"], row["centre_x"], row["off_centre"] = mean(ys), mean(xs), abs(mean(xs) - 0.5)
    row["spread_y"], row["spread_x"] = deviation(ys), deviation(xs)
    top, bottom = min(r for r, _ in where), max(r for r, _ in where) + 1
    left, right = min(c for _, c in where), max(c for _, c in where) + 1
    row["top"], row["bottom"] = top / height, bottom / height
    row["box_height"], row["box_width"] = (bottom - top) / height, (right - left) / width
    row["log_area"] = math.log(len(where) / (height * width))
    row["log_aspect"] = math.log((bottom - top) / (right - left))
    row["extent"] = len(where) / ((bottom - top) * (right - left))
    sides = 0
    for r, c in where:
        for y, x in ((r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)):
            inside = 0 <= y < height and 0 <= x < width
            sides += not inside or masks[y][x] != mask
    row["compactness"] = 4 * math.pi * len(where) / sides**2
    return row


def plain_borders(masks, ids, reach) -> dict[tuple[bool, int, int], float]:
    rows = {int(mask): row for row, mask in enumerate(ids)}
    height, width = masks.shape
    found: dict[tuple[bool, int, int], float] = {}
    for step in range(1, reach + 1, 2):
        for r in range(height):
            for c in range(width):
                for vertical, y, x in ((True, r + step, c), (False, r, c + step)):
                    if y >= height or x >= width:
                        continue
                    one, other = rows.get(int(masks[r][c])), rows.get(int(masks[y][x]))
                    if one is None or other is None or one == other:
                        continue
                    key = (vertical, one, other) if vertical else (vertical, min(one, other), max(one, other))
                    found[key] = found.get(key, 0) + 1 / step
    return found


def plain_means(values, found: Borders, count) -> list[list[float]]:
    width = len(values[0])
    result = []
    for mask in range(count):
        row: list[float] = []
        for kind in ("below", "above", "beside"):
            total, sums = 0.0, [0.0] * width
            for first, second, length, vertical in zip(
                found.first, found.second, found.length, found.vertical, strict=True
            ):
                others = []
                if kind == "below" and vertical and first == mask:
                    others.append(second)
                if kind == "above" and vertical and second == mask:
                    others.append(first)
                if kind == "beside" and not vertical and mask in (first, second):
                    others.append(second if first == mask else first)
                for other in others:
                    total += float(length)
                    for k in range(width):
                        sums[k] += float(length) * float(values[other][k])
            row += [s / total if total else 0.0 for s in sums]
        result.append(row)
    return result


# ---- agreement ---------------------------------------------------------------------------------------------------


def blocks(rng, height, width, masks, size):
    """Masks of more than a few pixels, some torn apart, some pixels of no mask."""
    coarse = rng.integers(1, masks + 1, size=(-(-height // size), -(-width // size)))
    found = np.repeat(np.repeat(coarse, size, axis=0), size, axis=1)[:height, :width]
    found[rng.random((height, width)) < 0.1] = 0
    return found


@pytest.mark.parametrize(
    "height, width, masks, size", [(9, 14, 5, 1), (13, 21, 6, 4), (1, 17, 3, 2), (16, 1, 3, 3), (2, 3, 1, 1)]
)
def test_appearance(rng, height, width, masks, size):
    pixels = rng.integers(0, 256, size=(height, width, 3), dtype=np.uint8)
    pixels[:, : width // 2] //= 8  # dark ones too
    mask_map = blocks(rng, height, width, masks, size)
    ids = np.setdiff1d(np.unique(mask_map), [0])
    found = mask_appearance(pixels, mask_map, ids)
    lab = [[lab_of(pixels[r, c]) for c in range(width)] for r in range(height)]
    for row, mask in enumerate(ids):
        expected = plain_row(lab, mask_map, mask, height, width)
        assert set(expected) == set(APPEARANCE), "a column has no plain version"
        for column, name in enumerate(APPEARANCE):
            assert found[row, column] == pytest.approx(expected[name], rel=1e-5, abs=5e-4), (mask, name)
            if column >= APPEARANCE.index("centre_y"):
                assert found[row, column] == pytest.approx(expected[name], rel=1e-6, abs=1e-6), (mask, name)


@pytest.mark.parametrize("reach", [1, 2, 5, 9])
@pytest.mark.parametrize("size", [1, 4])
def test_borders(rng, reach, size):
    mask_map = blocks(rng, 13, 21, 9, size) * 3
    ids = np.array([3, 6, 9, 12, 14, 18, 21])  # two that occur are not listed, one that is listed does not occur
    found = borders(mask_map, ids, reach)
    expected = plain_borders(mask_map, ids, reach)
    keys = list(zip(found.vertical.tolist(), found.first.tolist(), found.second.tolist(), strict=True))
    assert keys == sorted(expected, key=lambda key: (not key[0], *key[1:]))
    np.testing.assert_allclose(found.length, [expected[key] for key in keys], rtol=1e-6)


def test_neighbour_means_of_two_images(rng):
    parts, start = [], 0
    for size in (1, 3):
        mask_map = blocks(rng, 9, 14, 8, size)
        ids = np.setdiff1d(np.unique(mask_map), [0])
        parts.append(borders(mask_map, ids).shifted(start))
        start += len(ids)
    found = Borders.concat(parts)
    order = rng.permutation(len(found))
    mixed = Borders(
        first=found.first[order],
        second=found.second[order],
        length=found.length[order],
        vertical=found.vertical[order],
    )
    values = rng.normal(size=(start, 4)).astype(np.float32)
    expected = plain_means(values, found, start)
    for given in (found, mixed):
        np.testing.assert_allclose(neighbour_means(values, given, start), expected, rtol=1e-5, atol=1e-6)
