"""Who takes part in the benchmark: one row each."""

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass

from keras_convnext._util.checks import did_you_mean
from keras_convnext._util.requirements import is_installed
from keras_convnext.facts.variants import VARIANTS

# The first that is installed serves where any will do.
BACKENDS = ("torch", "tensorflow", "jax")
MODES = ("inference", "training")

KERAS_APPLICATIONS = {
    "convnext_tiny": "ConvNeXtTiny",
    "convnext_small": "ConvNeXtSmall",
    "convnext_base": "ConvNeXtBase",
    "convnext_large": "ConvNeXtLarge",
    "convnext_xlarge": "ConvNeXtXLarge",
}
# Of equal size, as in table 1 of the V1 paper.
SWIN = {
    "convnext_tiny": "swin_tiny_patch4_window7_224",
    "convnext_small": "swin_small_patch4_window7_224",
    "convnext_base": "swin_base_patch4_window7_224",
    "convnext_large": "swin_large_patch4_window7_224",
}
TIMM = {
    name: name for name in VARIANTS if not name.startswith("convnext_isotropic")
}


def _is_papers(variant):
    """Whether only depths, widths and V2's GRN tell it from Tiny."""
    fields = ("kernel_sizes", "stem", "patch_size", "stem_norm", "norm")
    fields += ("epsilon", "activation", "head", "head_hidden_size")
    tiny = VARIANTS["convnext_tiny"]
    return all(getattr(variant, x) == getattr(tiny, x) for x in fields)


PAPERS = {name: name for name, x in VARIANTS.items() if _is_papers(x)}


@dataclass(frozen=True)
class Contestant:
    """What can be built and timed in a process of its own.

    Attributes:
        name: who, and on what.
        builder: `FILE:FUNCTION`, the file beside this one. The function takes
            the job (see `worker`) and returns the model.
        runs_on: Keras backend, framework or runtime; groups the chart.
        needs: modules that must be there; they are imported before the clock
            starts.
        against: name of ours that it is compared with; `None` for ours.
        models: their names for models, by ours; `None` for all by our own.
        modes: out of `MODES`.
        artifact: key of `ARTIFACTS`: the file that the builder opens.
        is_same_network: whether it computes what ours do, multiply-add by
            multiply-add.
    """

    name: str
    builder: str
    runs_on: str
    needs: tuple
    against: str | None = None
    models: dict | None = None
    modes: tuple = MODES
    artifact: str | None = None
    is_same_network: bool = True

    @property
    def is_ours(self) -> bool:
        """Whether it is this package's."""
        return self.against is None

    @property
    def missing(self) -> list[str]:
        """Names of the modules that are not installed."""
        needed = list(self.needs)
        if self.artifact:
            needed += ARTIFACTS[self.artifact].needs
        return [x for x in needed if not is_installed(x)]


@dataclass(frozen=True)
class Artifact:
    """A file that is written before the clock starts, by another process.

    Attributes:
        builder: as a contestant's; the function writes `job["path"]`.
        needs: modules that must be there to write it.
        ending: of the file.
    """

    builder: str
    needs: tuple
    ending: str


ARTIFACTS = {
    "onnx of ours": Artifact("in_keras.py:write_ours", ("onnx",), ".onnx"),
    "openvino of ours": Artifact(
        "in_keras.py:write_ours", ("onnx", "openvino"), ".xml"
    ),
    "onnx of timm": Artifact(
        "in_torch.py:write_timm", ("torch", "timm", "onnxscript"), ".onnx"
    ),
}

