"""Write the report: sections and figures in one self-contained HTML file."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from a2lc.io.files import write_text
from a2lc.project.project import Project
from a2lc.report.figures import change_pictures, class_chart, curve_chart, quality_chart
from a2lc.report.sections import Report, collect
from a2lc.report.sections.quality import Span

__all__ = ["render", "write_report"]

NONE = "–"
"""Shown instead of a missing figure."""


def write_report(project: Project, path: Path, *, through: int | None = None) -> Path:
    """Write the report of a project as one self-contained HTML file, atomically.

    The page needs no network and no script. A project in which nothing has run has a report too.

    Args:
        project: Opened; nothing in it is changed.
        path: The file to write; an existing report is replaced.
        through: The last round to report on; None for all rounds.

    Returns:
        `path`.
    """
    path = Path(path)
    write_text(path, render(project, collect(project, through)))
    return path


def render(project: Project, report: Report, written: datetime | None = None) -> str:
    """Return the page as text.

    Args:
        project: Opened; pixels of the shown masks are read from it.
        report: The sections.
        written: Time in the page's footer; now by default.
    """
    template, css = _template()
    bars, bars_left_out = class_chart(report.classes)
    curves = curve_chart(report.curves)
    quality = None if report.quality is None else quality_chart(report.quality)
    written = written or datetime.now(UTC)
    return template.render(
        css=css,
        r=report,
        name=report.facts.name,
        curve_svg=None if curves is None else Markup(curves),
        quality_svg=None if quality is None else Markup(quality),
        class_svg=None if bars is None else Markup(bars),
        classes_left_out=bars_left_out,
        colours={row.index: row.colour for row in report.classes},
        pictures=[(change, change_pictures(project, change, report.facts.now)) for change in report.changes],
        written=written.strftime("%Y-%m-%d %H:%M UTC"),
    )


@cache
def _template() -> tuple[Template, Markup]:
    """Return the template of the page and its style sheet."""
    folder = resources.files("a2lc.report") / "templates"
    # Names of classes, images and projects are anyone's: all text is escaped but the charts, which escape their own.
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "unit": unit,
        "signed": signed,
        "count": count,
        "short": short,
        "share": share,
        "seconds": seconds,
        "span": span,
        "ends": ends,
        "points": points,
        "whole": whole,
    }
    template = environment.from_string((folder / "report.html").read_text(encoding="utf-8"))
    return template, Markup((folder / "report.css").read_text(encoding="utf-8"))


# ---- numbers as text --------------------------------------------------------------------------------------------


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def unit(value: float | None) -> str:
    """Format a figure of 0..1 with three digits.

    Example:
        >>> unit(0.67142), unit(None), unit(float("nan"))
        ('0.671', '–', '–')
    """
    return NONE if value is None or _missing(value) else f"{value:.3f}"


def signed(value: float | None) -> str:
    """Format a difference of such figures with its sign.

    Example:
        >>> signed(0.0804), signed(-0.1), signed(0.0)
        ('+0.080', '−0.100', '0.000')
    """
    if value is None or _missing(value):
        return NONE
    text = f"{abs(value):.3f}"
    return text if text == "0.000" else ("+" if value > 0 else "−") + text


def count(value: float | None) -> str:
    """Format a count.

    Example:
        >>> count(18101), count(2.5), count(None)
        ('18,101', '2.5', '–')
    """
    if value is None or _missing(value):
        return NONE
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def short(value: int) -> str:
    """Format a whole number in at most four characters, for narrow cells.

    Example:
        >>> short(999), short(1234), short(18101), short(2_345_678), short(999_999)
        ('999', '1.2k', '18k', '2.3M', '1M')
    """
    for unit_size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if value >= unit_size * 0.9995:
            scaled = value / unit_size
            return (f"{scaled:.1f}".removesuffix(".0") if scaled < 9.95 else f"{scaled:.0f}") + letter
    return str(value)


def share(value: float | None, of: float | None = None) -> str:
    """Format a share in per cent, or a part of a whole.

    Example:
        >>> share(0.0607), share(1, 8), share(1, 0)
        ('6.1 %', '12.5 %', '–')
    """
    if of is not None:
        value = None if value is None or not of else value / of
    return NONE if value is None or _missing(value) else f"{100 * value:.1f} %"


def seconds(value: float | None) -> str:
    """Format a duration in seconds, with one decimal below ten.

    Example:
        >>> seconds(41.498), seconds(0.54), seconds(0.004), seconds(None)
        ('41', '0.5', '< 0.1', '–')
    """
    if value is None or _missing(value):
        return NONE
    if 0 < value < 0.05:
        return "< 0.1"
    return f"{value:.1f}" if value < 9.95 else f"{value:,.0f}"


def whole(value: float | None) -> str:
    """Format an estimated count, rounded.

    Example:
        >>> whole(5110.55), whole(float("nan"))
        ('5,111', '–')
    """
    return NONE if value is None or _missing(value) else count(round(value))


def points(value: float | None) -> str:
    """Format percentage points.

    Example:
        >>> points(0.7107), points(None)
        ('0.71', '–')
    """
    return NONE if value is None or _missing(value) else f"{value:,.2f}"


_KINDS = {"unit": unit, "whole": whole, "points": points}


def ends(value: Span, kind: str = "unit") -> str:
    """Format the interval of a figure; "" if it has no width or no end.

    Example:
        >>> ends(Span(low=0.5, estimate=0.7, high=1.0)), ends(Span(low=1.0, estimate=1.0, high=1.0))
        ('0.500 to 1.000', '')
    """
    if value.low is None or value.high is None or value.low == value.high or not math.isfinite(value.high - value.low):
        return ""
    return f"{_KINDS[kind](value.low)} to {_KINDS[kind](value.high)}"


def span(value: Span, kind: str = "unit") -> str:
    """Format an estimate with its interval, as far as they exist.

    Example:
        >>> span(Span(low=0.5, estimate=0.7, high=1.0)), span(Span(low=2.2, estimate=None, high=9), "whole")
        ('0.700 (0.500 to 1.000)', '2 to 9')
        >>> span(Span(low=1.0, estimate=1.0, high=1.0)), span(Span(low=None, estimate=None, high=None))
        ('1.000', '–')
    """
    middle, sides = _KINDS[kind](value.estimate), ends(value, kind)
    if middle == NONE:
        return sides or NONE
    return f"{middle} ({sides})" if sides else middle
