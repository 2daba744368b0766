"""Hand questions to Label Studio or CVAT as files, and take the exported annotations back as answers."""

from a2lc.handover.exchange import FORMATS, HandoverSummary, TakenSummary, hand_over, take_back

__all__ = ["FORMATS", "HandoverSummary", "TakenSummary", "hand_over", "take_back"]
