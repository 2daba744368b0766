"""Draw patterns and objects on a canvas."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from a2lc.demo.looks import APPEARANCES, RGB, Appearance, BoolArray, FloatArray
from a2lc.demo.settings import GRAIN, LAYOUT, SceneSettings, generator

__all__ = ["DRAW", "Box", "Canvas", "Drawing", "Window", "draw_sign", "rect", "value_noise"]


def value_noise(rng: np.random.Generator, y: FloatArray, x: FloatArray, cell: float) -> FloatArray:
    """Smooth noise of about unit variance at the pixels of rows `y` (H,) and columns `x` (W,): (H, W) float32.

    Random numbers on a lattice of `cell` units, blended in between. The lattice does not depend on the resolution, so
    neither does the noise.
    """
    # The first pixel's middle is half a pixel in, the last one's as much short of the end: their sum is the extent.
    # The tolerance is for extents that are a whole number of cells but for rounding.
    knots_y, knots_x = (math.floor(float(side[0] + side[-1]) / cell + 1e-3) + 2 for side in (y, x))
    lattice = rng.standard_normal((knots_y, knots_x))

    def weights(positions: FloatArray, knots: int) -> NDArray[np.float64]:
        whole = np.floor(positions / cell).astype(np.intp)
        part = positions / cell - whole
        part = part * part * (3.0 - 2.0 * part)
        matrix = np.zeros((len(positions), knots))
        matrix[np.arange(len(positions)), whole] = 1.0 - part
        matrix[np.arange(len(positions)), whole + 1] = part
        return matrix

    blended = weights(y, lattice.shape[0]) @ lattice @ weights(x, lattice.shape[1]).T
    return (1.35 * blended).astype(np.float32)  # blending averages neighbours: give the variance back


_Pattern = Callable[[FloatArray, FloatArray], BoolArray]


def _plain(x: FloatArray, y: FloatArray) -> BoolArray:
    return np.zeros(np.broadcast_shapes(x.shape, y.shape), np.bool_)


def _bricks(x: FloatArray, y: FloatArray) -> BoolArray:
    shifted = x + 4.0 * (np.floor(y / 4.0) % 2.0)
    return np.asarray((y % 4.0 < 1.0) | (shifted % 8.0 < 1.0))


def _ribs(x: FloatArray, y: FloatArray) -> BoolArray:
    return np.broadcast_to(x % 4.0 < 1.5, np.broadcast_shapes(x.shape, y.shape))


def _panes(x: FloatArray, y: FloatArray) -> BoolArray:
    return np.asarray((x % 7.0 < 1.2) | (y % 9.0 < 1.2))


def _slabs(x: FloatArray, y: FloatArray) -> BoolArray:
    return np.asarray((x % 14.0 < 1.4) | (y % 12.0 < 1.2))


def _cobbles(x: FloatArray, y: FloatArray) -> BoolArray:
    return np.asarray(np.sin(x * 1.25) * np.sin(y * 1.6) > 0.25)


_PATTERNS: dict[str, _Pattern] = {
    "plain": _plain, "bricks": _bricks, "ribs": _ribs, "panes": _panes, "slabs": _slabs, "cobbles": _cobbles,
}  # fmt: skip


# What an object is drawn of: its outline, and parts in other colours, later ones over earlier ones.
Drawing = tuple[BoolArray, list[tuple[BoolArray, RGB]]]


_Draw = Callable[[FloatArray, FloatArray, Appearance], Drawing]


Window = tuple[slice, slice]


class Canvas:
    """A scene being painted.

    Attributes:
        unit: Pixels per unit of length.
        y: (H,) rows in units.
        x: (W,) columns in units.
        colour: (H, W, 3) float32, 0..255 or a little beyond.
        instances: (H, W) int32, which painted thing shows at a pixel; 0 for none.
        looks: For instance i at i, its row of `APPEARANCES`; -1 for instance 0.
        outside: Pixels that are void although some instance shows there.
    """

    def __init__(self, settings: SceneSettings, index: int) -> None:
        height, width = settings.height, settings.width
        self.rng = generator(settings, LAYOUT, index)
        self.unit = height / 128.0
        self.y: FloatArray = ((np.arange(height) + 0.5) / self.unit).astype(np.float32)
        self.x: FloatArray = ((np.arange(width) + 0.5) / self.unit).astype(np.float32)
        self.breadth = width / self.unit
        self.colour = np.zeros((height, width, 3), np.float32)
        self.instances = np.zeros((height, width), np.int32)
        self.looks: list[int] = [-1]
        self.outside = np.zeros((height, width), np.bool_)
        grain = generator(settings, GRAIN, index)
        self.fine = value_noise(grain, self.y, self.x, 1.5)
        self.soft = value_noise(grain, self.y, self.x, 9.0)
        self.sensor = grain.standard_normal((height, width, 3), dtype=np.float32)

    def window(self, left: float, top: float, right: float, bottom: float) -> Window:
        """Return the pixels of a box in units, cut to the image; it may be empty."""
        height, width = self.instances.shape
        rows = slice(min(max(math.floor(top * self.unit), 0), height), max(math.ceil(bottom * self.unit), 0))
        columns = slice(min(max(math.floor(left * self.unit), 0), width), max(math.ceil(right * self.unit), 0))
        return rows, columns

    def surface(self, row: int, window: Window, x: FloatArray, y: FloatArray) -> FloatArray:
        """Return the texture of an appearance in a window at texture coordinates `x` and `y`: (h, w, 3) float32."""
        look = APPEARANCES[row]
        tint = self.rng.normal(1.0, 0.06) * self.rng.normal(1.0, 0.02, 3)
        accent = _PATTERNS[look.pattern](x, y)[..., None]
        paint = np.where(accent, np.array(look.accent, np.float32), np.array(look.base, np.float32)) * tint
        shade = 1.0 + look.grain * (0.7 * self.fine[window] + 0.7 * self.soft[window])
        return np.asarray(paint * shade[..., None], np.float32)

    def paint(self, row: int, window: Window, inside: BoolArray, colour: FloatArray) -> None:
        """Paint a new instance of an appearance where `inside`, both arrays of the window's size."""
        number = len(self.looks)
        self.looks.append(row)
        self.colour[window][inside] = colour[inside]
        self.instances[window][inside] = number
        self.outside[window][inside] = False

    def paint_region(self, row: int, inside: BoolArray, x: FloatArray, y: FloatArray) -> None:
        """Paint an appearance over the pixels `inside`, (H, W)."""
        everything = (slice(None), slice(None))
        self.paint(row, everything, inside, self.surface(row, everything, x, y))

    def paint_object(self, row: int, box: Box, draw: _Draw) -> None:
        """Draw an object into its box, with a thin void border around it half of the time.

        Real ground truth has such borders, where annotators could not tell a pixel's side.
        """
        window = self.window(box.left - 2, box.top - 2, box.right + 2, box.bottom + 2)
        x, y = self.x[window[1]][None, :], self.y[window[0]][:, None]
        bordered, mirrored = self.rng.random(2) < 0.5
        u, v = (x - box.left) / (box.right - box.left), (y - box.top) / (box.bottom - box.top)
        if mirrored:
            u = 1.0 - u
        inside, parts = draw(u, v, APPEARANCES[row])
        colour = self.surface(row, window, x - box.left, y - box.top)
        shade = 1.0 + 0.05 * self.soft[window][..., None]
        for part, rgb in parts:
            colour[part] = (np.array(rgb, np.float32) * shade)[part]
        self.paint(row, window, inside, colour)
        thickness = round(self.unit)
        if bordered and thickness > 0 and inside.any():
            border = ndimage.binary_dilation(inside, iterations=thickness) & ~inside
            self.outside[window] |= border


