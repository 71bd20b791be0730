"""Weight files from one layout to another, bit for bit."""

import io
import shutil
import warnings
import zipfile
from pathlib import Path

from keras_convnext._util import checks
from keras_convnext._util.annotations import PathLike
from keras_convnext._util.requirements import require
from keras_convnext._util.writing import check_writable
from keras_convnext._util.writing import written_aside
from keras_convnext.facts.layer_names import HEAD_WITH_WEIGHTS
from keras_convnext.facts.layer_names import Part
from keras_convnext.facts.variants import LISTED_BY
from keras_convnext.facts.variants import VARIANTS
from keras_convnext.weights import choosing
from keras_convnext.weights import detection_tables
from keras_convnext.weights import files
from keras_convnext.weights import layouts
from keras_convnext.weights import loading

# Of whole detectors; all else takes a detector's backbone.
DETECTORS = ("official_mmdet", "mmdet")
TARGETS = (
    *("keras", "official", "timm", "transformers", "torchvision"),
    *("mmpretrain", "fcmae", *DETECTORS),
)
# What PyTorch files hold the tensors in.
WRAPPERS = {
    "official": "model",
    "official_isotropic": "model",
    "fcmae": "model",
    "official_mmdet": "state_dict",
    "mmdet": "state_dict",
}
EXTENSIONS = {
    "keras": (".keras", ".weights.h5", ".safetensors"),
    "others": (".safetensors", ".pth", ".pt", ".bin"),
}


def convert_weights(
    source: PathLike,
    target: PathLike,
    to: str = "keras",
    model: str | None = None,
    overwrite: bool = False,
) -> str:
    """Writes the weights of one file in another package's layout.

    Args:
        source: path of a weight file in any layout that `weights=` takes;
            `#name` behind it chooses one of several models in it.
        target: path to write; its extension says the container: `.keras`,
            `.weights.h5`, `.safetensors`, `.pth`, `.pt` or `.bin`.
        to: `"keras"`, `"official"`, `"timm"`, `"transformers"`,
            `"torchvision"`, `"mmpretrain"` or `"fcmae"`, the official
            repository's checkpoint of masked pre-training, which has no head.
            Of detectors these write the backbone. The whole detector is
            `"official_mmdet"`, for mmdet 2 with the official repository's
            backbone, or `"mmdet"`, for mmdet 3.
        model: name of the variant; `None` to recognize it.
        overwrite: whether `target` may exist.

    Returns:
        The name of the variant.

    Raises:
        ValueError: for files that do not fit, or that exist.
        ImportError: for PyTorch containers without torch.
        OSError: if the target cannot be written; what stood there stays.

    Examples:
        >>> keras_convnext.convert_weights(
        ...     "fine_tuned.keras", "fine_tuned.safetensors", to="timm"
        ... )  # doctest: +SKIP
    """
    target = Path(target)
    _check_target(target, to, overwrite)
    if model is not None:
        checks.one_of("model", model, VARIANTS, LISTED_BY)
    path, choice = files.split_choice(source)
    file = files.read(path)
    variant = VARIANTS[model] if model else file.info.variant
    found = choosing.choose(file.groups, variant, path, choice)
    variant = variant or recognize_variant(found)
    if to in DETECTORS:
        task = next(iter(detection_tables.HEADS))  # whose layouts are all's
        found = choosing.choose(file.groups, variant, path, choice, task)
    converted = found.of(variant)
    tensors = converted.tensors
    if to not in DETECTORS and _is_backbone(converted):
        warnings.warn(f"{loading.left_out(path, converted)}.", stacklevel=2)
    else:
        tensors = {**tensors, **converted.beside}
    check_complete(tensors, variant, source, to)
    with written_aside(target) as unfinished:
        _write(unfinished, tensors, to, variant, file)
    return variant.name


def recognize_variant(found):
    """The variant that has exactly these names, widths and kernel sizes.

    Raises:
        ValueError: if there is none, asking for a name.
    """
    for variant in VARIANTS.values():
        converted = found.of(variant)
        is_all = not converted.beside or _is_backbone(converted)
        if is_all and layouts.fits(converted.tensors, variant):
            return variant
    raise ValueError(
        "The file holds no variant of `keras_convnext.list_models()`. Give "
        "its `model` name, or save a custom model as `.keras`, which knows "
        f"what it is. Received: layout {found.place.layout!r} with "
        f"{len(found.all)} tensors"
    )


def _is_backbone(converted):
    """Whether it is one of a detector or the like, without a classifier."""
    kernel = f"{Part.HEAD_CLASSIFIER}/kernel"
    return bool(converted.beside) and kernel not in converted.tensors


