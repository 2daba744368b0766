"""A picture of images beside what models found in them, to look at before all images are labelled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from a2lc.classes.table import ClassTable
from a2lc.foundation.compose import Composed
from a2lc.images.rgb import write_rgb

if TYPE_CHECKING:
    from a2lc.creation.found import Found

__all__ = ["draw"]

_WIDTH = 480
_BAR = 18


def draw(path: Path, panels: Sequence[tuple[str, NDArray[np.uint8], Found, Composed]], classes: ClassTable) -> None:
    """Write a row an image: the image with boxes, names and scores; then its labels, with the edges of the masks.

    Args:
        path: Where to.
        panels: Name, (H, W, 3) pixels, what was found, labels and masks of each image.
        classes: Names and colours.
    """
    rows = [_row(*panel, classes) for panel in panels]
    width = max(row.width for row in rows)
    sheet = Image.new("RGB", (width, sum(row.height for row in rows)), (24, 24, 24))
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    write_rgb(path, np.asarray(sheet))


def _row(name: str, pixels: NDArray[np.uint8], found: Found, composed: Composed, classes: ClassTable) -> Image.Image:
    height, width = pixels.shape[:2]
    scale = _WIDTH / width
    size = (_WIDTH, max(1, round(height * scale)))
    left = Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)
    pen, font = ImageDraw.Draw(left), ImageFont.load_default(11)
    for box, index, score in zip(
        found.boxes[::-1].tolist(), found.classes[::-1].tolist(), found.scores[::-1].tolist(), strict=True
    ):
        corners = [value * scale for value in box]
        colour = classes.colours[index]
        pen.rectangle(corners, outline=colour, width=2)
        said = f"{classes.names[index]} {score:.2f}"
        place = (corners[0], max(0.0, corners[1] - 13))
        pen.rectangle(pen.textbbox(place, said, font=font), fill=colour)
        pen.text(place, said, fill=(0, 0, 0) if sum(colour) > 380 else (255, 255, 255), font=font)
    right = Image.fromarray(_coloured(pixels, composed, classes)).resize(size, Image.Resampling.NEAREST)
    row = Image.new("RGB", (2 * _WIDTH, size[1] + _BAR), (24, 24, 24))
    ImageDraw.Draw(row).text(
        (4, 2), f"{name}: {len(found.scores)} boxes, {int(composed.masks.max())} masks", fill=(255, 255, 255), font=font
    )
    row.paste(left, (0, _BAR))
    row.paste(right, (_WIDTH, _BAR))
    return row


def _coloured(pixels: NDArray[np.uint8], composed: Composed, classes: ClassTable) -> NDArray[np.uint8]:
    """(H, W, 3) the image in the colours of its labels, grey where there is no class, edges of masks white."""
    table = np.full((classes.ignore_index + 1, 3), 128, dtype=np.uint8)
    table[: classes.num_classes] = classes.colours
    mixed = (pixels.astype(np.uint16) + 2 * table[composed.labels].astype(np.uint16)) // 3
    edge = np.zeros(composed.masks.shape, dtype=np.bool_)
    edge[:, 1:] |= composed.masks[:, 1:] != composed.masks[:, :-1]
    edge[1:] |= composed.masks[1:] != composed.masks[:-1]
    mixed[edge] = 255
    return np.asarray(mixed, dtype=np.uint8)
