"""The names under which Keras files find this package's classes."""

from typing import TypeVar

import keras

T = TypeVar("T")
PACKAGE = "keras_convnext"


def register(kind: T) -> T:
    """Makes Keras find a class or function in files of both of its formats."""
    keras.saving.register_keras_serializable(package=PACKAGE)(kind)
    if isinstance(kind, type) and issubclass(kind, keras.Model):
        # `.h5` files call the class of the whole model by its bare name.
        keras.saving.get_custom_objects()[kind.__name__] = kind
    return kind


def is_registered(kind: type) -> bool:
    """Whether it is one of this package's classes."""
    return keras.saving.get_registered_name(kind).startswith(f"{PACKAGE}>")