def check_complete(tensors, variant, source, to="keras"):
    """Every tensor of the variant is there, and no other."""
    if to in DETECTORS:
        expected, what = _of_detector(tensors, variant), "a detector on "
    else:
        expected, what = layouts.pairs("keras", variant), ""
    problems = _problems(tensors, [pair.ours for pair in expected])
    if problems:
        raise ValueError(
            f"The file does not hold {what}{variant.name!r}. Received: "
            f"{source} with {'; '.join(problems[:6])}"
        )


def _of_detector(tensors, variant):
    """The pairs of the detector that most of the tensors are of."""
    parts = {name.split("/")[0] for name in tensors}
    heads = {
        task: {part for _, part, _ in rows}
        for task, rows in detection_tables.HEADS.items()
    }
    own = max(heads.values(), key=lambda x: len(x & parts))
    others = set.union(*heads.values()) - own
    for pair in layouts.pairs("keras_detector", variant):
        if pair.ours.split("/")[0] not in others:
            yield pair


def _problems(names, expected):
    missing = [
        f"missing {name}"
        for name in expected
        if name not in names and name.split("/")[0] not in HEAD_WITH_WEIGHTS
    ]
    unexpected = [f"unexpected {name}" for name in set(names) - set(expected)]
    return missing + sorted(unexpected)


def _check_target(target, to, overwrite):
    checks.one_of("to", to, TARGETS)
    allowed = EXTENSIONS["keras" if to == "keras" else "others"]
    if not target.name.endswith(allowed):
        raise ValueError(
            f"The target must end in one of {list(allowed)} for {to!r}. "
            f"Received: {target}"
        )
    if target.exists() and not overwrite:
        raise ValueError(
            "The target exists: pass `overwrite=True` (`--force`) to replace "
            f"it. Received: {target}"
        )
    if not target.parent.is_dir():
        raise ValueError(f"The target's folder must exist. Received: {target}")
    check_writable(target)


def _write(path, tensors, to, variant, file):
    if to == "keras":
        if path.name.endswith(".safetensors"):
            files.write_safetensors(path, tensors)
        else:
            _write_keras(path, tensors, variant, file)
        return
    if to == "official" and len(variant.depths) == 1:
        to = "official_isotropic"
    if to == "fcmae":
        tensors = _without_head(tensors)
    converted = layouts.to_layout(tensors, to, variant)
    if path.suffix == ".safetensors":
        files.write_safetensors(path, converted)
    else:
        _write_torch(path, converted, WRAPPERS.get(to))


def _without_head(tensors):
    """Of which masked pre-training knows nothing."""
    heads = {x for x in tensors if x.split("/")[0] in HEAD_WITH_WEIGHTS}
    if f"{Part.HEAD_CLASSIFIER}/kernel" in heads:
        warnings.warn(
            "The layout 'fcmae' has no place for a classifier: it was left "
            "out.",
            stacklevel=4,
        )
    return {name: x for name, x in tensors.items() if name not in heads}


def _write_torch(path, tensors, wrapper):
    torch = require(
        "torch",
        "writing PyTorch files",
        "choose a target that ends in `.safetensors`",
    )

    def as_tensor(array):
        # Copied: torch warns of arrays that it may not write to.
        if array.dtype == "bfloat16":  # which torch does not take from NumPy
            bits = torch.from_numpy(array.copy().view("uint16"))
            return bits.view(torch.bfloat16)
        return torch.from_numpy(array.copy())

    state = {name: as_tensor(x) for name, x in tensors.items()}
    # Writing to a full disk itself, PyTorch ends the process.
    content = io.BytesIO()
    torch.save({wrapper: state} if wrapper else state, content)
    path.write_bytes(content.getbuffer())


def _write_keras(path, tensors, variant, file):
    from keras_convnext.models.construction import build

    source = loading.Source(str(path), tensors, file.info, file.release)
    stem = next(name for name in loading.STEM_KERNELS if name in tensors)
    channels = tensors[stem].shape[2]
    model = build(
        variant,
        weights=source,
        include_top=source.classes is not None,
        input_shape=(None, None, channels),
        classifier_activation=None,
        include_preprocessing=file.normalizes
        and (channels == 3 or file.info.preprocessing is not None),
    )
    if path.suffix == ".keras":
        model.save(path)
        return
    # HDF5 ends the process where it finds the disk full. Into a `.keras` file
    # Keras puts the same weights by way of memory.
    whole = path.with_name("whole.keras")
    model.save(whole)
    with (
        zipfile.ZipFile(whole) as archive,
        archive.open("model.weights.h5") as weights,
        open(path, "wb") as file,
    ):
        shutil.copyfileobj(weights, file)
