"""The doctor: find what is wrong with the files of a data set, and which options fix it."""

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
