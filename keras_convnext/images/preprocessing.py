"""How an image becomes a model's input: a property of its weights."""

from dataclasses import dataclass
from dataclasses import replace
from typing import Any

from PIL import Image

from keras_convnext._util.annotations import Array
from keras_convnext._util.annotations import Images
from keras_convnext._util.annotations import PathLike
from keras_convnext._util.annotations import Tensor
from keras_convnext._util.checks import one_of
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import Finite
from keras_convnext._util.ranges import PartAboveZero
from keras_convnext._util.ranges import Positive
from keras_convnext._util.ranges import check
from keras_convnext._util.ranges import check_fields
from keras_convnext.images.geometry import IMAGENET_MEAN
from keras_convnext.images.geometry import IMAGENET_STD
from keras_convnext.images.geometry import INTERPOLATIONS
from keras_convnext.images.geometry import MODES
from keras_convnext.images.geometry import official_crop
from keras_convnext.images.tf_transform import tf_load_image
from keras_convnext.images.transform import load_image


@dataclass(frozen=True)
class Preprocessing:
    """The evaluation transform that belongs to a set of weights.

    Call it to read, resize and crop an image as the weights were evaluated.

    Attributes:
        image_size: `(height, width)` in pixels.
        crop_pct: `image_size` divided by the size that the image is resized
            to before the crop.
        crop_mode: `"center"` (resize the short side, then crop the center),
            `"squash"` (resize both sides, losing the aspect ratio) or
            `"border"` (resize the long side, then pad).
        interpolation: `"bicubic"` or `"bilinear"`, antialiased as in PIL.
        mean, std: one number per channel, for pixels scaled to 0–1.

    Call arguments:
        image: path, encoded bytes, `PIL.Image`, or `uint8` array
            `(height, width, 3)` or `(height, width)` of 0–255. Or a
            TensorFlow tensor as `tf_load_image` takes it, inside of `tf.data`.
        apply_exif: whether to turn photographs upright. Published results
            ignore the orientation: pass `False` to repeat them. Tensors are
            never turned.

    Returns:
        `uint8` array or tensor `(height, width, 3)` of 0–255: an input of the
        model, which normalizes it, once it has a batch axis.

    Raises:
        ValueError: if the image cannot be read, with its name, and for
            preprocessing of other than three channels.

    Examples:
        >>> preprocessing = keras_convnext.Preprocessing((224, 224))
        >>> preprocessing(np.zeros((480, 640, 3), "uint8")).shape
        (224, 224, 3)
    """

    image_size: tuple[Count, Count]
    crop_pct: PartAboveZero = 0.875
    crop_mode: str = "center"
    interpolation: str = "bicubic"
    mean: tuple[Finite, ...] = IMAGENET_MEAN
    std: tuple[Positive, ...] = IMAGENET_STD

    def __post_init__(self):
        check_fields(self)
        one_of("crop_mode", self.crop_mode, MODES)
        one_of("interpolation", self.interpolation, INTERPOLATIONS)

    def __call__(
        self,
        image: PathLike | bytes | Image.Image | Array | Tensor,
        apply_exif: bool = True,
    ) -> Images | Tensor:
        if type(image).__module__.startswith("tensorflow."):
            return tf_load_image(image, **self.arguments())
        return load_image(image, apply_exif=apply_exif, **self.arguments())

    def at_size(self, size: tuple[Count, Count]) -> "Preprocessing":
        """The same for images of another size; an official crop is that size's.

        Args:
            size: `(height, width)` in pixels.

        Examples:
            >>> keras_convnext.Preprocessing((224, 224)).at_size((384, 384))
            Preprocessing(image_size=(384, 384), crop_pct=1.0, crop_mode='squash', interpolation='bicubic', mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
        """  # noqa: E501
        check("size", size, tuple[Count, Count])
        crop = self.crop_pct, self.crop_mode
        if crop == official_crop(self.image_size):
            crop = official_crop(size)
        pct, mode = crop
        return replace(self, image_size=size, crop_pct=pct, crop_mode=mode)

    def arguments(self) -> dict[str, Any]:
        """Arguments of `load_image` and `tf_load_image`.

        Raises:
            ValueError: for other than three channels.

        Examples:
            >>> keras_convnext.Preprocessing((384, 384)).arguments()["size"]
            (384, 384)
        """
        if len(self.mean) != 3:
            raise ValueError(
                "Images are loaded in RGB: expected the preprocessing of a "
                f"model of three channels. Received: mean={self.mean}. Load "
                "the images yourself"
            )
        return {
            "size": self.image_size,
            "crop_pct": self.crop_pct,
            "mode": self.crop_mode,
            "interpolation": self.interpolation,
            "mean": self.mean,
        }


def load_image_for(
    preprocessing: Preprocessing,
    source: PathLike | bytes | Image.Image | Array,
    apply_exif: bool = True,
) -> Images:
    """Reads one image as a model expects it: `preprocessing(source)`.

    Args:
        preprocessing: a `Preprocessing`, for three channels.
        source, apply_exif: as for `Preprocessing`.

    Returns:
        `uint8` array `(height, width, 3)` of 0–255.

    Raises:
        ValueError: as `Preprocessing`.

    Examples:
        >>> image = keras_convnext.load_image_for(
        ...     model.preprocessing, "photograph.jpg"
        ... )  # doctest: +SKIP
        >>> model.predict(image[None])  # doctest: +SKIP
    """
    return preprocessing(source, apply_exif)
