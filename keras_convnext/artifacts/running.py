"""Whatever a model was exported to, opened and run in the same way."""

import functools
from collections import Counter
from collections.abc import Callable
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from keras_convnext._util.annotations import Array
from keras_convnext._util.annotations import PathLike
from keras_convnext._util.checks import all_numbers
from keras_convnext._util.requirements import require
from keras_convnext.artifacts import graph
from keras_convnext.artifacts import keras_file
from keras_convnext.artifacts import measuring
from keras_convnext.artifacts import metadata as embedded
from keras_convnext.artifacts import saved_model_graph
from keras_convnext.artifacts import tflite
from keras_convnext.artifacts import torch_archive
from keras_convnext.artifacts.formats import FORMATS
from keras_convnext.artifacts.formats import MODEL_FILE
from keras_convnext.facts import labels
from keras_convnext.images.levels import check_levels
from keras_convnext.images.preprocessing import Preprocessing
from keras_convnext.models import inspection
from keras_convnext.models import rebuilding


def open_artifact(path: PathLike, trust: bool = False) -> "Artifact":
    """Opens a `.keras` file, or what `keras_convnext.export` wrote.

    Args:
        path: of a `.keras`, `.onnx`, `.tflite`, `.xml` (OpenVINO) or `.pt2`
            file, or of the folder of a SavedModel or a web page. Of a folder
            with numbered versions, as TensorFlow Serving and Triton have, the
            newest.
        trust: whether to open what can run code: `.pt2` files with pickles
            or operations of other packages, `.keras` files with `Lambda`
            layers, SavedModels whose operations read or write files.

    Returns:
        An `Artifact`.

    Raises:
        ValueError: if it is none of these, is damaged, was not written by
            this package, or would run code.
        ImportError: without the package that runs it, with the extra.

    Examples:
        >>> artifact = open_artifact("model.onnx")  # doctest: +SKIP
        >>> artifact.predict(images).argmax(axis=1)  # doctest: +SKIP
    """
    path = newest_version(path)
    kind = "" if path.is_dir() else path.suffix
    if kind not in RUNTIMES or _is_other_folder(path):
        raise ValueError(
            "Expected a file that ends in one of "
            f"{[x for x in RUNTIMES if x]}, or the folder of a SavedModel. "
            f"Received: {str(path)!r}"
        )
    if not path.exists():
        raise ValueError(f"The file must exist. Received: {str(path)!r}")
    if kind == ".keras":
        return of_model(keras_file.load(path, trust), path)
    try:
        code = None if trust else CODE.get(kind, lambda _: None)(path)
        if code is None:
            return Artifact(path, *RUNTIMES[kind](path))
    except (ImportError, NotOurs):
        raise
    except Exception as error:  # each runtime has its own
        format_ = f"a whole `{kind}` file" if kind else "a whole SavedModel"
        raise keras_file.unreadable(path, format_, error) from error
    raise ValueError(
        "Expected a model that runs no code and touches no files. Received: "
        f"{str(path)!r} with {code}. Export it again, or if you trust who "
        "made it, pass `trust=True` (`--trust`)"
    )


class NotOurs(ValueError):
    """A whole file that this package did not write."""


