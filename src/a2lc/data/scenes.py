"""Made-up street scenes with masks and doubtful labels: a data set for the demo and the tests, by seed, of any size.

A scene is painted back to front - sky, ground, houses, then fences, trees, vehicles and people from far to near - so
that its ground truth is known exactly. Two things are then done to it that a real pseudo-labelled data set suffers:

* *Masks.* Every object is one mask and every large region a few, as from a class-agnostic segmenter: borders wander
  by a pixel or so, some objects are missed and some are swallowed by their neighbour.
* *Labels.* A weak labeller names each mask by its looks. Each class comes in a few *appearances*; some of them the
  labeller knows, others it takes for another class nearly every time, and a few labels are wrong at random. Masks
  that look alike are thus wrong alike, which is what automatic correction lives on. The rare classes suffer most:
  most pixels are right, yet the mean IoU is low.

Lengths in this module are in *units* of 1/128 of the image height, so a scene has the same layout at every height.
A wider image shows more street, not wider cars.

Example:
    >>> scene = make_scene(0, SceneSettings(height=48, width=64))
    >>> scene.image.shape, scene.image.dtype, len(scene.looks) == int(scene.mask_map.max())
    ((48, 64, 3), dtype('uint8'), True)
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from a2lc.classes import ClassTable
from a2lc.errors import ConfigError, require_known

__all__ = [
    "APPEARANCES",
    "CLASS_NAMES",
    "DIFFICULTIES",
    "Appearance",
    "Scene",
    "SceneSettings",
    "make_scene",
    "scene_classes",
    "write_scenes",
]

CLASS_NAMES: tuple[str, ...] = (
    "sky", "building", "road", "pavement", "tree", "fence", "car", "bus", "person", "bicyclist", "sign",
)  # fmt: skip
_COLOURS: tuple[tuple[int, int, int], ...] = (
    (70, 130, 180), (110, 80, 75), (128, 64, 128), (244, 35, 232), (107, 142, 35), (190, 153, 153),
    (0, 0, 142), (0, 160, 160), (220, 20, 60), (255, 140, 0), (250, 220, 0),
)  # fmt: skip
_VOID = 255

DIFFICULTIES: dict[str, float] = {"easy": 0.25, "normal": 0.5, "hard": 0.75}
"""The named levels of `SceneSettings.difficulty`."""

_FloatArray = NDArray[np.floating[Any]]
_BoolArray = NDArray[np.bool_]
_RGB = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Appearance:
    """One way a class can look, and what the weak labeller makes of it.

    Attributes:
        label: The class it belongs to.
        name: What to call it; unique within the class.
        share: Share of the class's objects that look so; the shares of a class sum to 1.
        base: Main RGB colour, 0..255.
        accent: RGB colour of the pattern, 0..255.
        pattern: A key of `_PATTERNS`.
        grain: Strength of the random texture, as a share of the brightness.
        known_until: Difficulty above which the weak labeller takes it for `taken_for`; above 1 it never does.
        taken_for: The class it looks like; its own where the labeller always knows it.
    """

    label: str
    name: str
    share: float
    base: _RGB
    accent: _RGB
    pattern: str
    grain: float
    known_until: float
    taken_for: str


def _looks(label: str, *rows: tuple[str, float, _RGB, _RGB, str, float, float, str]) -> list[Appearance]:
    """The appearances of one class from rows in the order of `Appearance`'s fields."""
    return [
        Appearance(label=label, name=name, share=share, base=base, accent=accent, pattern=pattern, grain=grain,
                   known_until=known_until, taken_for=taken_for)
        for name, share, base, accent, pattern, grain, known_until, taken_for in rows
    ]  # fmt: skip


