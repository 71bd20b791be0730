"""ONNX files may take weights from files beside them, and no others."""

import numpy as np
import pytest

from keras_convnext import open_artifact

pytestmark = pytest.mark.once


@pytest.mark.parametrize("location", ["../secret", "{folder}/secret"])
def test_onnx_files_read_nothing_outside_their_folder(location, tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    secret = np.arange(4, dtype="float32")
    (tmp_path / "secret").write_bytes(secret.tobytes())
    weight = onnx.TensorProto(
        name="w", data_type=1, dims=[4], data_location="EXTERNAL"
    )
    place = location.format(folder=tmp_path)
    weight.external_data.add(key="location", value=place)
    image, output = (
        onnx.helper.make_tensor_value_info(name, 1, [4])
        for name in ("image", "logits")
    )
    add = onnx.helper.make_node("Add", ["image", "w"], ["logits"])
    graph = onnx.helper.make_graph([add], "g", [image], [output], [weight])
    opset = onnx.helper.make_opsetid("", 17)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)
    path = tmp_path / "inner" / "m.onnx"
    path.parent.mkdir()
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match=r"m\.onnx'.*cannot be opened"):
        open_artifact(path)
