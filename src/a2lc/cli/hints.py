"""Name the options that set what an error is about: the core knows settings, the command line knows flags."""

from __future__ import annotations

import re

__all__ = ["FLAGS", "with_flags"]

FLAGS = {
    "accept_license": "--accept-license",
    "annotator": "--annotator",
    "backbone": "--backbone",
    "bands": "--bands",
    "batch": "--batch",
    "box_threshold": "--box-threshold",
    "budget": "--budget",
    "classes": "--classes",
    "colours": "--colours",
    "count": "--count",
    "cover": "--cover",
    "cover_count": "--cover-count",
    "data": "--data",
    "detector": "--detector",
    "device": "--device",
    "download": "--download",
    "exif": "--exif",
    "format": "--format",
    "from": "--from",
    "ground_truth": "--ground-truth",
    "id": "--id",
    "ignore": "--ignore",
    "images": "--images",
    "into": "--into",
    "labels": "--labels",
    "longest": "--longest",
    "masks": "--masks",
    "max_pixels": "--max-pixels",
    "method": "--method",
    "min_iou": "--min-iou",
    "min_stability": "--min-stability",
    "nms": "--nms",
    "one_class_per_prompt": "--one-class-per-prompt",
    "out": "--out",
    "partial": "--partial",
    "partial_truth": "--partial-ground-truth",
    "points": "--points",
    "port": "--port",
    "preset": "--preset",
    "preview": "--preview",
    "probabilities": "--probabilities",
    "replace": "--replace",
    "rounds": "--rounds",
    "segmenter": "--segmenter",
    "shortest": "--shortest",
    "size": "--size",
    "skip_bad": "--skip-bad",
    "snap": "--snap",
    "stretch": "--stretch",
    "tile": "--tile",
    "until": "--until",
    "validation_ground_truth": "--validation-ground-truth",
    "validation_images": "--validation-images",
    "value_map": "--map",
}
"""Flags by the names of settings and arguments."""


def with_flags(message: str) -> str:
    """Append the flags of the settings that a message names in backticks.

    Example:
        >>> with_flags("Lower `budget`.")
        'Lower `budget`. (option: --budget)'
        >>> with_flags("Nothing to set.")
        'Nothing to set.'
    """
    flags = dict.fromkeys(FLAGS[name] for name in re.findall(r"`([a-z_]+)`", message) if name in FLAGS)
    flags = {flag: None for flag in flags if flag not in message}
    if not flags:
        return message
    return f"{message} (option{'s' if len(flags) > 1 else ''}: {', '.join(flags)})"
