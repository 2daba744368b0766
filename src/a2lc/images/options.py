"""The options that decide how the user's files are read, shared by import, checks, settings and the command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from a2lc.images.limits import MAX_PIXELS

if TYPE_CHECKING:
    from a2lc.images.multiband import Stretch

__all__ = ["ReadingOptions"]


@dataclass(frozen=True, kw_only=True)
class ReadingOptions:
    """How the user's images, label maps and mask maps are read.

    Attributes:
        value_map: Value in a label file -> the value it is read as.
        ignore: Ignore value, in place of that of the classes; None keeps theirs.
        colours: Read coloured label files through the colours of the classes.
        snap: Read a pixel of a lossy label file as the known value or colour at most this far away; None refuses such files.
        exif: What becomes of images that an EXIF orientation shows turned: `refuse` accepts none, `apply` takes them
            upright, `ignore` takes them as stored, and `bake` keeps upright copies in the project.
        tile: Cut images that are wider or higher into tiles of at most this many pixels a side; None cuts none.
        bands: Bands taken for red, green and blue, or the one taken for grey, counted from 1; None takes them as they are.
        stretch: Values of images with more than 8 bits that become 0 and 255; None for images of 8 bits.
        max_pixels: Refuse images with more pixels.
        skip_bad: Leave out images that cannot be used, instead of refusing the whole data set.
        partial: Let images without a label map start without labels, instead of refusing them.
        partial_truth: Accept images without ground truth, which are left out of ground-truth metrics.
    """

    value_map: dict[int, int] = field(default_factory=dict)
    ignore: int | None = None
    colours: bool = False
    snap: int | None = None
    exif: str = "refuse"
    tile: int | None = None
    bands: tuple[int, ...] | None = None
    stretch: Stretch | None = None
    max_pixels: int = MAX_PIXELS
    skip_bad: bool = False
    partial: bool = False
    partial_truth: bool = False
