"""ONNX files: from every backend, with nothing but the onnx package."""

import tempfile
from pathlib import Path

import keras
import numpy as np
import onnx

from keras_convnext._util.writing import writing
from keras_convnext.artifacts import graph
from keras_convnext.artifacts import metadata
from keras_convnext.artifacts import onnx_graph
from keras_convnext.models import rebuilding

# Protocol buffers end at 2 GiB; the nodes need some of it.
EXTERNAL_DATA_BYTES = 2**31 - 2**24
INLINE_BYTES = 1024
CALIBRATION_IMAGES = 200
# Norms, GELU and GRN stay float: they are cheap, and their range is wide.
QUANTIZED = ("Conv", "MatMul")


def write(exportable, path, images=None):
    """Writes a float model, and quantizes it where that is asked for."""
    proto = to_onnx(exportable)
    onnx.helper.set_model_props(proto, {metadata.KEY: exportable.text})
    if exportable.metadata["quantization"] != "int8":
        save(proto, path)
        return
    with tempfile.TemporaryDirectory() as folder:
        unquantized = Path(folder) / path.name
        save(proto, unquantized)
        _quantize(unquantized, path, images)


def to_onnx(exportable):
    """The model as an `onnx.ModelProto`."""
    model = exportable.lean
    g = onnx_graph.Graph(reserved=("image", *exportable.outputs))
    image = graph.image(model, exportable.size)
    results = trace(g, model, image, _entrance(g, exportable))
    outputs = []
    for name in exportable.outputs:
        result, shape, dtype = results[name]
        g.add("Identity", result, output=name)
        outputs.append(_value(name, dtype, shape[1:]))
    dtype = exportable.metadata["input_dtype"]
    image = _value("image", dtype, exportable.input_shape)
    return onnx.helper.make_model(
        onnx.helper.make_graph(
            g.nodes, model.name, [image], outputs, g.initializers
        ),
        opset_imports=[onnx.helper.make_opsetid("", onnx_graph.OPSET)],
        ir_version=onnx_graph.IR_VERSION,
        producer_name="keras_convnext",
    )


def trace(g, model, tensor, name):
    """Writes a model's layers; name, shape and dtype of each of its outputs.

    Args:
        tensor: a `keras.Input` of the shape that the model is given.
        name: of it in the graph.
    """
    names, alive = {id(tensor): name}, []

    def visit(step, *inputs, **kwargs):
        layer = getattr(step, "layer", step)
        xs = keras.tree.map_structure(
            lambda x: names[id(x)] if isinstance(x, keras.KerasTensor) else x,
            inputs,
        )
        if isinstance(layer, keras.Model):
            inner = rebuilding.functional(layer)
            (x,) = inputs
            given = keras.Input(x.shape[1:], dtype=x.dtype)
            name, *_ = trace(g, inner, given, *xs)
        else:
            name = onnx_graph.write_layer(g, layer, *xs)
        outputs = step(*inputs, **kwargs)
        alive.append(outputs)  # or other tensors take their identities
        pairs = zip(keras.tree.flatten(outputs), keras.tree.flatten(name))
        names.update((id(output), own) for output, own in pairs)
        return outputs

    copy = rebuilding.rebuild(model, tensor, rebuilding.step, visit)
    return keras.tree.map_structure(
        lambda output: (names[id(output)], tuple(output.shape), output.dtype),
        copy.output,
    )


def save(proto, path):
    """Checks and writes; the weights of large models beside the file."""
    sizes = {x.name: len(x.raw_data) for x in proto.graph.initializer}
    if sum(sizes.values()) >= EXTERNAL_DATA_BYTES:
        for tensor in proto.graph.initializer:
            # Small ones may be axes and shapes, which the checker reads.
            if sizes[tensor.name] > INLINE_BYTES:
                onnx.external_data_helper.set_external_data(
                    tensor, f"{path.name}.data"
                )
    with writing(path):
        onnx.save(proto, path)
    onnx.checker.check_model(str(path), full_check=True)


def _quantize(source, target, images):
    """Writes `source` with int8 weights and activations, static: calibrated
    by ONNX Runtime on an array of model inputs."""
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


def _entrance(g, exportable):
    """From the artifact's input to the model's."""
    x = "image"
    if exportable.metadata["input_dtype"] == "uint8":
        x = g.add("Cast", x, to=onnx.TensorProto.FLOAT)
    if exportable.permutation:
        x = g.add("Transpose", x, perm=exportable.permutation)
    return x


def _value(name, dtype, shape):
    """A tensor for any number of images."""
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return onnx.helper.make_tensor_value_info(name, kind, ["batch", *shape])
