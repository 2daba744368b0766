"""The ledger: the only state of a project that cannot be recomputed."""

from a2lc.classes.sentinels import FIRST, KEEP, VOID
from a2lc.ledger.layers import apply_layer, apply_to_labels
from a2lc.ledger.ledger import Ledger
from a2lc.ledger.records import BY_HAND, LayerRecord, RoundRecord, StageRecord
from a2lc.ledger.replay import CorrectionRows, MaskState, UndoRecord, replay
from a2lc.statistics.keys import mask_keys

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
