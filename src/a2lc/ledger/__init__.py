"""The ledger: the only state of a project that cannot be computed again."""

from a2lc.ledger.ledger import Ledger, RoundRecord, StageRecord
from a2lc.ledger.replay import FIRST, VOID, CorrectionRows, MaskState, UndoRecord, apply_to_labels, mask_keys, replay

__all__ = [
    "FIRST",
    "VOID",
    "CorrectionRows",
    "Ledger",
    "MaskState",
    "RoundRecord",
    "StageRecord",
    "UndoRecord",
    "apply_to_labels",
    "mask_keys",
    "replay",
]
