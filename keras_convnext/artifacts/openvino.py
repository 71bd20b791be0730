"""OpenVINO IR, by way of ONNX: from every backend."""

import tempfile
from pathlib import Path

from keras_convnext.artifacts import metadata as metadata_
from keras_convnext.artifacts import onnx
from keras_convnext.artifacts.requirements import require


def write(model, options, metadata, path, representative_data=None):
    """Writes `path` (`.xml`) and the weights beside it (`.bin`)."""
    openvino = require("openvino")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        onnx.write(model, options, metadata, file)
        converted = openvino.convert_model(file)
        converted.set_rt_info(metadata, metadata_.KEY)
        openvino.save_model(converted, path, compress_to_fp16=False)
