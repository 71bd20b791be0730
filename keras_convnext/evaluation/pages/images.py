"""Images as a model sees them, and over them where it sees what it says."""

import itertools

import numpy as np
from PIL import Image

from keras_convnext._util.requirements import require
from keras_convnext.artifacts import metadata as embedded
from keras_convnext.data.eval_loader import EvalLoader
from keras_convnext.data.source import Subset
from keras_convnext.images.reading import to_pil
from keras_convnext.visualize import grad_cam
from keras_convnext.visualize.figures import HEAT
from keras_convnext.visualize.figures import opacity

# Pixels of the longer side of a picture in a page.
SIDE = 224
# Images whose Grad-CAMs are made together.
AT_ONCE = 4
EXPORTED = "an exported model gives no gradients: images alone are shown"


class Views:
    """Small pictures of images, some at a time in memory.

    Args:
        measured: a `Measured`.

    Attributes:
        refusal: why there are no Grad-CAMs, or `None`.
    """

    def __init__(self, measured):
        self.measured = measured
        self.model = measured.classifier.artifact.model
        self.refusal = EXPORTED if self.model is None else None

    def of(self, examples):
        """Yields the picture of each image, and the Grad-CAM over it.

        Args:
            examples: list of `Example`s.

        Yields:
            Two `PIL.Image`s; `None` for what there is not.
        """
        for start in range(0, len(examples), AT_ONCE):
            some = examples[start : start + AT_ONCE]
            images = [self._loaded(x) for x in some]
            read = [x for x in images if x is not None]
            outputs = [x.output for x, y in zip(some, images) if y is not None]
            heats = self._heats(read, outputs)
            for image in images:
                yield _pictures(image, None if image is None else next(heats))

    def _loaded(self, example):
        """As the model sees it; `None` if it cannot be read any more."""
        source = self.measured.sources[example.part]
        loader = EvalLoader(
            Subset(source, [example.place]),
            self.measured.classifier.preprocessing,
            batch_size=1,
        )
        return next(iter(loader.load(0)[1]), None)

    def _heats(self, images, outputs):
        """An iterator over the maps of images, or over `None`s."""
        if self.refusal is None and images:
            classifier = self.measured.classifier
            values = {
                **classifier.metadata,
                "preprocessing": classifier.preprocessing,
            }
            inputs = embedded.inputs(values, np.stack(images))
            try:
                return iter(grad_cam(self.model, inputs, outputs)[0])
            except ValueError as error:
                self.refusal = str(error)
        return itertools.repeat(None)


def _pictures(image, heat):
    if image is None:
        return None, None
    # Of other channels than gray and RGB the first ones.
    pixels = image[..., : 3 if image.shape[-1] >= 3 else 1]
    overlay = None if heat is None else small(over(pixels, heat))
    return small(to_pil(pixels)), overlay


def over(pixels, heat):
    """A heat map over an image, as a `PIL.Image`.

    Args:
        pixels: `uint8` array `(height, width, 1 or 3)`.
        heat: float array `(height, width)` of 0–1.
    """
    colors = require("matplotlib", "Grad-CAMs").colormaps[HEAT](heat)
    part = opacity(heat)[..., None]
    mixed = (1 - part) * pixels + part * 255 * colors[..., :3]
    return to_pil(np.round(mixed).astype("uint8"))


def small(image):
    """The same `PIL.Image`, scaled down where it is large."""
    image = image.copy()
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return image
