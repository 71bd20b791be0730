"""The V1 paper's way from ResNet to ConvNeXt, as models to build and train."""

from keras_convnext.tasks.roadmap.models import build
from keras_convnext.tasks.roadmap.steps import REGIMES
from keras_convnext.tasks.roadmap.steps import STEPS
from keras_convnext.tasks.roadmap.steps import Step
from keras_convnext.tasks.roadmap.study import as_markdown
from keras_convnext.tasks.roadmap.study import chart
from keras_convnext.tasks.roadmap.study import study
from keras_convnext.tasks.roadmap.study import table

__all__ = [
    "REGIMES",
    "STEPS",
    "Step",
    "as_markdown",
    "build",
    "chart",
    "study",
    "table",
]
