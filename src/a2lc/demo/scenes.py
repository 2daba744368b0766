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
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from a2lc.demo.canvas import Canvas
from a2lc.demo.errors import make_masks, weak_labels
from a2lc.demo.looks import APPEARANCES, CLASS_NAMES, VOID, scene_classes
from a2lc.demo.settings import LABELS, MASKS, SceneSettings, generator
from a2lc.demo.street import (
    Quotas,
    develop,
    lay_street,
    paint_bonnet,
    paint_ground_and_sky,
    paint_houses,
    paint_objects,
)
from a2lc.errors import ConfigError

__all__ = ["Scene", "make_scene", "write_scenes"]


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
    canvas, quotas = Canvas(settings, index), Quotas(settings, index)
    street = lay_street(canvas)
    paint_ground_and_sky(canvas, street, quotas)
    paint_houses(canvas, street, quotas)
    paint_objects(canvas, street, quotas)
    paint_bonnet(canvas)

    class_of = np.array([VOID] + [CLASS_NAMES.index(APPEARANCES[row].label) for row in canvas.looks[1:]], np.uint8)
    ground_truth = class_of[canvas.instances]
    ground_truth[canvas.outside] = VOID

    mask_map, looks = make_masks(canvas, generator(settings, MASKS, index))
    label_of = np.full(len(looks) + 1, VOID, np.uint8)
    areas = np.bincount(mask_map.ravel(), minlength=len(label_of))[1:] / mask_map.size
    label_of[1:] = weak_labels(generator(settings, LABELS, index), looks, areas, settings.level)
    return Scene(develop(canvas), ground_truth, mask_map, label_of[mask_map], looks)


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
