"""What changed, for people: a table, and pictures of each change before and after, to send to the owner of a data set."""

from __future__ import annotations

import csv
import html
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_erosion, find_objects

from a2lc.classes.edits import described
from a2lc.export.corrected import PROVENANCE, Replay
from a2lc.formats.writing import Corrected
from a2lc.images.rgb import write_rgb
from a2lc.io.files import write_text
from a2lc.ledger import FIRST, VOID
from a2lc.project.project import Project

__all__ = ["MOST_CROPS", "Change", "CropWriter", "changes_of", "pixel_changes", "write_changes", "write_letter"]

MOST_CROPS = 2000
"""Pictures a pack holds at most; the largest changes have them."""

_SIDE = (192, 480)
"""Longer side of a panel: small regions are enlarged to the first, large ones shrunk to the second."""

_OPACITY = 0.6
_TITLE = 20


@dataclass(frozen=True, kw_only=True)
class Change:
    """A mask that carries another class than it came with, or pixels of an image that do.

    Attributes:
        row: Of the mask table; negative for pixels.
        image: Position of the image in the project.
        image_id: Its name.
        mask_id: The mask; 0 for pixels that a layer of labels below the mask changes.
        pixels: Its area, or how many such pixels.
        old: Class it came with, the most frequent one; `void` for none.
        new: Class it carries.
        source: `manual` or `automatic`.
        round: In which it was changed.
        confidence: Of an automatic change.
        annotator: Of one by hand.
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


def changes_of(project: Project, replay: Replay) -> list[Change]:
    """Every mask that carries another class than it came with, in the order of masks."""
    masks, state = project.masks, replay.state
    mixed = np.bincount(masks.pair_row, minlength=len(masks)) > 1
    changed = np.flatnonzero((state.classes != FIRST) & ((state.classes != masks.label) | mixed))
    winners = replay.rows.ids[replay.decider[changed]]
    wanted = set(winners.tolist())
    details = {row.id: row for row in project.ledger.correction_details() if row.id in wanted}
    kinds = {value: name for name, value in PROVENANCE.items()}

    def name(value: int) -> str:
        return "void" if value == VOID else project.classes.names[value]

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
        )
        for mask, winner in zip(changed.tolist(), winners.tolist(), strict=True)
    ]


def write_changes(path: Path, changes: Iterable[Change], crops: dict[int, str] | None = None) -> None:
    """Write a line for each change, as CSV; with crops, where the picture of each lies."""
    columns = ["image_id", "mask_id", "pixels", "old_class", "new_class", "source", "round", "confidence", "annotator"]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*columns, *(["crop"] if crops is not None else [])])
        for one in changes:
            confidence = "" if one.confidence is None else f"{one.confidence:.6g}"
            line = [one.image_id, one.mask_id or "", one.pixels, one.old, one.new, one.source, one.round, confidence]
            writer.writerow([*line, one.annotator, *([crops.get(one.row, "")] if crops is not None else [])])


def pixel_changes(
    project: Project,
    replay: Replay,
    corrected: Corrected,
    before: NDArray[Any],
    changed: Mapping[int, Sequence[int]],
    first_row: int,
) -> list[tuple[Change, NDArray[np.bool_]]]:
    """What a layer of labels below the mask changes in an image, by pairs of classes.

    Args:
        project: Opened.
        replay: With the layer.
        corrected: The image, with its labels after.
        before: (H, W) class indices or the ignore index as imported.
        changed: Masks that changed as a whole, by image.
        first_row: Number of the first of them; later ones are lower.

    Returns:
        Each with its (H, W) pixels; none without a layer.
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
    pairs, place, pixels = np.unique(code, return_inverse=True, return_counts=True)
    where = np.full(rest.shape, -1, dtype=np.int32)
    where[rest] = place
    names = [*project.classes.names, "void"]
    kinds = {value: name for name, value in PROVENANCE.items()}
    found = []
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
        found.append((change, mask))
    return found


