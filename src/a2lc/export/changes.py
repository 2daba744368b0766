"""Show what changed to the owner of a data set: a table, and pictures of each change before and after."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_erosion, find_objects

from a2lc.classes.edits import described
from a2lc.classes.table import VOID_NAME
from a2lc.export.corrected import PROVENANCE, Replay
from a2lc.formats.writing import Corrected
from a2lc.images.rgb import write_rgb
from a2lc.io.files import write_text
from a2lc.ledger import FIRST
from a2lc.project.project import Project

__all__ = ["MOST_CROPS", "Change", "CropWriter", "changes_of", "pixel_changes", "write_changes", "write_letter"]

MOST_CROPS = 2000
"""Maximum pictures of an export; the largest changes have one."""

_SIDE = (192, 480)
"""Longer side of a panel in pixels: small regions are enlarged to the first, large ones reduced to the second."""

_OPACITY = 0.6
_TITLE = 20
_MOST_PAIRS = 100


@dataclass(frozen=True, kw_only=True)
class Change:
    """A mask whose class differs from its initial one, or pixels with changed pixel-level labels.

    Attributes:
        row: Row of the mask table; negative for pixels.
        image: Index of the image in the project.
        image_id: Name of the image.
        mask_id: Id of the mask; 0 for pixel-level labels.
        pixels: Area of the mask, or number of pixels.
        old: Most frequent initial class; `void` for none.
        new: Current class.
        source: `manual` or `automatic`.
        round: Round in which it was changed.
        confidence: Confidence of an automatic correction.
        annotator: Annotator of a manual correction.
        proven: Of an automatic correction, whether a certificate covers it; None for others.
    """

    row: int
    image: int
    image_id: str
    mask_id: int
    pixels: int
    old: str
    new: str
    source: str
    round: int
    confidence: float | None
    annotator: str
    proven: bool | None = None


def changes_of(project: Project, replay: Replay) -> list[Change]:
    """Return every mask whose class differs from its initial one, in the order of the mask table."""
    masks, state = project.masks, replay.state
    mixed = np.bincount(masks.pair_row, minlength=len(masks)) > 1
    changed = np.flatnonzero((state.classes != FIRST) & ((state.classes != masks.label) | mixed))
    winners = replay.rows.ids[replay.decider[changed]]
    wanted = set(winners.tolist())
    details = {row.id: row for row in project.ledger.correction_details() if row.id in wanted}
    kinds = {value: name for name, value in PROVENANCE.items()}

    def name(value: int) -> str:
        return project.classes.name_of(value, void=VOID_NAME)

    return [
        Change(
            row=mask,
            image=int(masks.image[mask]),
            image_id=project.images[masks.image[mask]].image_id,
            mask_id=int(masks.mask_ids[mask]),
            pixels=int(masks.area[mask]),
            old=name(int(masks.label[mask])),
            new=name(int(state.classes[mask])),
            source=kinds[int(replay.source[mask])],
            round=details[winner].round,
            confidence=details[winner].confidence,
            annotator=details[winner].annotator or "",
            proven=not replay.not_proven[mask] if replay.source[mask] == PROVENANCE["automatic"] else None,
        )
        for mask, winner in zip(changed.tolist(), winners.tolist(), strict=True)
    ]


def write_changes(path: Path, changes: Iterable[Change], crops: dict[int, str] | None = None) -> None:
    """Write a line for each change as CSV; `crops` adds a column with the picture of each."""
    columns = ["image_id", "mask_id", "pixels", "old_class", "new_class", "source", "round", "confidence", "annotator"]
    columns += ["proven"]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*columns, *(["crop"] if crops is not None else [])])
        for one in changes:
            confidence = "" if one.confidence is None else f"{one.confidence:.6g}"
            line = [one.image_id, one.mask_id or "", one.pixels, one.old, one.new, one.source, one.round, confidence]
            proven = "" if one.proven is None else "yes" if one.proven else "no"
            writer.writerow([*line, one.annotator, proven, *([crops.get(one.row, "")] if crops is not None else [])])


def pixel_changes(
    project: Project,
    replay: Replay,
    corrected: Corrected,
    before: NDArray[Any],
    changed: Mapping[int, Sequence[int]],
    first_row: int,
) -> list[tuple[Change, NDArray[np.bool_]]]:
    """Return what pixel-level labels change in an image, by pairs of classes.

    Args:
        project: Opened.
        replay: The state with its pixel-level labels.
        corrected: The image with its corrected labels.
        before: (H, W) class indices or the ignore index as imported.
        changed: Masks that changed as a whole, by image.
        first_row: Row number of the first change; later ones count down.

    Returns:
        Changes with their (H, W) pixels; none without pixel-level labels.
    """
    if replay.state.layer is None:
        return []
    rest = before != corrected.labels
    for record in corrected.records:
        if record.index not in changed:
            continue
        tile = project.prepared[record.image_id].tile if len(corrected.records) > 1 else None
        top, left = (0, 0) if tile is None else (tile.top, tile.left)
        inside = np.isin(project.mask_map(record), changed[record.index])
        rest[top : top + record.height, left : left + record.width] &= ~inside
    if not rest.any():
        return []
    count = project.classes.num_classes + 1
    code = np.minimum(before[rest], count - 1).astype(np.int64) * count + np.minimum(corrected.labels[rest], count - 1)
    pairs, inverse, pixels = np.unique(code, return_inverse=True, return_counts=True)
    where = np.full(rest.shape, -1, dtype=np.int32)
    where[rest] = inverse
    names = [*project.classes.names, VOID_NAME]
    kinds = {value: name for name, value in PROVENANCE.items()}
    result = []
    for number, pair in enumerate(pairs.tolist()):
        mask = where == number
        change = Change(
            row=first_row - number,
            image=corrected.records[0].index,
            image_id=corrected.image_id,
            mask_id=0,
            pixels=int(pixels[number]),
            old=names[pair // count],
            new=names[pair % count],
            source=kinds[int(np.bincount(corrected.provenance[mask]).argmax())],
            round=replay.state.layer,
            confidence=None,
            annotator="",
        )
        result.append((change, mask))
    return result


class CropWriter:
    """Write a picture of each change: the image, its labels before, and its labels after, side by side."""

    def __init__(self, project: Project, changes: Sequence[Change], folder: Path, most: int = MOST_CROPS) -> None:
        """Choose the largest changes, which get a picture.

        Args:
            project: Opened.
            changes: All changes.
            folder: Folder of the export; pictures go to `crops/` in it.
            most: Maximum number of pictures.
        """
        self.project, self.folder = project, folder
        chosen = sorted(changes, key=lambda change: (-change.pixels, change.row))[:most]
        self.left_out = len(changes) - len(chosen)
        self._room = most - len(chosen)
        self._of_image: dict[int, list[Change]] = {}
        for change in chosen:
            self._of_image.setdefault(change.image, []).append(change)
        self.names: dict[int, str] = {}
        colours = [*project.classes.colours, (0, 0, 0)]
        self._colours = np.array(colours, dtype=np.float64)

    def add(
        self, corrected: Corrected, before: NDArray[Any], pixelwise: Sequence[tuple[Change, NDArray[np.bool_]]] = ()
    ) -> None:
        """Write the pictures of an image.

        Args:
            corrected: The image with its corrected labels.
            before: (H, W) class indices or the ignore index as imported.
            pixelwise: Its changes of pixel-level labels.
        """
        wanted = [(record, self._of_image.get(record.index, [])) for record in corrected.records]
        shown, rest = pixelwise[: self._room], pixelwise[self._room :]
        self._room -= len(shown)
        self.left_out += len(rest)
        if not shown and not any(changes for _, changes in wanted):
            return
        pixels = self._pixels(corrected)
        for change, mask in shown:
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            box = _roomy((int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1), mask.shape)
            cut = np.s_[box[0] : box[2], box[1] : box[3]]
            picture = self._picture(change, pixels[cut], before[cut], corrected.labels[cut], mask[cut])
            name = f"crops/{change.image_id}/pixels{-change.row}.png"
            write_rgb(self.folder / name, picture)
            self.names[change.row] = name
        for record, changes in wanted:
            if not changes:
                continue
            tile = self.project.prepared[record.image_id].tile if len(corrected.records) > 1 else None
            top, left = (0, 0) if tile is None else (tile.top, tile.left)
            ids = self.project.mask_map(record)
            boxes = find_objects(ids.astype(np.int32))
            for change in changes:
                rows, columns = boxes[change.mask_id - 1]
                inside = ids == change.mask_id
                box = _roomy((rows.start, columns.start, rows.stop, columns.stop), ids.shape)
                whole = (box[0] + top, box[1] + left, box[2] + top, box[3] + left)
                cut = np.s_[whole[0] : whole[2], whole[1] : whole[3]]
                mask = inside[box[0] : box[2], box[1] : box[3]]
                picture = self._picture(change, pixels[cut], before[cut], corrected.labels[cut], mask)
                name = f"crops/{change.image_id}/{change.mask_id}.png"
                write_rgb(self.folder / name, picture)
                self.names[change.row] = name

    def _pixels(self, corrected: Corrected) -> NDArray[np.uint8]:
        """Return (H, W, 3) the image, assembled from its tiles."""
        if len(corrected.records) == 1:
            return self.project.pixels(corrected.records[0])
        whole = np.zeros((corrected.height, corrected.width, 3), dtype=np.uint8)
        for record in corrected.records:
            tile = self.project.prepared[record.image_id].tile
            assert tile is not None
            region = np.s_[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]
            whole[region] = self.project.pixels(record)
        return whole

    def _picture(
        self,
        change: Change,
        pixels: NDArray[np.uint8],
        before: NDArray[Any],
        after: NDArray[Any],
        mask: NDArray[np.bool_],
    ) -> NDArray[np.uint8]:
        outline = mask & ~binary_erosion(mask)
        what = f"mask {change.mask_id}" if change.mask_id else f"{change.pixels:,} pixels"
        panels = [(pixels, f"{change.image_id}  {what}")]
        for labels, name in ((before, f"before: {change.old}"), (after, f"after: {change.new}")):
            known = np.minimum(labels, self.project.classes.num_classes)
            painted = (1 - _OPACITY) * pixels + _OPACITY * self._colours[known]
            painted = np.where((known == self.project.classes.num_classes)[..., None], pixels * 0.4, painted)
            panels.append((painted.astype(np.uint8), name))
        drawn = []
        for panel, title in panels:
            shown = panel.copy()
            shown[outline] = (255, 255, 255)
            drawn.append(_titled(_sized(shown), title))
        gap = np.full((drawn[0].shape[0], 4, 3), 255, dtype=np.uint8)
        return np.concatenate([drawn[0], gap, drawn[1], gap, drawn[2]], axis=1)


def _roomy(box: tuple[int, int, int, int], shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Enlarge a box inside the image: the surroundings show what a region is."""
    top, left, bottom, right = box
    room = max(12, (bottom - top) // 2, (right - left) // 2)
    return max(0, top - room), max(0, left - room), min(shape[0], bottom + room), min(shape[1], right + room)


def _sized(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    longest = max(pixels.shape[:2])
    low, high = _SIDE
    if longest < low:
        times = -(-low // longest)
        return np.repeat(np.repeat(pixels, times, axis=0), times, axis=1)
    if longest > high:
        size = (max(1, pixels.shape[1] * high // longest), max(1, pixels.shape[0] * high // longest))
        return np.array(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
    return pixels


def _titled(pixels: NDArray[np.uint8], title: str) -> NDArray[np.uint8]:
    """Add a line of text above a picture."""
    picture = Image.new("RGB", (pixels.shape[1], pixels.shape[0] + _TITLE), (255, 255, 255))
    picture.paste(Image.fromarray(pixels), (0, _TITLE))
    ImageDraw.Draw(picture).text((3, 3), title, fill=(0, 0, 0), font=ImageFont.load_default(12))
    return np.array(picture)


@dataclass(frozen=True, kw_only=True)
class PairSummary:
    """Changes from one class to another, counted.

    Attributes:
        old: Class before.
        new: Class after.
        source: `manual` or `automatic`.
        changes: Number of changes.
        pixels: Pixels of all of them.
    """

    old: str
    new: str
    source: str
    changes: int
    pixels: int


def pair_summaries(changes: Sequence[Change], limit: int = _MOST_PAIRS) -> list[PairSummary]:
    """Count changes by old class, new class and source; return the most frequent ones first, at most `limit`."""
    counts: Counter[tuple[str, str, str]] = Counter()
    pixels: Counter[tuple[str, str, str]] = Counter()
    for change in changes:
        counts[change.old, change.new, change.source] += 1
        pixels[change.old, change.new, change.source] += change.pixels
    return [
        PairSummary(old=key[0], new=key[1], source=key[2], changes=count, pixels=pixels[key])
        for key, count in counts.most_common(limit)
    ]


def write_letter(
    folder: Path,
    project: Project,
    changes: Sequence[Change],
    crops: CropWriter,
    images: int,
    pixels: int,
    labels: str,
    edited: int = 0,
) -> None:
    """Write README.md and index.html, which explain the export to someone who has not seen the project.

    Args:
        folder: Folder of the export.
        project: Opened.
        changes: All changes.
        crops: The pictures that were written.
        images: Number of label maps in the export.
        pixels: Number of pixels that differ.
        labels: Location of the label maps in the export.
        edited: Number of pixels of classes that were merged into others.
    """
    masks = [change for change in changes if change.mask_id]
    manual = sum(change.source == "manual" for change in masks)
    facts = {
        "name": project.config.name,
        "images": images,
        "pixels": pixels,
        "masks": len(masks),
        "manual": manual,
        "automatic": len(masks) - manual,
        "pixel_level": sum(change.pixels for change in changes if not change.mask_id),
        "edited": edited,
        "edits": "; ".join(described(project.imported_classes, project.ledger.class_edits())) if edited else "",
    }
    readme = _template("README.md.jinja").render(
        facts, labels=labels, pairs=pair_summaries(changes), has_crops=bool(crops.names), left_out=crops.left_out
    )
    write_text(folder / "README.md", readme)
    shown = [(change, quote(crops.names[change.row])) for change in changes if change.row in crops.names]
    write_text(folder / "index.html", _template("index.html.jinja").render(facts, shown=shown))


def _template(name: str) -> Template:
    """Load a template of this package; only HTML is escaped."""
    environment = Environment(
        loader=PackageLoader("a2lc.export"),
        autoescape=name.endswith(".html.jinja"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["count"] = lambda value: f"{value:,}"
    environment.filters["cell"] = lambda text: text.replace("|", "\\|")
    return environment.get_template(name)