@dataclass(frozen=True)
class Box:
    """A box in units; `bottom` is where the object stands."""

    left: float
    top: float
    right: float
    bottom: float

    @classmethod
    def standing(cls, x: float, ground: float, width: float, height: float) -> Box:
        """Return the box of an object standing with its middle at `x`, its foot at `ground`."""
        return cls(x - width / 2, ground - height, x + width / 2, ground)

    def hidden_by(self, others: Sequence[Box]) -> float:
        """Share of the box that others share with it; boxes shared twice count twice."""
        total = 0.0
        for other in others:
            across = min(self.right, other.right) - max(self.left, other.left)
            down = min(self.bottom, other.bottom) - max(self.top, other.top)
            total += max(across, 0.0) * max(down, 0.0)
        return total / ((self.right - self.left) * (self.bottom - self.top))


def _disc(u: FloatArray, v: FloatArray, u0: float, v0: float, ru: float, rv: float) -> BoolArray:
    return np.asarray(((u - u0) / ru) ** 2 + ((v - v0) / rv) ** 2 < 1.0)


def rect(u: FloatArray, v: FloatArray, left: float, top: float, right: float, bottom: float) -> BoolArray:
    """Return the points within a rectangle of the unit square."""
    return np.asarray((u >= left) & (u < right) & (v >= top) & (v < bottom))


def _limb(
    u: FloatArray, v: FloatArray, start: tuple[float, float], end: tuple[float, float], radius: float
) -> BoolArray:
    """Return the points within `radius` of a line."""
    du, dv = end[0] - start[0], end[1] - start[1]
    share = np.clip(((u - start[0]) * du + (v - start[1]) * dv) / (du * du + dv * dv), 0.0, 1.0)
    return _disc(u - share * du, v - share * dv, start[0], start[1], radius, radius)