# The weak labeller's habits are part of the design rather than drawn by seed: how bad the labels are must not depend
# on the luck of the draw, and a confusion is only fair where the two classes do look alike. `known_until` is spread
# over 0..1 so that the difficulty acts smoothly; the thresholds were set so that the three named levels give a data
# mIoU of about 0.70, 0.55 and 0.42.
APPEARANCES: tuple[Appearance, ...] = (
    *_looks(
        "sky",
        ("clear", 0.45, (120, 168, 225), (160, 195, 235), "plain", 0.02, 2.0, "sky"),
        ("overcast", 0.35, (188, 194, 202), (165, 172, 182), "plain", 0.05, 2.0, "sky"),
        ("dusk", 0.20, (226, 176, 142), (200, 150, 150), "plain", 0.03, 0.93, "building"),
    ),
    *_looks(
        "building",
        ("brick", 0.31, (150, 84, 66), (188, 168, 150), "bricks", 0.06, 2.0, "building"),
        ("plaster", 0.31, (206, 186, 150), (190, 168, 132), "plain", 0.06, 2.0, "building"),
        ("panel", 0.08, (146, 146, 140), (112, 112, 108), "ribs", 0.05, 0.85, "fence"),
        ("glass", 0.30, (122, 156, 190), (92, 116, 140), "panes", 0.05, 0.38, "sky"),
    ),
    *_looks(
        "road",
        ("asphalt", 0.50, (84, 84, 90), (76, 76, 82), "plain", 0.06, 2.0, "road"),
        ("worn", 0.32, (108, 106, 103), (90, 90, 88), "plain", 0.11, 0.92, "pavement"),
        ("cobbled", 0.18, (120, 110, 102), (84, 78, 74), "cobbles", 0.07, 0.82, "pavement"),
    ),
    *_looks(
        "pavement",
        ("slabs", 0.45, (166, 161, 151), (120, 116, 108), "slabs", 0.05, 2.0, "pavement"),
        ("paving", 0.30, (158, 122, 106), (120, 92, 82), "cobbles", 0.06, 0.65, "road"),
        ("tarmac", 0.25, (114, 112, 112), (100, 98, 98), "plain", 0.09, 0.24, "road"),
    ),
    *_looks(
        "tree",
        ("leafy", 0.40, (62, 112, 46), (40, 76, 32), "plain", 0.32, 2.0, "tree"),
        ("conifer", 0.20, (36, 74, 52), (24, 52, 40), "plain", 0.24, 2.0, "tree"),
        ("autumn", 0.25, (168, 108, 46), (124, 70, 34), "plain", 0.30, 0.40, "building"),
        ("bare", 0.15, (112, 98, 80), (78, 66, 54), "ribs", 0.26, 0.30, "building"),
    ),
    *_looks(
        "fence",
        ("picket", 0.40, (216, 206, 192), (110, 104, 92), "ribs", 0.04, 0.80, "building"),
        ("railing", 0.30, (88, 96, 98), (44, 52, 54), "ribs", 0.05, 0.58, "building"),
        ("wall", 0.30, (140, 90, 74), (176, 158, 142), "bricks", 0.06, 0.15, "building"),
    ),
    *_looks(
        "car",
        ("dark", 0.30, (48, 50, 60), (30, 32, 40), "plain", 0.03, 0.44, "road"),
        ("blue", 0.28, (46, 78, 156), (34, 58, 120), "plain", 0.03, 2.0, "car"),
        ("red", 0.24, (182, 38, 36), (140, 28, 28), "plain", 0.03, 0.85, "bus"),
        ("white", 0.18, (222, 222, 220), (190, 190, 190), "plain", 0.03, 0.58, "bus"),
    ),
    *_looks(
        "bus",
        ("yellow", 0.36, (226, 182, 42), (190, 150, 30), "plain", 0.03, 0.90, "sign"),
        ("red", 0.34, (196, 44, 38), (160, 32, 30), "plain", 0.03, 0.46, "car"),
        ("white", 0.30, (214, 214, 208), (180, 184, 186), "plain", 0.03, 0.15, "car"),
    ),
    *_looks(
        "person",
        ("bright", 0.38, (204, 62, 116), (150, 40, 86), "plain", 0.06, 2.0, "person"),
        ("dark", 0.34, (54, 48, 62), (38, 34, 46), "plain", 0.06, 0.65, "tree"),
        ("vest", 0.28, (212, 222, 44), (160, 168, 40), "plain", 0.05, 0.22, "bicyclist"),
    ),
    *_looks(
        "bicyclist",
        ("racer", 0.40, (40, 172, 192), (30, 120, 140), "plain", 0.06, 0.85, "sign"),
        ("courier", 0.30, (232, 122, 42), (180, 90, 30), "plain", 0.06, 0.56, "person"),
        ("commuter", 0.30, (62, 56, 66), (44, 40, 48), "plain", 0.06, 0.18, "person"),
    ),
    *_looks(
        "sign",
        ("red", 0.36, (206, 36, 40), (240, 236, 232), "plain", 0.02, 0.90, "person"),
        ("blue", 0.34, (36, 84, 182), (236, 238, 242), "plain", 0.02, 0.58, "car"),
        ("yellow", 0.30, (236, 198, 44), (40, 38, 34), "plain", 0.02, 0.20, "bus"),
    ),
)
"""Every appearance of every class; `Scene.looks` indexes it."""

_LOOK_ALIKE_RATE = 0.92  # how consistently the weak labeller follows a wrong habit
_LOOK_ALIKE_RAMP = 0.10  # width in difficulty over which a habit sets in
_RANDOM_RATE = 0.02  # share of the other masks that get some wrong class
_SMALL_RANDOM_RATE = 0.23  # the same for small masks: a small crop says little
_SMALL_AREA = 0.012  # what counts as small, as a share of the image
# A labeller in doubt says what it has seen most: wrong classes at random come about as often as the class has pixels.
_RANDOM_SHARES = (0.21, 0.19, 0.20, 0.16, 0.10, 0.03, 0.06, 0.02, 0.01, 0.01, 0.01)

_MISSED_RATE = 0.03  # share of the objects without a mask
_SWALLOWED_RATE = 0.05  # share of the smaller masks that are one with a larger neighbour
_SWALLOWED_AREA = 0.04  # what counts as smaller, as a share of the image
_BORDER_SHIFT = 1.0  # standard deviation of how far a mask's border is off, in units
_PIECE_AREA = 0.10  # share of the image above which a region falls into several masks
_SLIVER_AREA = 12.0  # region remnants below this many square units get no mask, most of the time
_SLIVER_KEPT_RATE = 0.02

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

# Streams of random numbers. Apart from each other, so that the difficulty changes the labels and nothing else.
_LAYOUT, _GRAIN, _MASKS, _LABELS, _QUOTAS = range(5)


def scene_classes() -> ClassTable:
    """The classes of the scenes, `CLASS_NAMES` with street colours; labels are 0 .. 10, void is 255."""
    return ClassTable(CLASS_NAMES, _COLOURS, tuple(range(len(CLASS_NAMES))), _VOID)


