"""Shared fixtures. One process tests one backend: set `KERAS_BACKEND`."""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if os.environ.get("KERAS_BACKEND") == "jax":
    # Fused kernels take the longest to compile, and run for milliseconds here.
    # Read once, when JAX starts.
    flag = "--xla_cpu_use_fusion_emitters=false"
    os.environ.setdefault("XLA_FLAGS", flag)

import keras
import numpy as np
import pytest

# TensorFlow and JAX compile each variant of a case anew, which takes most of a
# test's time: some are for `make test-long` there, by mark or as decorator.
COMPILES = keras.backend.backend() != "torch"
LONG_WHERE_COMPILED = [pytest.mark.long] if COMPILES else []


def long_where_compiled(test):
    return pytest.mark.long(test) if COMPILES else test


def pytest_report_header():
    return f"keras {keras.__version__} on {keras.backend.backend()}"


@pytest.fixture(autouse=True)
def clean_keras_settings():
    """Global settings of Keras are put back, and random draws repeat."""
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")
    keras.config.set_image_data_format("channels_last")


@pytest.fixture
def float64():
    """JAX computes in float64 only when told so."""
    if keras.backend.backend() != "jax":
        yield
        return
    import jax

    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.fixture
def images():
    """Two random images of 64×64 pixels with values of 0–255."""
    return random_images((2, 64, 64, 3))


@pytest.fixture
def run_command(monkeypatch, capsys):
    """Runs `keras-convnext` as a shell would: `(status, stdout, stderr)`."""
    from keras_convnext import cli

    def run(*arguments):
        arguments = ["keras-convnext", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", arguments)
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit:
            cli.main()
        return exit.value.code or 0, *capsys.readouterr()

    return run


def random_images(shape):
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, shape).astype("float32")


def predict(model, images):
    """Logits or features as NumPy, without the cost of `model.predict`."""
    return keras.ops.convert_to_numpy(model(images, training=False))