def _draw_car(u: FloatArray, v: FloatArray, look: Appearance) -> Drawing:
    slope = 0.16 + 0.30 * (v - 0.08)  # half the roof's width grows towards the doors
    cabin = (np.abs(u - 0.5) < slope + 0.08) & (v >= 0.06) & (v < 0.5)
    body = rect(u, v, 0.0, 0.40, 1.0, 0.86) & ~rect(u, v, -1.0, 0.0, 0.04, 0.46) & ~rect(u, v, 0.96, 0.0, 2.0, 0.46)
    wheels = _disc(u, v, 0.21, 0.85, 0.11, 0.16) | _disc(u, v, 0.79, 0.85, 0.11, 0.16)
    glass = (np.abs(u - 0.5) < slope + 0.02) & (v >= 0.14) & (v < 0.40) & (np.abs(u - 0.5) > 0.015)
    hubs = _disc(u, v, 0.21, 0.85, 0.05, 0.07) | _disc(u, v, 0.79, 0.85, 0.05, 0.07)
    lamps = rect(u, v, 0.0, 0.50, 0.05, 0.60) | rect(u, v, 0.95, 0.50, 1.0, 0.60)
    parts = [(glass, (96, 118, 134)), (lamps, (240, 225, 150)), (wheels, (26, 26, 28)), (hubs, (130, 130, 132))]
    return cabin | body | wheels, parts


def _draw_bus(u: FloatArray, v: FloatArray, look: Appearance) -> Drawing:
    body = rect(u, v, 0.0, 0.0, 1.0, 0.93)
    wheels = _disc(u, v, 0.20, 0.92, 0.09, 0.08) | _disc(u, v, 0.78, 0.92, 0.09, 0.08)
    glass = rect(u, v, 0.05, 0.14, 0.95, 0.48) & (((u - 0.05) / 0.18) % 1.0 > 0.14)
    front = rect(u, v, 0.10, 0.03, 0.60, 0.10)
    stripe = rect(u, v, 0.0, 0.60, 1.0, 0.66)
    parts = [(stripe, look.accent), (glass, (88, 110, 128)), (front, (40, 40, 40)), (wheels, (26, 26, 28))]
    return body | wheels, parts


def _draw_person(u: FloatArray, v: FloatArray, look: Appearance) -> Drawing:
    head = _disc(u, v, 0.5, 0.10, 0.24, 0.105)
    torso = rect(u, v, 0.14, 0.20, 0.86, 0.58)
    legs = rect(u, v, 0.18, 0.58, 0.82, 1.0) & ~((np.abs(u - 0.5) < 0.05) & (v > 0.72))
    return head | torso | legs, [(head, (214, 168, 140)), (legs, (52, 58, 82))]


def _draw_bicyclist(u: FloatArray, v: FloatArray, look: Appearance) -> Drawing:
    wheels = _disc(u, v, 0.22, 0.78, 0.22, 0.22) | _disc(u, v, 0.78, 0.78, 0.22, 0.22)
    spokes = _disc(u, v, 0.22, 0.78, 0.14, 0.14) | _disc(u, v, 0.78, 0.78, 0.14, 0.14)
    frame = rect(u, v, 0.22, 0.58, 0.80, 0.80)
    bars = _limb(u, v, (0.76, 0.46), (0.80, 0.78), 0.03) | _limb(u, v, (0.34, 0.60), (0.80, 0.58), 0.03)
    leg = _limb(u, v, (0.36, 0.54), (0.52, 0.86), 0.09)
    torso = _limb(u, v, (0.38, 0.52), (0.58, 0.26), 0.13)
    arm = _limb(u, v, (0.60, 0.28), (0.76, 0.48), 0.05)
    head = _disc(u, v, 0.68, 0.11, 0.11, 0.11)
    parts = [(frame, (120, 120, 118)), (wheels, (30, 30, 32)), (spokes, (150, 152, 150)), (bars, (34, 34, 36)),
             (leg, (52, 58, 82)), (head, (230, 230, 226))]  # fmt: skip
    return wheels | frame | bars | leg | torso | arm | head, parts


def draw_sign(u: FloatArray, v: FloatArray, look: Appearance) -> Drawing:
    """Draw the board of a traffic sign in the unit square."""
    if look.name == "red":
        board = _disc(u, v, 0.5, 0.5, 0.5, 0.5)
        face = _disc(u, v, 0.5, 0.5, 0.32, 0.32)
    elif look.name == "blue":
        board = rect(u, v, 0.02, 0.02, 0.98, 0.98)
        face = rect(u, v, 0.36, 0.16, 0.64, 0.84) | rect(u, v, 0.20, 0.36, 0.80, 0.56)
    else:
        board = np.asarray(np.abs(u - 0.5) + np.abs(v - 0.5) < 0.56)
        face = rect(u, v, 0.42, 0.24, 0.58, 0.76)
    return board, [(face & board, look.accent)]


DRAW: dict[str, _Draw] = {
    "car": _draw_car, "bus": _draw_bus, "person": _draw_person, "bicyclist": _draw_bicyclist,
}  # fmt: skip
