"""Compiles one row of the table, and prints its figures as JSON."""

import json
import sys
import time

import jax
from keras import ops

from keras_convnext import distribution
from keras_convnext.facts.layer_names import parse
from keras_convnext.layers import DepthwiseConv2D
from keras_convnext.layers.jax_functions import compiling_for
from keras_convnext.training.distribution import compiling
from keras_convnext.training.distribution import hlo

BATCH = 64
MOST = 12


def step(row):
    """A training step: all figures, and the bytes that its parts move."""
    plan = distribution.compiled_plan(**row)
    found = plan.as_dict()
    found["parts"] = parts(plan.program.text) if plan.program.text else {}
    return found


def parts(text):
    """Bytes as laid out, bytes of numbers and cycles, by part of the model.

    The parts that move most have names, and the others are one.
    """
    sums = {}
    for one in hlo.traffic(text):
        key = part_of(one.label) or f"other {one.opcode}"
        taken = one.padded, one.size, one.cycles
        before = sums.get(key, (0, 0, 0))
        sums[key] = tuple(map(sum, zip(before, taken)))
    ordered = sorted(sums.items(), key=lambda item: -item[1][0])
    most, others = ordered[:MOST], [taken for _, taken in ordered[MOST:]]
    return {**dict(most), "others": [sum(x) for x in zip(*others)] or [0] * 3}


def part_of(label):
    """Stage, part and direction of the layer that an operation is of."""
    # The last: a block that is computed again has its layers inside.
    for segment in reversed(label.split("/")):
        name = parse(segment.rstrip(")").split("(")[-1])
        if name.part in (None, ""):
            continue
        direction = "backward" if "transpose(" in label else "forward"
        return f"{name.scope} {name.part} {direction}".strip()
    return "optimizer" if "adamw" in label else ""


def form(row):
    """A depthwise convolution: forward, and forward and backward."""
    chip, (device,) = compiling.devices_of("v5e:1x1")
    dtype, side, channels = row["dtype"], row["side"], row["channels"]
    shape = BATCH, side, side, channels
    layer = DepthwiseConv2D(7, implementation=row["form"], dtype=dtype)
    layer.build(shape)
    place = jax.sharding.SingleDeviceSharding(device)

    def array(shape):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=place)

    def forward(kernel, bias, images):
        outputs, _ = layer.stateless_call([kernel, bias], [], images)
        return outputs

    def backward(kernel, bias, images, gradient):
        outputs, pull = jax.vjp(forward, kernel, bias, images)
        return outputs, pull(ops.cast(gradient, outputs.dtype))

    weights = array((7, 7, channels, 1)), array((channels,))
    images = array(shape)
    return {
        "forward": _compiled(forward, *weights, images),
        "training": _compiled(backward, *weights, images, images),
    }


def _compiled(function, *shapes):
    began = time.process_time()
    with compiling_for("tpu"):
        program = jax.jit(function).lower(*shapes).compile()
    memory, costs = program.memory_analysis(), program.cost_analysis()
    return {
        "temporaries": memory.temp_size_in_bytes,
        "arguments": memory.argument_size_in_bytes,
        "results": memory.output_size_in_bytes,
        "flops": costs["flops"],
        "bytes_accessed": costs["bytes accessed"],
        "seconds": time.process_time() - began,
    }


if __name__ == "__main__":
    kind, row = sys.argv[1:]
    work = {"steps": step, "forms": form}[kind]
    print(json.dumps(work(json.loads(row))))