@dataclass(frozen=True, kw_only=True)
class SceneSettings:
    """What scenes to make.

    Attributes:
        images: Training scenes, at least 1.
        validation_images: Validation scenes, 0 or more. They are the scenes after the training ones.
        height: Image height in pixels, at least 16.
        width: Image width in pixels, at least 16. The layout is for images wider than high; others work.
        seed: Seed of everything, 0 or more.
        difficulty: How bad the pseudo labels are: "easy", "normal", "hard" or 0..1. Images and masks do not depend
            on it, and a label wrong at one difficulty is as wrong at every higher one.
    """

    images: int = 96
    validation_images: int = 24
    height: int = 128
    width: int = 160
    seed: int = 0
    difficulty: float | str = "normal"

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ConfigError: A number is out of range.
            UnknownNameError: There is no difficulty of that name.
        """
        for name, least in (("images", 1), ("validation_images", 0), ("height", 16), ("width", 16), ("seed", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"scenes: {name} is {getattr(self, name)}; expected at least {least}.")
        if not 0.0 <= self.level <= 1.0:
            raise ConfigError(
                f"scenes: difficulty is {self.difficulty}; expected 0..1 or one of {', '.join(DIFFICULTIES)}."
            )

    @property
    def level(self) -> float:
        """The difficulty as a number, 0..1."""
        if isinstance(self.difficulty, str):
            return DIFFICULTIES[require_known("difficulty", self.difficulty, DIFFICULTIES)]
        return float(self.difficulty)


@dataclass(frozen=True)
class Scene:
    """A street scene with its ground truth, its masks and their pseudo labels.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        ground_truth: (H, W) uint8, a class 0 .. K-1 or 255 (void).
        mask_map: (H, W) uint16, 0 where there is no mask, else the mask's id 1 .. n; every id has a pixel.
        labels: (H, W) uint8, the pseudo label of the pixel's mask, 255 where there is no mask.
        looks: (n,) intp, for mask id i at i-1 the appearance the weak labeller judged it by: a row of `APPEARANCES`.
            For a mask over several objects it is that of the largest part.
    """

    image: NDArray[np.uint8]
    ground_truth: NDArray[np.uint8]
    mask_map: NDArray[np.uint16]
    labels: NDArray[np.uint8]
    looks: NDArray[np.intp]


# --- randomness ------------------------------------------------------------------------------------------------------


def _generator(settings: SceneSettings, stream: int, index: int) -> np.random.Generator:
    return np.random.default_rng([settings.seed, stream, index])


class _Quotas:
    """Which objects a scene holds and how they look, in fixed proportions over each block of `_BLOCK` scenes.

    Independent draws would leave a small set with twice or half the buses it should have, and the mean IoU, where
    every class counts the same, would jump from seed to seed. Here each decision is a number in [0, 1) of which every
    block holds one per 1/16: a shuffle that any scene can work out alone from the seed and its block.
    """

    def __init__(self, settings: SceneSettings, index: int) -> None:
        rng = _generator(settings, _QUOTAS, index // _BLOCK)
        decisions = 4 + sum(len(slots) for slots in _SLOTS.values())
        strata = rng.permuted(np.tile(np.arange(_BLOCK), (decisions, 1)), axis=1)
        jitter = rng.random((decisions, _BLOCK))
        self._numbers = iter(((strata + jitter)[:, index % _BLOCK] / _BLOCK).tolist())

    def draw(self) -> float:
        """The next decision of the scene; the decisions must always be drawn in the same order."""
        return float(next(self._numbers))


def _pick_look(label: str, number: float) -> int:
    """The appearance of a class at `number` in [0, 1) of the running sum of the shares."""
    rows = [row for row, look in enumerate(APPEARANCES) if look.label == label]
    for row in rows:
        number -= APPEARANCES[row].share
        if number < 0:
            return row
    return rows[-1]


def _value_noise(rng: np.random.Generator, y: _FloatArray, x: _FloatArray, cell: float) -> _FloatArray:
    """Smooth noise of about unit variance at the pixels of rows `y` (H,) and columns `x` (W,): (H, W) float32.

    Random numbers on a lattice of `cell` units, blended in between. The lattice does not depend on the resolution, so
    neither does the noise.
    """
    # The first pixel's middle is half a pixel in, the last one's as much short of the end: their sum is the extent.
    # The tolerance is for extents that are a whole number of cells but for rounding.
    knots_y, knots_x = (math.floor(float(side[0] + side[-1]) / cell + 1e-3) + 2 for side in (y, x))
    lattice = rng.standard_normal((knots_y, knots_x))

    def weights(positions: _FloatArray, knots: int) -> NDArray[np.float64]:
        whole = np.floor(positions / cell).astype(np.intp)
        part = positions / cell - whole
        part = part * part * (3.0 - 2.0 * part)
        matrix = np.zeros((len(positions), knots))
        matrix[np.arange(len(positions)), whole] = 1.0 - part
        matrix[np.arange(len(positions)), whole + 1] = part
        return matrix

    blended = weights(y, lattice.shape[0]) @ lattice @ weights(x, lattice.shape[1]).T
    return (1.35 * blended).astype(np.float32)  # blending averages neighbours: give the variance back


# --- textures --------------------------------------------------------------------------------------------------------

_Pattern = Callable[[_FloatArray, _FloatArray], _BoolArray]


def _plain(x: _FloatArray, y: _FloatArray) -> _BoolArray:
    return np.zeros(np.broadcast_shapes(x.shape, y.shape), np.bool_)


def _bricks(x: _FloatArray, y: _FloatArray) -> _BoolArray:
    shifted = x + 4.0 * (np.floor(y / 4.0) % 2.0)
    return np.asarray((y % 4.0 < 1.0) | (shifted % 8.0 < 1.0))


def _ribs(x: _FloatArray, y: _FloatArray) -> _BoolArray:
    return np.broadcast_to(x % 4.0 < 1.5, np.broadcast_shapes(x.shape, y.shape))


def _panes(x: _FloatArray, y: _FloatArray) -> _BoolArray:
    return np.asarray((x % 7.0 < 1.2) | (y % 9.0 < 1.2))


def _slabs(x: _FloatArray, y: _FloatArray) -> _BoolArray:
    return np.asarray((x % 14.0 < 1.4) | (y % 12.0 < 1.2))


def _cobbles(x: _FloatArray, y: _FloatArray) -> _BoolArray:
    return np.asarray(np.sin(x * 1.25) * np.sin(y * 1.6) > 0.25)


_PATTERNS: dict[str, _Pattern] = {
    "plain": _plain, "bricks": _bricks, "ribs": _ribs, "panes": _panes, "slabs": _slabs, "cobbles": _cobbles,
}  # fmt: skip


# --- painting --------------------------------------------------------------------------------------------------------

# What an object is drawn of: its outline, and parts in other colours, later ones over earlier ones.
_Drawing = tuple[_BoolArray, list[tuple[_BoolArray, _RGB]]]
_Draw = Callable[[_FloatArray, _FloatArray, Appearance], _Drawing]
_Window = tuple[slice, slice]


class _Canvas:
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
        self.rng = _generator(settings, _LAYOUT, index)
        self.unit = height / 128.0
        self.y: _FloatArray = ((np.arange(height) + 0.5) / self.unit).astype(np.float32)
        self.x: _FloatArray = ((np.arange(width) + 0.5) / self.unit).astype(np.float32)
        self.breadth = width / self.unit
        self.colour = np.zeros((height, width, 3), np.float32)
        self.instances = np.zeros((height, width), np.int32)
        self.looks: list[int] = [-1]
        self.outside = np.zeros((height, width), np.bool_)
        grain = _generator(settings, _GRAIN, index)
        self.fine = _value_noise(grain, self.y, self.x, 1.5)
        self.soft = _value_noise(grain, self.y, self.x, 9.0)
        self.sensor = grain.standard_normal((height, width, 3), dtype=np.float32)

    def window(self, left: float, top: float, right: float, bottom: float) -> _Window:
        """The pixels of a box in units, cut to the image; it may be empty."""
        height, width = self.instances.shape
        rows = slice(min(max(math.floor(top * self.unit), 0), height), max(math.ceil(bottom * self.unit), 0))
        columns = slice(min(max(math.floor(left * self.unit), 0), width), max(math.ceil(right * self.unit), 0))
        return rows, columns

    def surface(self, row: int, window: _Window, x: _FloatArray, y: _FloatArray) -> _FloatArray:
        """The texture of an appearance in a window at texture coordinates `x` and `y`: (h, w, 3) float32."""
        look = APPEARANCES[row]
        tint = self.rng.normal(1.0, 0.06) * self.rng.normal(1.0, 0.02, 3)
        accent = _PATTERNS[look.pattern](x, y)[..., None]
        paint = np.where(accent, np.array(look.accent, np.float32), np.array(look.base, np.float32)) * tint
        shade = 1.0 + look.grain * (0.7 * self.fine[window] + 0.7 * self.soft[window])
        return np.asarray(paint * shade[..., None], np.float32)

    def paint(self, row: int, window: _Window, inside: _BoolArray, colour: _FloatArray) -> None:
        """Paint a new instance of an appearance where `inside`, both arrays of the window's size."""
        number = len(self.looks)
        self.looks.append(row)
        self.colour[window][inside] = colour[inside]
        self.instances[window][inside] = number
        self.outside[window][inside] = False

    def paint_region(self, row: int, inside: _BoolArray, x: _FloatArray, y: _FloatArray) -> None:
        """Paint an appearance over the pixels `inside`, (H, W)."""
        everything = (slice(None), slice(None))
        self.paint(row, everything, inside, self.surface(row, everything, x, y))

    def paint_object(self, row: int, box: _Box, draw: _Draw) -> None:
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
class _Box:
    """A box in units; `bottom` is where the object stands."""

    left: float
    top: float
    right: float
    bottom: float

    @classmethod
    def standing(cls, x: float, ground: float, width: float, height: float) -> _Box:
        """The box of an object standing with its middle at `x`, its foot at `ground`."""
        return cls(x - width / 2, ground - height, x + width / 2, ground)

    def hidden_by(self, others: Sequence[_Box]) -> float:
        """Share of the box that others share with it; boxes shared twice count twice."""
        total = 0.0
        for other in others:
            across = min(self.right, other.right) - max(self.left, other.left)
            down = min(self.bottom, other.bottom) - max(self.top, other.top)
            total += max(across, 0.0) * max(down, 0.0)
        return total / ((self.right - self.left) * (self.bottom - self.top))


