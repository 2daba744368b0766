"""Corrected labels + manifest, as files."""

from a2lc.export.write import ExportSummary, export_project
from a2lc.formats.writing import EXPORTS

__all__ = ["EXPORTS", "ExportSummary", "export_project"]
