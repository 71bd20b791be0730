"""How a run changes with its epochs: in what it trains, and in image size."""

from typing import Any

# Of images that come in another size than the recipe's: the whole is kept.
RESIZES = "crop_scale=(1, 1)"


def sizes_by_epoch(recipe: Any) -> dict[int, int]:
    """The sizes of the training crops, by the first epoch of each.

    Examples:
        >>> from keras_convnext.training.recipes.stages import sizes_by_epoch
        >>> recipe = keras_convnext.recipes.small_data
        >>> sizes_by_epoch(recipe.replace(image_sizes=(128, 160, 224)))
        {0: 128, 6: 160, 13: 224}
    """
    sizes = recipe.image_sizes or (recipe.image_size,)
    begins = {
        number * recipe.epochs // len(sizes): size
        for number, size in enumerate(sizes)
    }
    before = (None, *begins.values())
    return {
        epoch: size
        for (epoch, size), last in zip(begins.items(), before)
        if size != last
    }


def check_stages(recipe: Any) -> None:
    """Raises `ValueError` for fields that contradict each other."""
    if recipe.lora_rank is None and recipe.lora_alpha is not None:
        raise ValueError(
            "`lora_alpha` is of LoRA, which needs a rank. Received: "
            f"lora_alpha={recipe.lora_alpha}, lora_rank=None. Give a "
            "`lora_rank`, such as 8"
        )
    if recipe.image_sizes is not None:
        _check_sizes(recipe)
    if not isinstance(recipe.epochs, dict):
        _check_epochs(recipe)


def _check_epochs(recipe):
    head, epochs = recipe.head_epochs, recipe.epochs
    if head >= epochs:
        raise ValueError(
            "`head_epochs` must be fewer than `epochs`: all is trained after "
            f"them. Received: head_epochs={head}, epochs={epochs}. Train "
            "longer, or the head alone by `freeze`"
        )
    if recipe.image_sizes and len(recipe.image_sizes) > epochs:
        raise ValueError(
            "There must be an epoch for each of `image_sizes`. Received: "
            f"image_sizes={recipe.image_sizes}, epochs={epochs}. Train "
            "longer, or take fewer sizes"
        )


def _check_sizes(recipe):
    sizes = recipe.image_sizes
    received = f"Received: image_sizes={sizes!r}"
    if not isinstance(sizes, (tuple, list)) or not sizes:
        raise ValueError(
            "`image_sizes` must be a tuple of sizes, such as (128, 160, 224). "
            f"{received}"
        )
    if sizes[-1] != recipe.image_size:
        raise ValueError(
            "The last of `image_sizes` must be `image_size`, which images are "
            f"validated at. {received}, image_size={recipe.image_size}. Change "
            "one of them"
        )
    if recipe.crop_scale is None:
        raise ValueError(
            "Images of several `image_sizes` are crops. "
            f"{received}, by the recipe {recipe.name!r}, which crops none. "
            f"Take {RESIZES} to resize the images"
        )
