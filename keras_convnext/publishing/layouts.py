"""The layouts that models are published in: one row for each.

To add one, add a `Layout`: a file here that checks and writes, and in
`opening.py` a function that opens what was written in the other library.
"""

from dataclasses import dataclass
from types import ModuleType

from keras_convnext._util.checks import one_of
from keras_convnext._util.requirements import is_installed
from keras_convnext._util.requirements import missing
from keras_convnext.publishing import keras_layout
from keras_convnext.publishing import timm_layout
from keras_convnext.publishing import transformers_layout


@dataclass(frozen=True)
class Layout:
    """What a library asks of a folder.

    Attributes:
        module: its `check`, a function of a `Subject`, raises `ValueError`
            for what the library does not have. Its `write` is one of a
            `Subject`, the path of its `.keras` file, and the folder. Its
            `USAGE` is Python code of three lines; `{here}` stands for the
            model.
        here: how the code names the folder that it runs in.
        there: how it names a repository of the hub, `{name}`.
        package: what opens it in a process of its own, or `None`.
    """

    module: ModuleType
    here: str
    there: str
    package: str | None = None


LAYOUTS = {
    "keras": Layout(
        keras_layout,
        here=".",
        there="hf://{name}",
    ),
    "timm": Layout(
        timm_layout,
        here="local-dir:.",
        there="hf-hub:{name}",
        package="timm",
    ),
    "transformers": Layout(
        transformers_layout,
        here=".",
        there="{name}",
        package="transformers",
    ),
}


def chosen(layout):
    """Names of layouts: one, or several in a list; each once."""
    names = [layout] if isinstance(layout, str) else list(layout)
    for name in names or [None]:
        one_of("layout", name, LAYOUTS)
    return list(dict.fromkeys(names))


def check_packages(names):
    """Raises `ImportError` where what was written could not be opened."""
    for name in names:
        package = LAYOUTS[name].package
        for needed in (package, "torch") if package else ():
            if not is_installed(needed):
                raise missing(
                    needed,
                    f"comparing a model in the layout {name!r}",
                    "pass `verify=False`",
                )
