"""Export corrected labels with a manifest and a summary of the changes."""

from a2lc.export.write import ExportSummary, export_project
from a2lc.formats.registry import EXPORTS

__all__ = ["EXPORTS", "ExportSummary", "export_project"]
