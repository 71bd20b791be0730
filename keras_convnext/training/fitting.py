"""Whether a model, a recipe and data fit each other, or can be made to."""

from keras_convnext.data.source import same_classes
from keras_convnext.models.inspection import info_of
from keras_convnext.models.inspection import normalizes
from keras_convnext.models.inspection import takes
from keras_convnext.models.model import ConvNeXtModel
from keras_convnext.models.sigmoid import with_sigmoid
from keras_convnext.models.sigmoid import without_sigmoid
from keras_convnext.models.units import with_units
from keras_convnext.training.recipes.stages import sizes_by_epoch

# What labels are, and the recipe for them.
KINDS = {
    "single-label": (
        "one label for each image",
        "`recipe.replace(loss='softmax')`",
    ),
    "multi-label": (
        "rows of labels, of which an image may have several or none",
        "`keras_convnext.recipes.multi_label`, or `recipe.replace("
        "loss='binary')`",
    ),
    "regression": (
        "numbers in place of classes",
        "`keras_convnext.recipes.regression`",
    ),
}


def check_loss(recipe, data):
    """Raises `ValueError` for a loss that the labels are not made for."""
    if recipe.task == data.task:
        return
    kind, advice = KINDS[data.task]
    raise ValueError(
        "The recipe must have a loss for the labels of the data. Received: "
        f"loss={recipe.loss!r} by the recipe {recipe.name!r}, for data with "
        f"{kind}. Take {advice}"
    )


def with_logits(model, recipe, data):
    """The model that `fit` trains, and the one to save, of the same weights."""
    if recipe.is_multi_label:
        return without_sigmoid(model), with_sigmoid(model)
    if recipe.is_regression:
        model = with_units(model, data.labels)
    return model, model


def pipelines_of(recipe, model, data, preprocessing, seed):
    """The `TrainPipeline` that begins in an epoch, by the epoch.

    Raises:
        ValueError: if the model does not take the images of one.
    """
    pipelines = {
        epoch: recipe.replace(image_size=size, image_sizes=None).train_pipeline(
            len(data.classes),
            seed,
            mean=preprocessing.mean,
            std=preprocessing.std,
        )
        for epoch, size in sizes_by_epoch(recipe).items()
    }
    for pipeline in pipelines.values():
        _check_images(model, pipeline.input_shape, len(pipelines) > 1)
    return pipelines


def preprocessing_of(model, data, validation=None):
    """The `Preprocessing` of a model.

    Raises:
        ValueError: if a run cannot train it on the data.
    """
    info = info_of(model)
    if info is None:
        raise ValueError(
            "Expected a model that holds a ConvNeXt of this package. Received:"
            f" {model.name!r}. Compile another with `recipe.compile`, and "
            "`fit` it on `TrainLoader.batches`"
        )
    if isinstance(model, ConvNeXtModel) and not normalizes(model):
        raise ValueError(
            "Expected a model that takes the loaders' pixels of 0–255. "
            f"Received: {model.name!r}, built with "
            "`include_preprocessing=False`. Build it without that: the weights "
            "are the same"
        )
    if not getattr(model, "inputs", None):
        raise ValueError(
            "Expected a Functional `keras.Model`, which can be saved and "
            f"loaded without its code. Received: {type(model).__name__}. Call "
            "its layers on a `keras.Input`, and train `keras.Model(input, "
            "output)`"
        )
    data.check()
    if len(data.classes) != model.output_shape[-1]:
        raise ValueError(
            "The model must have an output for every class. Received: "
            f"{len(data.classes)} classes for {model.name!r} with "
            f"{model.output_shape[-1]} outputs. Build it with "
            f"`recipe.build(name, classes={len(data.classes)})`"
        )
    if validation is not None:
        same_classes(data, validation)
        # Of rare classes it may have none.
        if not len(validation):
            raise ValueError(
                "Expected images to validate on, or `validation=None`. "
                "Received: none"
            )
    return info.preprocessing


def _check_images(model, shape, is_one_of_several=False):
    """Raises `ValueError` for a model of images other than the recipe's."""
    if takes(model, shape):
        return
    taken = tuple(model.input_shape[1:])
    if taken[:1] == shape[-1:]:
        advice = (
            "Build it with `data_format='channels_last'`: the weights are the "
            "same in both"
        )
    elif is_one_of_several:
        advice = (
            "For several `image_sizes` build it with `recipe.build`, or with "
            "`input_shape=(None, None, 3)`: the weights are the same"
        )
    else:
        advice = (
            "Build it with `recipe.build`, or take "
            f"`recipe.replace(image_size={taken[0]})`"
        )
    raise ValueError(
        f"The model must take the recipe's images, of shape {shape}. Received:"
        f" {model.name!r}, which takes {taken}. {advice}"
    )
