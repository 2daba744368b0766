"""What the outputs of EfficientNet-Lite0 are, for those that need not run it."""

__all__ = ["CHANNELS", "INPUT_MULTIPLE", "STRIDES"]

CHANNELS = (40, 112, 320)
"""Channels of the three outputs."""

STRIDES = (8, 16, 16)
"""Pixels that a cell of each output stands for; the last stage is dilated to keep the stride of the one before."""

INPUT_MULTIPLE = 32
"""Sides of the input are multiples of this."""
