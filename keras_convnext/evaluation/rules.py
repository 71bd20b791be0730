"""The test sets of ImageNet and what each counts as right: one table."""

from dataclasses import dataclass
from dataclasses import replace

from keras_convnext._util.checks import one_of


@dataclass(frozen=True)
class Rule:
    """How the images of a data set are read and scored.

    Attributes:
        title: what reports call it.
        class_count: how many classes the data must have, or `None` for any.
        is_numbered: whether folders have class numbers for names.
        is_masked: whether only the outputs of classes in the data compete.
        is_multi_label: whether a file says what is right for each image.
        is_corrupted: whether there is a data set for each corruption and
            severity.
        crop_pct: of images that are cropped already, or `None` for that of
            the weights.
    """

    title: str
    class_count: int | None = None
    is_numbered: bool = False
    is_masked: bool = False
    is_multi_label: bool = False
    is_corrupted: bool = False
    crop_pct: float | None = None


RULES = {
    # Whatever the data's classes are.
    "classes": Rule("own classes"),
    # The 50 000 validation images: Russakovsky et al., arXiv:1409.0575.
    "imagenet": Rule("ImageNet-1k", 1000),
    # The same images: right is what people saw in them. Images in which they
    # saw none of the classes do not count. Beyer et al., arXiv:2006.07159.
    "real": Rule("ImageNet ReaL", 1000, is_multi_label=True),
    # Folders 0 to 999. Recht et al., arXiv:1902.10811.
    "v2": Rule("ImageNet-V2", 1000, is_numbered=True),
    # Wang et al., arXiv:1905.13549.
    "sketch": Rule("ImageNet-Sketch", 1000),
    # The authors' scripts and timm drop the outputs of the other 800 classes.
    # Hendrycks et al., arXiv:1907.07174 and arXiv:2006.16241.
    "a": Rule("ImageNet-A", 200, is_masked=True),
    "r": Rule("ImageNet-R", 200, is_masked=True),
    # The authors' `test.py` takes the images, of 224 pixels, as they are.
    # Hendrycks and Dietterich, arXiv:1903.12261.
    "c": Rule("ImageNet-C", 1000, is_corrupted=True, crop_pct=1.0),
}


def get(name):
    """The `Rule` of a name."""
    one_of("rule", name, RULES)
    return RULES[name]


def preprocessing_for(rule, preprocessing):
    """The `Preprocessing` of some weights for images of a rule."""
    # Other modes take whole images anyway.
    if rule.crop_pct and preprocessing and preprocessing.crop_mode == "center":
        return replace(preprocessing, crop_pct=rule.crop_pct)
    return preprocessing