def _disc(u: _FloatArray, v: _FloatArray, u0: float, v0: float, ru: float, rv: float) -> _BoolArray:
    return np.asarray(((u - u0) / ru) ** 2 + ((v - v0) / rv) ** 2 < 1.0)


def _rect(u: _FloatArray, v: _FloatArray, left: float, top: float, right: float, bottom: float) -> _BoolArray:
    return np.asarray((u >= left) & (u < right) & (v >= top) & (v < bottom))


def _limb(
    u: _FloatArray, v: _FloatArray, start: tuple[float, float], end: tuple[float, float], radius: float
) -> _BoolArray:
    """The points within `radius` of a line."""
    du, dv = end[0] - start[0], end[1] - start[1]
    share = np.clip(((u - start[0]) * du + (v - start[1]) * dv) / (du * du + dv * dv), 0.0, 1.0)
    return _disc(u - share * du, v - share * dv, start[0], start[1], radius, radius)


# The draw functions take u (1, w) and v (h, 1), both 0..1 across the object's box and a little beyond.


def _draw_car(u: _FloatArray, v: _FloatArray, look: Appearance) -> _Drawing:
    slope = 0.16 + 0.30 * (v - 0.08)  # half the roof's width grows towards the doors
    cabin = (np.abs(u - 0.5) < slope + 0.08) & (v >= 0.06) & (v < 0.5)
    body = _rect(u, v, 0.0, 0.40, 1.0, 0.86) & ~_rect(u, v, -1.0, 0.0, 0.04, 0.46) & ~_rect(u, v, 0.96, 0.0, 2.0, 0.46)
    wheels = _disc(u, v, 0.21, 0.85, 0.11, 0.16) | _disc(u, v, 0.79, 0.85, 0.11, 0.16)
    glass = (np.abs(u - 0.5) < slope + 0.02) & (v >= 0.14) & (v < 0.40) & (np.abs(u - 0.5) > 0.015)
    hubs = _disc(u, v, 0.21, 0.85, 0.05, 0.07) | _disc(u, v, 0.79, 0.85, 0.05, 0.07)
    lamps = _rect(u, v, 0.0, 0.50, 0.05, 0.60) | _rect(u, v, 0.95, 0.50, 1.0, 0.60)
    parts = [(glass, (96, 118, 134)), (lamps, (240, 225, 150)), (wheels, (26, 26, 28)), (hubs, (130, 130, 132))]
    return cabin | body | wheels, parts


