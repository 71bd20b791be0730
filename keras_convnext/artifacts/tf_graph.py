"""The model as a `tf.function` whose graph converts well."""

import keras

from keras_convnext.artifacts import graph
from keras_convnext.layers import forms
from keras_convnext.models import rebuilding


def twin(model, tensor):
    """The same graph and weights on a new input, with layers rewritten."""

    def step(layer):
        is_model = isinstance(layer, keras.Model)
        if is_model and len(layer.inputs) == 1:
            inner = twin(rebuilding.functional(layer), _any_input(layer))
            return rebuilding.step(layer, lambda layer, x: inner(x))
        return rebuilding.step(layer, forms.of(layer).tensorflow)

    return rebuilding.rebuild(model, tensor, step)


def _any_input(model):
    """A new input of a nested model: maps of any size, or vectors."""
    shape = model.inputs[0].shape
    if len(shape) == 4:
        return graph.image(model, (None, None))
    return keras.Input(shape[1:], dtype="float32")


def forward(exportable):
    """A function from the artifact's images to a dict of its outputs."""
    import tensorflow as tf

    batch = exportable.metadata["batch_size"]
    image = graph.image(exportable.lean, exportable.size, batch)
    rewritten = twin(exportable.lean, image)

    def forward(image):
        x = tf.cast(image, tf.float32)
        if exportable.permutation:
            x = tf.transpose(x, exportable.permutation)
        return rewritten(x, training=False)

    forward.model = rewritten
    return forward
