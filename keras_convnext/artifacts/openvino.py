"""OpenVINO IR, by way of ONNX: from every backend."""

import tempfile
from pathlib import Path

from keras_convnext._util.requirements import require
from keras_convnext._util.writing import writing
from keras_convnext.artifacts import metadata
from keras_convnext.artifacts import onnx


def write(exportable, path, images=None):
    """Writes `path` (`.xml`) and the weights beside it (`.bin`); returns as
    `onnx.write`."""
    openvino = require("openvino", "OpenVINO files")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        converter = onnx.write(exportable, file)
        converted = openvino.convert_model(file)
        converted.set_rt_info(exportable.text, metadata.KEY)
        with writing(path):
            openvino.save_model(converted, path, compress_to_fp16=False)
    return converter
