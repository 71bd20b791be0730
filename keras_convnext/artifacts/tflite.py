"""TFLite files for LiteRT: built-in operations only."""

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from keras_convnext.artifacts import metadata as metadata_
from keras_convnext.artifacts import saved_model

CALIBRATION_IMAGES = 500


def write(model, options, metadata, path, representative_data=None):
    """Converts through a SavedModel of batch size 1."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        saved_model.write_function(model, options, metadata, folder, batch=1)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=[saved_model.SERVING]
        )
        _configure(tf, converter, options, representative_data)
        content = converter.convert()
    path.write_bytes(_finished(content, metadata))


def _configure(tf, converter, options, representative_data):
    spec = converter.target_spec
    spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if options.quantization is None:
        return
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if options.quantization == "float16":
        spec.supported_types = [tf.float16]
    if options.quantization != "int8":
        return
    spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    images = representative_data[:CALIBRATION_IMAGES]
    converter.representative_dataset = lambda: (
        {"image": image[None]} for image in images
    )
    converter.inference_input_type = tf.uint8
    converter.inference_output_type = tf.int8


def _finished(content, metadata):
    """The file with our entry among its `metadata`, and our order of outputs;
    the converter sorts them by name."""
    schema, flatbuffers = _schema()
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(metadata.encode(), "uint8")
    entry = schema.MetadataT()
    entry.name = metadata_.KEY
    entry.buffer = len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    tensors = {x.name: x.tensorIndex for x in model.signatureDefs[0].outputs}
    names = metadata_.from_json(metadata)["outputs"]
    model.subgraphs[0].outputs = [tensors[name.encode()] for name in names]
    builder = flatbuffers.Builder(len(content) + len(metadata))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def read_metadata(path):
    """The text that `write` added, or `None`."""
    model = _read(path)
    for i in range(model.MetadataLength()):
        entry = model.Metadata(i)
        if entry.Name().decode() == metadata_.KEY:
            values = model.Buffers(entry.Buffer()).DataAsNumpy()
            return values.tobytes().decode()
    return None


def operations(path):
    """How often each operation occurs in the file."""
    schema, _ = _schema()
    names = {
        code: name
        for name, code in vars(schema.BuiltinOperator).items()
        if isinstance(code, int)
    }
    model = _read(path)
    codes = [model.OperatorCodes(i) for i in range(model.OperatorCodesLength())]
    graph = model.Subgraphs(0)
    used = [
        codes[graph.Operators(i).OpcodeIndex()]
        for i in range(graph.OperatorsLength())
    ]
    return Counter(
        names[max(x.BuiltinCode(), x.DeprecatedBuiltinCode())] for x in used
    )


def _read(path):
    schema, _ = _schema()
    return schema.Model.GetRootAs(Path(path).read_bytes(), 0)


def _schema():
    import flatbuffers
    from ai_edge_litert import schema_py_generated

    return schema_py_generated, flatbuffers
