"""What a recipe's training sees of an image."""

from collections.abc import Sequence

import numpy as np

from keras_convnext._util.annotations import Figure
from keras_convnext._util.annotations import Images
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import Seed
from keras_convnext._util.ranges import in_range
from keras_convnext.data.pipeline import TrainPipeline
from keras_convnext.visualize.figures import grid
from keras_convnext.visualize.figures import show


@in_range
def augmentation_grid(
    pipeline: TrainPipeline,
    images: Sequence[Images],
    count: Count = 16,
    seed: Seed = 0,
    figure: Figure | None = None,
) -> Figure:
    """Draws images as training sees them, one draw after another.

    Args:
        pipeline: a `TrainPipeline`, as of `recipe.train_pipeline(classes)`.
        images: list of `uint8` arrays `(height, width, channels)`, taken in
            turn; with more than one, they are also mixed if the recipe mixes.
        count: int, how many draws.
        seed: int that they follow from.
        figure: matplotlib figure or subfigure to draw into; a new one if
            `None`.

    Returns:
        The figure.

    Raises:
        ValueError: without images.
        ImportError: without matplotlib.

    Examples:
        >>> recipe = keras_convnext.recipes.small_data
        >>> figure = keras_convnext.visualize.augmentation_grid(
        ...     recipe.train_pipeline(classes=2),
        ...     [np.zeros((300, 400, 3), "uint8")],
        ... )
    """
    if not len(images):
        raise ValueError("Expected at least one image. Received: none")
    samples = [
        pipeline.sample((images[i % len(images)], i % len(images)), (seed, i))
        for i in range(count)
    ]
    pictures = np.stack([sample["images"] for sample in samples])
    if len(images) > 1:
        labels = np.array([sample["labels"] for sample in samples])
        pictures, _ = pipeline.batch((pictures, labels), (seed, count))
    figure, axes = grid(count, figure)
    for axis, picture in zip(axes, pictures):
        show(axis, np.clip(np.round(picture), 0, 255).astype("uint8"))
    return figure
