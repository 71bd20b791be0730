"""Training runs that survive their machine."""

from keras_convnext._util.requirements import versions
from keras_convnext.training.checkpoints import CheckpointError
from keras_convnext.training.checkpoints import Checkpoints
from keras_convnext.training.dry_run import describe
from keras_convnext.training.dry_run import parameter_groups
from keras_convnext.training.learning_rate import RangeTest
from keras_convnext.training.learning_rate import find_learning_rate
from keras_convnext.training.repeatability import make_repeatable
from keras_convnext.training.run import Interrupted
from keras_convnext.training.run import NotFinite
from keras_convnext.training.train import train

__all__ = [
    "CheckpointError",
    "Checkpoints",
    "Interrupted",
    "NotFinite",
    "RangeTest",
    "describe",
    "find_learning_rate",
    "make_repeatable",
    "parameter_groups",
    "train",
    "versions",
]
