"""Training on many devices and hosts, by each backend's own engine."""

from keras_convnext.training.distribution.cluster import Cluster
from keras_convnext.training.distribution.cluster import current
from keras_convnext.training.distribution.compiled_plan import CompiledPlan
from keras_convnext.training.distribution.compiled_plan import compiled_plan
from keras_convnext.training.distribution.planning import Plan
from keras_convnext.training.distribution.planning import plan
from keras_convnext.training.distribution.start import is_launched
from keras_convnext.training.distribution.start import setup
from keras_convnext.training.distribution.start import start

__all__ = [
    "Cluster",
    "CompiledPlan",
    "Plan",
    "compiled_plan",
    "current",
    "is_launched",
    "plan",
    "setup",
    "start",
]
