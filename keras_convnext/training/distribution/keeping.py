"""What a device has to keep while it trains, by who computes."""

import math
from dataclasses import dataclass

from keras_convnext.facts.layer_names import Part
from keras_convnext.facts.layer_names import parse
from keras_convnext.models.rematerialization import OUTSIDE

# A sum keeps none of its terms, and a card passes on what it is given.
NOTHING = (Part.DROP_PATH, Part.CARD)
NORMS = (Part.STEM_NORM, Part.DOWNSAMPLE_NORM, Part.NORM)


@dataclass(frozen=True)
class Keeping:
    """What is kept; the bytes are those of each parameter.

    Attributes:
        always, mixed, average, several, mixed_several, accumulating: dicts
            from what it is to bytes: in any training, in mixed precision, with
            a moving average, on several devices, on several in mixed
            precision, and with several micro-batches. Later ones count.
        again: parts whose outputs are computed again going backward.
        lanes: int, a whole number of them holds the channels of a position, or
            the images of a batch, whichever leaves fewer of them empty.
        pixel_bytes: of a number of the images, which are kept apart.
        statistic_bytes: of what a normalization keeps of each position.
    """

    always: dict
    mixed: dict
    average: dict
    several: dict
    mixed_several: dict
    accumulating: dict
    again: tuple
    lanes: int
    pixel_bytes: int
    statistic_bytes: int
    program_bytes: int

    def state(self, costs, devices, steps, is_mixed, average):
        """Bytes of what there is whatever the images, by name."""
        kinds = dict(self.always)
        kinds |= self.average if average else {}
        kinds |= self.mixed if is_mixed else {}
        kinds |= self.several if devices > 1 else {}
        kinds |= self.mixed_several if is_mixed and devices > 1 else {}
        kinds |= self.accumulating if steps > 1 else {}
        sizes = {name: x * costs.parameters for name, x in kinds.items()}
        if self.program_bytes:
            names = [parse(layer.name) for layer in costs.layers]
            blocks = {x.of("") for x in names if x.block is not None}
            sizes["program"] = self.program_bytes * len(blocks)
        return sizes

    def elements(self, costs, images):
        """Elements that going backward needs of one image.

        Args:
            costs: a `Profile`.
            images: int, of a batch.

        Returns:
            `(between, inside, largest)`: those between blocks, those inside of
            all blocks, and of the largest one, which is all that is kept of
            blocks when they are rematerialized.
        """
        between, blocks = 0, {}
        for layer in costs.layers:
            name = parse(layer.name)
            if name.part in NOTHING + self.again:
                continue
            *places, channels = layer.output_shape or (1,)
            size = math.prod(places) * self.filled(channels, images)
            if name.block is None or name.part in OUTSIDE:
                between += size
            else:
                block = name.of("")
                blocks[block] = blocks.get(block, 0) + size
        inside = sum(blocks.values())
        return between, inside, max(blocks.values(), default=0)

    def filled(self, channels, images):
        """Numbers that the channels of a position take, for each image."""
        whole = math.ceil(channels / self.lanes) * self.lanes
        batch = math.ceil(images / self.lanes) * self.lanes
        return min(whole, channels * batch / images)

    def statistics(self, costs):
        """Bytes of what normalizations keep of one image."""
        places = [
            math.prod(layer.output_shape[:-1])
            for layer in costs.layers
            if parse(layer.name).part in NORMS
        ]
        return self.statistic_bytes * sum(places)


# Keras keeps weights, gradients and slots in float32 under mixed precision,
# too. Going backward needs the casts of the weights as well.
LAYER_BY_LAYER = Keeping(
    always={"weights": 4, "gradients": 4, "moments": 8},
    mixed={"weights in half precision": 2},
    average={"average": 4},
    several={"all-reduce buckets": 4},  # see `gradients.AveragedGradients`
    mixed_several={},
    accumulating={"accumulated gradients": 4},
    again=(),
    lanes=1,
    pixel_bytes=0,
    statistic_bytes=0,
    program_bytes=0,  # nobody compiles one
)
# As XLA's compiler for TPUs does it, by benchmarks/tpu: gradients go into the
# weights at once where nobody else has to know them, and wait as they were
# exchanged where others do; casts are part of the products, and normalizations
# and products with a vector cost less than room.
# `for_training` asks for the activations to be computed again. Images are there
# as they come and as the stem takes them, and statistics are four numbers.
ON_TPUS = Keeping(
    always={"weights": 4, "moments": 8},
    mixed={},
    average={"average": 4},
    several={"gradients": 4},
    mixed_several={"gradients": 2},
    accumulating={"accumulated gradients": 4},
    again=(*NORMS, Part.ACTIVATION, Part.GRN, Part.LAYER_SCALE),
    lanes=128,
    pixel_bytes=4,
    statistic_bytes=16,
    program_bytes=2_000_000,
)
