"""Learned features: the outputs of a frozen ImageNet network, averaged over each mask. Needs no torch."""

from a2lc.features.backbone import Backbone, EfficientNetLite0, load_backbone
from a2lc.features.pooling import mask_features_of
from a2lc.features.store import FeatureStore

__all__ = ["Backbone", "EfficientNetLite0", "FeatureStore", "load_backbone", "mask_features_of"]
