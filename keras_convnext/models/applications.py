"""The public constructors: thin over the table of variants."""

import inspect
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import ParamSpec

from keras_convnext._util import checks
from keras_convnext._util.annotations import PathLike
from keras_convnext._util.annotations import Tensor
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import NotNegative
from keras_convnext._util.ranges import Positive
from keras_convnext._util.ranges import in_range
from keras_convnext.facts.variants import LISTED_BY
from keras_convnext.facts.variants import VARIANTS
from keras_convnext.facts.variants import Variant
from keras_convnext.models.arguments import Options
from keras_convnext.models.construction import as_tuple
from keras_convnext.models.construction import build
from keras_convnext.models.model import ConvNeXtModel

P = ParamSpec("P")


def create_model(name: str, *args: Any, **kwargs: Any) -> ConvNeXtModel:
    """Builds a ConvNeXt by name, such as `"convnext_tiny_hnf"`.

    Args:
        name: one of `list_models()`, or with a tag of its weights one of
            `list_weights()`, such as `"convnext_tiny.fb_in1k"`.
        *args, **kwargs: as for the constructors, see `ConvNeXtTiny`.

    Returns:
        A `ConvNeXtModel`, a Functional `keras.Model`.

    Raises:
        ValueError: for an unknown name, with the nearest matches, and for
            `weights` beside a tag.

    Examples:
        >>> model = keras_convnext.create_model("test_convnext", weights=None)
        >>> model.output_shape
        (None, 1000)
    """
    model, _, tag = name.partition(".")
    checks.one_of("name", model, VARIANTS, LISTED_BY)
    variant = VARIANTS[model]
    if not tag:
        return build(variant, *args, **kwargs)
    given = inspect.signature(Options).bind(*args, **kwargs)
    if "weights" in given.arguments:
        raise ValueError(
            "A name with a tag chooses the weights: pass no `weights`, or the "
            f"name without its tag. Received: name={name!r}, "
            f"weights={given.arguments['weights']!r}"
        )
    given.arguments["weights"] = tag
    return build(variant, *given.args, **given.kwargs)


@in_range
def ConvNeXt(
    depths: Sequence[Count],
    dims: Sequence[Count],
    include_top: bool = True,
    include_preprocessing: bool = True,
    weights: PathLike | None = None,
    input_tensor: Tensor | None = None,
    input_shape: Sequence[Count | None] | None = None,
    pooling: str | None = None,
    classes: Count | Sequence[str] | None = None,
    classifier_activation: str | Callable | None = "softmax",
    name: str = "convnext",
    *,
    stem: str = "patch",
    patch_size: Count = 4,
    stem_norm: bool = True,
    norm: str = "layer_norm",
    epsilon: Positive = 1e-6,
    activation: str = "gelu",
    grn: bool = False,
    kernel_size: Count | Sequence[Count] = 7,
    layer_scale_init_value: NotNegative = 1e-6,
    head: str = "pool_norm",
    head_hidden_size: Count | None = None,
    image_size: Count = 224,
    **kwargs: Any,
) -> ConvNeXtModel:
    """Builds a ConvNeXt of your own depths and widths, with any stages.

    Args:
        depths: number of blocks for each stage.
        dims: width of each stage.
        include_top, …, name: as for `ConvNeXtTiny`.
        stem, patch_size, stem_norm, norm, epsilon, activation, grn, head,
            head_hidden_size, image_size: see `keras_convnext.Variant`.
        kernel_size: depthwise kernel size, one odd int or one for each stage.
        layer_scale_init_value: initial layer scale, 0 for none.
        **kwargs: the other arguments of `ConvNeXtTiny`.

    Returns:
        A `ConvNeXtModel`, a Functional `keras.Model`.

    Raises:
        ValueError: for any argument that cannot be honored.

    Examples:
        >>> model = keras_convnext.ConvNeXt(
        ...     (2, 2),
        ...     (32, 64),
        ...     patch_size=2,
        ...     input_shape=(32, 32, 3),
        ...     classes=10,
        ... )
        >>> model.output_shape
        (None, 10)
    """
    variant = Variant(
        name,
        as_tuple(depths),
        as_tuple(dims),
        stem=stem,
        patch_size=patch_size,
        stem_norm=stem_norm,
        norm=norm,
        epsilon=epsilon,
        activation=activation,
        grn=grn,
        head=head,
        head_hidden_size=head_hidden_size,
        image_size=image_size,
    )
    return build(
        variant,
        include_top,
        include_preprocessing,
        weights,
        input_tensor,
        input_shape,
        pooling,
        classes,
        classifier_activation,
        kernel_size=kernel_size,
        layer_scale_init_value=layer_scale_init_value,
        **kwargs,
    )


