"""ONNX graphs of fewer bits than float32."""

import numpy as np
import onnx

CALIBRATION_IMAGES = 200
# Norms, GELU and GRN stay float: they are cheap, and their range is wide.
QUANTIZED = ("Conv", "MatMul")
# The axis of the weights along which each output has its own scale.
OUTPUT_AXES = {"Conv": 0, "ConvTranspose": 1, "MatMul": -1}
# Sums over all pixels, which float16 ends below.
FLOAT32_ONLY = ("ReduceL2",)


def to_float16(source):
    """The graph of a file in float16, with float32 in front and behind."""
    from onnxruntime.transformers import float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    blocked = [*float16.DEFAULT_OP_BLOCK_LIST, *FLOAT32_ONLY]
    half = float16.convert_float_to_float16(
        str(source), keep_io_types=True, op_block_list=blocked
    )
    # Its casts come last.
    OnnxModel.graph_topological_sort(half.graph)
    return half


def with_int8_weights(source):
    """The graph of a file with 8 bits of each weight, and their scales.

    By a cast and a product, not `DequantizeLinear`: runtimes fold these into
    the weights once. ONNX Runtime keeps the other in the graph, and a V2 Atto
    then takes twice the time.
    """
    proto = onnx.load(source)
    weights = {x.name: x for x in proto.graph.initializer}
    scaled, nodes = {}, []
    for node in proto.graph.node:
        weight = weights.get(node.input[1]) if len(node.input) > 1 else None
        axis = OUTPUT_AXES.get(node.op_type)
        if axis is not None and weight is not None:
            name = weight.name
            if name not in scaled:
                scaled[name] = f"{name}/scaled"
                scales, first = _as_int8(weight, axis), f"{name}/cast"
                scales = onnx.numpy_helper.from_array(scales, f"{name}/scales")
                proto.graph.initializer.append(scales)
                make = onnx.helper.make_node
                nodes += [
                    make("Cast", [name], [first], to=onnx.TensorProto.FLOAT),
                    make("Mul", [first, scales.name], [scaled[name]]),
                ]
            node.input[1] = scaled[name]
    nodes += proto.graph.node
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    return proto


def _as_int8(weight, axis):
    """Makes one tensor int8; its scales, to be multiplied with."""
    values = onnx.numpy_helper.to_array(weight)
    others = tuple(np.delete(np.arange(values.ndim), axis))
    largest = np.abs(values).max(axis=others, keepdims=True)
    # Of an output without weights any scale will do.
    scales = np.where(largest > 0, largest, 1) / np.float32(127)
    levels = np.round(values / scales).astype("int8")
    weight.CopyFrom(onnx.numpy_helper.from_array(levels, weight.name))
    return scales.astype("float32")


def quantize(source, target, images):
    """Writes the file `source` with int8 weights and activations, static:
    calibrated by ONNX Runtime on an array of model inputs."""
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        def __init__(self):
            self.batches = iter(images[:CALIBRATION_IMAGES, None])

        def get_next(self):
            batch = next(self.batches, None)
            return None if batch is None else {"image": batch}

    quantization.quantize_static(
        str(source),
        str(target),
        Reader(),
        quant_format=quantization.QuantFormat.QDQ,
        op_types_to_quantize=list(QUANTIZED),
        per_channel=True,
    )
