"""What the doctor saw of a data set's files; the checks turn it into findings."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

import numpy as np

from a2lc.classes.table import ClassTable
from a2lc.doctor.diagnosis import Case, ValueCount
from a2lc.formats.base import Found, Sample, Sources
from a2lc.images.options import ReadingOptions

__all__ = ["Evidence"]


@dataclass(kw_only=True)
class Evidence:
    """What was seen of a data set.

    Attributes:
        sources: Where its files are.
        options: How they are read, with the values that the format itself reads as the ignore value.
        found: The files by image, as the format's reader or their names alone have it.
        classes: The user's classes, or those of the format; None if there are none.
        layout_error: Why the format's reader refused the data set; "" if it did not.
        others: Samples of other splits, each with the name of its split.
        cases: Files by what was noticed about them.
        modes: Images by Pillow's name of their pixels' type.
        kinds: Label maps by their kind, see `MapFacts`.
        seen: Pixels of each value in labels.
        seen_files: Label maps that hold each value.
        seen_truth: Values in ground truth.
        palettes: Colours that label maps' palettes give to each value, by how many maps.
        smooth: Of each map with unknown values, the share of their pixels that lie between two other values.
        images_seen: The first image and its split of each digest of decoded pixels.
        maps_seen: The first label map of each digest.
        deep_kinds: Number of bands and type of images with more than 8 bits.
        deep_range: Lowest and highest value in them.
        usable: Images to correct that remain if `skip_bad` leaves out the others.
        usable_unlabelled: Whether one of those has no labels.
        same_as_truth: Label maps that are equal to their ground truth.
        masks_seen: Whether a mask map was read.
        masked: Whether one of them holds a mask.
    """

    sources: Sources
    options: ReadingOptions
    found: Found
    classes: ClassTable | None
    layout_error: str = ""
    others: list[tuple[Sample, str]] = field(default_factory=list)
    cases: dict[str, Case] = field(default_factory=lambda: defaultdict(Case))
    modes: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    seen: Counter[int] = field(default_factory=Counter)
    seen_files: Counter[int] = field(default_factory=Counter)
    seen_truth: set[int] = field(default_factory=set)
    palettes: dict[int, Counter[tuple[int, int, int]]] = field(default_factory=lambda: defaultdict(Counter))
    smooth: list[float] = field(default_factory=list)
    images_seen: dict[str, tuple[str, str]] = field(default_factory=dict)
    maps_seen: dict[str, str] = field(default_factory=dict)
    deep_kinds: set[tuple[int, str]] = field(default_factory=set)
    deep_range: tuple[float, float] = (np.inf, -np.inf)
    usable: int = 0
    usable_unlabelled: bool = False
    same_as_truth: int = 0
    masks_seen: bool = False
    masked: bool = False

    @property
    def images(self) -> int:
        """Number of images, or of label maps without images."""
        return len(self.found.train) + len(self.found.validation) + len(self.others)

    @property
    def label_maps(self) -> int:
        """Number of label maps of images to correct, and of other splits."""
        samples = [*self.found.train, *(sample for sample, _ in self.others)]
        return sum(sample.labels is not None for sample in samples)

    @property
    def known(self) -> set[int] | None:
        """Values that have a meaning; None without classes."""
        if self.classes is None:
            return None
        return {*self.classes.file_values, self.classes.ignore, *self.options.value_map}

    def read_as(self, value: int) -> int:
        """Return the value that a value of a label file is read as."""
        return self.options.value_map.get(value, value)

    def counts(self, values: list[int]) -> tuple[ValueCount, ...]:
        """Return pixels and files of values in labels."""
        return tuple(ValueCount(value=str(v), pixels=self.seen[v], files=self.seen_files[v]) for v in values)
