"""Every number that is taken has a range, and what is outside is refused."""

import dataclasses
import inspect
import math
import typing
from collections.abc import Callable
from collections.abc import Mapping

import pytest

import keras_convnext
from keras_convnext import data
from keras_convnext import detection
from keras_convnext import distribution
from keras_convnext import layers
from keras_convnext import optimizers
from keras_convnext import recipes
from keras_convnext import roadmap
from keras_convnext import segmentation
from keras_convnext import training
from keras_convnext import visualize
from keras_convnext._util import ranges
from keras_convnext._util.annotations import ArrayLike
from keras_convnext.models.arguments import Options
from keras_convnext.training.recipes import small_data

pytestmark = pytest.mark.once

MODULES = (
    *(keras_convnext, data, detection, distribution, layers, optimizers),
    *(recipes, roadmap, segmentation, training, visualize),
)
# What is computed and read, but never given.
RESULTS = {
    "Plan",
    "CompiledPlan",
    "Evaluation",
    "Cluster",
    "Detections",
    "Objects",
    "ObjectSummary",
    "AveragePrecision",
    "RangeTest",
}
# Their arguments are the fields of `Options` and of `Variant`.
BUILT = {"Variant", *(x for x in dir(keras_convnext) if "ConvNeXt" in x)}
RECIPES = {
    "Recipe": small_data,
    "SegmentationRecipe": segmentation.ade20k,
    "DetectionRecipe": detection.coco_cascade,
}


def is_number(annotation):
    """Whether an annotation takes numbers for which it states no range."""
    if annotation in (int, float):
        return True
    # Arrays may be numbers and lists of them, and before NumPy 2.2 say so.
    members = ranges.members(annotation)
    if {*members}.issuperset(ranges.members(ArrayLike)):
        left = {*members} - {*ranges.members(ArrayLike)}
        return any(map(is_number, left))
    if hasattr(annotation, "__metadata__"):
        return False
    is_function = typing.get_origin(annotation) is Callable
    parts = () if is_function else typing.get_args(annotation)
    return any(is_number(x) for x in parts)


def public():
    """Every public class and function that can be called, by its name."""
    found = {}
    for module in MODULES:
        for name in module.__all__:
            value = getattr(module, name)
            is_error = isinstance(value, type) and issubclass(
                value, BaseException
            )
            if callable(value) and not is_error and name not in RESULTS:
                found[name] = value
    found["Options"] = Options
    for recipe in map(type, RECIPES.values()):
        for name, method in vars(recipe).items():
            if inspect.isfunction(method) and not name.startswith("_"):
                found[f"{recipe.__name__}.{name}"] = method
    return found


PUBLIC = public()


@pytest.mark.parametrize("name", PUBLIC)
def test_every_number_has_a_range(name):
    without = [
        argument.name
        for argument in inspect.signature(PUBLIC[name]).parameters.values()
        if is_number(argument.annotation)
    ]
    assert not without, f"{name} takes these, and states no range: {without}"


def outside(annotation):
    """Numbers that an annotation with a range does not admit."""
    for member in ranges.members(annotation):
        range_ = ranges._range(member)
        if range_ is None:
            continue
        yield from (math.nan, math.inf, -math.inf, True)
        for end, step in (("at_least", -1), ("at_most", 1)):
            if getattr(range_, end) is not None:
                yield getattr(range_, end) + step
        for end in (range_.above, range_.below):
            if end is not None:
                yield end
        if typing.get_args(member)[0] is int:
            yield 1.5
        return
    several = next(filter(ranges._elements, ranges.members(annotation)))
    is_mapping = typing.get_origin(several) is Mapping
    for value in outside(ranges._elements(several)[is_mapping]):
        yield {"layer": value} if is_mapping else (value, value)


def bad_arguments():
    for name, source in PUBLIC.items():
        if name in BUILT and name != "ConvNeXt":
            continue
        for argument, range_ in ranges.ranged(source).items():
            case = f"{name}.{argument}"
            yield pytest.param(source, argument, range_, id=case)


@pytest.mark.parametrize("source, name, annotation", [*bad_arguments()])
def test_numbers_outside_of_a_range_are_refused(source, name, annotation):
    for value in outside(annotation):
        with pytest.raises(ValueError, match=f"`{name}` must be") as error:
            if source is Options:
                ranges.check_fields(Options(**{name: value}))
            elif source.__name__ in RECIPES:
                RECIPES[source.__name__].replace(**{name: value})
            elif dataclasses.is_dataclass(source):
                source(**{"image_size": (224, 224), name: value})
            else:
                source(**{name: value})
        assert f"Received: {name}={value!r}" in str(error.value)


@pytest.mark.parametrize(
    "annotation, value",
    [
        (ranges.Count, 1),
        (ranges.Part, 0),
        (ranges.Part, 1.0),
        (ranges.PartBelowOne, 0),
        (ranges.PartAboveZero, 1),
        (ranges.Count | str | None, "all"),
        (ranges.Count | str | None, None),
        (ranges.Positive | typing.Any, {"tiny": 0.1, "base": 1}),
        (tuple[ranges.Positive, ranges.Positive] | None, (0.5, 1)),
    ],
)
def test_numbers_inside_of_a_range_are_taken(annotation, value):
    ranges.check("x", value, annotation)


def test_figures_by_size_are_checked_one_by_one():
    with pytest.raises(ValueError, match="Each of `learning_rate` must be"):
        small_data.replace(learning_rate={"tiny": 1e-3, "base": math.nan})


def test_what_is_missing_is_said_by_python():
    with pytest.raises(TypeError, match="k2"):
        recipes.TopKAccuracy(k2=1)


@pytest.mark.parametrize("size", [224, (224,), (224, 224, 3)])
def test_tuples_have_their_length(size):
    with pytest.raises(ValueError, match="`image_size` must be a tuple of 2"):
        keras_convnext.Preprocessing(size)


def test_the_least_comes_before_the_greatest():
    for values in ((0.5, 0.1), (0.5,), (0.1, 0.2, 0.3)):
        with pytest.raises(
            ValueError, match="must be (a tuple of 2|two) numbers"
        ):
            small_data.replace(crop_scale=values)


@pytest.mark.parametrize(
    "arguments",
    [
        ("train --data digits --output x --learning-rate", "inf"),
        ("train --data digits --output x --label-smoothing", "2"),
        ("train --data digits --output x --crop-scale", "0,1"),
        ("train --data digits --output x --checkpoint-minutes", "nan"),
        ("train --data digits --output x --validation-split", "-0.1"),
        ("evaluate --data digits --crop-pct", "nan"),
        ("plan --model huge --devices 4 --memory 80GB --rate", "inf"),
    ],
    ids=" ".join,
)
def test_commands_refuse_at_once_and_name_the_option(arguments, run_command):
    command, value = arguments
    *command, option = command.split()
    status, _, error = run_command(*command, option, value)
    assert status == 2 and len(error.splitlines()) == 1
    assert f"`{option}` must be" in error
    assert f"Received: {option} " in error
