"""ONNX graphs of models with layers that have no ONNX form here: by tf2onnx.

It takes TensorFlow, so on other backends a process of its own. torch's exporter
would need neither there, but fixes the size of images where a layer computes
with it.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import onnx

from keras_convnext._util.requirements import is_installed
from keras_convnext._util.requirements import missing
from keras_convnext._util.telling import tell
from keras_convnext.artifacts import handover

CONVERTER = "tf2onnx"
OPSET = 18  # the last that it writes


def converted(exportable, unknown):
    """The model as an `onnx.ModelProto`, on every backend.

    Args:
        exportable: the `Exportable`.
        unknown: the `forms.UnknownInOnnx` of a layer.
    """
    for module in (CONVERTER, "tensorflow"):
        if not is_installed(module):
            purpose = f"ONNX files with layers such as {unknown.layer}"
            raise missing(module, purpose, extras=["export"])
    tell(
        f"keras-convnext: {CONVERTER} converts the model, as this has no ONNX "
        f"form here: {unknown.layer}"
    )
    format = __name__.rpartition(".")[2]  # this module, for the other process
    exportable = replace(exportable, format=format)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        if keras.backend.backend() == "tensorflow":
            write(exportable, path)
        else:
            handover.write("tensorflow", exportable, path, None)
        return onnx.load(path)


def write(exportable, path, images=None):
    """Writes float32, on TensorFlow."""
    import tensorflow as tf
    import tf2onnx

    from keras_convnext.artifacts import tf_graph

    image = tf.TensorSpec(
        (None, *exportable.input_shape),
        exportable.metadata["input_dtype"],
        name="image",
    )
    function = tf.function(
        tf_graph.forward(exportable), input_signature=[image]
    )
    proto, _ = tf2onnx.convert.from_function(
        function,
        input_signature=[image],
        opset=OPSET,
        custom_op_handlers={"Erfc": (_write_erfc, [])},
    )
    _check_operations(proto)
    _set_interface(proto.graph, exportable.outputs)
    path.write_bytes(proto.SerializeToString())


def _write_erfc(context, node, name, _):
    """1 − erf(x): TensorFlow's GELU, which tf2onnx 1.17 does not know."""
    (x,), (output,) = node.input, node.output
    shapes, dtypes = [context.get_shape(output)], [context.get_dtype(output)]
    context.remove_node(node.name)
    one = context.make_const(f"{name}_one", np.float32(1))
    erf = context.make_node("Erf", [x], name=f"{name}_erf")
    context.make_node(
        "Sub",
        [one.output[0], erf.output[0]],
        outputs=[output],
        name=name,
        shapes=shapes,
        dtypes=dtypes,
    )


def _check_operations(proto):
    """tf2onnx leaves what it does not know as it was, and logs that."""
    known = {x.domain: x.version for x in proto.opset_import}
    others = {
        node.op_type
        for node in proto.graph.node
        if not onnx.defs.has(node.op_type, known[node.domain], node.domain)
    }
    if others:
        raise ValueError(
            f"Expected layers whose operations {CONVERTER} converts. Received: "
            f"some with TensorFlow's {sorted(others)}. Export to "
            "'saved_model', or a model without these layers"
        )


def _set_interface(graph, names):
    """Our order of outputs, for batches of any size."""
    outputs = {value.name: value for value in graph.output}
    del graph.output[:]
    graph.output.extend(outputs[name] for name in names)
    for value in (*graph.input, *graph.output):
        if dims := value.type.tensor_type.shape.dim:
            dims[0].dim_param = "batch"
