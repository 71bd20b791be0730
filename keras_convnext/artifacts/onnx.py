"""ONNX files from every backend: of most models by the onnx package alone."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import onnx

from keras_convnext._util.writing import writing
from keras_convnext.artifacts import graph
from keras_convnext.artifacts import metadata
from keras_convnext.artifacts import onnx_converted
from keras_convnext.artifacts import onnx_graph
from keras_convnext.artifacts import onnx_precision
from keras_convnext.layers import forms
from keras_convnext.models import rebuilding

# Protocol buffers end at 2 GiB; the nodes need some of it.
EXTERNAL_DATA_BYTES = 2**31 - 2**24
INLINE_BYTES = 1024
# By what a file of float32 becomes a graph of fewer bits.
PRECISIONS = {
    "float16": onnx_precision.to_float16,
    "int8_weight_only": onnx_precision.with_int8_weights,
}


def write(exportable, path, images=None):
    """Writes a model; returns the name of what converted it, if anything did.

    Layers that have no form here are left to a converter, with the whole model:
    parts by both would each need their types and shapes told.
    """
    try:
        proto, converter = to_onnx(exportable), None
    except forms.UnknownInOnnx as unknown:
        proto = onnx_converted.converted(exportable, unknown)
        converter = onnx_converted.CONVERTER
    finish(proto, exportable, path, images)
    return converter


def finish(proto, exportable, path, images=None):
    """Writes a graph of float32, in the precision that is asked for."""
    onnx.helper.set_model_props(proto, {metadata.KEY: exportable.text})
    quantization = exportable.metadata["quantization"]
    if quantization is None:
        save(proto, path)
        return
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / path.name
        save(proto, source)
        if quantization == "int8":
            onnx_precision.quantize(source, path, images)
        else:
            save(PRECISIONS[quantization](source), path)


def to_onnx(exportable):
    """The model as an `onnx.ModelProto`."""
    model = exportable.lean
    g = onnx_graph.Graph(reserved=("image", *exportable.outputs))
    image = graph.image(model, exportable.size)
    results = trace(g, model, image, _entrance(g, exportable))
    outputs = []
    for name in exportable.outputs:
        result = results[name]
        g.add("Identity", result.name, output=name)
        outputs.append(_value(name, result.dtype, result.shape[1:]))
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


@dataclass(frozen=True)
class Traced:
    """An output of a model, and its name in the graph."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


def trace(g, model, tensor, name):
    """Writes a model's layers; a `Traced` for each of its outputs.

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
            if len(layer.inputs) > 1:
                raise forms.unknown_in_onnx(layer, "of several inputs")
            inner = rebuilding.functional(layer)
            (x,) = keras.tree.flatten(inputs)
            given = keras.Input(x.shape[1:], dtype=x.dtype)
            traced = trace(g, inner, given, *keras.tree.flatten(xs))
            name = keras.tree.map_structure(lambda x: x.name, traced)
        else:
            name = onnx_graph.write_layer(g, layer, *xs)
        outputs = step(*inputs, **kwargs)
        alive.append(outputs)  # or other tensors take their identities
        pairs = zip(keras.tree.flatten(outputs), keras.tree.flatten(name))
        names.update((id(output), own) for output, own in pairs)
        return outputs

    copy = rebuilding.rebuild(model, tensor, rebuilding.step, visit)
    return keras.tree.map_structure(
        lambda x: Traced(names[id(x)], tuple(x.shape), x.dtype),
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
