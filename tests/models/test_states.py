"""What Keras does to a model's layers, and every function that takes one.

A cell either computes what the changed model does, or is refused with the
remedy.
"""

import functools

import keras
import numpy as np
import pytest
from conftest import COMPILES
from conftest import long_where_compiled
from conftest import predict
from conftest import random_images
from families import every_weight_matters

import keras_convnext
from keras_convnext import artifacts
from keras_convnext import convert_weights
from keras_convnext import evaluate
from keras_convnext import export
from keras_convnext import feature_pyramid
from keras_convnext import imagenet1k_from_22k
from keras_convnext import optimize_for_inference
from keras_convnext import profile
from keras_convnext import rematerialized
from keras_convnext import visualize
from keras_convnext.data import Arrays
from keras_convnext.models.class_selection import CLASSES_22K

IMAGES = random_images((4, 32, 32, 3))
PROJECTIONS = ("_expand", "_project")
pytestmark = pytest.mark.filterwarnings(
    "ignore:Layer .* does not have a `quantize`"
)


def built(**options):
    """A small model in which every weight matters."""
    options = {"classes": 5, "classifier_activation": None, **options}
    model = keras_convnext.ConvNeXt(
        (1, 1), (8, 16), input_shape=(32, 32, 3), **options
    )
    return model if "weights" in options else every_weight_matters(model)


# States: functions that change a model, or return another.


def quantized(mode, model):
    model.quantize(mode)


def with_lora(model):
    generator = np.random.default_rng(1)
    for layer in model.layers:
        if hasattr(layer, "enable_lora"):
            layer.enable_lora(rank=2, lora_alpha=6)
            for weight in (layer.lora_kernel_a, layer.lora_kernel_b):
                weight.assign(0.2 * generator.normal(size=weight.shape))


def frozen(model):
    model.trainable = False


def regularized(model):
    for layer in model.layers:
        if layer.name.endswith(PROJECTIONS):
            layer.kernel_regularizer = keras.regularizers.L2(0.1)
            layer.activity_regularizer = keras.regularizers.L2(0.1)


def in_other_policies(model):
    """One layer rounds."""
    layer = model.get_layer("stage_0_block_0_expand")
    layer.dtype_policy = keras.DTypePolicy("mixed_bfloat16")


def with_activations(model):
    """Behind the dense layers, also the one before a layer scale."""
    for layer in model.layers:
        if layer.name.endswith(PROJECTIONS):
            layer.activation = keras.activations.tanh


QUANTIZED = ("int8", "int4", "float8")
STATES = {
    **{mode: functools.partial(quantized, mode) for mode in QUANTIZED},
    "lora": with_lora,
    "frozen": frozen,
    "rematerialized": rematerialized,
    "regularized": regularized,
    "policy": in_other_policies,
    "activation": with_activations,
}


def merged(model):
    """LoRA added to the kernels by hand."""
    plain = built(classes=model.output_shape[-1])
    for layer in model.layers:
        if getattr(layer, "lora_enabled", False):
            kernel, bias, a, b = layer.get_weights()
            update = 6 / 2 * np.tensordot(a, b, 1)
            plain.get_layer(layer.name).set_weights([kernel + update, bias])
    return plain


# Functions: of the changed model and a plain one that computes the same, or
# but for rounding.


def check_equal(found, expected, tolerance=2e-5):
    assert np.std(expected) > 1e-3
    atol = tolerance * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


def check_outputs(found, model, tolerance=2e-5):
    check_equal(predict(found, IMAGES), predict(model, IMAGES), tolerance)


def optimizes(model, plain, folder):
    check_outputs(optimize_for_inference(model), model)


def is_exported(format, ending, model, plain, folder):
    path = folder / f"model{ending}"
    export(model, path, format, verbose=False)
    found = artifacts.open_artifact(path).run(IMAGES)["logits"]
    check_equal(found, predict(model, IMAGES), 1e-3)


