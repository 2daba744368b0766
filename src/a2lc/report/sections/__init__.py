"""Compute the sections of the report, one module each. They hold figures; `a2lc.report.page` words and draws them."""

from __future__ import annotations

from dataclasses import dataclass

from a2lc.project.project import Project
from a2lc.report.facts import Facts, load_facts
from a2lc.report.sections.annotations import LogSection, annotation_log
from a2lc.report.sections.automatic import AutomaticSection, automatic
from a2lc.report.sections.changes import ShownChange, largest_changes
from a2lc.report.sections.classes import ClassRow, class_rows
from a2lc.report.sections.configuration import ConfigSection, configuration
from a2lc.report.sections.curves import Curves, curves
from a2lc.report.sections.headline import Headline, headline
from a2lc.report.sections.quality import QualitySection, label_quality_section
from a2lc.report.sections.transitions import MatrixSection, matrix

__all__ = ["Report", "collect"]


@dataclass(frozen=True, kw_only=True)
class Report:
    """All sections of a report."""

    facts: Facts
    headline: Headline
    curves: Curves
    quality: QualitySection | None
    classes: list[ClassRow]
    matrix: MatrixSection
    automatic: AutomaticSection
    changes: list[ShownChange]
    log: LogSection
    configuration: ConfigSection


def collect(project: Project, through: int | None = None) -> Report:
    """Compute the data of all sections.

    Args:
        project: Opened, in any state.
        through: The last round to report on; None for all rounds.
    """
    facts = load_facts(project, through)
    return Report(
        facts=facts,
        headline=headline(facts),
        curves=curves(facts),
        quality=label_quality_section(facts),
        classes=class_rows(facts),
        matrix=matrix(facts),
        automatic=automatic(facts),
        changes=largest_changes(facts),
        log=annotation_log(facts),
        configuration=configuration(facts),
    )