CONTESTANTS = {
    contestant.name: contestant
    for contestant in (
        *(
            Contestant(f"ours/{name}", "in_keras.py:Ours", name, (name,))
            for name in BACKENDS
        ),
        *(
            Contestant(
                f"ours-optimized/{name}",
                "in_keras.py:OursOptimized",
                name,
                (name,),
                modes=("inference",),
            )
            for name in BACKENDS
        ),
        *(
            Contestant(
                f"ours-accelerated/{name}",
                "in_keras.py:OursAccelerated",
                name,
                (name, "openvino", "onnxruntime"),
                modes=("inference",),
            )
            for name in BACKENDS
        ),
        Contestant(
            "ours-compiled/torch",
            "in_keras.py:OursCompiled",
            "torch",
            ("torch",),
        ),
        Contestant(
            "ours-frozen/torch",
            "in_keras.py:OursFrozen",
            "torch",
            ("torch",),
            modes=("inference",),
        ),
        *(
            Contestant(
                f"keras.applications/{name}",
                "in_keras.py:KerasApplications",
                name,
                (name,),
                f"ours/{name}",
                KERAS_APPLICATIONS,
            )
            for name in BACKENDS
        ),
        *(
            Contestant(
                f"zeromodels/{name}",
                "in_keras.py:ZeroModels",
                name,
                (name, "zeromodels"),
                f"ours/{name}",
                PAPERS,
            )
            for name in BACKENDS
        ),
        Contestant(
            "timm/eager",
            "in_torch.py:Timm",
            "torch",
            ("torch", "timm"),
            "ours/torch",
            TIMM,
        ),
        Contestant(
            "timm/channels_last",
            "in_torch.py:TimmChannelsLast",
            "torch",
            ("torch", "timm"),
            "ours/torch",
            TIMM,
        ),
        Contestant(
            "timm/compiled",
            "in_torch.py:TimmCompiled",
            "torch",
            ("torch", "timm"),
            "ours-compiled/torch",
            TIMM,
        ),
        Contestant(
            "timm/frozen",
            "in_torch.py:TimmFrozen",
            "torch",
            ("torch", "timm"),
            "ours-frozen/torch",
            TIMM,
            modes=("inference",),
        ),
        Contestant(
            "transformers/eager",
            "in_torch.py:Transformers",
            "torch",
            ("torch", "transformers"),
            "ours/torch",
            PAPERS,
        ),
        Contestant(
            "swin/eager",
            "in_torch.py:Swin",
            "torch",
            ("torch", "timm"),
            "ours/torch",
            SWIN,
            is_same_network=False,
        ),
        Contestant(
            "ours/onnxruntime",
            "in_runtimes.py:OnnxRuntimeOurs",
            "onnxruntime",
            ("onnxruntime",),
            modes=("inference",),
            artifact="onnx of ours",
        ),
        Contestant(
            "timm/onnxruntime",
            "in_runtimes.py:OnnxRuntimeTimm",
            "onnxruntime",
            ("onnxruntime",),
            "ours/onnxruntime",
            TIMM,
            modes=("inference",),
            artifact="onnx of timm",
        ),
        Contestant(
            "ours/openvino",
            "in_runtimes.py:OpenvinoOurs",
            "openvino",
            ("openvino",),
            modes=("inference",),
            artifact="openvino of ours",
        ),
        Contestant(
            "timm/openvino",
            "in_runtimes.py:OpenvinoTimm",
            "openvino",
            ("openvino",),
            "ours/openvino",
            TIMM,
            modes=("inference",),
            artifact="onnx of timm",
        ),
    )
}


def select(patterns: Iterable[str] = ()) -> list[Contestant]:
    """Contestants by shell-style patterns of their names.

    Args:
        patterns: such as `"ours/*"` or `"timm/eager"`; none stands for all.

    Returns:
        List of `Contestant`, in the table's order.

    Raises:
        ValueError: for a pattern without a match.

    Examples:
        >>> [x.name for x in select(["*/openvino"])]
        ['ours/openvino', 'timm/openvino']
    """
    patterns = list(patterns) or ["*"]
    for pattern in patterns:
        if not fnmatch.filter(CONTESTANTS, pattern):
            raise ValueError(
                "`contestant` must be the name of one or a pattern of names, "
                "see `python benchmarks/race --list`. Received: "
                f"contestant={pattern!r}{did_you_mean(pattern, CONTESTANTS)}"
            )
    return [
        contestant
        for name, contestant in CONTESTANTS.items()
        if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)
    ]


def installed_backend():
    """The Keras backend for what runs on any."""
    return next(x for x in BACKENDS if is_installed(x))
