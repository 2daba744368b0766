"""Hand-over: write queries as files for Label Studio or CVAT, and read the annotations back as answers."""

from a2lc.handover.exchange import FORMATS, HandoverSummary, TakenSummary, hand_over, take_back

__all__ = ["FORMATS", "HandoverSummary", "TakenSummary", "hand_over", "take_back"]
