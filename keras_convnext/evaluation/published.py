"""What others published for the same weights on the same images."""

from keras_convnext.facts.labels import label_set
from keras_convnext.weights import registry

# mCE, and top-1 in percent: Liu et al., "A ConvNet for the 2020s",
# arXiv:2201.03545, table 8.
ROBUSTNESS_RULES = ("c", "a", "r", "sketch")
ROBUSTNESS = {
    "convnext_tiny.fb_in1k": (53.2, 24.2, 47.2, 33.8),
    "convnext_base.fb_in1k": (46.8, 36.7, 51.3, 38.2),
    "convnext_base.fb_in22k_ft_in1k_384": (43.1, 62.3, 64.9, 51.6),
    "convnext_large.fb_in22k_ft_in1k_384": (40.2, 65.5, 66.7, 52.8),
    "convnext_xlarge.fb_in22k_ft_in1k_384": (38.8, 69.3, 68.2, 55.0),
}

# Those whose images may be ImageNet's own validation images.
VALIDATION_RULES = ("classes", "imagenet")


def find(rule, metadata, class_count):
    """Published figures, or `None` where there are none.

    Args:
        rule: a key of `rules.RULES`.
        metadata: of the `Artifact`.
        class_count: of the data, each of them an output of the model.

    Returns:
        A dict with some of `top1` and `top5` (0–1) and `mce` (percent), and
        `source`.
    """
    ids = [id for id, _ in metadata["classes"] or ()]
    if ids != [wnid for wnid, _ in label_set(1000)]:
        return None
    name = f"{metadata['model']}.{metadata['weights']}"
    if rule in ROBUSTNESS_RULES and name in ROBUSTNESS:
        value = ROBUSTNESS[name][ROBUSTNESS_RULES.index(rule)]
        figure = {"mce": value} if rule == "c" else {"top1": value / 100}
        return {**figure, "source": "arXiv:2201.03545, table 8"}
    if rule not in VALIDATION_RULES or class_count != len(ids):
        return None
    for checkpoint in registry.matching(name):
        figures = {"top1": checkpoint.top1, "top5": checkpoint.top5}
        return {
            **{key: x / 100 for key, x in figures.items() if x is not None},
            "source": f"ImageNet-1k at {checkpoint.image_size} pixels",
        }
    return None
