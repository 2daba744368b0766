"""Lay out and paint a street scene."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from a2lc.demo.canvas import DRAW, Box, Canvas, Drawing, Window, draw_sign, rect
from a2lc.demo.looks import APPEARANCES, Appearance, BoolArray, FloatArray
from a2lc.demo.settings import QUOTAS, SceneSettings, generator

__all__ = [
    "Quotas",
    "develop",
    "lay_street",
    "paint_bonnet",
    "paint_ground_and_sky",
    "paint_houses",
    "paint_objects",
    "place_objects",
]


# How often a scene holds a further object of a class, by slot. Quotas over blocks of scenes, not coin flips.
_SLOTS: dict[str, tuple[float, ...]] = {
    "tree": (0.85, 0.55, 0.25),
    "fence": (0.60, 0.25),
    "car": (0.95, 0.75, 0.40),
    "bus": (0.38,),
    "person": (0.65, 0.30),
    "bicyclist": (0.42,),
    "sign": (0.60, 0.20),
}


_BLOCK = 16  # scenes over which the quotas hold


class Quotas:
    """Which objects a scene holds and how they look, in fixed proportions over each block of `_BLOCK` scenes.

    Independent draws would leave a small set with twice or half the buses it should have, and the mean IoU, where
    every class counts the same, would jump from seed to seed. Here each decision is a number in [0, 1) of which every
    block holds one per 1/16: a shuffle that any scene can work out alone from the seed and its block.
    """

    def __init__(self, settings: SceneSettings, index: int) -> None:
        rng = generator(settings, QUOTAS, index // _BLOCK)
        decisions = 4 + sum(len(slots) for slots in _SLOTS.values())
        strata = rng.permuted(np.tile(np.arange(_BLOCK), (decisions, 1)), axis=1)
        jitter = rng.random((decisions, _BLOCK))
        self._numbers = iter(((strata + jitter)[:, index % _BLOCK] / _BLOCK).tolist())

    def draw(self) -> float:
        """Return the next decision of the scene; the decisions must always be drawn in the same order."""
        return float(next(self._numbers))


def _pick_look(label: str, number: float) -> int:
    """Return the appearance of a class at `number` in [0, 1) of the running sum of the shares."""
    rows = [row for row, look in enumerate(APPEARANCES) if look.label == label]
    for row in rows:
        number -= APPEARANCES[row].share
        if number < 0:
            return row
    return rows[-1]


@dataclass(frozen=True)
class _Street:
    """The perspective of a scene: everything runs to a vanishing point on the horizon. In units.

    Attributes:
        vanishing: Column of the vanishing point.
        horizon: Row of the horizon.
        kerbs: Columns where the road's two edges meet the image's bottom.
        fronts: Columns where the two rows of houses would.
    """

    vanishing: float
    horizon: float
    kerbs: tuple[float, float]
    fronts: tuple[float, float]

    def nearness(self, ground: float) -> float:
        """0 at the horizon, 1 at the bottom of the image, for a row."""
        return (ground - self.horizon) / (128.0 - self.horizon)

    def along(self, ground: float, column: float) -> float:
        """Return the column at row `ground` of the line from the vanishing point to `column` at the bottom."""
        return self.vanishing + (column - self.vanishing) * self.nearness(ground)

    def front_at(self, side: int, x: FloatArray) -> FloatArray:
        """Row of the foot of the houses of a side (0 left, 1 right) at the columns `x`."""
        slope = (128.0 - self.horizon) / abs(self.vanishing - self.fronts[side])
        return np.asarray(self.horizon + slope * np.abs(x - self.vanishing), np.float32)


def lay_street(canvas: Canvas) -> _Street:
    """Choose the geometry of a street: vanishing point, horizon, kerbs and fronts."""
    rng, breadth = canvas.rng, canvas.breadth
    vanishing = breadth * rng.uniform(0.40, 0.60)
    return _Street(
        vanishing,
        rng.uniform(48.0, 58.0),
        (breadth * rng.uniform(-0.06, 0.14), breadth * rng.uniform(0.86, 1.06)),
        (vanishing - breadth * rng.uniform(1.0, 1.5), vanishing + breadth * rng.uniform(1.0, 1.5)),
    )


def paint_ground_and_sky(canvas: Canvas, street: _Street, quotas: Quotas) -> None:
    """Paint sky, pavement, road and houses over the whole canvas."""
    x, y = canvas.x[None, :], canvas.y[:, None]
    everywhere = np.ones(canvas.instances.shape, np.bool_)
    canvas.paint_region(_pick_look("sky", quotas.draw()), everywhere, x, y)
    canvas.colour += (18.0 * (y / street.horizon - 0.5))[..., None]  # paler towards the horizon

    # Texture coordinates on the ground: equal steps in the world shrink towards the horizon.
    depth = np.maximum(y - street.horizon, 0.0) + 3.0
    ground_x, ground_y = 60.0 * (x - street.vanishing) / depth, 60.0 * np.log(depth)
    below = np.broadcast_to(y > street.horizon, everywhere.shape)
    canvas.paint_region(_pick_look("pavement", quotas.draw()), below, ground_x, ground_y)
    share = (y - street.horizon) / (128.0 - street.horizon)
    left = street.vanishing - 2.0 + (street.kerbs[0] - street.vanishing) * share
    right = street.vanishing + 2.0 + (street.kerbs[1] - street.vanishing) * share
    on_road = below & (x > left) & (x < right)
    canvas.paint_region(_pick_look("road", quotas.draw()), on_road, ground_x, ground_y)
    middle = np.abs(x - (left + right) / 2) < 0.3 + 1.3 * share
    canvas.colour[on_road & middle & (ground_y % 44.0 < 22.0)] = (205.0, 205.0, 198.0)
    kerb = below & (np.minimum(np.abs(x - left), np.abs(x - right)) < 0.3 + 0.9 * share)
    canvas.colour[kerb] *= 1.18


def _paint_house(canvas: Canvas, row: int, inside: BoolArray, window: Window, left: float, near: float) -> None:
    x, y = canvas.x[None, window[1]] - left, canvas.y[window[0], None]
    size = 0.5 + 0.5 * near
    colour = canvas.surface(row, window, x, y)
    if APPEARANCES[row].name in ("brick", "plaster"):
        across, down = (x / (10.0 * size)) % 1.0, (y / (13.0 * size)) % 1.0
        panes = (across > 0.28) & (across < 0.76) & (down > 0.25) & (down < 0.75)
        lit = np.sin(np.floor(x / (10.0 * size)) * 12.9 + np.floor(y / (13.0 * size)) * 78.2 + left) > 0.75
        colour[panes & ~lit] = (58.0, 68.0, 84.0)
        colour[panes & lit] = (214.0, 196.0, 140.0)
    canvas.paint(row, window, inside, colour)


def paint_houses(canvas: Canvas, street: _Street, quotas: Quotas) -> None:
    """Two rows of houses, each from the image's edge to near the vanishing point, and trees at the far end."""
    rng, y = canvas.rng, canvas.y[:, None]
    far = np.abs(canvas.x[None, :] - street.vanishing) < 26.0
    treetops = street.horizon - 5.0 - 2.5 * canvas.soft[:1, :]
    canvas.paint_region(
        _pick_look("tree", 0.3 * rng.random()), far & (y > treetops) & (y < street.horizon + 2.0), canvas.x[None, :], y
    )
    looks = quotas.draw()
    for side in (0, 1):
        edge = 0.0 if side == 0 else canvas.breadth
        start, towards = edge, 1.0 if side == 0 else -1.0
        reach = abs(street.vanishing - edge)
        while abs(start - street.vanishing) > 7.0 and (start - street.vanishing) * towards < 0:
            near = abs(start - street.vanishing) / reach
            end = start + towards * rng.uniform(22.0, 38.0) * (0.35 + 0.65 * near)
            if (street.vanishing - end) * towards < 12.0:
                end = street.vanishing - towards * 5.0  # no slivers at the far end
            tall, gap = rng.uniform(24.0, 54.0), rng.random() < 0.14
            # Steps of the golden ratio from a quota: the appearances of a street's houses stay in proportion too.
            looks = (looks + 0.61803398875) % 1.0
            left, right = min(start, end), max(start, end)
            window = canvas.window(left, 0.0, right, 128.0)
            x = canvas.x[None, window[1]]
            if not gap:
                roof = street.horizon - tall * (0.25 + 0.75 * np.abs(x - street.vanishing) / reach)
                inside = (y > roof) & (y < street.front_at(side, x)) & (x >= left) & (x < right)
                _paint_house(canvas, _pick_look("building", looks), inside, window, left, near)
            start = end