class Artifact:
    """A model in some runtime.

    Args:
        path: what messages call it; of a file a `Path`.
        metadata: the dict of `metadata.of_model`; `None` raises.
        run: function from what `run` takes to a mapping of its outputs.
        resize: function from a size to the same for images of that size;
            `None` where the file holds one.
        model: the Keras model that runs, or `None` of an exported file.

    Attributes:
        metadata, model: as given.

    Raises:
        ValueError: without metadata.
    """

    def __init__(
        self,
        path: PathLike,
        metadata: dict[str, Any] | None,
        run: Callable[[Array], Any],
        resize: Callable[[tuple[int, int]], "Artifact"] | None = None,
        model: Any = None,
    ):
        if metadata is None:
            raise NotOurs(
                "Expected a file that `keras_convnext.export` wrote, with its "
                f"preprocessing and classes inside. Received: {str(path)!r}"
            )
        self.path, self.metadata, self._run = path, metadata, run
        self._resize, self.model = resize, model

    @property
    def preprocessing(self) -> Preprocessing | None:
        """The `Preprocessing` of the images, or `None`."""
        return self.metadata["preprocessing"]

    def at_size(self, size: tuple[int, int]) -> "Artifact":
        """The same for images of another height and width, if it can be."""
        own = self.metadata["size"]
        if all(x in (None, side) for x, side in zip(own, size)):
            return self
        if self._resize is None:
            raise ValueError(
                "An exported model takes images of its own size, "
                f"{tuple(own)}. Received: image_size={tuple(size)} for "
                f"{str(self.path)!r}. Export it again for that size, or for "
                "'dynamic'"
            )
        return self._resize(size)

    def run(self, inputs: Array) -> dict[str, Array]:
        """Every output by name, for inputs as the artifact takes them.

        Args:
            inputs: array `(n, ...)` in `metadata["data_format"]` and
                `metadata["input_dtype"]`.

        Returns:
            A dict from names to float arrays `(n, ...)`.

        Raises:
            ValueError: for inputs that it cannot take.
        """
        try:
            outputs = self._run(inputs)
            names = self.metadata["outputs"]
            return {name: np.asarray(outputs[name]) for name in names}
        except Exception as error:  # each runtime has its own
            raise ValueError(
                f"{str(self.path)!r} cannot run on inputs of shape "
                f"{np.shape(inputs)} ({' '.join(str(error).split())[:300]}). "
                f"It takes {self.metadata['data_format']} images of size "
                f"{self.metadata['size']}; if these are, export it again"
            ) from error

    def outputs_of(self, images: Array) -> dict[str, Array]:
        """Every output by name, for images of 0–255, channels last.

        Args:
            images: array `(n, height, width, channels)`.

        Returns:
            A dict from names to float arrays `(n, ...)`.

        Raises:
            ValueError: for images that it cannot take.
        """
        return self.run(embedded.inputs(self.metadata, images))

    def predict(self, images: Array) -> Array:
        """Probabilities, or whatever else the classifier's activation gives.

        Of a model of regression the numbers, in the units of their targets.

        Args:
            images: array `(n, height, width, channels)` of 0–255; floats of
                0–1 are told of, once.

        Returns:
            Array `(n, classes)` or `(n, targets)`; logits are put through a
            softmax.

        Raises:
            ValueError: without a classifier, and for outputs that are no
                numbers.
        """
        names = self.metadata["outputs"]
        is_detector = embedded.is_detector(names)
        if is_detector or not set(embedded.HEADS) & set(names):
            raise ValueError(
                "Expected a model with its classifier. Received: "
                f"{str(self.path)!r} with outputs {names}. `run` returns them"
            )
        check_levels(images, "`Artifact.predict`")
        outputs = self.outputs_of(images)
        for name, array in outputs.items():
            all_numbers(f"The output {name!r} of {str(self.path)!r}", array)
        for name in ("scores", "values"):
            if name in outputs:
                return outputs[name]
        return labels.softmax(outputs["logits"])

    def named(
        self, scores: Array, numbers: Iterable[int]
    ) -> list[dict[str, Any]]:
        """Some classes of one image in words.

        Args:
            scores: array `(classes,)`, a row of `predict`.
            numbers: of the classes.

        Returns:
            For each class a dict with `class`, its name or else its number;
            `id`, a WordNet id or else its number; and `score`, a float.
        """
        classes = self.metadata["classes"] or [
            (str(index), str(index)) for index in range(len(scores))
        ]
        return [
            {
                "class": classes[number][1],
                "id": classes[number][0],
                "score": float(scores[number]),
            }
            for number in numbers
        ]


def of_model(model, name, size=None):
    """The `Artifact` of a Keras model in this process, on its backend.

    Args:
        model: a Functional `keras.Model`; `ValueError` for others.
        name: what messages call it.
        size: height and width of the images; the model's own if `None`.
    """
    graph.check(model)
    named = graph.named(model)
    if size is not None:
        inspection.check_size(model, size)
        image = graph.image(model, size)
        named = rebuilding.rebuild(named, image, rebuilding.step)
    return Artifact(
        name,
        embedded.of_model(model, size),
        named.predict_on_batch,
        functools.partial(of_model, model, name),
        model,
    )


def open_onnx(path, threads=0):
    """An ONNX file in ONNX Runtime, on the CPU.

    Args:
        threads: as many as ONNX Runtime takes, if 0.
    """
    onnxruntime = require("onnxruntime", "ONNX files")
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    settings.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        str(path), settings, providers=["CPUExecutionProvider"]
    )
    entries = session.get_modelmeta().custom_metadata_map
    names = [output.name for output in session.get_outputs()]

    def run(inputs):
        return dict(zip(names, session.run(names, {"image": inputs})))

    return embedded.from_json(entries.get(embedded.KEY)), run


