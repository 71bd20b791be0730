"""How fast this package is beside others: measured in turn, in one run."""

from keras_convnext.benchmark.contestants import CONTESTANTS
from keras_convnext.benchmark.contestants import Contestant
from keras_convnext.benchmark.contestants import select
from keras_convnext.benchmark.race import run
from keras_convnext.benchmark.tasks import Task

__all__ = ["CONTESTANTS", "Contestant", "Task", "run", "select"]