def is_profiled(model, plain, folder):
    found, expected = profile(model), profile(plain)
    for name in ("parameters", "macs", "activations"):
        assert getattr(found, name) == getattr(expected, name)


def is_loaded(ending, model, plain, folder):
    path = folder / f"model{ending}"
    save = model.save if ending == ".keras" else model.save_weights
    save(path)
    check_outputs(built(weights=path), plain)


def is_converted(model, plain, folder):
    model.save(folder / "model.keras")
    convert_weights(folder / "model.keras", folder / "timm.pth", "timm")
    check_outputs(built(weights=folder / "timm.pth"), plain)


def is_explained(model, plain, folder):
    heat, classes = visualize.grad_cam(model, IMAGES)
    expected, answers = visualize.grad_cam(plain, IMAGES, classes)
    assert heat.max() > 0.9
    np.testing.assert_allclose(heat, expected, atol=0.4)
    assert visualize.explanation(model, IMAGES[0], top=1)


def is_drawn(model, plain, folder):
    found, expected = (
        visualize.filters(x, "stem_conv") for x in (model, plain)
    )
    for axis, own in zip(expected.axes, found.axes, strict=True):
        for image, other in zip(axis.images, own.images, strict=True):
            np.testing.assert_allclose(
                other.get_array(), image.get_array(), atol=1e-5
            )
    assert visualize.feature_maps(model, IMAGES[0], "stage_1_block_0_add")


def has_a_pyramid(model, plain, folder):
    found = predict_dict(feature_pyramid(model, ("P2", "P3")))
    for level, expected in predict_dict(
        feature_pyramid(plain, ("P2", "P3"))
    ).items():
        check_equal(found[level], expected, 0.2)


def predict_dict(model):
    outputs = model(IMAGES, training=False)
    return {name: keras.ops.convert_to_numpy(x) for name, x in outputs.items()}


def rematerializes(model, plain, folder):
    check_outputs(rematerialized(model), model)


def is_evaluated(model, plain, folder):
    labels = predict(model, IMAGES).argmax(-1)
    source = Arrays(IMAGES.astype("uint8"), labels, "abcde")
    assert evaluate(model, source, verbose=False).accuracy["top1"] == 1


OPTIMIZE = "optimize_for_inference"
FUNCTIONS = {
    OPTIMIZE: optimizes,
    "export to ONNX": functools.partial(is_exported, "onnx", ".onnx"),
    "export to torch": functools.partial(is_exported, "torch", ".pt2"),
    "export to TFLite": functools.partial(is_exported, "tflite", ".tflite"),
    "export to a SavedModel": functools.partial(is_exported, "saved_model", ""),
    "export to OpenVINO": functools.partial(is_exported, "openvino", ".xml"),
    "profile": is_profiled,
    "weights= of .keras": functools.partial(is_loaded, ".keras"),
    "weights= of .weights.h5": functools.partial(is_loaded, ".weights.h5"),
    "convert_weights": is_converted,
    "explain": is_explained,
    "visualize": is_drawn,
    "feature_pyramid": has_a_pyramid,
    "rematerialized": rematerializes,
    "evaluate": is_evaluated,
}
OF_FLOATS = ("optimize", "export", "weights", "convert")
OF_PLAIN_GRAPHS = ("explain", "visualize", "feature_pyramid", "rematerialized")


def remedy_of(state, function):
    """Words of the error that a cell ends in, or `None`."""
    if state in QUANTIZED and function.startswith(OF_FLOATS):
        return "before `quantize`.*quantization='int8', representative_data="
    if state == "rematerialized" and function == "rematerialized":
        return "not rematerialized yet"
    if state == "rematerialized" and function in OF_PLAIN_GRAPHS:
        return "Pass the model that `rematerialized` was given"
    is_tensorflow = keras.backend.backend() == "tensorflow"
    if (state, function, is_tensorflow) == ("float8", "explain", True):
        return "float8 has none for TensorFlow"
    return None


