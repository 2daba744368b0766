"""The report: one self-contained HTML file on a project, from the ledger and metrics, never from logs."""

from a2lc.report.page import write_report

__all__ = ["write_report"]
