"""ONNX files: from every backend, with nothing but the onnx package."""

import keras
import numpy as np

from keras_convnext.artifacts import graph
from keras_convnext.artifacts import onnx_graph
from keras_convnext.artifacts.requirements import require
from keras_convnext.models import inspection

# Protocol buffers end at 2 GiB; the nodes need some of it.
EXTERNAL_DATA_BYTES = 2**31 - 2**24
INLINE_BYTES = 1024


def write(model, options, metadata, path, representative_data=None):
    """Writes a float model, and quantises it where that is asked for."""
    onnx = require("onnx")
    proto, values = to_onnx(model, options)
    onnx.helper.set_model_props(proto, {"keras_convnext": metadata})
    if options.quantization != "int8":
        save(proto, values, path)
        return
    from keras_convnext.artifacts import onnx_quantization

    unquantised = path.with_name(f"float_{path.name}")
    save(proto, values, unquantised)
    onnx_quantization.quantise(unquantised, path, representative_data)
    for file in path.parent.glob(f"{unquantised.name}*"):
        file.unlink()


def to_onnx(model, options):
    """The model without its constants, and those by name."""
    onnx = require("onnx")
    named = graph.named(model, options.features)
    g = onnx_graph.Graph(reserved=("image", *named.output))
    outputs = []
    image = graph.image(named, options.size)
    results = trace(g, named, image, _door(g, model, options))
    for name in graph.named_outputs(model, options.features):
        result, shape = results[name]
        g.add("Identity", result, output=name)
        shape = ["batch", *shape[1:]]
        outputs.append(_value(onnx, name, "float32", shape))
    channels = inspection.image_shape(model)[2]
    shape = graph.to_layout(*options.size, channels, options.data_format)
    image = _value(onnx, "image", options.input_dtype, ["batch", *shape])
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
            inner = graph.functional(layer)
            given = keras.Input(inputs.shape[1:], dtype=inputs.dtype)
            name, _ = trace(g, inner, given, x)
        else:
            name = onnx_graph.write_layer(g, layer, x)
        output = step(inputs, **kwargs)
        alive.append(output)  # or another tensor takes its identity
        names[id(output)] = name
        return output

    copy = graph.rebuild(model, tensor, graph.step, visit)
    return keras.tree.map_structure(
        lambda output: (names[id(output)], tuple(output.shape)), copy.output
    )


def save(proto, values, path):
    """Checks and writes; the weights of large models beside the file."""
    onnx = require("onnx")
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


def _door(g, model, options):
    """From the artefact's input to the model's."""
    x = "image"
    if options.input_dtype == "uint8":
        x = g.add("Cast", x, to=onnx_graph.FLOAT)
    if options.data_format != inspection.data_format(model):
        to_last = options.data_format == "channels_first"
        perm = onnx_graph.LAST if to_last else onnx_graph.FIRST
        x = g.add("Transpose", x, perm=perm)
    return x


def _value(onnx, name, dtype, shape):
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return onnx.helper.make_tensor_value_info(name, kind, shape)
