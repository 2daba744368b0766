"""Draw charts and pictures of the report: arrays in, SVG or data URIs out, without a display or the state of pyplot."""

from __future__ import annotations

import base64
import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from unicodedata import east_asian_width

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image

from a2lc.errors import A2LCError
from a2lc.ledger.replay import MaskState
from a2lc.project.project import Project
from a2lc.report.sections.changes import ShownChange
from a2lc.report.sections.classes import VOID_COLOUR, ClassRow
from a2lc.report.sections.curves import Curves
from a2lc.report.sections.quality import QualitySection

__all__ = [
    "MAX_SIDE",
    "ChangePictures",
    "change_pictures",
    "class_chart",
    "crop_box",
    "curve_chart",
    "outline",
    "quality_chart",
]

MAX_SIDE = 240
"""Longer side of a picture, in pixels."""

MAX_BARS = 60
"""Maximum classes of a chart; if there are more, those that changed most are shown."""

# Colours that no chart uses: each is replaced by a CSS variable, so that one drawing serves light, dark and print.
_INK, _RULE, _FIRST, _SECOND, _MUTED = "#010101", "#020202", "#030303", "#040404", "#050505"
_VARIABLES = {_INK: "--ink", _RULE: "--rule", _FIRST: "--first", _SECOND: "--second", _MUTED: "--muted"}

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: smaller, searchable, in the page's font
    "text.parse_math": False,  # a class may be called $x$
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _INK,
    "axes.edgecolor": _RULE,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": _RULE,
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
}


_NARROW, _WIDE = 0.09, 0.15
"""Upper limit of the mean width of a letter at ten points, in inches."""


def _svg(figure: Figure, name: str) -> str:
    """Return a figure as SVG for HTML: without prologue and metadata, and with ids of its own."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # The page's fonts draw the text; what matplotlib's own lack does not matter.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, count=1, flags=re.DOTALL)
    # In HTML the namespaces are implied, and the size is the style sheet's.
    head, body = text.split(">", 1)
    head = re.sub(r'\s(xmlns(:\w+)?|width|height|version)="[^"]*"', "", head)
    width = figure.get_figwidth() * 96
    head += f' style="max-width: {width:.0f}px" aria-hidden="true"'
    # Within tags alone: a class may be called anything.
    body = re.sub(r"<[^>]*>", lambda tag: _retouch(tag.group(), name), body)
    return f"{head}>{body}".strip()


def _retouch(tag: str, name: str) -> str:
    """Rewrite a tag with ids that are unique on the page, and with the colours of the page's variables."""
    tag = re.sub(r'(\sid="|xlink:href="#|url\(#)', rf"\g<1>{name}-", tag)
    for colour, variable in _VARIABLES.items():
        tag = tag.replace(colour, f"var({variable})")
    return tag


def _axes(width: float, height: float, left: float, top: float = 0.1) -> tuple[Figure, Axes]:
    """Create a figure with one pair of axes, sizes and margins in inches.

    Margins are fixed: matplotlib would measure text in a font that the page does not draw it in.
    """
    figure = Figure(figsize=(width, height))
    figure.patch.set_alpha(0)
    bottom = 0.5
    axes = figure.add_axes((left / width, bottom / height, 1 - (left + 0.25) / width, 1 - (bottom + top) / height))
    axes.patch.set_alpha(0)
    axes.tick_params(length=0)
    return figure, axes


