"""What can run a model: one row for each engine."""

import functools
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from keras_convnext._util.requirements import is_installed
from keras_convnext._util.requirements import missing
from keras_convnext.artifacts import graph
from keras_convnext.artifacts import running
from keras_convnext.artifacts.acceleration.prepared import Prepared
from keras_convnext.models import rebuilding
from keras_convnext.models.graph_execution import predictor
from keras_convnext.models.inference import optimize_for_inference

QUANTIZATIONS = ("bfloat16", "int8")
# The engine that is the model itself.
MODEL = "keras"
COMPILERS = ("g++", "clang++", "cl")


@dataclass(frozen=True)
class Engine:
    """One engine.

    Attributes:
        open: function of a `Prepared` and a quantization, which returns one
            from a batch to a mapping of all outputs by name.
        needs: modules, of `requirements.PACKAGES`.
        quantizations: beside `None`, which is float32.
        backend: that it runs on; `None` for any.
        compiles: whether it takes a C++ compiler.
    """

    open: Callable[[Prepared, str | None], Callable[[Any], Any]]
    needs: tuple[str, ...] = ()
    quantizations: tuple[str, ...] = ()
    backend: str | None = None
    compiles: bool = False


def _open_keras(prepared, _):
    return predictor(prepared.named)


def _open_optimized(prepared, _):
    model = graph.named(optimize_for_inference(prepared.exportable.model))
    if prepared.is_resized:
        image = graph.image(model, prepared.exportable.size)
        model = rebuilding.rebuild(model, image, rebuilding.step)
    return predictor(model)


def _open_onnxruntime(prepared, quantization):
    _, run = running.open_onnx(prepared.file(quantization), prepared.threads)
    return run


def _open_openvino(prepared, quantization):
    """Compiled for the shape of the first batch, which is 4 % faster there;
    once more for batches of any other shape, when the first of them comes."""
    hint = "bf16" if quantization == "bfloat16" else "f32"
    threads, first = prepared.threads, None
    model = running.read_openvino(prepared.file(quantization))

    @functools.cache
    def compiled(shape):
        return running.compile_openvino(model, shape, threads, hint)

    def run(images):
        nonlocal first
        first = first or images.shape
        return compiled(first if images.shape == first else None)(images)

    return run


def _open_inductor(prepared, _):
    """PyTorch's compiler, which packs the weights once."""
    import torch

    from keras_convnext.artifacts.torch import program_of

    program = program_of(prepared.exportable).module()
    compiled = torch.compile(program, dynamic=True, options={"freezing": True})

    def run(inputs):
        # Freezing is for `no_grad`: it does not see `inference_mode`.
        with torch.no_grad():
            return compiled(torch.from_numpy(inputs))

    return run


# What opens soonest first: the others must beat it.
ENGINES = {
    MODEL: Engine(_open_keras),
    "optimized": Engine(_open_optimized),
    "onnxruntime": Engine(
        _open_onnxruntime, ("onnxruntime", "onnx"), ("int8",)
    ),
    "openvino": Engine(_open_openvino, ("openvino", "onnx"), QUANTIZATIONS),
    "inductor": Engine(
        _open_inductor, ("torch",), backend="torch", compiles=True
    ),
}


def entrants():
    """Names of the engines that race here, installed or not.

    What compiles takes minutes in each process, and was not faster than those
    that are installed: it runs where there are none.
    """
    here = (None, keras.backend.backend())
    names = [name for name, x in ENGINES.items() if x.backend in here]
    quick = [x for x in names if ENGINES[x].needs and not ENGINES[x].compiles]
    if any(obstacle(x) is None for x in quick):
        names = [x for x in names if not ENGINES[x].compiles]
    return names


def obstacle(name):
    """Why an engine cannot run here, and what to do; `None` if it can."""
    engine = ENGINES[name]
    for module in engine.needs:
        if not is_installed(module):
            purpose = f"the engine {name!r}"
            return missing(module, purpose, extras=["export"])
    if engine.backend not in (None, keras.backend.backend()):
        return ValueError(
            f"The engine {name!r} runs models of the {engine.backend} backend. "
            f"Received: {keras.backend.backend()}. Set KERAS_BACKEND to "
            f"{engine.backend}, or take another engine"
        )
    compilers = (os.environ.get("CXX"), *COMPILERS)
    if engine.compiles and not any(shutil.which(x) for x in compilers if x):
        return ValueError(
            f"The engine {name!r} takes a C++ compiler. Received: none of "
            f"{list(COMPILERS)}. Install one, or take another engine"
        )
    return None


def quantization_of(name, wanted):
    """What an engine computes in: what is wanted, or `None` (float32)."""
    return wanted if wanted in ENGINES[name].quantizations else None
