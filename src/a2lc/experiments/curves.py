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

from a2lc.experiments.execution import Outcome
from a2lc.experiments.points import Points, curve_of
from a2lc.experiments.protocol import Protocol
from a2lc.io.files import atomic_path

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
    paid = [o for o in outcomes if o.found and o.found["start_clicks"]]
    # Polygons of whole images are many times the clicks of a round: on one axis with them, all else would be a line.
    columns = ["clicks", *(["paid"] if paid else []), "queries", "bits"]
    with rc_context(_STYLE):
        size = (13, 7.2 + 0.22 * -(-len(labels) // 5))
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        widths = [0.55 if column == "paid" else 1.0 for column in columns]
        axes = figure.subplots(2, len(columns), sharex="col", sharey="row", width_ratios=widths)
        handles: dict[str, Any] = {}
        for row, (name, title) in enumerate((("data_miou", "data mIoU"), ("model_miou", "model mIoU"))):
            for at, over in zip(axes[row], columns, strict=True):
                handles |= _panel(at, outcomes, labels, over, name)
                at.set_ylabel(title if over == "clicks" else "")
                told = "clicks, labelled images included" if over == "paid" else over
                at.set_xlabel(told if row == 1 else "")
        figure.legend(
            [handles[label] for label in labels],
            labels,
            loc="outside lower center",
            ncols=min(5, len(labels)),
            frameon=False,
            handlelength=3.4,
        )
        found = {o.run.label: o.run.start for o in outcomes if o.found}
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


def _panel(axes: Axes, outcomes: Sequence[Outcome], labels: Sequence[str], over: str, figure: str) -> dict[str, Any]:
    """Draw the methods that belong into a panel; their lines by label."""
    drawn = {}
    for index, label in enumerate(labels):
        own = [o for o in outcomes if o.found and o.run.label == label]
        paid = any(o.found and o.found["start_clicks"] for o in own)
        if paid != (over == "paid"):
            continue  # what labelled images cost is known in clicks alone
        curves = [points for o in own if (points := curve_of(o, "clicks" if paid else over, figure))]
        x, y, spread = mean_curve(curves)
        colour = _COLOURS[index % len(_COLOURS)]
        again = index >= len(_COLOURS)
        (drawn[label],) = axes.plot(
            x,
            y,
            color=colour,
            linestyle=_LINES[own[0].run.start],
            linewidth=1.5,
            marker=_MARKERS[index % len(_MARKERS)],
            markersize=6,
            # A colour that comes a second time has hollow marks.
            markerfacecolor="white" if again else colour,
            markeredgecolor=colour if again else "white",
            markeredgewidth=1.2 if again else 0.6,
        )
        if spread.any():
            axes.fill_between(x, y - spread, y + spread, color=colour, alpha=0.15, linewidth=0)
    axes.grid(True)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=3 if over == "paid" else 6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    return drawn
