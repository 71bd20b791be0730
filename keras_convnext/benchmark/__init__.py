"""How fast this package is beside others: measured in turn, in one run."""

from keras_convnext.benchmark.contestants import CONTESTANTS
from keras_convnext.benchmark.contestants import Contestant
from keras_convnext.benchmark.contestants import select
from keras_convnext.benchmark.race import Task
from keras_convnext.benchmark.race import run

__all__ = ["CONTESTANTS", "Contestant", "Task", "run", "select"]
