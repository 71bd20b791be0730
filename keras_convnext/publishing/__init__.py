"""A trained model, written for people who use other libraries."""

from keras_convnext.publishing.publish import publish
from keras_convnext.publishing.report import Published

__all__ = ["Published", "publish"]
