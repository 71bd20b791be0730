"""Samples with objects as batches of fixed shapes."""

import numpy as np

from keras_convnext.data.objects.choosing import counted
from keras_convnext.data.objects.views import View

# Of which the sides of batches are multiples: the coarsest stride of a
# backbone.
MULTIPLE = 32
# Beside a seed, for draws of its own.
SALT = 2


def sample(
    image, objects, steps, max_objects, has_masks, is_told=False, seed=(0,)
):
    """One image, with the objects that are to be found in it.

    Args:
        image: `uint8` array `(height, width, 3)`.
        objects: its `Objects`.
        steps: see `RandomScales.steps`.
        max_objects: int; of more, chance takes these.
        has_masks: whether to fill masks.
        is_told: whether to tell of which objects there are some.
        seed: ints that the choice follows from.

    Returns:
        A dict of `images`, `boxes`, `classes`, and perhaps `masks` and
        `masked`.
    """
    objects = counted(objects)
    view = View.of(image, objects.boxes)
    for name, arguments in steps:
        view = getattr(view, name)(*arguments)
    surplus = len(view.kept) - max_objects
    if surplus > 0:
        order = np.random.default_rng([*seed, SALT]).permutation(len(view.kept))
        view = view.only(np.sort(order[:max_objects]))
    masks = {"masks": view.masks(objects)} if has_masks else {}
    if is_told:
        masks["masked"] = [objects.outlines[i] is not None for i in view.kept]
    classes = objects.classes[view.kept]
    return {
        **{"images": view.image, "boxes": view.boxes, "classes": classes},
        **masks,
    }


def batch(samples, canvas, max_objects):
    """Samples in one canvas each, and rows for objects in fixed number.

    Args:
        samples: list of what `sample` returns.
        canvas: height and width, pixels, into whose upper left corner images
            are laid; a multiple of 32 that fits is taken if one does not fit.
        max_objects: int, rows for each image.

    Returns:
        `(inputs, targets)`, see `ObjectLoader`.
    """
    sizes = [x["images"].shape[:2] for x in samples]
    height, width = np.maximum(canvas, tight(sizes)).tolist()
    count = len(samples)
    images = np.zeros((count, height, width, 3), "uint8")
    boxes = np.zeros((count, max_objects, 4), "float32")
    classes = np.zeros((count, max_objects), "int32")
    valid = np.zeros((count, max_objects), bool)
    targets = {"boxes": boxes, "classes": classes, "valid": valid}
    if "masks" in samples[0]:
        shape = count, max_objects, height, width
        targets["masks"] = np.zeros(shape, "uint8")
    if "masked" in samples[0]:
        targets["masked"] = np.zeros((count, max_objects), bool)
    for i, (one, (rows, columns)) in enumerate(zip(samples, sizes)):
        images[i, :rows, :columns] = one["images"]
        found = len(one["classes"])
        boxes[i, :found], classes[i, :found] = one["boxes"], one["classes"]
        valid[i, :found] = True
        if "masks" in targets:
            targets["masks"][i, :found, :rows, :columns] = one["masks"]
        if "masked" in targets:
            targets["masked"][i, :found] = one["masked"]
    sizes = np.array(sizes, "int32")
    inputs = {"images": images, "image_sizes": sizes}
    # Boxes are those of the resized images.
    return {**inputs, "original_sizes": sizes.copy()}, targets


def tight(sizes):
    """The least canvas that holds all sizes."""
    return tuple(-(-np.max(sizes, axis=0) // MULTIPLE) * MULTIPLE)


def fixed(sizes, largest):
    """One of three canvases that hold all sizes up to the largest.

    Args:
        sizes: of the images, heights and widths.
        largest: the most pixels of the short and of the long side.
    """
    short, long = (int(x) for x in tight([largest]))
    height, width = np.max(sizes, axis=0)
    is_high = height > short
    is_wide = width > short or not is_high
    return long if is_high else short, long if is_wide else short


def grouped_order(is_wide, group, seed, epoch):
    """An order in which images of one orientation follow one another.

    Args:
        is_wide: boolean array, one for each image.
        group: int, how many in a row are all wide, or all not.
        seed, epoch: ints that the order follows from.

    Returns:
        `int32` array of image numbers, a multiple of `group`: images that are
        left over are filled up by others of their orientation.
    """
    generator = np.random.default_rng([seed, epoch])
    groups = []
    for orientation in (True, False):
        numbers = np.flatnonzero(is_wide == orientation).astype("int32")
        if len(numbers):
            numbers = generator.permutation(numbers)
            more = generator.choice(numbers, -len(numbers) % group)
            groups.append(np.concatenate([numbers, more]).reshape(-1, group))
    return generator.permutation(np.concatenate(groups)).ravel()
