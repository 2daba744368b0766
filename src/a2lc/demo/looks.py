"""Classes of the made-up scenes, and what their objects look like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.classes.table import ClassTable

__all__ = ["APPEARANCES", "CLASS_NAMES", "RGB", "VOID", "Appearance", "BoolArray", "FloatArray", "scene_classes"]


CLASS_NAMES: tuple[str, ...] = (
    "sky", "building", "road", "pavement", "tree", "fence", "car", "bus", "person", "bicyclist", "sign",
)  # fmt: skip


_COLOURS: tuple[tuple[int, int, int], ...] = (
    (70, 130, 180), (110, 80, 75), (128, 64, 128), (244, 35, 232), (107, 142, 35), (190, 153, 153),
    (0, 0, 142), (0, 160, 160), (220, 20, 60), (255, 140, 0), (250, 220, 0),
)  # fmt: skip


VOID = 255


FloatArray = NDArray[np.floating[Any]]


BoolArray = NDArray[np.bool_]


RGB = tuple[int, int, int]


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
    base: RGB
    accent: RGB
    pattern: str
    grain: float
    known_until: float
    taken_for: str


def _looks(label: str, *rows: tuple[str, float, RGB, RGB, str, float, float, str]) -> list[Appearance]:
    """Return the appearances of one class from rows in the order of `Appearance`'s fields."""
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


def scene_classes() -> ClassTable:
    """Return the classes of the scenes, `CLASS_NAMES` with street colours; labels are 0 .. 10, void is 255."""
    return ClassTable(CLASS_NAMES, _COLOURS, tuple(range(len(CLASS_NAMES))), VOID)
