"""ONNX files: from every backend, with nothing but the onnx package."""

import keras
import numpy as np

from keras_convnext._util.requirements import require
from keras_convnext.artifacts import graph
from keras_convnext.artifacts import metadata
from keras_convnext.artifacts import onnx_graph
from keras_convnext.models import rebuilding

# Protocol buffers end at 2 GiB; the nodes need some of it.
EXTERNAL_DATA_BYTES = 2**31 - 2**24
INLINE_BYTES = 1024


def write(exportable, path, images=None):
    """Writes a float model, and quantizes it where that is asked for."""
    onnx = require("onnx", "ONNX files")
    proto, values = to_onnx(exportable)
    onnx.helper.set_model_props(proto, {metadata.KEY: exportable.text})
    if exportable.options.quantization != "int8":
        save(proto, values, path)
        return
    from keras_convnext.artifacts import onnx_quantization

    unquantized = path.with_name(f"float_{path.name}")
    save(proto, values, unquantized)
    onnx_quantization.quantize(unquantized, path, images)
    for file in path.parent.glob(f"{unquantized.name}*"):
        file.unlink()


def to_onnx(exportable):
    """The model without its constants, and those by name."""
    onnx = require("onnx", "ONNX files")
    options, model = exportable.options, exportable.lean
    g = onnx_graph.Graph(reserved=("image", *exportable.outputs))
    image = graph.image(model, options.size)
    results = trace(g, model, image, _entrance(g, exportable))
    outputs = []
    for name in exportable.outputs:
        result, shape = results[name]
        g.add("Identity", result, output=name)
        shape = ["batch", *shape[1:]]
        outputs.append(_value(onnx, name, "float32", shape))
    shape = ["batch", *exportable.input_shape]
    image = _value(onnx, "image", options.input_dtype, shape)
    proto = onnx.helper.make_model(
        onnx.helper.make_graph(g.nodes, model.name, [image], outputs),
        opset_imports=[onnx.helper.make_opsetid("", onnx_graph.OPSET)],
        ir_version=onnx_graph.IR_VERSION,
        producer_name="keras_convnext",
    )
    return proto, g.constants


def trace(g, model, tensor, name):
    """Writes a model's layers; the name and shape of each of its outputs.

    Args:
        tensor: a `keras.Input` of the shape that the model is given.
        name: of it in the graph.
    """
    names, alive = {id(tensor): name}, []

    def visit(step, inputs, **kwargs):
        layer = getattr(step, "layer", step)
        x = keras.tree.map_structure(lambda tensor: names[id(tensor)], inputs)
        if isinstance(layer, keras.Model):
            inner = rebuilding.functional(layer)
            given = keras.Input(inputs.shape[1:], dtype=inputs.dtype)
            name, _ = trace(g, inner, given, x)
        else:
            name = onnx_graph.write_layer(g, layer, x)
        output = step(inputs, **kwargs)
        alive.append(output)  # or another tensor takes its identity
        names[id(output)] = name
        return output

    copy = rebuilding.rebuild(model, tensor, rebuilding.step, visit)
    return keras.tree.map_structure(
        lambda output: (names[id(output)], tuple(output.shape)), copy.output
    )


def save(proto, values, path):
    """Checks and writes; the weights of large models beside the file."""
    onnx = require("onnx", "ONNX files")
    size = sum(x.nbytes for x in values.values())
    tensors = proto.graph.initializer
    if size < EXTERNAL_DATA_BYTES:
        outside = {}
    else:
        # Small ones may be axes and shapes, which the checker wants to read.
        outside = {k: x for k, x in values.items() if x.nbytes > INLINE_BYTES}
        data = path.with_name(f"{path.name}.data")
        with open(data, "wb") as file:
            tensors.extend(
                _external(onnx, name, x, data.name, file)
                for name, x in outside.items()
            )
    tensors.extend(
        onnx.numpy_helper.from_array(x, name)
        for name, x in values.items()
        if name not in outside
    )
    onnx.save(proto, path)
    onnx.checker.check_model(str(path), full_check=True)


def _external(onnx, name, values, location, file):
    """A tensor that says where in the file its values are."""
    tensor = onnx.TensorProto(
        name=name,
        dims=values.shape,
        data_type=onnx.helper.np_dtype_to_tensor_dtype(values.dtype),
        data_location=onnx.TensorProto.EXTERNAL,
    )
    for key, value in (
        ("location", location),
        ("offset", file.tell()),
        ("length", values.nbytes),
    ):
        tensor.external_data.add(key=key, value=str(value))
    file.write(values.data)
    return tensor


def _entrance(g, exportable):
    """From the artifact's input to the model's."""
    x = "image"
    if exportable.options.input_dtype == "uint8":
        x = g.add("Cast", x, to=onnx_graph.FLOAT)
    if exportable.permutation:
        x = g.add("Transpose", x, perm=exportable.permutation)
    return x


def _value(onnx, name, dtype, shape):
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return onnx.helper.make_tensor_value_info(name, kind, shape)