def curve_chart(curves: Curves) -> str | None:
    """Draw data and model mIoU against clicks, as SVG; None if nothing was measured.

    Args:
        curves: Section 2.
    """
    lines = [
        ("data mIoU", *curves.points("data_miou"), _FIRST, "o", "-"),
        ("model mIoU", *curves.points("model_miou"), _SECOND, "s", "--"),
    ]
    if not any(x for _, x, *_ in lines):
        return None
    with rc_context({**_STYLE, "svg.hashsalt": "curves"}):
        figure, axes = _axes(8.0, 3.6, left=0.7)
        highest = max(x for _, clicks, *_ in lines for x in clicks)
        for label, clicks, values, colour, marker, dash in lines:
            if clicks:
                axes.plot(clicks, values, color=colour, marker=marker, linestyle=dash, linewidth=2, markersize=6)
                # A name at the line's end is read without a legend, and without telling colours apart.
                end = (clicks[-1], values[-1])
                axes.annotate(label, end, xytext=(9, 0), textcoords="offset points", va="center", color=colour)
        values = [value for _, _, found, *_ in lines for value in found]
        margin = max(0.03, 0.12 * (max(values) - min(values)))
        axes.set_ylim(max(0.0, min(values) - margin), min(1.0, max(values) + margin))
        # Room at the right for the names.
        axes.set_xlim(-0.02 * max(highest, 1), max(highest, 1) * 1.2)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.set_xlabel("clicks")
        axes.set_ylabel("mIoU, 0 to 1")
        axes.grid(axis="y")
        return _svg(figure, "curves")


def quality_chart(quality: QualitySection) -> str | None:
    """Draw pixel accuracy and mean IoU by round, with intervals and true figures, as SVG; None if all are undefined.

    Args:
        quality: The section on how good the labels are.
    """
    rows = [quality.first, *quality.rounds]
    panels = [
        (title, [(row.round, span) for row, span in zip(rows, spans, strict=True) if span.low is not None])
        for title, spans in (
            ("pixel accuracy", [row.pixel_accuracy for row in rows]),
            ("mean IoU", [row.miou for row in rows]),
        )
    ]
    lows = [span.low for _, found in panels for _, span in found if span.low is not None]
    if not lows:
        return None
    with rc_context({**_STYLE, "svg.hashsalt": "quality"}):
        width, height, left = 8.0, 3.4, 0.7
        figure, _ = _axes(width, height, left=left, top=0.65)
        figure.clear()
        wide = (width - 2 * left - 0.35) / 2
        for place, (title, found) in enumerate(panels):
            axes = figure.add_axes(
                ((left + place * (wide + left)) / width, 0.5 / height, wide / width, 1 - 1.15 / height)
            )
            axes.patch.set_alpha(0)
            axes.tick_params(length=0)
            ends = [(number, span.low, span.high) for number, span in found]
            if ends:
                axes.vlines(*zip(*ends, strict=True), color=_FIRST, linewidth=2)
            known = [(number, span.estimate) for number, span in found if span.estimate is not None]
            if known:
                axes.plot(
                    *zip(*known, strict=True), color=_FIRST, marker="o", linewidth=2, markersize=6, label="estimate"
                )
            true = [(number, span.true) for number, span in found if span.true is not None and np.isfinite(span.true)]
            if true:
                axes.plot(
                    *zip(*true, strict=True),
                    color=_SECOND,
                    marker="s",
                    linestyle="--",
                    linewidth=2,
                    markersize=5,
                    label="true",
                )
            axes.set_title(title, loc="left", fontsize=10)
            axes.set_ylim(max(0.0, min(lows) - 0.05), 1.01)
            axes.set_xlim(-0.3, rows[-1].round + 0.3)
            axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
            axes.set_xlabel("round")
            axes.grid(axis="y")
        handles, labels = figure.axes[0].get_legend_handles_labels()
        if handles:
            figure.legend(handles, labels, loc="upper right", ncols=2, frameon=False, handlelength=1.8, borderaxespad=0)
        return _svg(figure, "quality")