# Another process with TensorFlow, or a compilation, for each.
SLOW = [
    "export to torch",
    "export to TFLite",
    "export to a SavedModel",
    "export to OpenVINO",
]
# Quantizing takes seconds, and one check refuses it everywhere.
QUICK_OF_QUANTIZED = {
    "int8": ("convert_weights", "export to ONNX", "explain"),
    "int4": ("profile",),
    "float8": ("weights= of .keras", "explain"),
}
QUICK_WHERE_COMPILED = [
    ("lora", OPTIMIZE),
    ("int8", OPTIMIZE),
]


def cells():
    for state in STATES:
        for function in FUNCTIONS:
            is_long = function in SLOW and not remedy_of(state, function)
            if state in QUANTIZED and function != OPTIMIZE:
                is_long |= function not in QUICK_OF_QUANTIZED[state]
            if COMPILES:
                is_long = (state, function) not in QUICK_WHERE_COMPILED
            marks = [pytest.mark.long] if is_long else []
            yield pytest.param(state, function, marks=marks)


@pytest.mark.parametrize("state, function", list(cells()))
def test_a_state_passes_through_or_is_refused(state, function, tmp_path):
    model = built()
    model = STATES[state](model) or model
    plain = merged(model) if state == "lora" else built()
    of_weights = function.startswith(("weights", "convert"))
    if state in ("policy", "activation") and not of_weights:
        # It is the layers' configuration that makes the difference.
        plain = model
    run = FUNCTIONS[function]
    if remedy := remedy_of(state, function):
        with pytest.raises(ValueError, match=remedy):
            run(model, plain, tmp_path)
    else:
        run(model, plain, tmp_path)


def test_regularizers_are_of_no_use_to_inference():
    model = built()
    regularized(model)
    optimized = optimize_for_inference(model)
    layer = optimized.get_layer("stage_0_block_0_expand")
    assert layer.activity_regularizer is layer.kernel_regularizer is None


@long_where_compiled
def test_classes_of_imagenet1k_are_cut_out_of_lora():
    model = built(classes=CLASSES_22K)
    with_lora(model)
    expected = predict(imagenet1k_from_22k(merged(model)), IMAGES)
    check_equal(predict(imagenet1k_from_22k(model), IMAGES), expected)


def test_classes_of_imagenet1k_are_not_cut_out_of_int8():
    model = built(classes=CLASSES_22K)
    model.quantize("int8")
    with pytest.raises(ValueError, match="before `quantize`"):
        imagenet1k_from_22k(model)


@long_where_compiled
def test_scores_of_a_rematerialized_model_come_from_its_own_graph(tmp_path):
    """Its layers know the graph of the model that it shares them with."""
    model = built(classifier_activation="softmax")
    lean = rematerialized(model)
    labels = predict(model, IMAGES).argmax(-1)
    found = evaluate(
        lean, Arrays(IMAGES.astype("uint8"), labels), verbose=False
    )
    assert found.cross_entropy is not None
    report = export(lean, tmp_path / "m.onnx", verbose=False)
    assert report.difference <= report.bound


@long_where_compiled
@pytest.mark.parametrize("dtype", ["bfloat16", "mixed_bfloat16"])
def test_lora_in_half_precision_is_exported(dtype, tmp_path):
    model = built(dtype=dtype)
    with_lora(model)
    report = export(model, tmp_path / "m.onnx", verbose=False)
    assert report.difference <= report.bound


@long_where_compiled
def test_nested_models_are_looked_into(tmp_path):
    """LoRA and quantization inside of a user's own model."""
    backbone = built(include_top=False)
    image = keras.Input((32, 32, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(backbone(image))
    model = keras.Model(image, keras.layers.Dense(3)(pooled))
    with_lora(backbone)
    with_lora(model)
    check_outputs(optimize_for_inference(model), model)
    report = export(model, tmp_path / "m.onnx", verbose=False)
    assert report.difference <= report.bound
    again = built(include_top=False)
    again.quantize("int8")
    with pytest.raises(ValueError, match="before `quantize`"):
        optimize_for_inference(keras.Model(image, again(image)))
