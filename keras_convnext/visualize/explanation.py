"""An image beside what its classes are seen in."""

from collections.abc import Sequence

import keras
import numpy as np

from keras_convnext._util.annotations import ArrayLike
from keras_convnext._util.annotations import Figure
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import CountOrZero
from keras_convnext._util.ranges import in_range
from keras_convnext.facts.labels import best_classes
from keras_convnext.facts.labels import softmax
from keras_convnext.models import inspection
from keras_convnext.visualize.figures import HEAT
from keras_convnext.visualize.figures import grid
from keras_convnext.visualize.figures import opacity
from keras_convnext.visualize.figures import show
from keras_convnext.visualize.grad_cam import grad_cam


@in_range
def explanation(
    model: keras.Model,
    image: ArrayLike,
    classes: Sequence[CountOrZero] | None = None,
    top: Count = 3,
    layer: str | None = None,
    names: Sequence[str] | None = None,
    figure: Figure | None = None,
) -> Figure:
    """Draws an image, and over it the Grad-CAM of its best classes.

    Args:
        model: a classifier.
        image: array `(height, width, channels)`, or `(channels, height,
            width)`, of 0–255, as `model` takes it.
        classes: ints; the `top` best ones if `None`.
        top: int, how many.
        layer: see `grad_cam`.
        names: sequence of class names; the model's own if `None`, or numbers.
        figure: matplotlib figure or subfigure to draw into; a new one if
            `None`.

    Returns:
        The figure.

    Raises:
        ValueError: as `grad_cam`.
        ImportError: without matplotlib.

    Examples:
        >>> figure = keras_convnext.visualize.explanation(
        ...     keras_convnext.ConvNeXtAtto(weights=None),
        ...     np.zeros((224, 224, 3), "uint8"),
        ... )
    """
    image = np.asarray(image)
    scores = np.asarray(model.predict(image[None], verbose=0))[0]
    if inspection.returns_logits(model):
        scores = softmax(scores)
    chosen = best_classes(scores, top) if classes is None else classes
    names = names or getattr(model, "class_names", None)
    figure, axes = grid(1 + len(chosen), figure, columns=4, size=3)
    pixels = np.clip(np.round(image), 0, 255).astype("uint8")
    if inspection.data_format(model) == "channels_first":
        pixels = pixels.transpose(1, 2, 0)
    show(axes[0], pixels, "image")
    images = np.repeat(image[None], len(chosen), 0)
    maps, _ = grad_cam(model, images, chosen, layer)
    for axis, number, heat in zip(axes[1:], chosen, maps):
        name = names[number] if names else f"class {number}"
        show(axis, pixels, f"{name}\n{scores[number]:.3g}")
        axis.imshow(heat, cmap=HEAT, alpha=opacity(heat))
    return figure