def class_chart(rows: Sequence[ClassRow]) -> tuple[str | None, int]:
    """Draw the IoU of each class before and after, or its pixels without ground truth, as horizontal bars.

    Args:
        rows: Section 3.

    Returns:
        SVG, None where there is nothing to draw, and how many classes it leaves out.
    """
    measured = [row for row in rows if row.iou_before is not None]
    if measured:
        pairs = [(row.name, float(row.iou_before or 0.0), float(row.iou_after or 0.0)) for row in measured]
        label = "IoU, 0 to 1"
    else:
        total = max(sum(row.pixels_before for row in rows), 1)
        pairs = [(row.name, row.pixels_before / total, row.pixels_after / total) for row in rows]
        label = "share of the pixels in masks"
    pairs = [pair for pair in pairs if np.isfinite(pair[1]) or np.isfinite(pair[2])]
    if not pairs:
        return None, 0
    left_out = max(0, len(pairs) - MAX_BARS)
    if left_out:
        moved = np.array([abs(np.nan_to_num(after) - np.nan_to_num(before)) for _, before, after in pairs])
        chosen = set(np.argsort(-moved, kind="stable")[:MAX_BARS].tolist())
        pairs = [pair for place, pair in enumerate(pairs) if place in chosen]
    names = [_short(name) for name, _, _ in pairs]
    before, after = (np.nan_to_num(np.array([pair[place] for pair in pairs])) for place in (1, 2))
    with rc_context({**_STYLE, "svg.hashsalt": "classes"}):
        widest = max(sum(_WIDE if east_asian_width(c) in "WF" else _NARROW for c in name) for name in names)
        figure, axes = _axes(8.0, 0.9 + 0.36 * len(pairs), left=0.2 + widest, top=0.4)
        place = np.arange(len(pairs))
        axes.barh(place - 0.19, before, height=0.34, color=_MUTED, label="before")
        axes.barh(place + 0.19, after, height=0.34, color=_FIRST, label="after")
        axes.set_yticks(place, names)
        axes.set_ylim(len(pairs) - 0.4, -0.6)  # the first class on top
        axes.set_xlim(0, 1 if measured else None)
        axes.set_xlabel(label)
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        figure.legend(loc="upper right", ncols=2, frameon=False, handlelength=1.2, borderaxespad=0)
        return _svg(figure, "classes"), left_out


def _short(name: str, limit: int = 28) -> str:
    # Control characters, which XML does not have, would end the drawing.
    clean = "".join(c if c.isprintable() else " " for c in name)
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


# ---- pictures of changes ----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ChangePictures:
    """Three pictures of a changed mask as data URIs, or the reason why there are none.

    Attributes:
        image: The image, the mask outlined.
        before: First labels in class colours.
        after: Labels now.
        width: Of each, pixels.
        height: The same.
        image_missing: Why there is no image, empty where there is one.
        labels_missing: Why there are no labels, empty where there are.
    """

    image: str = ""
    before: str = ""
    after: str = ""
    width: int = 0
    height: int = 0
    image_missing: str = ""
    labels_missing: str = ""


def change_pictures(project: Project, change: ShownChange, state: MaskState) -> ChangePictures:
    """Draw a changed mask; missing or damaged files are named instead of a picture.

    Args:
        project: Opened.
        change: The mask.
        state: Of all masks.
    """
    record = next(image for image in project.images if image.index == change.image)
    try:
        mask_map = project.mask_map(record)
        first, now = project.first_labels(record), project.corrected_labels(record, state)
        inside = mask_map == change.mask_id
        if first.shape != mask_map.shape or not inside.any():
            return ChangePictures(labels_missing="Labels and masks in the project folder do not match.")
    except (A2LCError, OSError) as error:
        return ChangePictures(labels_missing=str(error))
    box = crop_box(inside)
    width, height = _scaled(box)
    edge = outline(_resize(inside[box].astype(np.uint8), width, height, Image.Resampling.NEAREST) > 0)
    before, after = (_label_picture(project, labels[box], edge, width, height) for labels in (first, now))
    image, missing = "", ""
    try:
        pixels = project.pixels(record)
        if pixels.shape[:2] != mask_map.shape:
            missing = f"Image {record.image_id} is {pixels.shape[1]} x {pixels.shape[0]} now; " + (
                f"it was imported with {record.width} x {record.height}."
            )
        else:
            image = _image_picture(pixels[box], edge, width, height)
    except (A2LCError, OSError) as error:
        missing = str(error)
    return ChangePictures(image=image, before=before, after=after, width=width, height=height, image_missing=missing)


