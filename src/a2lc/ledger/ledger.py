"""The ledger of a project: one writer, and every write one transaction."""

from __future__ import annotations

from a2lc.classes.sentinels import VOID
from a2lc.ledger.class_edits import ClassEditRows
from a2lc.ledger.corrections import CorrectionLog
from a2lc.ledger.leases import LeaseRows
from a2lc.ledger.questions import QuestionRows
from a2lc.ledger.rounds import RoundRows

__all__ = ["Ledger"]

assert VOID == -1  # the schema's comment and its constraints depend on it


class Ledger(RoundRows, QuestionRows, LeaseRows, CorrectionLog, ClassEditRows):
    """Reads and writes of one ledger file, all tables over one connection.

    Any number of readers may look on while one writer works: SQLite in WAL mode. A write returns when it is on the disk.

    Args:
        path: The file, made or migrated as needed.

    Raises:
        NewerProjectError: A newer version of the package made it.
        LedgerError: The file is no ledger.
    """
