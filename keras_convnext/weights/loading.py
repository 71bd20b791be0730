"""Puts tensors into a model, each exactly once, or says what is wrong."""

CLASSIFIER = "head_classifier"


def assign(model, tensors, source, prefix="", ignore=()):
    """Assigns every variable of `model` from `tensors`.

    Args:
        model: a `ConvNeXtModel`.
        tensors: arrays by `layer/variable`, without the model's `prefix`.
        source: what to call the tensors in errors, such as a path.
        prefix: the model's `layer_prefix`.
        ignore: layers of the file that the model may lack.

    Raises:
        ValueError: listing the missing, unexpected and mis-shaped names;
            nothing is assigned then.
    """
    variables = {
        f"{layer.name.removeprefix(prefix)}/{variable.name}": variable
        for layer in model.layers
        for variable in layer.weights
        if not _is_random_state(variable)
    }
    missing = sorted(variables.keys() - tensors.keys())
    unexpected = sorted(
        name
        for name in tensors.keys() - variables.keys()
        if name.split("/")[0] not in ignore
    )
    misshaped = [
        f"{name}: file {tensors[name].shape}, model {tuple(variable.shape)}"
        for name, variable in variables.items()
        if name in tensors
        and tuple(tensors[name].shape) != tuple(variable.shape)
    ]
    if missing or unexpected or misshaped:
        raise ValueError(
            f"The weights do not fit the model {model.name!r}: load them into "
            "the architecture and number of classes that they were saved "
            f"from. Received: weights={source!r} with "
            f"{_listing('missing', missing)}, "
            f"{_listing('unexpected', unexpected)} and "
            f"{_listing('mis-shaped', misshaped)} variables"
        )
    for name, variable in variables.items():
        variable.assign(tensors[name])


def _is_random_state(variable):
    return variable.name == "seed_generator_state"


def _listing(kind, names):
    if not names:
        return f"no {kind}"
    more = ", …" if len(names) > 4 else ""
    return f"{len(names)} {kind} ({'; '.join(names[:4])}{more})"
