"""The ledger: the only state of a project that cannot be computed again."""

from a2lc.ledger.ledger import BY_HAND, LayerRecord, Ledger, RoundRecord, StageRecord
from a2lc.ledger.replay import (
    FIRST,
    KEEP,
    VOID,
    CorrectionRows,
    MaskState,
    UndoRecord,
    apply_layer,
    apply_to_labels,
    mask_keys,
    replay,
)

__all__ = [
    "BY_HAND",
    "FIRST",
    "KEEP",
    "VOID",
    "CorrectionRows",
    "LayerRecord",
    "Ledger",
    "MaskState",
    "RoundRecord",
    "StageRecord",
    "UndoRecord",
    "apply_layer",
    "apply_to_labels",
    "mask_keys",
    "replay",
]
