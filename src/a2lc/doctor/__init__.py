"""Check the files of a data set or a project, and name what fixes each problem."""

from a2lc.doctor.diagnosis import Diagnosis, Finding, ValueCount
from a2lc.doctor.examination import examine
from a2lc.doctor.layout import Layout, find_layout, unknown_annotations, with_images
from a2lc.doctor.project import examine_project
from a2lc.doctor.remedies import Remedy

__all__ = [
    "Diagnosis",
    "Finding",
    "Layout",
    "Remedy",
    "ValueCount",
    "examine",
    "examine_project",
    "find_layout",
    "unknown_annotations",
    "with_images",
]
