"""Which model of a file is meant, where it holds several.

Training scripts save a model beside its average, a student beside its teacher.
The one that is asked for by name is taken; else the only one that fits the
architecture; else the one that is called nothing but "model", with a warning.
"""

import re
import warnings
from dataclasses import dataclass

from keras_convnext._util.checks import did_you_mean
from keras_convnext.weights import detection_tables
from keras_convnext.weights import layout_tables
from keras_convnext.weights import layouts
from keras_convnext.weights import segmentation_tables

# The layouts to look for, by a key of `registry.TASKS`.
LAYOUTS = {
    "classify": (layout_tables.LAYOUTS,),
    "segment": (segmentation_tables.LAYOUTS, layout_tables.LAYOUTS),
    **{
        detector: (detection_tables.LAYOUTS, layout_tables.LAYOUTS)
        for detector in detection_tables.HEADS
    },
}
# Words that tell a model from nothing: it is the trained one itself.
PLAIN = {
    *("model", "module", "net", "network", "state_dict", "weights", "params"),
    *("model_state_dict", "model_state", "backbone", "encoder", "trunk"),
}


@dataclass(frozen=True)
class Found:
    """A model in a file.

    Attributes:
        label: where it is, to name it: group and prefix.
        all: the arrays of its group, by the names in the file.
        place: its `Place` among them.
        others: the places of other models there.
    """

    label: str
    all: dict
    place: layouts.Place
    others: tuple

    def of(self, variant):
        """The arrays as those of a variant, a `Converted`."""
        return layouts.from_layout(self.all, self.place, variant, self.others)


def choose(groups, variant, path, choice="", task="classify"):
    """Finds the model that is meant.

    Args:
        groups: arrays as `WeightFile` has them.
        variant: the `Variant` that it should be of, or `None`.
        path: what to call the file in errors.
        choice: the name of a model in it, or its beginning; `""` for none.
        task: a key of `LAYOUTS`.

    Returns:
        A `Found`.

    Raises:
        ValueError: if there is no ConvNeXt, or several and none is chosen.
    """
    models = _models(groups, task)
    if not models:
        names = max(groups.values(), key=len, default=())
        raise layouts.unknown_layout(path, names)
    labels = [model.label for model in models]
    if choice:
        chosen = [x for x in models if _is_called(x.label, choice)]
        if len(chosen) == 1:
            return chosen[0]
        raise ValueError(
            f"`#{choice}` must name one model of the file. Received: "
            f"{path!r} with {labels}{did_you_mean(choice, labels)}"
        )
    if len(models) == 1:
        return models[0]
    fitting = models
    if variant is not None:
        fitting = [
            x for x in models if layouts.fits(x.of(variant).tensors, variant)
        ]
        if len(fitting) == 1:
            return fitting[0]
    plain = [x for x in fitting or models if _is_plain(x.label)]
    if len(plain) != 1:
        raise ValueError(
            "The file holds several models. Say which by its name behind "
            f"'#', as in weights={path + '#' + labels[-1]!r}. Received: "
            f"weights={path!r} with {labels}"
        )
    others = [x for x in labels if x != plain[0].label]
    warnings.warn(
        f"{path} holds several models: {plain[0].label!r} was taken, not "
        f"{' or '.join(map(repr, others))}. To choose, add '#' and the name: "
        f"{path + '#' + others[0]!r}.",
        stacklevel=2,
    )
    return plain[0]


def _models(groups, task):
    for tables in LAYOUTS[task]:
        models = []
        for group, tensors in groups.items():
            places = layouts.places(tensors, tables)
            for place in places:
                label = ".".join(filter(None, (group, place.prefix)))
                others = tuple(x for x in places if x is not place)
                models.append(Found(label.strip("./_"), tensors, place, others))
        if models:
            return models
    return []


def _is_called(label, choice):
    return label == choice or re.match(rf"{re.escape(choice)}[./]", label)


def _is_plain(label):
    return set(re.split("[./]", label)) <= {*PLAIN, ""}