def _draw_bus(u: _FloatArray, v: _FloatArray, look: Appearance) -> _Drawing:
    body = _rect(u, v, 0.0, 0.0, 1.0, 0.93)
    wheels = _disc(u, v, 0.20, 0.92, 0.09, 0.08) | _disc(u, v, 0.78, 0.92, 0.09, 0.08)
    glass = _rect(u, v, 0.05, 0.14, 0.95, 0.48) & (((u - 0.05) / 0.18) % 1.0 > 0.14)
    front = _rect(u, v, 0.10, 0.03, 0.60, 0.10)
    stripe = _rect(u, v, 0.0, 0.60, 1.0, 0.66)
    parts = [(stripe, look.accent), (glass, (88, 110, 128)), (front, (40, 40, 40)), (wheels, (26, 26, 28))]
    return body | wheels, parts


def _draw_person(u: _FloatArray, v: _FloatArray, look: Appearance) -> _Drawing:
    head = _disc(u, v, 0.5, 0.10, 0.24, 0.105)
    torso = _rect(u, v, 0.14, 0.20, 0.86, 0.58)
    legs = _rect(u, v, 0.18, 0.58, 0.82, 1.0) & ~((np.abs(u - 0.5) < 0.05) & (v > 0.72))
    return head | torso | legs, [(head, (214, 168, 140)), (legs, (52, 58, 82))]


def _draw_bicyclist(u: _FloatArray, v: _FloatArray, look: Appearance) -> _Drawing:
    wheels = _disc(u, v, 0.22, 0.78, 0.22, 0.22) | _disc(u, v, 0.78, 0.78, 0.22, 0.22)
    spokes = _disc(u, v, 0.22, 0.78, 0.14, 0.14) | _disc(u, v, 0.78, 0.78, 0.14, 0.14)
    frame = _rect(u, v, 0.22, 0.58, 0.80, 0.80)
    bars = _limb(u, v, (0.76, 0.46), (0.80, 0.78), 0.03) | _limb(u, v, (0.34, 0.60), (0.80, 0.58), 0.03)
    leg = _limb(u, v, (0.36, 0.54), (0.52, 0.86), 0.09)
    torso = _limb(u, v, (0.38, 0.52), (0.58, 0.26), 0.13)
    arm = _limb(u, v, (0.60, 0.28), (0.76, 0.48), 0.05)
    head = _disc(u, v, 0.68, 0.11, 0.11, 0.11)
    parts = [(frame, (120, 120, 118)), (wheels, (30, 30, 32)), (spokes, (150, 152, 150)), (bars, (34, 34, 36)),
             (leg, (52, 58, 82)), (head, (230, 230, 226))]  # fmt: skip
    return wheels | frame | bars | leg | torso | arm | head, parts


def _draw_sign(u: _FloatArray, v: _FloatArray, look: Appearance) -> _Drawing:
    if look.name == "red":
        board = _disc(u, v, 0.5, 0.5, 0.5, 0.5)
        face = _disc(u, v, 0.5, 0.5, 0.32, 0.32)
    elif look.name == "blue":
        board = _rect(u, v, 0.02, 0.02, 0.98, 0.98)
        face = _rect(u, v, 0.36, 0.16, 0.64, 0.84) | _rect(u, v, 0.20, 0.36, 0.80, 0.56)
    else:
        board = np.asarray(np.abs(u - 0.5) + np.abs(v - 0.5) < 0.56)
        face = _rect(u, v, 0.42, 0.24, 0.58, 0.76)
    return board, [(face & board, look.accent)]


