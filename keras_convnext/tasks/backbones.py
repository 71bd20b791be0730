"""What segmenters and detectors take over from the ConvNeXt below them."""

from dataclasses import dataclass
from dataclasses import replace

import keras

from keras_convnext._util import checks
from keras_convnext.facts.info import ModelInfo
from keras_convnext.facts.layer_names import parse
from keras_convnext.models import arguments
from keras_convnext.models import inspection
from keras_convnext.models.pyramid import LEVELS
from keras_convnext.models.pyramid import feature_pyramid


@dataclass(frozen=True)
class Backbone:
    """A ConvNeXt with a layer normalization behind each of its four stages.

    Attributes:
        model: the `ConvNeXtModel`.
        pyramid: from its images to a dict of maps, by level.
        prefix: the model's `layer_prefix`, before the names of all layers.
        dtype: the policy of its stages.
    """

    model: keras.Model
    pyramid: keras.Model
    prefix: str
    dtype: keras.DTypePolicy

    @classmethod
    def of(cls, model, task):
        """Checks that a model can carry a `task`, such as an `"UperNet"`."""
        pyramid = feature_pyramid(model, LEVELS, norm=True)
        if inspection.data_format(model) == "channels_first":
            raise ValueError(
                f"{task} takes models in channels_last: build it with "
                "`data_format='channels_last'`. Received: the model "
                f"{model.name!r} in channels_first"
            )
        first = model.get_layer(model.pyramid_level_inputs[LEVELS[0]])
        prefix = parse(first.name).prefix
        return cls(model, pyramid, prefix, first.dtype_policy)

    def maps(self):
        """The four maps of the images of the model."""
        return [self.pyramid.output[level] for level in LEVELS]

    def maps_of(self, images):
        """The four maps of other images, by the same layers."""
        values = {id(self.pyramid.input): images}
        for layer in self.pyramid.layers:
            if isinstance(layer, keras.layers.InputLayer):
                continue
            inputs = keras.tree.map_structure(
                lambda x: values[id(x)], layer.input
            )
            values[id(layer.output)] = layer(inputs)
        return [values[id(x)] for x in self.maps()]

    def info(self, source, class_names, image_size):
        """The `ModelInfo` of what stands on the model.

        Args:
            source: the `loading.Source` of its weights, or `None`.
            class_names: a tuple, or `None`.
            image_size: of the images that it is made for.
        """
        return replace(
            source.info if source else ModelInfo(),
            variant=self.model.variant,
            preprocessing=replace(
                self.model.preprocessing, image_size=tuple(image_size)
            ),
            class_names=class_names,
            label_set=None,
            pyramid_level_inputs=self.model.pyramid_level_inputs,
        )


class Heads:
    """Creates layers of one prefix and policy, as those of the backbone."""

    def __init__(self, backbone):
        self.prefix = backbone.prefix
        # As classifiers of images: logits of mixed policies are float32.
        policies = arguments.dtype_policy(backbone.dtype)
        self.dtype, self.logits_dtype = policies

    def named(self, layer_class, name, *args, dtype=None, **kwargs):
        return layer_class(
            *args, name=self.prefix + name, dtype=dtype or self.dtype, **kwargs
        )


def at_least(smallest, name, value, saved, default):
    """A size as it was given; else that of the weights, or the default."""
    if value is None:
        return saved
    if not checks.is_positive_int(value) or value < smallest:
        raise ValueError(
            f"`{name}` must be an int of at least {smallest}, or None for the "
            f"weights' own ({default} without weights). Received: "
            f"{name}={value!r}"
        )
    return value
