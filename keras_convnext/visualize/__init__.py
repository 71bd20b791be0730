"""Pictures of models, their training and their data, by matplotlib.

Each function returns a matplotlib `Figure`, or draws into one that it is
given; `written_figure` makes a file of it.
"""

from keras_convnext.visualize.augmentations import augmentation_grid
from keras_convnext.visualize.curves import learning_curves
from keras_convnext.visualize.curves import learning_rate_range
from keras_convnext.visualize.explanation import explanation
from keras_convnext.visualize.figures import new_figure
from keras_convnext.visualize.figures import written_figure
from keras_convnext.visualize.grad_cam import grad_cam
from keras_convnext.visualize.maps import feature_maps
from keras_convnext.visualize.maps import filters
from keras_convnext.visualize.reliability import reliability_diagram
from keras_convnext.visualize.scatter import predicted_against_true

__all__ = [
    "augmentation_grid",
    "explanation",
    "feature_maps",
    "filters",
    "grad_cam",
    "learning_curves",
    "learning_rate_range",
    "new_figure",
    "predicted_against_true",
    "reliability_diagram",
    "written_figure",
]