_DRAW: dict[str, _Draw] = {
    "car": _draw_car, "bus": _draw_bus, "person": _draw_person, "bicyclist": _draw_bicyclist,
}  # fmt: skip


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
        """The column at row `ground` of the line from the vanishing point to `column` at the bottom."""
        return self.vanishing + (column - self.vanishing) * self.nearness(ground)

    def front_at(self, side: int, x: _FloatArray) -> _FloatArray:
        """Row of the foot of the houses of a side (0 left, 1 right) at the columns `x`."""
        slope = (128.0 - self.horizon) / abs(self.vanishing - self.fronts[side])
        return np.asarray(self.horizon + slope * np.abs(x - self.vanishing), np.float32)


def _lay_street(canvas: _Canvas) -> _Street:
    rng, breadth = canvas.rng, canvas.breadth
    vanishing = breadth * rng.uniform(0.40, 0.60)
    return _Street(
        vanishing,
        rng.uniform(48.0, 58.0),
        (breadth * rng.uniform(-0.06, 0.14), breadth * rng.uniform(0.86, 1.06)),
        (vanishing - breadth * rng.uniform(1.0, 1.5), vanishing + breadth * rng.uniform(1.0, 1.5)),
    )


def _paint_ground_and_sky(canvas: _Canvas, street: _Street, quotas: _Quotas) -> None:
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


def _paint_house(canvas: _Canvas, row: int, inside: _BoolArray, window: _Window, left: float, near: float) -> None:
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


def _paint_houses(canvas: _Canvas, street: _Street, quotas: _Quotas) -> None:
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


def _paint_fence(canvas: _Canvas, street: _Street, row: int) -> None:
    """A fence along the houses of one side, lower in the distance."""
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


def _paint_tree(canvas: _Canvas, row: int, box: _Box) -> None:
    def draw(u: _FloatArray, v: _FloatArray, look: Appearance) -> _Drawing:
        window = canvas.window(box.left - 2, box.top - 2, box.right + 2, box.bottom + 2)
        ragged = 0.16 * canvas.soft[window] + 0.03 * canvas.fine[window]
        if look.name == "conifer":
            crown = (np.abs(u - 0.5) < 0.55 * v + 0.10 * ragged) & (v < 0.86)
        else:
            crown = ((u - 0.5) / 0.48) ** 2 + ((v - 0.38) / 0.40) ** 2 < 1.0 + 1.5 * ragged
        trunk = _rect(u, v, 0.43, 0.6, 0.57, 1.0)
        dark = crown & (canvas.fine[window] > 0.5)
        return np.asarray(crown | trunk), [(trunk & ~crown, (82, 62, 46)), (dark, look.accent)]

    canvas.paint_object(row, box, draw)


def _paint_sign(canvas: _Canvas, row: int, box: _Box) -> None:
    """A board on a mast. The mast is void, and belongs to the mask behind it: it is too thin for either."""
    side = box.right - box.left
    middle = (box.left + box.right) / 2
    mast = canvas.window(middle - 0.8, box.top + side, middle + 0.8, box.bottom)
    canvas.colour[mast] = (120.0, 122.0, 124.0)
    canvas.outside[mast] = True
    canvas.paint_object(row, _Box(box.left, box.top, box.right, box.top + side), _draw_sign)


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


def _place(canvas: _Canvas, street: _Street, label: str, taken: Sequence[_Box]) -> _Box:
    """A box for an object of a class where it belongs, the least hidden one of a few tries."""
    rng = canvas.rng

    def somewhere() -> _Box:
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
        return _Box.standing(kerb + (towards - kerb) * share, ground, _WIDTHS[label] * height, height)

    def lost(box: _Box) -> float:
        beyond = max(-box.left, 0.0) + max(box.right - canvas.breadth, 0.0)
        return box.hidden_by(taken) + 2.0 * beyond / (box.right - box.left)

    return min((somewhere() for _ in range(10)), key=lost)


def _paint_objects(canvas: _Canvas, street: _Street, quotas: _Quotas) -> None:
    rows: list[tuple[str, int]] = []
    for label, slots in _SLOTS.items():
        for often in slots:
            number = quotas.draw()
            if number < often:  # where in its quota the number lies then says which appearance
                rows.append((label, _pick_look(label, number / often)))
    # The rare ones choose their place first: what they would lose behind a tree counts for more.
    order = ["bus", "bicyclist", "person", "sign", "car", "tree"]
    placed: list[tuple[_Box, str, int]] = []
    for label, row in sorted((r for r in rows if r[0] != "fence"), key=lambda r: order.index(r[0])):
        placed.append((_place(canvas, street, label, [box for box, _, _ in placed]), label, row))
    for label, row in rows:
        if label == "fence":
            _paint_fence(canvas, street, row)
    for box, label, row in sorted(placed, key=lambda entry: entry[0].bottom):
        if label == "tree":
            _paint_tree(canvas, row, box)
        elif label == "sign":
            _paint_sign(canvas, row, box)
        else:
            canvas.paint_object(row, box, _DRAW[label])


def _paint_bonnet(canvas: _Canvas) -> None:
    """The bonnet of the car that holds the camera, in some scenes: void, and without a mask."""
    if canvas.rng.random() < 0.25:
        x, y = canvas.x[None, :] / canvas.breadth, canvas.y[:, None]
        bonnet = y > 128.0 - 9.0 * (1.0 - ((x - 0.5) / 0.42) ** 2)
        canvas.colour[bonnet] = (62.0, 64.0, 70.0)
        canvas.instances[bonnet] = 0