def _open_tflite(path):
    """A TFLite file in the LiteRT interpreter, image by image where it has
    that batch."""
    litert = require("ai_edge_litert.interpreter", "TFLite files")
    metadata = embedded.from_json(tflite.read_metadata(path))
    if metadata is None:
        return None, None
    serve = litert.Interpreter(str(path)).get_signature_runner()
    (image_details,) = serve.get_input_details().values()
    details = serve.get_output_details()
    is_any = image_details["shape_signature"][0] == -1

    def run(inputs):
        batches = [inputs] if is_any else np.split(inputs, len(inputs))
        results = [
            serve(image=_quantized(batch, image_details)) for batch in batches
        ]
        return {
            name: np.concatenate([_dequantized(x[name], row) for x in results])
            for name, row in details.items()
        }

    return metadata, run


def _open_saved_model(path):
    """A SavedModel in TensorFlow, whatever backend Keras runs on."""
    require("tensorflow", "SavedModels")
    file = path / "assets" / embedded.FILE
    text = file.read_text(encoding="utf-8") if file.exists() else None
    run = measuring.saved_model(str(path))
    return embedded.from_json(text), run


def _open_openvino(path):
    """OpenVINO IR on the CPU, in float32."""
    model = read_openvino(path)
    info = model.get_rt_info()
    text = info[embedded.KEY].value if embedded.KEY in info else None
    return embedded.from_json(text), compile_openvino(model)


def read_openvino(path):
    """OpenVINO IR or an ONNX file as an `openvino.Model`."""
    core = _openvino_core(require("openvino", "OpenVINO files"))
    return core.read_model(path)


@functools.cache
def _openvino_core(openvino):
    """One for the process: with a second, OpenVINO 2026.4 ended by a
    segmentation fault on Ctrl-C, once programs of both had gone."""
    return openvino.Core()


def compile_openvino(model, shape=None, threads=0, precision="f32"):
    """A function from a batch to outputs by name, on the CPU.

    Args:
        model: of `read_openvino`; left as it is.
        shape: of all batches, if it is known.
        threads: as many as OpenVINO takes, if 0.
        precision: `"f32"`, or `"bf16"` where the processor has it.
    """
    if shape is not None:
        model = model.clone()
        model.reshape(list(shape))
    settings = {"INFERENCE_PRECISION_HINT": precision}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    core = _openvino_core(require("openvino", "OpenVINO files"))
    return core.compile_model(model, "CPU", settings)


def _open_torch(path):
    """A `.pt2` program in torch, whatever backend Keras runs on."""
    torch = require("torch", "`.pt2` files")
    files = {embedded.FILE: ""}
    program = torch.export.load(str(path), extra_files=files).module()

    def run(inputs):
        with torch.no_grad():
            return program(torch.from_numpy(inputs))

    return embedded.from_json(files[embedded.FILE]), run


CODE = {"": saved_model_graph.code_in, ".pt2": torch_archive.code_in}
RUNTIMES = {
    "": _open_saved_model,
    ".keras": keras_file.load,
    ".onnx": open_onnx,
    ".pt2": _open_torch,
    ".tflite": _open_tflite,
    ".xml": _open_openvino,
}


def newest_version(path: PathLike) -> Path:
    """Of a folder of versions what is in the newest; others as they are."""
    path = Path(path)
    inside = path.iterdir() if _is_other_folder(path) else ()
    folders = [x for x in inside if x.is_dir()]
    versions = {int(x.name): x for x in folders if x.name.isdecimal()}
    newest = versions[max(versions)] if versions else path
    file = newest / MODEL_FILE
    return file if file.exists() else newest


def _is_other_folder(path):
    """Whether it is a folder, and not that of a SavedModel."""
    file = path / FORMATS["saved_model"].inside
    return path.is_dir() and not file.exists()


def operations(path):
    """How often each operation is in a file; `None` where nothing tells."""
    path = newest_version(path)
    if path.suffix == ".tflite":
        return dict(tflite.operations(path))
    if path.suffix == ".onnx":
        onnx = require("onnx", "ONNX files")
        nodes = onnx.load(path, load_external_data=False).graph.node
        return dict(Counter(node.op_type for node in nodes))
    return None


def _quantized(values, details):
    scale, zero = details["quantization"]
    if not scale:
        return values.astype(details["dtype"])
    limits = np.iinfo(details["dtype"])
    levels = np.round(values / scale) + zero
    return np.clip(levels, limits.min, limits.max).astype(details["dtype"])


def _dequantized(values, details):
    scale, zero = details["quantization"]
    if not scale:
        return values
    return (values.astype("float32") - zero) * np.float32(scale)
