"""Mean and deviation of the channels of ImageNet, which most pretrained networks expect to be removed."""

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Of red, green and blue, from 0 to 1."""

IMAGENET_STD = (0.229, 0.224, 0.225)
