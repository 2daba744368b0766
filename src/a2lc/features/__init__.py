"""Learned features: outputs of a frozen network, averaged over each mask and kept by cells. The default needs no torch."""

from a2lc.features.backbone import Backbone, EfficientNetLite0, load_backbone
from a2lc.features.cells import CellBasis, CellFeatures
from a2lc.features.grids import Grid
from a2lc.features.pooling import mask_features_of
from a2lc.features.store import CellStore, FeatureStore

__all__ = [
    "Backbone",
    "CellBasis",
    "CellFeatures",
    "CellStore",
    "EfficientNetLite0",
    "FeatureStore",
    "Grid",
    "load_backbone",
    "mask_features_of",
]