def _develop(canvas: _Canvas) -> NDArray[np.uint8]:
    """Light the scene and take the picture: (H, W, 3) uint8."""
    rng = canvas.rng
    angle, strength = rng.uniform(0.0, 2.0 * math.pi), rng.uniform(0.0, 0.22)
    across, down = canvas.x[None, :] / canvas.breadth - 0.5, canvas.y[:, None] / 128.0 - 0.5
    light = rng.uniform(0.78, 1.15) * (1.0 + strength * (math.cos(angle) * across + math.sin(angle) * down) * 2.0)
    cast = rng.normal(1.0, 0.05, 3)
    exposed = canvas.colour * (light[..., None] * cast) + 5.0 * canvas.sensor
    return np.asarray(np.clip(np.rint(exposed), 0, 255), np.uint8)


# --- masks and labels ------------------------------------------------------------------------------------------------

_STUFF = frozenset({"sky", "building", "road", "pavement", "tree", "fence"})


def _cut(rng: np.random.Generator, points: NDArray[np.intp], pieces: int) -> NDArray[np.intp]:
    """Cut a region into `pieces` compact ones: for its (N, 2) pixels a piece 0 .. pieces-1 each."""
    # Seeds far from each other, among few candidates so that it is fast and not too regular.
    candidates = points[rng.integers(len(points), size=12 * pieces)].astype(np.float64)
    seeds = candidates[:1]
    for _ in range(pieces - 1):
        gaps = np.linalg.norm(candidates[:, None] - seeds[None], axis=2).min(axis=1)
        seeds = np.concatenate([seeds, candidates[[int(gaps.argmax())]]])
    squared = [((points - seed) ** 2).sum(axis=1) for seed in seeds]
    return np.asarray(np.argmin(squared, axis=0), np.intp)


def _cut_pieces(canvas: _Canvas, rng: np.random.Generator) -> tuple[NDArray[np.int32], list[int]]:
    """Regions as a class-agnostic segmenter sees them.

    Returns:
        (H, W) int32 of piece ids with 0 for none, and each piece's row of `APPEARANCES`, -1 for piece 0.
    """
    area = canvas.instances.size
    pieces, looks = np.zeros_like(canvas.instances), [-1]
    for number, window in enumerate(ndimage.find_objects(canvas.instances), start=1):
        if window is None:  # wholly behind others
            continue
        row = canvas.looks[number]
        shows = canvas.instances[window] == number
        # A thing stays one mask when a lamp post cuts it in two; the parts of a region do not know of each other.
        parts, count = ndimage.label(shows) if APPEARANCES[row].label in _STUFF else (shows.astype(np.int32), 1)
        for part in range(1, count + 1):
            points = np.argwhere(parts == part)
            if len(points) < _SLIVER_AREA * canvas.unit**2 and rng.random() >= _SLIVER_KEPT_RATE:
                continue
            wanted = max(round(len(points) / (_PIECE_AREA * area)), 1) if APPEARANCES[row].label in _STUFF else 1
            piece = _cut(rng, points, wanted) if wanted > 1 else np.zeros(len(points), np.intp)
            pieces[window][points[:, 0], points[:, 1]] = len(looks) + piece
            looks.extend([row] * wanted)
    return pieces, looks


def _warp(canvas: _Canvas, rng: np.random.Generator, pieces: NDArray[np.int32]) -> NDArray[np.int32]:
    """Move the borders by a smooth random displacement of `_BORDER_SHIFT` units, whole neighbourhoods alike."""
    height, width = pieces.shape
    shift = _BORDER_SHIFT * canvas.unit / math.sqrt(2.0)
    down = np.arange(height)[:, None] + shift * _value_noise(rng, canvas.y, canvas.x, 6.0)
    across = np.arange(width)[None, :] + shift * _value_noise(rng, canvas.y, canvas.x, 6.0)
    rows = np.clip(np.rint(down), 0, height - 1).astype(np.intp)
    columns = np.clip(np.rint(across), 0, width - 1).astype(np.intp)
    return np.asarray(pieces[rows, columns], np.int32)


def _spoil(rng: np.random.Generator, pieces: NDArray[np.int32], looks: Sequence[int]) -> NDArray[np.int32]:
    """Let some objects go without a mask and some pieces be one with a larger neighbour; change `pieces`, return it."""
    draws = rng.random((len(looks), 2))
    areas = np.bincount(pieces.ravel(), minlength=len(looks))
    for piece, window in enumerate(ndimage.find_objects(pieces.copy(), max_label=len(looks) - 1), start=1):
        if window is None:
            continue
        thing = APPEARANCES[looks[piece]].label not in _STUFF
        if thing and draws[piece, 0] < _MISSED_RATE:
            pieces[pieces == piece] = 0
        elif draws[piece, 1] < _SWALLOWED_RATE and areas[piece] < _SWALLOWED_AREA * pieces.size:
            around = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in window)
            inside = pieces[around] == piece
            touching = pieces[around][ndimage.binary_dilation(inside) & ~inside]
            contact = np.bincount(touching, minlength=len(looks))
            contact[(areas <= areas[piece]) | (np.arange(len(looks)) == 0)] = 0
            if contact.any():
                pieces[pieces == piece] = int(contact.argmax())
    return pieces


