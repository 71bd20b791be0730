"""Keras' error for two layers of one name in a model, with the remedy.

Names are fixed, because files, `get_layer` and layer decay go by them: a
second model of a kind does not get another by itself, as Keras' unnamed layers
do. Keras refuses two of one name where it builds the model around them, which
is none of ours. All that it asks of ours there is the name.
"""

import inspect

import keras

# Keras' functions that look for names that are there twice, and what they call
# the layers: of a Functional model, of a Sequential one.
ASKS = {
    "map_graph": ("operations",),
    "_is_layer_name_unique": ("layer", "ref_layer"),
}


class Named:
    """A layer that raises the error itself, where Keras is about to.

    `remedy` says how to choose another name.
    """

    remedy: str
    given_name: str

    @property
    def name(self) -> str:
        """As Keras has it."""
        name = self.given_name
        if _is_compiled():  # no compiler follows the next line
            return name
        graph = _operations_that_are_named(inspect.currentframe())
        if any(x is not self and x.name == name for x in graph):
            raise ValueError(
                "Expected layers of different names in one model. Received: "
                f"two called {name!r}. {self.remedy}"
            )
        return name

    @name.setter
    def name(self, value: str) -> None:
        # Not by Keras, whose layers are not set up yet.
        object.__setattr__(self, "given_name", value)


def _is_compiled():
    if keras.backend.backend() != "torch":
        return False
    import torch

    return torch.compiler.is_compiling()


def _operations_that_are_named(frame):
    """Those of the model that Keras is building, if it asks for the name."""
    caller = frame.f_back
    if caller.f_code.co_name == "<listcomp>":  # until Python 3.11
        caller = caller.f_back
    names = ASKS.get(caller.f_code.co_name, ())
    found = [caller.f_locals.get(name, ()) for name in names]
    # By hand: `keras.tree.flatten` took a fifth of a model's construction.
    several = [x if isinstance(x, (list, tuple, set)) else [x] for x in found]
    return [x for operations in several for x in operations]