def _paint_fence(canvas: Canvas, street: _Street, row: int) -> None:
    """Paint a fence along the houses of one side, lower in the distance."""
    rng = canvas.rng
    side = int(rng.integers(2))
    edge = 0.0 if side == 0 else canvas.breadth
    inner, outer = rng.uniform(0.45, 0.75), rng.uniform(0.0, 0.12)
    ends = [edge + share * (street.vanishing - edge) for share in (outer, inner)]
    window = canvas.window(min(ends), 0.0, max(ends), 128.0)
    x, y = canvas.x[None, window[1]], canvas.y[:, None]
    foot = street.front_at(side, x) + 2.0
    tall = rng.uniform(16.0, 22.0) * (0.25 + 0.75 * np.abs(x - street.vanishing) / abs(street.vanishing - edge))
    inside = (y > foot - tall) & (y < foot)
    colour = canvas.surface(row, window, x, y - foot)
    colour[np.abs(y - foot + 0.75 * tall) < 1.2] *= 0.8  # the upper rail
    canvas.paint(row, window, inside, colour)


def _paint_tree(canvas: Canvas, row: int, box: Box) -> None:
    def draw(u: FloatArray, v: FloatArray, look: Appearance) -> Drawing:
        window = canvas.window(box.left - 2, box.top - 2, box.right + 2, box.bottom + 2)
        ragged = 0.16 * canvas.soft[window] + 0.03 * canvas.fine[window]
        if look.name == "conifer":
            crown = (np.abs(u - 0.5) < 0.55 * v + 0.10 * ragged) & (v < 0.86)
        else:
            crown = ((u - 0.5) / 0.48) ** 2 + ((v - 0.38) / 0.40) ** 2 < 1.0 + 1.5 * ragged
        trunk = rect(u, v, 0.43, 0.6, 0.57, 1.0)
        dark = crown & (canvas.fine[window] > 0.5)
        return np.asarray(crown | trunk), [(trunk & ~crown, (82, 62, 46)), (dark, look.accent)]

    canvas.paint_object(row, box, draw)


