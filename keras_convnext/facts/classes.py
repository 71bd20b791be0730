"""Which output of a model is which class of a data set."""

from collections import Counter

import numpy as np

from keras_convnext._util.checks import some
from keras_convnext.facts.labels import label_set

IMAGENET_CLASSES = 1000


def outputs_of(names, classifier):
    """The output of each class: by name, by number or by id.

    Args:
        names: of the data's classes.
        classifier: a `Classifier`, or what has its `outputs`, `is_named`
            and `metadata`.

    Returns:
        `(columns, how)`: int array with one number for each of `names`, and
        `"names"`, `"ids"`, `"numbers"`, or, of a model that knows no classes,
        `"positions"`.

    Raises:
        ValueError: if they cannot be told, with what differs.
    """
    outputs, model = classifier.outputs, classifier.metadata["model"]
    numbers = {str(index): index for index in range(len(outputs))}
    if not classifier.is_named and len(names) == len(outputs):
        if not set(names) <= set(numbers):
            return np.arange(len(names)), "positions"
        # Folders are sorted as text: "10" before "2".
        if list(names) != list(numbers):
            raise ValueError(
                "A model that does not know its classes may mean folders by "
                "their number or by their place, and here these differ. "
                f"Received: classes in the order {', '.join(names[:5])}… for "
                f"{model!r}. Set `model.class_names` to the names in the order "
                "of its outputs"
            )
    tables = {"numbers": numbers}
    counts = Counter(name for _, name in outputs)
    if classifier.is_named:
        tables = {
            "names": {
                name: index
                for index, (_, name) in enumerate(outputs)
                if counts[name] == 1
            },
            **tables,
            "ids": {id: index for index, (id, _) in enumerate(outputs)},
        }
    for how, table in tables.items():
        if all(name in table for name in names):
            return np.array([table[name] for name in names]), how
    nearest = max(tables.values(), key=lambda x: len(set(names) & set(x)))
    unknown = [name for name in names if name not in nearest]
    # Some of ImageNet's names stand for two classes.
    hint = " by their ids" if counts.keys() & set(unknown) else ""
    raise ValueError(
        "Every class of the data must be one of the model's. Received: "
        f"{some(unknown, 3)} among {len(names)} classes of the data, for "
        f"{model!r} with {len(outputs)} outputs such as "
        f"{some(list(nearest), 3)}. Name the classes of the data as the "
        f"model's{hint}, or tell the model its own: "
        "`model.class_names = [...]`"
    )


def outputs_of_numbers(names, classifier):
    """`outputs_of` for names that are numbers of ImageNet-1k's classes."""
    unknown = set(names) - {str(index) for index in range(IMAGENET_CLASSES)}
    if unknown:
        raise ValueError(
            "Expected a folder for each class number from 0 to 999. Received: "
            f"{some(sorted(unknown), 3)} among {len(names)} folders. Folders "
            "named by WordNet ids are evaluated with rule='imagenet'"
        )
    numbers = np.array(names, "int64")
    if not classifier.is_named and len(classifier.outputs) == IMAGENET_CLASSES:
        return numbers, "numbers"
    wnids = [wnid for wnid, _ in label_set(IMAGENET_CLASSES)]
    return outputs_of([wnids[number] for number in numbers], classifier)
