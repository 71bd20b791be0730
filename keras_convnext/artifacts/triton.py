"""Folders for Triton Inference Server: an ONNX file, and how to serve it.

Source: the fields of `ModelConfig` in `model_config.proto` of
triton-inference-server/common.
"""

import json

import onnx

from keras_convnext._util.writing import writing
from keras_convnext.artifacts import metadata as embedded
from keras_convnext.artifacts import onnx as onnx_files
from keras_convnext.artifacts.formats import FORMATS
from keras_convnext.artifacts.formats import MODEL_FILE

LABELS = "labels.txt"
# Triton has no default above 1 that batches.
MAX_BATCH_SIZE = 32
# As long as a first image may wait for others.
QUEUE_DELAY_MICROSECONDS = 5000
TYPES = {
    onnx.TensorProto.FLOAT: "TYPE_FP32",
    onnx.TensorProto.UINT8: "TYPE_UINT8",
}
# Without a name: a model is called like its folder, which may be renamed.
CONFIG = """\
backend: "onnxruntime"
max_batch_size: {size}
input [
  {input}
]
output [
  {outputs}
]
dynamic_batching {{ max_queue_delay_microseconds: {delay} }}
parameters {{ key: "{key}" value {{ string_value: {metadata} }} }}
"""


def write(exportable, path, images=None):
    """Writes the model's folder, which belongs into a model repository;
    returns as `onnx.write`."""
    file = path / "1" / MODEL_FILE
    with writing(path):
        file.parent.mkdir(parents=True)
    converter = onnx_files.write(exportable, file, images)
    classes = exportable.metadata["classes"]
    graph = onnx.load(file, load_external_data=False).graph
    with writing(path):
        if classes:
            lines = [" ".join(name.split()) + "\n" for _, name in classes]
            (path / LABELS).write_text("".join(lines), encoding="utf-8")
        config = path / FORMATS["triton"].inside
        text = _config(graph, exportable.metadata, bool(classes))
        config.write_text(text, encoding="utf-8")
    return converter


def _config(graph, metadata, has_labels):
    """The text of `config.pbtxt`."""
    outputs = [
        _tensor(x, has_labels and x.name in ("logits", "scores"))
        for x in graph.output
    ]
    # The labels are in a file of their own.
    told = {key: x for key, x in metadata.items() if key != "classes"}
    return CONFIG.format(
        size=MAX_BATCH_SIZE,
        input=_tensor(graph.input[0]),
        outputs=",\n  ".join(outputs),
        delay=QUEUE_DELAY_MICROSECONDS,
        key=embedded.KEY,
        metadata=_text(embedded.to_json(told)),
    )


def _tensor(value, has_labels=False):
    """One input or output; Triton adds the axis of the batch itself."""
    tensor = value.type.tensor_type
    dims = [x.dim_value or -1 for x in tensor.shape.dim[1:]]
    labels = f' label_filename: "{LABELS}"' if has_labels else ""
    return (
        f"{{ name: {_text(value.name)} data_type: {TYPES[tensor.elem_type]} "
        f"dims: {dims}{labels} }}"
    )


def _text(value):
    """A string of protobuf's text format, which has the escapes of JSON."""
    return json.dumps(value, ensure_ascii=False)