def _paint_sign(canvas: Canvas, row: int, box: Box) -> None:
    """Paint a board on a mast. The mast is void, and belongs to the mask behind it: it is too thin for either."""
    side = box.right - box.left
    middle = (box.left + box.right) / 2
    mast = canvas.window(middle - 0.8, box.top + side, middle + 0.8, box.bottom)
    canvas.colour[mast] = (120.0, 122.0, 124.0)
    canvas.outside[mast] = True
    canvas.paint_object(row, Box(box.left, box.top, box.right, box.top + side), draw_sign)


# How near an object stands (see `_Street.nearness`), and how tall it would be at the bottom of the image, in units.
_STANDS: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "tree": ((0.16, 0.36), (95.0, 125.0)),
    "car": ((0.28, 0.92), (28.0, 34.0)),
    "bus": ((0.30, 0.75), (50.0, 58.0)),
    "person": ((0.26, 0.70), (46.0, 54.0)),
    "bicyclist": ((0.26, 0.70), (42.0, 50.0)),
    "sign": ((0.26, 0.70), (50.0, 60.0)),
}


_WIDTHS = {"tree": 0.62, "car": 1.62, "bus": 1.14, "person": 0.40, "bicyclist": 0.95, "sign": 0.36}  # of the height


# Where it stands across: from the kerb, a share of the way to the opposite kerb or, below, to the houses.
_ON_ROAD = {"car": (0.12, 0.45), "bus": (0.15, 0.35), "bicyclist": (0.08, 0.16)}


