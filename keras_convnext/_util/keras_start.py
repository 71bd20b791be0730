"""Importing this starts Keras, on a backend that is installed."""

from keras_convnext._util import backend_choice
from keras_convnext._util import startup

startup.import_keras(backend_choice.choose())
