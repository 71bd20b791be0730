"""Importing this starts Keras, on a backend that is installed."""

from keras_convnext._util import backend_choice
from keras_convnext._util import startup

_backend = backend_choice.choose()
startup.prefer_onednn(_backend)
startup.import_keras(_backend)