def _constructor(
    options: Callable[P, Options], function_name: str, variant_name: str
) -> Callable[P, ConvNeXtModel]:
    """A public function such as `ConvNeXtTiny` for one row of the table.

    Given `Options`, type checkers find its arguments in what is returned.
    """
    variant = VARIANTS[variant_name]

    def constructor(*args: P.args, **kwargs: P.kwargs) -> ConvNeXtModel:
        return build(variant, *args, **kwargs)

    signature = inspect.signature(options)
    parameters = dict(signature.parameters)
    parameters["name"] = parameters["name"].replace(default=variant_name)
    # Known to `inspect`, not to type checkers.
    constructor.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=list(parameters.values()), return_annotation=ConvNeXtModel
    )
    constructor.__name__ = constructor.__qualname__ = function_name
    constructor.__doc__ = f"""Builds `{variant_name}`.

Depths {variant.depths}, dims {variant.dims}, {variant.image_size} px.

{inspect.getdoc(options)}

Examples:
    >>> model = keras_convnext.{function_name}(weights=None)
    >>> model.output_shape
    (None, 1000)
"""
    return constructor


ConvNeXtAtto = _constructor(Options, "ConvNeXtAtto", "convnext_atto")
ConvNeXtFemto = _constructor(Options, "ConvNeXtFemto", "convnext_femto")
ConvNeXtPico = _constructor(Options, "ConvNeXtPico", "convnext_pico")
ConvNeXtNano = _constructor(Options, "ConvNeXtNano", "convnext_nano")
ConvNeXtTiny = _constructor(Options, "ConvNeXtTiny", "convnext_tiny")
ConvNeXtSmall = _constructor(Options, "ConvNeXtSmall", "convnext_small")
ConvNeXtBase = _constructor(Options, "ConvNeXtBase", "convnext_base")
ConvNeXtLarge = _constructor(Options, "ConvNeXtLarge", "convnext_large")
ConvNeXtXLarge = _constructor(Options, "ConvNeXtXLarge", "convnext_xlarge")
ConvNeXtXXLarge = _constructor(Options, "ConvNeXtXXLarge", "convnext_xxlarge")
ConvNeXtV2Atto = _constructor(Options, "ConvNeXtV2Atto", "convnextv2_atto")
ConvNeXtV2Femto = _constructor(Options, "ConvNeXtV2Femto", "convnextv2_femto")
ConvNeXtV2Pico = _constructor(Options, "ConvNeXtV2Pico", "convnextv2_pico")
ConvNeXtV2Nano = _constructor(Options, "ConvNeXtV2Nano", "convnextv2_nano")
ConvNeXtV2Tiny = _constructor(Options, "ConvNeXtV2Tiny", "convnextv2_tiny")
ConvNeXtV2Small = _constructor(Options, "ConvNeXtV2Small", "convnextv2_small")
ConvNeXtV2Base = _constructor(Options, "ConvNeXtV2Base", "convnextv2_base")
ConvNeXtV2Large = _constructor(Options, "ConvNeXtV2Large", "convnextv2_large")
ConvNeXtV2Huge = _constructor(Options, "ConvNeXtV2Huge", "convnextv2_huge")
ConvNeXtIsotropicSmall = _constructor(
    Options, "ConvNeXtIsotropicSmall", "convnext_isotropic_small"
)
ConvNeXtIsotropicBase = _constructor(
    Options, "ConvNeXtIsotropicBase", "convnext_isotropic_base"
)
ConvNeXtIsotropicLarge = _constructor(
    Options, "ConvNeXtIsotropicLarge", "convnext_isotropic_large"
)
