"""Several views of each image: loaded together, and scored as one."""

import numpy as np

from keras_convnext.data.eval_loader import EvalLoader
from keras_convnext.images import views


class ViewLoader(EvalLoader):
    """An `EvalLoader` of images `(n, views, height, width, channels)`.

    Args:
        source, preprocessing, batch_size: as for `EvalLoader`; `batch_size`
            counts images, not views.
        tta: key of `views.COUNTS`.
    """

    def __init__(self, source, preprocessing, batch_size, tta):
        super().__init__(source, preprocessing, batch_size)
        self._tta = tta
        self._loaded_shape = (views.COUNTS[tta], *self._shape)

    def _transformed(self, image, number):
        if not self._is_as_it_is(image):
            return views.of_image(self._tta, self.preprocessing, image)
        if self._tta != "flip":
            raise ValueError(
                "Five crops take images that are resized. Received: "
                f"tta={self._tta!r} for {self.source.name(number)!r}, an array "
                f"of the model's own size, {self._shape}. Pass larger images, "
                "or `tta='flip'`"
            )
        return views.flipped(image)


def mean_logits(logits, activation):
    """Logits whose scores are the means of the scores of all views.

    They are finite, as the mean is taken of logarithms.

    Args:
        logits: `float64` array `(views, n, outputs)`.
        activation: from them to scores, `"softmax"` or `"sigmoid"`.

    Returns:
        `float64` array `(n, outputs)`.
    """
    if activation == "softmax":
        sums = np.logaddexp.reduce(logits, axis=-1, keepdims=True)
        means = np.logaddexp.reduce(logits - sums, axis=0)
        return means - np.log(len(logits))
    there, absent = (
        np.logaddexp.reduce(-np.logaddexp(0.0, sign * logits), axis=0)
        for sign in (-1, 1)
    )
    return there - absent
