"""The names under which Keras files find this package's classes."""

from typing import TypeVar

import keras

T = TypeVar("T")


def register(kind: T) -> T:
    """Makes Keras find a class or function in files of both of its formats."""
    keras.saving.register_keras_serializable(package="keras_convnext")(kind)
    if isinstance(kind, type) and issubclass(kind, keras.Model):
        # `.h5` files call the class of the whole model by its bare name.
        keras.saving.get_custom_objects()[kind.__name__] = kind
    return kind
