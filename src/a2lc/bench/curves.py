"""Curves of a benchmark: small multiples of both figures over clicks, queries and bits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from a2lc.bench.protocol import Protocol
from a2lc.bench.results import Points, curve_of
from a2lc.bench.runner import Outcome
from a2lc.files import atomic_path

__all__ = ["mean_curve", "write_curves"]

# Okabe and Ito's colours, which people with any colour vision tell apart; their yellow is too light for a line on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*", "d", "8")
_LINES = {"pseudo": "-", "nothing": (0, (5, 2)), "subset": (0, (1, 1.5))}
_STARTS = {"pseudo": "from pseudo labels", "nothing": "from nothing", "subset": "from a labelled subset"}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "a2lc",  # the same file for the same numbers
    "text.parse_math": False,  # a label may hold $
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
}


def mean_curve(curves: Sequence[Points]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean of curves of several seeds, point by point from the first; (n,) x, y and sample standard deviation of y.

    It ends where the shortest ends; the deviation is 0 for one curve.
    """
    shortest = min((len(points) for points in curves), default=0)
    if not shortest:
        return np.empty(0), np.empty(0), np.empty(0)
    both = np.array([points[:shortest] for points in curves], dtype=np.float64)
    spread = both[:, :, 1].std(axis=0, ddof=1) if len(both) > 1 else np.zeros(shortest)
    return both[:, :, 0].mean(axis=0), both[:, :, 1].mean(axis=0), spread


def write_curves(protocol: Protocol, outcomes: Sequence[Outcome], out: Path) -> list[Path]:
    """Draw curves.png and curves.svg.

    Args:
        protocol: What was to run.
        outcomes: What came of the runs.
        out: Folder they go to.
    """
    labels = list(dict.fromkeys(o.run.label for o in outcomes if o.found))
    entries = len(labels)
    with rc_context(_STYLE):
        figure = Figure(figsize=(13, 7.4 + 0.24 * (-(-entries // 5))), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(2, 3, sharex="col", sharey="row")
        for row, (name, title) in enumerate((("data_miou", "data mIoU"), ("model_miou", "model mIoU"))):
            for column, over in enumerate(("clicks", "queries", "bits")):
                at: Axes = axes[row, column]
                _panel(at, outcomes, labels, over, name)
                at.set_ylabel(title if column == 0 else "")
                at.set_xlabel(over if row == 1 else "")
        handles, names = axes[0, 0].get_legend_handles_labels()
        found = {o.run.label: o.run.start for o in outcomes if o.found}
        shown = [handle for _, handle in sorted(zip(names, handles, strict=True), key=lambda p: labels.index(p[0]))]
        figure.legend(
            shown,
            labels[: len(shown)] if len(shown) == len(labels) else sorted(names, key=labels.index),
            loc="outside lower center",
            ncols=min(5, max(1, len(shown))),
            frameon=False,
            handlelength=3.4,
        )
        lines = {"pseudo": "solid", "nothing": "dashed", "subset": "dotted"}
        starts = [f"{lines[s]} {_STARTS[s]}" for s in _LINES if s in found.values()]
        seeds = len({o.run.seed for o in outcomes if o.found})
        several = f"mean of {seeds} seeds, bands of one standard deviation" if seeds > 1 else "one seed"
        figure.suptitle(f"{protocol.name}: {several}; {', '.join(starts)}", fontsize=10)
        written = []
        for suffix in ("png", "svg"):
            path = out / f"curves.{suffix}"
            with atomic_path(path) as temporary:
                figure.savefig(temporary, format=suffix, dpi=140, metadata={"Date": None} if suffix == "svg" else None)
            written.append(path)
    return written


def _panel(axes: Axes, outcomes: Sequence[Outcome], labels: Sequence[str], over: str, figure: str) -> None:
    for index, label in enumerate(labels):
        own = [o for o in outcomes if o.found and o.run.label == label]
        offset = any(o.found and o.found["start_clicks"] for o in own)
        if offset and over != "clicks":
            continue  # what its labelled images cost is known in clicks alone
        curves = [points for o in own if (points := curve_of(o, over, figure))]
        x, y, spread = mean_curve(curves)
        colour = _COLOURS[index % len(_COLOURS)]
        axes.plot(
            x,
            y,
            color=colour,
            linestyle=_LINES[own[0].run.start],
            linewidth=1.6,
            marker=_MARKERS[index % len(_MARKERS)],
            markersize=5.5,
            markeredgecolor="white",
            markeredgewidth=0.6,
            label=label,
        )
        if spread.any():
            axes.fill_between(x, y - spread, y + spread, color=colour, alpha=0.15, linewidth=0)
    axes.grid(True)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
