"""The name under which Keras files find this package's classes."""

import keras

register = keras.saving.register_keras_serializable(package="keras_convnext")
