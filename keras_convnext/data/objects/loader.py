"""Augmented batches of images with objects, which training can go on from."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import numpy as np

from keras_convnext._util.annotations import Array
from keras_convnext._util.checks import check_process
from keras_convnext._util.checks import one_of
from keras_convnext._util.limits import check_memory
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import CountOrZero
from keras_convnext._util.ranges import Seed
from keras_convnext._util.ranges import in_range
from keras_convnext.data.augmentation.scales import RandomScales
from keras_convnext.data.augmentation.scales import size_after
from keras_convnext.data.objects import batching
from keras_convnext.data.objects.choosing import trainable
from keras_convnext.data.objects.source import ObjectSource
from keras_convnext.data.objects.source import ObjectSubset
from keras_convnext.data.reading import Reader
from keras_convnext.data.stepping import by_step
from keras_convnext.data.stepping import loader_of
from keras_convnext.data.stepping import part_of
from keras_convnext.data.threads import WORKERS

CANVASES = ("tight", "fixed")
Batch = tuple[dict[str, Array], dict[str, Array]]


class ObjectLoader(keras.utils.PyDataset):
    """Batches to train a detector on, epoch after epoch or from any step on.

    Steps count over all epochs. A batch depends on the seed and the number of
    its step. It depends neither on the batches before nor on threads, and with
    the same `group` not on the number of processes.

    A batch is a pair of dicts, of `n` images and `g` rows for objects:

    - `images`: `uint8` `(n, height, width, 3)`, each in the upper left corner
      of a canvas whose sides are multiples of 32;
    - `image_sizes`, `original_sizes`: `int32` `(n, 2)`, both height and width
      of each in its canvas;

    and to be found in them:

    - `boxes`: `float32` `(n, g, 4)`, x1, y1, x2, y2 in pixels of `images`;
    - `classes`: `int32` `(n, g)`;
    - `valid`: `bool` `(n, g)`, false where there is no object, but zeros;
    - `masks`: `uint8` `(n, g, height, width)`, 0 or 1, unless the source has
      boxes alone;
    - `masked`: `bool` `(n, g)`, of which objects there are masks, unless all
      objects of the source have some.

    Args:
        source: an `ObjectSource`, or a part of one. Images without annotation,
            and those with a side below 32 pixels, are left out, and so are
            crowds, which count as background, and boxes without area.
        batch_size: int, images of all processes together.
        epochs: int.
        seed: int that order and augmentation follow from.
        scales: a `RandomScales`; the published one if `None`.
        max_objects: int, rows for each image. Where more objects are in one,
            chance leaves some out. COCO has up to 93.
        shortest: int, the least short side of an image, pixels.
        process_index, process_count: ints; each process gets its equal part
            of every batch.
        group: int, how many images in a row are all wider than high, or all
            not: canvases then fit them. Those of a process if `None`.
        canvas: `"tight"`, the least that holds all images of a batch, as in
            mmdetection; or `"fixed"`, one of three, so that what is compiled
            for each shape is compiled three times.
        on_error: `"skip"` takes the next image in place of one that cannot be
            read, and warns; `"raise"` ends with its name.
        loader: `"tf"` for `tf.data`, `"python"` for threads without
            TensorFlow, `None` for `tf.data` on the TensorFlow backend.

    Attributes:
        steps_per_epoch: int; images of a last batch that is not full are left
            out.
        steps: int, of all epochs.
        skipped: dict from names of images that could not be read to reasons.

    Raises:
        ValueError: for arguments that do not fit each other, and if there are
            fewer images than one batch.

    Examples:
        >>> train, _ = keras_convnext.data.open_objects(
        ...     "coco"
        ... )  # doctest: +SKIP
        >>> loader = keras_convnext.data.ObjectLoader(
        ...     train, batch_size=16
        ... )  # doctest: +SKIP
        >>> inputs, targets = loader[0]  # doctest: +SKIP
        >>> targets["boxes"].shape  # doctest: +SKIP
        (16, 100, 4)
    """

    @in_range
    def __init__(
        self,
        source: ObjectSource | ObjectSubset,
        batch_size: Count = 16,
        epochs: Count = 1,
        seed: Seed = 0,
        scales: RandomScales | None = None,
        max_objects: Count = 100,
        shortest: CountOrZero = 32,
        process_index: CountOrZero = 0,
        process_count: Count = 1,
        group: Count | None = None,
        canvas: str = "tight",
        on_error: str = "skip",
        loader: str | None = None,
    ):
        super().__init__()
        one_of("canvas", canvas, CANVASES)
        check_process(process_index, process_count)
        part = part_of(batch_size, "process_count", process_count)
        self.group = part if group is None else group
        part_of(batch_size, "group", self.group)
        self.source = trainable(source, shortest)
        self.batch_size, self.seed = batch_size, seed
        self.scales = RandomScales() if scales is None else scales
        self.max_objects, self.canvas = max_objects, canvas
        self.loader = loader_of(loader)
        self.epoch = 0
        self._part = slice(process_index * part, (process_index + 1) * part)
        self._count = part
        self.steps_per_epoch = len(self._order(0)) // batch_size
        self.steps = self.steps_per_epoch * epochs
        if not self.steps:
            raise ValueError(
                "Training leaves out a last batch that is not full. Received: "
                f"batch_size={batch_size} and {len(self.source)} images. Take "
                "a smaller one, or add images"
            )
        short, long = batching.tight([self.scales.largest])
        planes = 3 + max_objects * self.source.has_masks
        check_memory(int(short * long * planes), "An image with its masks")
        self._reader = Reader(self.source, on_error)
        self.skipped = self._reader.skipped
        self._pool = ThreadPoolExecutor(WORKERS)

    def __len__(self) -> int:
        return self.steps_per_epoch

    def __getitem__(self, index: int) -> Batch:
        return self.make(self.epoch, index)

    def on_epoch_end(self) -> None:
        self.epoch += 1

    def batches(self, first_step: int = 0) -> Iterable[Any]:
        """All batches from a step on, to the end of the last epoch.

        Args:
            first_step: int, counted over all epochs.

        Returns:
            A `tf.data.Dataset`, or an iterator over NumPy arrays, for
            `model.fit(..., steps_per_epoch=..., shuffle=False)`.
        """

        def make(step):
            return self.make(*divmod(step, self.steps_per_epoch))

        steps = range(first_step, self.steps)
        return by_step(make, steps, self.loader, self._specs)

    def make(self, epoch: int, index: int) -> Batch:
        """A batch by its number in an epoch."""
        start = index * self.batch_size
        order = self._order(epoch)[start : start + self.batch_size]
        numbers = order.tolist()
        first = (epoch * self.steps_per_epoch + index) * self.batch_size
        seeds = [(self.seed, first + i) for i in range(len(numbers))]
        # Of the whole batch: all processes must have one shape.
        sizes = [
            size_after(self._steps(x, seed)) for x, seed in zip(numbers, seeds)
        ]
        canvas = batching.tight(sizes)
        if self.canvas == "fixed":
            canvas = batching.fixed(sizes, self.scales.largest)

        def sample(number, seed):
            return self._reader.read_near(number, self._with(seed))

        part = numbers[self._part], seeds[self._part]
        samples = [*self._pool.map(sample, *part)]
        return batching.batch(samples, canvas, self.max_objects)

    @property
    def _tells_masked(self):
        return self.source.has_masks and not self.source.has_all_masks

    def _with(self, seed):
        def sample(image, number):
            pixels = image if isinstance(image, np.ndarray) else image.pixels()
            return batching.sample(
                pixels,
                self.source.objects(number),
                self._steps(number, seed),
                self.max_objects,
                self.source.has_masks,
                self._tells_masked,
                seed,
            )

        return sample

    def _steps(self, number, seed):
        return self.scales.steps(*self.source.sizes[number].tolist(), seed)

    def _order(self, epoch):
        heights, widths = self.source.sizes.T
        is_wide = widths > heights
        return batching.grouped_order(is_wide, self.group, self.seed, epoch)

    def _specs(self):
        def spec(dtype, *shape):
            return keras.InputSpec(dtype=dtype, shape=(self._count, *shape))

        rows = self.max_objects
        masks = {}
        if self.source.has_masks:
            masks["masks"] = spec("uint8", rows, None, None)
        if self._tells_masked:
            masks["masked"] = spec("bool", rows)
        return (
            {
                "images": spec("uint8", None, None, 3),
                "image_sizes": spec("int32", 2),
                "original_sizes": spec("int32", 2),
            },
            {
                "boxes": spec("float32", rows, 4),
                "classes": spec("int32", rows),
                "valid": spec("bool", rows),
                **masks,
            },
        )
