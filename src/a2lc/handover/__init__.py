"""Questions handed to Label Studio or CVAT as files, and taken back as answers."""

from a2lc.handover.exchange import FORMATS, HandoverSummary, TakenSummary, hand_over, take_back

__all__ = ["FORMATS", "HandoverSummary", "TakenSummary", "hand_over", "take_back"]
