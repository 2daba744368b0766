"""Figures that the `correct` stage records: guarantee, label quality, and predicted gain."""

from __future__ import annotations

from typing import Any

__all__ = ["quality_figures"]


def quality_figures(found: Any) -> dict[str, Any]:
    """A quality estimate as JSON has it."""

    def plain(value: Any) -> Any:
        if hasattr(value, "low"):
            return {"low": value.low, "estimate": value.estimate, "high": value.high}
        return [plain(item) for item in value] if isinstance(value, tuple) else value

    names = (
        "pixel_accuracy", "miou", "coverage", "precision", "recall", "iou", "wrong_masks", "wrong_pixels", "audits",
        "confidence",
    )  # fmt: skip
    return {name: plain(getattr(found, name)) for name in names}
