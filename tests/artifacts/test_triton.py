"""A model's folder for Triton, read by protobuf as Triton would."""

import json

import numpy as np
import pytest
from conftest import LONG_WHERE_COMPILED
from exported import crops
from exported import pair
from exported import photographs
from exported import run_onnx
from google.protobuf import descriptor_pb2
from google.protobuf import descriptor_pool
from google.protobuf import message_factory
from google.protobuf import text_format
from peers import peer_logits
from runs import printed

import keras_convnext
from keras_convnext import recipes
from keras_convnext.artifacts import open_artifact

pytestmark = LONG_WHERE_COMPILED

NAMES = ['say "a"', "b\\ß\nb", *(f"kind {index}" for index in range(9))]
# The fields that Triton publishes, of those that are written: number, type.
# From `model_config_pb2` of tritonclient 2.73, read on 30 November 2026; its
# package admits no newer ml_dtypes.
FIELDS = {
    "ModelParameter": {"string_value": (1, "string")},
    "ModelInput": {
        "name": (1, "string"),
        "data_type": (2, "DataType"),
        "dims": (4, "[int64]"),
    },
    "ModelOutput": {
        "name": (1, "string"),
        "data_type": (2, "DataType"),
        "dims": (3, "[int64]"),
        "label_filename": (4, "string"),
    },
    "ModelDynamicBatching": {"max_queue_delay_microseconds": (2, "uint64")},
    "ParametersEntry": {"key": (1, "string"), "value": (2, "ModelParameter")},
    "ModelConfig": {
        "max_batch_size": (4, "int32"),
        "input": (5, "[ModelInput]"),
        "output": (6, "[ModelOutput]"),
        "dynamic_batching": (11, "ModelDynamicBatching"),
        "parameters": (14, "[ParametersEntry]"),
        "backend": (17, "string"),
    },
}
DATA_TYPES = {"TYPE_INVALID": 0, "TYPE_UINT8": 2, "TYPE_FP32": 11}


