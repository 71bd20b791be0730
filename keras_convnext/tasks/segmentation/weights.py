"""From `weights=` of an UperNet to a model whose every variable is set."""

from keras_convnext.tasks.segmentation.model import AUXILIARY
from keras_convnext.tasks.segmentation.model import DECODE
from keras_convnext.weights import loading

CLASSIFIERS = (f"{DECODE}_classifier", f"{AUXILIARY}_classifier")


def find(variant, weights):
    """Finds and reads what `weights` names, a `loading.Source` or `None`.

    Args:
        variant: the `Variant` of the backbone.
        weights: path, URL, `hf://org/repo[@revision]`, tag, or `None`.

    Raises:
        ValueError: for anything that cannot be found, read or recognized,
            and for files without the head of an UperNet.
    """
    source = loading.find(variant, weights, "segment")
    if source and f"{CLASSIFIERS[0]}/bias" not in source.tensors:
        raise ValueError(
            "Expected the weights of a whole UperNet, with `decode_head.…`, "
            "in the official names, transformers' or this package's. "
            f"Received: weights={source.name!r} without that head. Pass "
            "weights of a backbone to the backbone: `ConvNeXtTiny(weights=…)`"
        )
    return source


def sizes(source):
    """Classes and channels of the head in the weights."""
    kernel = source.tensors[f"{CLASSIFIERS[0]}/kernel"]
    return kernel.shape[3], kernel.shape[2]


def load(model, source, prefix):
    """Assigns every variable of an UperNet.

    The auxiliary head is left out where the model has none. Classifiers for
    another number of classes are, too, with a warning.

    Raises:
        ValueError: for missing, unexpected and mis-shaped tensors; nothing is
            assigned then.
    """
    tensors, optional = {**source.tensors, **source.beside}, set()
    if not isinstance(model.output, dict):
        tensors = {
            name: tensor
            for name, tensor in tensors.items()
            if not name.startswith(f"{AUXILIARY}_")
        }
    present, wanted = sizes(source)[0], model.outputs[0].shape[-1]
    if present != wanted:
        optional = loading.without_classifiers(tensors, CLASSIFIERS)
        loading.warn_of_classes(source, present, wanted)
    loading.assign(
        model, tensors, source.name, prefix, optional, source.release
    )
