"""Models outside of Keras: written, opened and run."""

from keras_convnext.artifacts.acceleration.accelerated import Accelerated
from keras_convnext.artifacts.acceleration.accelerated import accelerate
from keras_convnext.artifacts.exporting import export
from keras_convnext.artifacts.running import Artifact
from keras_convnext.artifacts.running import open_artifact
from keras_convnext.artifacts.verification import Report

__all__ = [
    "Accelerated",
    "Artifact",
    "Report",
    "accelerate",
    "export",
    "open_artifact",
]
