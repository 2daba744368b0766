"""Corrected labels + manifest, as files."""

from a2lc.export.write import EXPORTS, ExportSummary, export_project

__all__ = ["EXPORTS", "ExportSummary", "export_project"]
