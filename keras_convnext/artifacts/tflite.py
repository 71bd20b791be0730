"""TFLite files for LiteRT: built-in operations only."""

import hashlib
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from keras_convnext._util.writing import writing
from keras_convnext.artifacts import metadata
from keras_convnext.artifacts import saved_model

CALIBRATION_IMAGES = 500
# In front of the SHA-256 of the file with zeros in place of these digits.
# LiteRT does not check what it reads: damaged files end the process.
MARK = b"keras_convnext SHA-256: "
NO_DIGEST = b"0" * 64
CHECKSUM = f"{metadata.KEY}.sha256"


def write(exportable, path, images=None):
    """Converts through a SavedModel."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        saved_model.write(exportable, folder)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=[saved_model.SERVING]
        )
        _configure(tf, converter, exportable.metadata["quantization"], images)
        content = converter.convert()
    with writing(path):
        path.write_bytes(_finished(content, exportable))


def _configure(tf, converter, quantization, images):
    spec = converter.target_spec
    spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if quantization is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantization == "float16":
        spec.supported_types = [tf.float16]
    if quantization == "int8":
        spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        images = images[:CALIBRATION_IMAGES]
        converter.representative_dataset = lambda: (
            {"image": image[None]} for image in images
        )
        converter.inference_input_type = tf.uint8
        converter.inference_output_type = tf.int8


def _finished(content, exportable):
    """The file with our entry among its `metadata`, and our order of outputs;
    the converter sorts them by name."""
    schema, flatbuffers = _schema()
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    entries = {
        metadata.KEY: exportable.text.encode(),
        CHECKSUM: MARK + NO_DIGEST,
    }
    for name, value in entries.items():
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(value, "uint8")
        entry = schema.MetadataT()
        entry.name = name
        entry.buffer = len(model.buffers)
        model.buffers.append(buffer)
        model.metadata = [*(model.metadata or []), entry]
    tensors = {x.name: x.tensorIndex for x in model.signatureDefs[0].outputs}
    model.subgraphs[0].outputs = [
        tensors[name.encode()] for name in exportable.outputs
    ]
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    finished = bytes(builder.Output())
    digest = hashlib.sha256(finished).hexdigest().encode()
    return finished.replace(MARK + NO_DIGEST, MARK + digest)


def read_metadata(path):
    """The text that `write` added; `None` for files of others.

    Raises:
        ValueError: for a file that is not as it was written.
    """
    content = path.read_bytes()
    before, mark, after = content.partition(MARK)
    if not mark:
        return None
    digest, after = after[: len(NO_DIGEST)], after[len(NO_DIGEST) :]
    found = hashlib.sha256(before + mark + NO_DIGEST + after).hexdigest()
    if found.encode() != digest:
        raise ValueError("its content is not that of its checksum")
    model = _parsed(content)
    for entry in model.metadata or []:
        if entry.name == metadata.KEY.encode():
            return bytes(model.buffers[entry.buffer].data).decode()
    raise ValueError("it has a checksum and no metadata")


def operations(path):
    """How often each operation occurs in the file."""
    schema, _ = _schema()
    names = {
        code: name
        for name, code in vars(schema.BuiltinOperator).items()
        if isinstance(code, int)
    }
    model = _parsed(Path(path).read_bytes())
    kinds = [
        model.operatorCodes[x.opcodeIndex] for x in model.subgraphs[0].operators
    ]
    return Counter(
        names[max(x.builtinCode, x.deprecatedBuiltinCode)] for x in kinds
    )


def _parsed(content):
    schema, _ = _schema()
    return schema.ModelT.InitFromPackedBuf(content, 0)


def _schema():
    import flatbuffers
    from ai_edge_litert import schema_py_generated

    return schema_py_generated, flatbuffers
