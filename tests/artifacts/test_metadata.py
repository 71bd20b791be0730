"""Damaged metadata is refused when a file is opened, not when it is used."""

import json

import pytest

import keras_convnext
from keras_convnext.artifacts import metadata

pytestmark = pytest.mark.once

WRONG = {
    "model": [7, None],
    "label_set": [1],
    "classes": [{}, [["0"]], [[0, "cat"]], ["ab"]],
    "preprocessing": [
        "crop",
        {"crop_pct": 1.0},
        {"image_size": [32, "x"]},
        {"image_size": 32},
        {"image_size": [32, 32], "mean": [None]},
        {"image_size": [32, 32], "std": [0.0, 1.0, 1.0]},
        {"image_size": [32, 32], "crop_mode": "centre"},
        {"image_size": [32, 32], "interpolation": None},
    ],
    "normalizes": [1, None],
    "data_format": ["NCHW", {}],
    "input_dtype": ["float13", ["float32"]],
    "size": [None, 32, [32], [32, 0], [32, 32.0]],
    "channels": [0, "3", True],
    "outputs": [None, "scores", [1]],
    "activation": [{}],
}


@pytest.fixture(scope="module")
def whole():
    model = keras_convnext.ConvNeXt((1,), (8,), input_shape=(32, 32, 3))
    return json.loads(metadata.to_json(metadata.of_model(model)))


def test_whole_metadata_is_read(whole):
    values = metadata.from_json(json.dumps(whole))
    assert values["preprocessing"].image_size == (32, 32)
    assert set(WRONG) == set(metadata.FIELDS)


@pytest.mark.parametrize("field", WRONG)
def test_wrong_field_is_named(whole, field):
    for value in WRONG[field]:
        with pytest.raises(ValueError, match="metadata|`") as error:
            metadata.from_json(json.dumps({**whole, field: value}))
        assert repr(value) in str(error.value) or field == "preprocessing"
    rest = {name: value for name, value in whole.items() if name != field}
    with pytest.raises(ValueError, match=f"the metadata lacks {field}"):
        metadata.from_json(json.dumps(rest))


@pytest.mark.parametrize("value", [0.5, ["0.5"], [2.0], [True], [None]])
def test_thresholds_may_be_missing_but_not_wrong(whole, value):
    earlier = {name: x for name, x in whole.items() if name != "thresholds"}
    assert metadata.from_json(json.dumps(earlier))["thresholds"] is None
    with pytest.raises(ValueError, match="metadata has thresholds="):
        metadata.from_json(json.dumps({**whole, "thresholds": value}))


@pytest.mark.parametrize("value", ["1.5", 0, -1.0, True, [2.0]])
def test_a_temperature_may_be_missing_but_not_wrong(whole, value):
    earlier = {name: x for name, x in whole.items() if name != "temperature"}
    assert metadata.from_json(json.dumps(earlier))["temperature"] is None
    with pytest.raises(ValueError, match="metadata has temperature="):
        metadata.from_json(json.dumps({**whole, "temperature": value}))


@pytest.mark.parametrize("text", ["{", "[]", "null", "7"])
def test_metadata_that_is_no_object(text):
    with pytest.raises(ValueError):
        metadata.from_json(text)