def _make_masks(canvas: _Canvas, rng: np.random.Generator) -> tuple[NDArray[np.uint16], NDArray[np.intp]]:
    """The mask map (H, W), and for its n masks the rows of `APPEARANCES` they are judged by (n,)."""
    pieces, looks = _cut_pieces(canvas, rng)
    pieces = _spoil(rng, _warp(canvas, rng, pieces), looks)
    ids = np.unique(pieces)
    ids = ids[ids > 0]
    compact = np.zeros(len(looks), np.uint16)
    compact[ids] = np.arange(1, len(ids) + 1)
    return compact[pieces], np.asarray(looks, np.intp)[ids]


def _weak_labels(
    rng: np.random.Generator, looks: NDArray[np.intp], areas: NDArray[np.float64], level: float
) -> NDArray[np.uint8]:
    """What the weak labeller calls masks of these appearances and shares of the image at a difficulty: (n,) uint8.

    The draws are the same at every difficulty and only the thresholds move, so a wrong label stays wrong.
    """
    draws = rng.random((len(looks), 3))
    labels = np.empty(len(looks), np.uint8)
    for position, row in enumerate(looks):
        look = APPEARANCES[row]
        own = CLASS_NAMES.index(look.label)
        habit = min(max((level - look.known_until) / _LOOK_ALIKE_RAMP + 0.5, 0.0), 1.0)
        habitual, random, which = draws[position]
        if habitual < _LOOK_ALIKE_RATE * habit:
            labels[position] = CLASS_NAMES.index(look.taken_for)
        elif random < (_SMALL_RANDOM_RATE if areas[position] < _SMALL_AREA else _RANDOM_RATE):
            shares = np.cumsum([share if k != own else 0.0 for k, share in enumerate(_RANDOM_SHARES)])
            labels[position] = np.searchsorted(shares, which * shares[-1], side="right")
        else:
            labels[position] = own
    return labels


# --- public ----------------------------------------------------------------------------------------------------------


def make_scene(index: int, settings: SceneSettings) -> Scene:
    """Make one scene; it depends on `index` and the settings alone, not on the scenes made before.

    Args:
        index: Which scene, 0 or more. `images` and `validation_images` do not limit it and do not change the scene.
        settings: Size, seed and difficulty.

    Returns:
        The scene, `settings.height` by `settings.width`.

    Raises:
        ConfigError: `index` is negative.
    """
    if index < 0:
        raise ConfigError(f"scenes: index is {index}; expected at least 0.")
    canvas, quotas = _Canvas(settings, index), _Quotas(settings, index)
    street = _lay_street(canvas)
    _paint_ground_and_sky(canvas, street, quotas)
    _paint_houses(canvas, street, quotas)
    _paint_objects(canvas, street, quotas)
    _paint_bonnet(canvas)

    class_of = np.array([_VOID] + [CLASS_NAMES.index(APPEARANCES[row].label) for row in canvas.looks[1:]], np.uint8)
    ground_truth = class_of[canvas.instances]
    ground_truth[canvas.outside] = _VOID

    mask_map, looks = _make_masks(canvas, _generator(settings, _MASKS, index))
    label_of = np.full(len(looks) + 1, _VOID, np.uint8)
    areas = np.bincount(mask_map.ravel(), minlength=len(label_of))[1:] / mask_map.size
    label_of[1:] = _weak_labels(_generator(settings, _LABELS, index), looks, areas, settings.level)
    return Scene(_develop(canvas), ground_truth, mask_map, label_of[mask_map], looks)


def _save_labels(path: Path, labels: NDArray[np.uint8], palette: list[int]) -> None:
    """Save (H, W) class indices as an 8-bit PNG with a palette: image viewers show colours, readers get indices."""
    image = Image.fromarray(labels)
    image.putpalette(palette)
    image.save(path)


def write_scenes(folder: Path, settings: SceneSettings) -> None:
    """Write a data set of scenes, or return at once if `folder` exists.

    The scenes are numbered through: the training ones first, then the validation ones.

        images/{train,val}/scene_00000.png        8-bit RGB
        ground_truth/{train,val}/scene_00000.png  8-bit, palette; class or 255
        masks/train/scene_00000.png               16-bit grey; mask id or 0
        labels/train/scene_00000.png              8-bit, palette; pseudo label or 255
        classes.json                              as `ClassTable.to_json`

    All is written to a folder beside it, `<name>.partial`, which is renamed at the end: a run that is killed leaves no
    half data set, and the next one starts over.

    Args:
        folder: Where to; its parents are made.
        settings: What to make.
    """
    if folder.exists():
        return
    partial = folder.with_name(folder.name + ".partial")
    if partial.exists():
        shutil.rmtree(partial)
    for kind in ("images/train", "images/val", "ground_truth/train", "ground_truth/val", "masks/train", "labels/train"):
        (partial / kind).mkdir(parents=True)
    classes = scene_classes()
    palette = classes.palette()
    for index in range(settings.images + settings.validation_images):
        split = "train" if index < settings.images else "val"
        name = f"scene_{index:05d}.png"
        scene = make_scene(index, settings)
        Image.fromarray(scene.image).save(partial / "images" / split / name)
        _save_labels(partial / "ground_truth" / split / name, scene.ground_truth, palette)
        if split == "train":
            Image.fromarray(scene.mask_map).save(partial / "masks" / split / name)
            _save_labels(partial / "labels" / split / name, scene.labels, palette)
    (partial / "classes.json").write_text(json.dumps(classes.to_json(), indent=2) + "\n", encoding="utf-8")
    partial.rename(folder)
