"""Training on many devices and hosts, by each backend's own engine."""

from keras_convnext.distribution.cluster import Cluster
from keras_convnext.distribution.cluster import current
from keras_convnext.distribution.planning import Plan
from keras_convnext.distribution.planning import plan
from keras_convnext.distribution.start import is_launched
from keras_convnext.distribution.start import setup
from keras_convnext.distribution.start import start

__all__ = [
    "Cluster",
    "Plan",
    "current",
    "is_launched",
    "plan",
    "setup",
    "start",
]