def crop_box(inside: NDArray[np.bool_], context: float = 0.35, least: int = 48) -> tuple[slice, slice]:
    """Choose rows and columns around a mask, with context on every side.

    Args:
        inside: (H, W) True in the mask, which has a pixel.
        context: What is added on each side, by the mask's longer side.
        least: Smallest side, where the image is large enough: a mask of a few pixels says nothing alone.

    Returns:
        Slices of rows and columns.

    Example:
        >>> inside = np.zeros((100, 300), dtype=bool)
        >>> inside[40:60, 100:200] = True
        >>> crop_box(inside)
        (slice(5, 95, None), slice(65, 235, None))
    """
    sides = []
    ranges = [np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0)]
    longer = max(int(found[-1] - found[0] + 1) for found in ranges)
    for found, size in zip(ranges, inside.shape, strict=True):
        margin = round(context * longer)
        low, high = int(found[0]) - margin, int(found[-1]) + 1 + margin
        short = max(0, least - (high - low))
        low, high = low - short // 2, high + short - short // 2
        sides.append(slice(max(low, 0), min(high, size)))
    return sides[0], sides[1]


def _scaled(box: tuple[slice, slice]) -> tuple[int, int]:
    """Return width and height of a crop whose longer side becomes MAX_SIDE."""
    height, width = (side.stop - side.start for side in box)
    scale = MAX_SIDE / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def outline(inside: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Find the edge of a mask, a pixel wide inside it, and the pixels around it outside.

    Args:
        inside: (H, W) True in the mask.

    Returns:
        (H, W) inner and outer edge. Where the mask leaves the crop there is none.

    Example:
        >>> inner, outer = outline(np.array([[False, True, True, True, False]]))
        >>> inner.astype(int), outer.astype(int)
        (array([[0, 1, 0, 1, 0]]), array([[1, 0, 0, 0, 1]]))
    """
    padded = np.pad(inside, 1, mode="edge")
    windows = [padded[1:-1, 1:-1], padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]]
    every, some = np.logical_and.reduce(windows), np.logical_or.reduce(windows)
    return inside & ~every, some & ~inside


def _resize(pixels: NDArray[np.uint8], width: int, height: int, how: Image.Resampling) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize((width, height), how))


def _draw_edge(pixels: NDArray[np.uint8], edge: tuple[NDArray[np.bool_], NDArray[np.bool_]]) -> NDArray[np.uint8]:
    """Draw an outline, white inside and black outside, so that one of them is visible on any picture."""
    drawn = pixels.copy()
    drawn[edge[0]] = 255
    drawn[edge[1]] = 0
    return drawn


def _image_picture(pixels: NDArray[np.uint8], edge: tuple[Any, Any], width: int, height: int) -> str:
    drawn = _draw_edge(_resize(pixels, width, height, Image.Resampling.LANCZOS), edge)
    return _data_uri(Image.fromarray(drawn), "jpeg", quality=85)


def _label_picture(project: Project, labels: NDArray[Any], edge: tuple[Any, Any], width: int, height: int) -> str:
    """Encode (h, w) class indices in class colours as PNG."""
    table = project.classes
    colours = np.zeros((table.ignore_index + 1, 3), dtype=np.uint8)
    colours[: table.num_classes] = table.colours
    colours[table.ignore_index] = VOID_COLOUR
    drawn = _draw_edge(_resize(colours[labels], width, height, Image.Resampling.NEAREST), edge)
    return _data_uri(Image.fromarray(drawn), "png")


def _data_uri(picture: Image.Image, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format=kind.upper(), **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
