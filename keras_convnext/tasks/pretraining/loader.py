"""Augmented batches of images, and which of their patches are visible."""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from keras_convnext._util.annotations import Array
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import Seed
from keras_convnext._util.ranges import in_range
from keras_convnext.data.pipeline import TrainPipeline
from keras_convnext.data.source import Source
from keras_convnext.data.train_loader import TrainLoader
from keras_convnext.tasks.pretraining.masks import visible_patches
from keras_convnext.tasks.pretraining.model import IMAGES
from keras_convnext.tasks.pretraining.model import VISIBLE


class MaskedLoader(TrainLoader):
    """The batches of a `TrainLoader`, with masks in place of labels.

    A batch is a tuple of one dict: `images`, and `visible`, an `int32` array
    `(batch, count)` as `visible_patches` draws it for each sample. Both follow
    from the seed and the number of the step.

    Args:
        source: a `Source`, whose labels are not looked at.
        pipeline: a `TrainPipeline`, as of `PretrainingRecipe.train_pipeline`.
        epochs: int.
        patches: how many an image has.
        count: how many of them are visible.
        seed: int that order, augmentation and masks follow from.
        **options: further arguments of `TrainLoader`.

    Examples:
        >>> source = keras_convnext.data.Arrays(
        ...     np.zeros((4, 64, 64, 3), "uint8"), [0, 0, 0, 0]
        ... )
        >>> recipe = keras_convnext.pretraining.v2_pretrain.replace(
        ...     image_size=64, batch_size=4
        ... )
        >>> loader = keras_convnext.pretraining.MaskedLoader(
        ...     source, recipe.train_pipeline(), epochs=2, patches=4, count=1
        ... )
        >>> (inputs,) = loader[0]
        >>> inputs["images"].shape, inputs["visible"].shape
        ((4, 64, 64, 3), (4, 1))
    """

    @in_range
    def __init__(
        self,
        source: Source,
        pipeline: TrainPipeline,
        epochs: Count,
        patches: Count,
        count: Count,
        seed: Seed = 0,
        **options: Any,
    ):
        super().__init__(source, pipeline, epochs, seed, **options)
        self.patches, self.count = patches, count

    def make(  # type: ignore[override]
        self, epoch: int, index: int
    ) -> tuple[dict[str, Array]]:
        """A batch by its number in an epoch."""
        images, _ = super().make(epoch, index)
        first = self._first(epoch, index)
        visible = [
            visible_patches(self.patches, self.count, self.seed, first + place)
            for place in self._places[self._kept]
        ]
        return ({IMAGES: images, VISIBLE: np.stack(visible)},)

    def batches(self, first_step: int = 0) -> Iterable[Any]:
        """As of `TrainLoader`; batches are tuples of one dict."""
        return super().batches(first_step)

    def _specs(self):
        images, _ = super()._specs()
        shape = images.shape[0], self.count
        visible = keras.InputSpec(dtype="int32", shape=shape)
        return ({IMAGES: images, VISIBLE: visible},)
