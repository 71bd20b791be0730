"""The class of detectors: Functional, from images to boxes and masks."""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_convnext._util.serialization import register
from keras_convnext.facts.info import ModelInfo
from keras_convnext.facts.layer_names import parse
from keras_convnext.facts.variants import Variant
from keras_convnext.layers.plain import RowBatchNormalization
from keras_convnext.models import rebuilding
from keras_convnext.models.graph_execution import GraphExecution
from keras_convnext.tasks.detection.layers import ImageSizes
from keras_convnext.tasks.detection.training import Parts
from keras_convnext.tasks.detection.training import Sampling
from keras_convnext.tasks.detection.training import Step
from keras_convnext.tasks.detection.training import loss_names
from keras_convnext.training import freezing
from keras_convnext.training.distribution.replicas import ALONE
from keras_convnext.training.distribution.replicas import Replicas
from keras_convnext.weights.detection_tables import STAGES

CARD = "detection_card"
# Keys of the inputs.
IMAGES, SIZES, ORIGINAL_SIZES = "images", "image_sizes", "original_sizes"
NO_SEED = np.zeros(2, "int32")


@register
class DetectionModel(keras.Model):
    """A Functional model from images to boxes, classes and masks.

    `MaskRCNN` and `CascadeMaskRCNN` return one. `detect` is the way to use
    it on photographs.

    Args:
        inputs, outputs, name: as for `keras.Model`; a `ModelCard` named
            `detection_card` is among the layers between them.

    Call arguments:
        A dict. `images`: `(batch, height, width, 3)` with values of 0–255;
        smaller ones lie in the upper left corner. `image_sizes`: int32 array
        `(batch, 2)`, height and width of each without what fills it up.
        `original_sizes`: the same of the photographs before they were resized.

    Returns:
        With `training=True` a dict of `maps`, `scores` and `deltas`, which
        `losses_of` takes: the rest of a training step needs the targets.
        Else a dict, by falling score. `boxes`: `(batch, n, 4)`, x1, y1, x2, y2
        in pixels of the original. `scores`: `(batch, n)`, from 0 to 1.
        `classes`: `(batch, n)`, int32, −1 in rows without a detection.
        `masks`: `(batch, n, 28, 28)`, probabilities, spread over the box. All
        else is float32.

        The model fills images up to a multiple of 32, and normalizes such
        pixels to zero, whatever they are. The other images of a batch change
        nothing. A canvas that is larger than an image needs does: layer norms
        and biases turn zeros into other numbers, which are seen near the edge.
        Batch images of one size, or of sizes that have the same multiple of
        32, for results that do not depend on it.

    Examples:
        >>> backbone = keras_convnext.ConvNeXtAtto(
        ...     weights=None, include_top=False
        ... )
        >>> model = keras_convnext.detection.MaskRCNN(
        ...     backbone, ["cat", "dog"], channels=16, units=32, proposals=20
        ... )
        >>> model.info.class_names
        ('cat', 'dog')
    """

    # By exactly these names Keras recognizes a Functional model.
    def __init__(
        self, inputs: Any, outputs: Any, name: str | None = None, **kwargs: Any
    ):
        super().__init__(inputs, outputs, name=name, **kwargs)
        self.sampling = Sampling()
        self.draws = keras.random.SeedGenerator()
        self.replicas = ALONE

    @property
    def info(self) -> ModelInfo:
        """The `ModelInfo`: weights, classes, license, and the short and the
        long side of images as `preprocessing.image_size`."""
        return self._ending(CARD).info

    @property
    def variant(self) -> Variant:
        """The `Variant` of the backbone."""
        # A detector stands on nothing without one.
        return self.info.variant  # type: ignore[return-value]

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return self._ending("mask_classifier", "mask_0_classifier").filters

    def of_images(self) -> keras.Model:
        """The same on images alone, as it is exported.

        The images fill their tensor, and boxes are in their pixels. Layers and
        weights are copies.
        """
        shape = tuple(self.input[IMAGES].shape)
        images = keras.Input(shape[1:], name=IMAGES)
        given = {IMAGES: images}
        for name in (SIZES, ORIGINAL_SIZES):
            given[name] = ImageSizes(name=self.prefix + name)(images)
        outputs = rebuilding.copied_onto(self, given)
        return keras.Model(images, outputs, name=self.name)

    @property
    def prefix(self) -> str:
        """The beginning of the names of all layers."""
        # A backbone of four stages has levels.
        levels: dict = self.info.pyramid_level_inputs  # type: ignore
        return parse(next(iter(levels.values()))).prefix

    @property
    def stages(self) -> tuple[str, ...]:
        """The part for each stage in the names of the heads' layers: `("",)`
        in a Mask R-CNN, `("_0", "_1", "_2")` in a Cascade Mask R-CNN."""
        names = {layer.name for layer in self.layers}
        is_one = f"{self.prefix}box_classifier" in names
        return ("",) if is_one else tuple(f"_{k}" for k in range(STAGES))

    def call(self, inputs, training=None, mask=None):
        if training:  # the rest depends on the targets
            return self._trunk(inputs, training)
        # Of a dict of inputs Keras makes a dict of masks, of which none is one.
        has_masks = any(x is not None for x in keras.tree.flatten(mask))
        if not has_masks and self._runs_directly(inputs):
            return self._execution(inputs)
        return super().call(inputs, training=training, mask=mask)

    def _runs_directly(self, inputs):
        """Whether these are arrays or tensors by name, for PyTorch."""
        return (
            keras.backend.backend() == "torch"
            and isinstance(inputs, dict)
            and inputs.keys() == {IMAGES, SIZES, ORIGINAL_SIZES}
            and not any(
                isinstance(x, keras.KerasTensor) for x in inputs.values()
            )
            and self._execution.is_free()
        )

    @functools.cached_property
    def _execution(self):
        return GraphExecution(self)

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        losses = self.losses_of(x, y, y_pred if training else None, training)
        for name, value in losses.items():
            self._means[name].update_state(value)
        return sum(losses.values()) * self.replicas.weight

    def losses_of(
        self, x: Any, y: Any, trunk: Any = None, training: bool = True
    ) -> dict[str, Any]:
        """The losses of a batch by name, whose sum is what `fit` minimizes.

        Args:
            x: dict, as to call the model.
            y: dict of what is to be found. `boxes`: `(batch, g, 4)`, x1, y1,
                x2, y2 in pixels of the images. `classes`, `valid`: `(batch,
                g)`, of which rows are no padding. `masks`: `(batch, g,
                height, width)` of the size of `images`, 0 or 1, which may be
                left out. `masked`: `(batch, g)`, of which rows there are
                masks, if not of all.
            trunk: what the model returns in training; computed if `None`.
            training: whether stochastic depth and batch norms are in training.

        Returns:
            Dict of scalars.
        """
        if trunk is None:
            trunk = self._trunk(x, training)
        step = Step(
            self._parts,
            self.sampling,
            x[SIZES],
            y,
            # What is evaluated does not change what is trained after it.
            self.draws.next if training else lambda: NO_SEED,
            training,
        )
        return step.losses(**trunk)

    @contextlib.contextmanager
    def shared_by(self, replicas: Replicas) -> Iterator[None]:
        """A context in which each of several programs has a part of a batch.

        Args:
            replicas: the `Replicas`, as of a `Cluster`.
        """
        self._share(replicas)
        try:
            yield
        finally:
            self._share(ALONE)

    def _share(self, replicas):
        self.replicas = replicas
        vars(self).pop("_parts", None)
        for layer in self.layers:
            if isinstance(layer, RowBatchNormalization):
                layer.total = replicas.total

    def train_step(self, *inputs):
        *state, data = inputs  # a state on JAX alone
        if not state or "masks" in data[1]:
            return super().train_step(*inputs)
        # Where others have no gradients JAX has zeros, and weights decay.
        learning = self.learning(has_masks=False)
        return freezing.jax_step(self, learning, super().train_step, *inputs)

    def learning(self, has_masks: bool) -> list[keras.Variable]:
        """The trainable variables that losses depend on.

        Args:
            has_masks: whether the data have masks.
        """
        heads = () if has_masks else self._parts.mask_heads
        left_out = {id(x) for head in heads for x in head.trainable_variables}
        return [x for x in self.trainable_variables if id(x) not in left_out]

    def _trunk(self, inputs, training):
        inputs = {name: inputs[name] for name in (IMAGES, SIZES)}
        return self._parts.trunk(inputs, training=training)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Of `keras.Model`, and the mean of each loss."""
        own = self._means.values() if self.compiled else ()
        return [*super().metrics, *own]

    # Neither is saved with the model, nor made for its copies.
    @functools.cached_property
    def _means(self):
        names = loss_names(self.stages)
        return {name: keras.metrics.Mean(name) for name in names}

    @functools.cached_property
    def _parts(self):
        return Parts(self)

    def _ending(self, *ends):
        return next(x for x in self.layers if x.name.endswith(ends))


def check_detector(model):
    if not isinstance(model, DetectionModel):
        raise ValueError(
            "Expected a detector, as `detection.MaskRCNN` and "
            "`detection.CascadeMaskRCNN` return it. Received: "
            f"{model!r}"
        )