_ON_PAVEMENT = {"tree": (0.40, 1.0), "person": (0.10, 0.80), "sign": (0.05, 0.50)}


def place_objects(canvas: Canvas, street: _Street, label: str, taken: Sequence[Box]) -> Box:
    """Return a box for an object of a class where it belongs, the least hidden one of a few tries."""
    rng = canvas.rng

    def somewhere() -> Box:
        near = rng.uniform(*_STANDS[label][0])
        ground = street.horizon + near * (128.0 - street.horizon)
        # Things shrink less in the distance than they should: at true size they would be a pixel or two.
        height = rng.uniform(*_STANDS[label][1]) * (0.36 + 0.64 * near)
        side = int(rng.integers(2))
        kerb = street.along(ground, street.kerbs[side])
        if label in _ON_ROAD:
            share, towards = rng.uniform(*_ON_ROAD[label]), street.along(ground, street.kerbs[1 - side])
        else:
            share, towards = rng.uniform(*_ON_PAVEMENT[label]), street.along(ground, street.fronts[side])
            towards = min(max(towards, 4.0), canvas.breadth - 4.0)
        return Box.standing(kerb + (towards - kerb) * share, ground, _WIDTHS[label] * height, height)

    def lost(box: Box) -> float:
        beyond = max(-box.left, 0.0) + max(box.right - canvas.breadth, 0.0)
        return box.hidden_by(taken) + 2.0 * beyond / (box.right - box.left)

    return min((somewhere() for _ in range(10)), key=lost)


def paint_objects(canvas: Canvas, street: _Street, quotas: Quotas) -> None:
    """Paint the objects of a scene, the farthest first."""
    rows: list[tuple[str, int]] = []
    for label, slots in _SLOTS.items():
        for often in slots:
            number = quotas.draw()
            if number < often:  # where in its quota the number lies then says which appearance
                rows.append((label, _pick_look(label, number / often)))
    # The rare ones choose their place first: what they would lose behind a tree counts for more.
    order = ["bus", "bicyclist", "person", "sign", "car", "tree"]
    placed: list[tuple[Box, str, int]] = []
    for label, row in sorted((r for r in rows if r[0] != "fence"), key=lambda r: order.index(r[0])):
        placed.append((place_objects(canvas, street, label, [box for box, _, _ in placed]), label, row))
    for label, row in rows:
        if label == "fence":
            _paint_fence(canvas, street, row)
    for box, label, row in sorted(placed, key=lambda entry: entry[0].bottom):
        if label == "tree":
            _paint_tree(canvas, row, box)
        elif label == "sign":
            _paint_sign(canvas, row, box)
        else:
            canvas.paint_object(row, box, DRAW[label])


def paint_bonnet(canvas: Canvas) -> None:
    """Paint the bonnet of the car that holds the camera, in some scenes: void, and without a mask."""
    if canvas.rng.random() < 0.25:
        x, y = canvas.x[None, :] / canvas.breadth, canvas.y[:, None]
        bonnet = y > 128.0 - 9.0 * (1.0 - ((x - 0.5) / 0.42) ** 2)
        canvas.colour[bonnet] = (62.0, 64.0, 70.0)
        canvas.instances[bonnet] = 0


def develop(canvas: Canvas) -> NDArray[np.uint8]:
    """Light the scene and take the picture: (H, W, 3) uint8."""
    rng = canvas.rng
    angle, strength = rng.uniform(0.0, 2.0 * math.pi), rng.uniform(0.0, 0.22)
    across, down = canvas.x[None, :] / canvas.breadth - 0.5, canvas.y[:, None] / 128.0 - 0.5
    light = rng.uniform(0.78, 1.15) * (1.0 + strength * (math.cos(angle) * across + math.sin(angle) * down) * 2.0)
    cast = rng.normal(1.0, 0.05, 3)
    exposed = canvas.colour * (light[..., None] * cast) + 5.0 * canvas.sensor
    return np.asarray(np.clip(np.rint(exposed), 0, 255), np.uint8)