def model_config():
    """Triton's message, as far as `FIELDS` has it."""
    file = descriptor_pb2.FileDescriptorProto(
        name="triton.proto", package="inference", syntax="proto3"
    )
    enum = file.enum_type.add(name="DataType")
    for name, number in DATA_TYPES.items():
        enum.value.add(name=name, number=number)
    kind = descriptor_pb2.FieldDescriptorProto
    for name, fields in FIELDS.items():
        message = file.message_type.add(name=name)
        for field, (number, type_) in fields.items():
            plain = type_.strip("[]")
            is_list = plain != type_
            added = message.field.add(name=field, number=number)
            added.label = kind.LABEL_REPEATED if is_list else 1
            if plain in FIELDS or plain == "DataType":
                is_enum = plain == "DataType"
                added.type = kind.TYPE_ENUM if is_enum else kind.TYPE_MESSAGE
                added.type_name = f".inference.{plain}"
            else:
                added.type = getattr(kind, f"TYPE_{plain.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    descriptor = pool.FindMessageTypeByName("inference.ModelConfig")
    return message_factory.GetMessageClass(descriptor)()


def config_of(folder):
    text = (folder / "config.pbtxt").read_text(encoding="utf-8")
    return text_format.Parse(text, model_config())


def files_in(folder):
    return sorted(
        str(x.relative_to(folder)) for x in folder.rglob("*") if x.is_file()
    )


def test_triton_is_told_what_the_file_takes_and_gives(tmp_path):
    model, peer = pair("v2")
    model.class_names = NAMES
    model.save(tmp_path / "m.keras")
    folder = tmp_path / "flowers"
    said = printed(
        *("export", tmp_path / "m.keras", "--output", folder),
        *("--format", "triton"),
    )
    assert f"written: {folder}" in said
    assert files_in(folder) == ["1/model.onnx", "config.pbtxt", "labels.txt"]
    config = config_of(folder)
    assert config.backend == "onnxruntime"
    assert config.max_batch_size == 32
    assert config.dynamic_batching.max_queue_delay_microseconds == 5000
    (given,) = config.input
    assert (given.name, given.data_type) == ("image", DATA_TYPES["TYPE_FP32"])
    images = photographs().astype("float32")
    assert list(given.dims) == list(images.shape[1:])
    outputs = run_onnx(folder / "1" / "model.onnx", images)
    for told in config.output:
        assert list(told.dims) == list(outputs.pop(told.name).shape[1:])
        assert told.label_filename == "labels.txt"
    assert not outputs
    labels = (folder / "labels.txt").read_text(encoding="utf-8").splitlines()
    assert labels == ['say "a"', "b\\ß b", *NAMES[2:]]
    (entry,) = config.parameters
    told = json.loads(entry.value.string_value)
    assert entry.key == "keras_convnext" and "classes" not in told
    assert told["preprocessing"]["image_size"] == [64, 64]

    artifact = open_artifact(folder)
    assert artifact.metadata["classes"][1] == ["1", NAMES[1]]
    logits = artifact.outputs_of(photographs())["logits"]
    theirs = peer_logits(peer, photographs())
    bound = 1e-4 * max(1, np.abs(theirs).max())
    np.testing.assert_allclose(logits, theirs, atol=bound, rtol=0)


def test_bytes_of_any_size_and_numbers(tmp_path):
    """What else the configuration must say otherwise."""
    model, _ = pair("v1", input_shape=(None, None, 3))
    folder = tmp_path / "any"
    options = {"format": "triton", "verbose": False, "verify": False}
    keras_convnext.export(
        model, folder, image_size="dynamic", input_dtype="uint8", **options
    )
    (given,) = config_of(folder).input
    assert given.data_type == DATA_TYPES["TYPE_UINT8"]
    assert list(given.dims) == [-1, -1, 3]
    assert not any(x.label_filename for x in config_of(folder).output)
    assert files_in(folder) == ["1/model.onnx", "config.pbtxt"]
    # Only its own kind is replaced.
    with pytest.raises(ValueError, match="The path exists: pass `overwrite"):
        keras_convnext.export(model, folder, **options)
    keras_convnext.export(
        model, folder, image_size=64, overwrite=True, **options
    )
    assert list(config_of(folder).input[0].dims) == [64, 64, 3]
    other = tmp_path / "other"
    other.mkdir()
    (other / "saved_model.pb").touch()
    with pytest.raises(ValueError, match="Remove it yourself"):
        keras_convnext.export(model, other, overwrite=True, **options)

    model = keras_convnext.ConvNeXt(
        (1,), (8,), classes=2, patch_size=4, classifier_activation=None
    )
    model = recipes.with_units(model, [[10.0, 0.0], [14.0, 2.0]])
    model.class_names = ["age", "length"]
    keras_convnext.export(model, tmp_path / "ages", image_size=32, **options)
    (told,) = config_of(tmp_path / "ages").output
    # Its names are of no classes.
    assert (told.name, told.label_filename) == ("values", "")


@pytest.mark.long
def test_int8_is_that_of_onnx(tmp_path):
    model, _ = pair("v1")
    report = keras_convnext.export(
        model,
        tmp_path / "m",
        "triton",
        quantization="int8",
        representative_data=crops(8),
        verbose=False,
    )
    assert report.images and report.operations["DequantizeLinear"]
    assert config_of(tmp_path / "m").max_batch_size == 32


@pytest.mark.once
def test_the_newest_version_is_opened(tmp_path):
    for number in ("2", "10", "newest"):
        (tmp_path / "models" / number).mkdir(parents=True)
        (tmp_path / "models" / number / "model.onnx").touch()
    with pytest.raises(ValueError, match=r"models/10/model\.onnx"):
        open_artifact(tmp_path / "models")
    (tmp_path / "models" / "10" / "model.onnx").unlink()
    with pytest.raises(ValueError, match=r"SavedModel. Received: .*models/10"):
        open_artifact(tmp_path / "models")