class CropWriter:
    """Writes a picture of each change: the image, and its labels before and after beside each other."""

    def __init__(self, project: Project, changes: Sequence[Change], folder: Path, most: int = MOST_CROPS) -> None:
        """Choose the changes that get a picture: the largest.

        Args:
            project: Opened.
            changes: All of them.
            folder: Of the export; pictures go to `crops/` in it.
            most: How many.
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
            corrected: With the labels after.
            before: (H, W) class indices or the ignore index as imported.
            pixelwise: What a layer changes in it.
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
        """(H, W, 3) the image, put together of its tiles."""
        if len(corrected.records) == 1:
            return self.project.pixels(corrected.records[0])
        whole = np.zeros((corrected.height, corrected.width, 3), dtype=np.uint8)
        for record in corrected.records:
            tile = self.project.prepared[record.image_id].tile
            assert tile is not None
            place = np.s_[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]
            whole[place] = self.project.pixels(record)
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
    """A box with room around it, inside the image: what a region is shows by what lies beside it."""
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
    """A picture with a line of text over it."""
    picture = Image.new("RGB", (pixels.shape[1], pixels.shape[0] + _TITLE), (255, 255, 255))
    picture.paste(Image.fromarray(pixels), (0, _TITLE))
    ImageDraw.Draw(picture).text((3, 3), title, fill=(0, 0, 0), font=ImageFont.load_default(12))
    return np.array(picture)


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
    """Write README.md and index.html: what the pack holds, for someone who has not seen the project.

    Args:
        folder: Of the export.
        project: Opened.
        changes: All of them.
        crops: The pictures that were written.
        images: Label maps in the pack.
        pixels: Pixels that differ.
        labels: Where the label maps lie in the pack.
        edited: Pixels of classes that were merged into others.
    """
    pairs = Counter((change.old, change.new, change.source) for change in changes)
    areas: Counter[tuple[str, str, str]] = Counter()
    for change in changes:
        areas[change.old, change.new, change.source] += change.pixels
    masks = [change for change in changes if change.mask_id]
    hands = sum(change.source == "manual" for change in masks)
    below = sum(change.pixels for change in changes if not change.mask_id)
    said = [
        f"{len(masks):,} masks in {images:,} images carry another class than they came with; {pixels:,} pixels of label "
        f"files differ. {hands:,} of the masks were changed by hand, {len(masks) - hands:,} by the method."
    ]
    if below:
        said.append(f"{below:,} pixels carry labels below the mask: one by one, whatever mask they lie in.")
    if edited:
        edits = "; ".join(described(project.imported_classes, project.ledger.class_edits()))
        said.append(f"{edited:,} pixels have another value because classes were edited: {edits}.")
    lines = [
        f"# Corrected labels of {project.config.name}",
        "",
        " ".join(said),
        "",
        f"- `{labels}`: the corrected labels of those images alone. All other pixels have the values they came with.",
        "- `changes.csv`: a line for each mask: image, mask, pixels, classes before and after, who or what changed it; and, "
        "without a mask, one for pixels of an image that changed one by one, for each pair of classes.",
        *(
            [
                "- `crops/`: a picture of each: the image, the labels before, the labels after; `index.html` shows them all."
            ]
            if crops.names
            else []
        ),
        "- `provenance/`: for each image, 0 where labels are as they came, 1 changed by hand, 2 changed by the method, 3 of a "
        "class that was merged into another.",
        "- `manifest.json`: SHA-256 of each image, versions, and what is known of the labels' quality.",
        "",
        "| before | after | source | masks | pixels |",
        "|---|---|---|---:|---:|",
    ]
    for (old, new, source), count in pairs.most_common(100):
        cells = " | ".join(text.replace("|", "\\|") for text in (old, new, source))
        lines.append(f"| {cells} | {count:,} | {areas[old, new, source]:,} |")
    if crops.left_out:
        lines += ["", f"The {crops.left_out:,} smallest changes have no picture."]
    write_text(folder / "README.md", "\n".join(lines) + "\n")
    figures = []
    for change in changes:
        if change.row in crops.names:
            what = f"mask {change.mask_id}" if change.mask_id else f"{change.pixels:,} pixels"
            place = quote(crops.names[change.row])
            text = html.escape(f"{change.image_id}, {what}: {change.old} → {change.new} ({change.source})")
            figures.append(
                f'<figure><img loading="lazy" src="{place}" alt="{text}"><figcaption>{text}</figcaption></figure>'
            )
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Changes of {html.escape(project.config.name)}</title>"
        "<style>body{font:15px/1.4 system-ui,sans-serif;margin:1.5rem;background:#fff;color:#111}"
        "main{display:grid;gap:1rem;grid-template-columns:repeat(auto-fill,minmax(min(100%,38rem),1fr))}"
        "figure{margin:0;border:1px solid #ccc;padding:.5rem}img{max-width:100%;image-rendering:pixelated}"
        "@media(prefers-color-scheme:dark){body{background:#111;color:#eee}figure{border-color:#444}}</style>"
        f"<h1>Changes of {html.escape(project.config.name)}</h1>"
        f"<p>{html.escape(' '.join(said))}</p><main>{''.join(figures)}</main></html>\n"
    )
    write_text(folder / "index.html", page)
