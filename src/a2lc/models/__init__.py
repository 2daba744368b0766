"""Segmentation models: functions that build them, by name (extra `train`)."""
