"""The model card, README.md: what a model is, for people who will use it.

Its front matter is the hub's metadata, made and read by the hub's own classes.
"""

from keras_convnext._util.version import __version__
from keras_convnext.publishing import licenses
from keras_convnext.publishing.layouts import LAYOUTS
from keras_convnext.training import card as of_run
from keras_convnext.training.run import versions
from keras_convnext.weights import registry

TASK = "image-classification"
CURVES = "curves.png"
# Of more classes, `config.json` has the names.
MOST_CLASSES = 100
CHOSEN_ON_THEM = (
    "Measured while it was trained, on the images held out. They also chose "
    "the best epoch: on other images it may be worse. There are no intervals."
)


def card_of(subject, report, name, here, summary, metrics, has_curves):
    """README.md as text.

    Args:
        subject: the `Subject`.
        report: its `Published` in one layout.
        name: what the model is called.
        here: how code names the place: that of a layout, see `Layout`.
        summary: dict of `run.json`, or `None`.
        metrics: `Metrics`, or `None`.
        has_curves: whether there is a picture of the training.
    """
    from huggingface_hub import ModelCardData

    usage = LAYOUTS[report.layout].module.USAGE
    data = ModelCardData(**metadata_of(subject, report, name, metrics))
    parts = [
        f"---\n{data.to_yaml()}\n---",
        f"# {name}",
        _summary_of(subject),
        "## Use",
        f"```python\n{usage.format(here=here)}```",
        "## Model",
        of_run.table(("", ""), _model(subject).items()),
        "## Images",
        of_run.table(("", ""), _images(subject).items()),
        *_training(subject, summary, has_curves),
        *_figures(summary, metrics),
        "## License",
        _license(subject, report.license),
        *_classes(subject),
        "## Checked",
        _checked(report),
        "## Versions",
        of_run.table(("", ""), {**versions(), **_then(summary)}.items()),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def metadata_of(subject, report, name, metrics):
    """Arguments of `ModelCardData`."""
    from huggingface_hub import EvalResult

    variant = subject.model.variant
    results = [
        EvalResult(
            task_type=TASK,
            dataset_type="imagefolder",
            dataset_name=metrics.name,
            metric_type=x.metric,
            metric_name=x.title,
            metric_value=x.value,
        )
        for x in (metrics.figures if metrics else ())
    ]
    family = "convnextv2" if variant.grn else "convnext"
    return {
        **licenses.metadata_of(report.license),
        "library_name": report.layout,
        "pipeline_tag": None if subject.is_regression else TASK,
        "tags": [TASK, family, "keras_convnext"],
        "base_model": base_model_of(subject.info),
        "model_name": name,
        "eval_results": results or None,
    }


def base_model_of(info):
    """The hub's repository of the weights at the start, if it is known."""
    for row in registry.checkpoints():
        if (row.model, row.tag) == (info.variant.name, info.weights):
            return row.hub_repository or None
    return None


def _summary_of(subject):
    variant = subject.model.variant
    what = (
        f"predicts {subject.outputs} numbers of an image"
        if subject.is_regression
        else f"tells {subject.outputs} classes of images"
    )
    return f"A ConvNeXt (`{variant.name}`) that {what}."


def _model(subject):
    variant, info = subject.model.variant, subject.info
    facts = {
        **of_run.model_facts(subject.model),
        "Blocks": ", ".join(map(str, variant.depths)),
        "Widths": ", ".join(map(str, variant.dims)),
        "Activation": subject.activation,
        "Weights at the start": info.weights,
    }
    if info.temperature is not None:
        facts["Calibrated at a temperature of"] = f"{info.temperature:.4g}"
    return {title: value for title, value in facts.items() if value}


def _images(subject):
    preprocessing = subject.preprocessing
    height, width = preprocessing.image_size
    return {
        "Size": f"{height} × {width} pixels",
        "Crop": f"{preprocessing.crop_mode}, {preprocessing.crop_pct:g}",
        "Interpolation": preprocessing.interpolation,
        "Mean, for pixels of 0–1": ", ".join(map(str, preprocessing.mean)),
        "Standard deviation": ", ".join(map(str, preprocessing.std)),
    }


def _training(subject, summary, has_curves):
    if summary is None:
        return
    facts = of_run.training_facts(summary, subject.model)
    yield "## Training"
    yield of_run.trained_by(summary)
    yield of_run.table(("", ""), facts.items())
    if has_curves:
        yield f"![Loss and metrics of each epoch]({CURVES})"
    yield of_run.recipe(summary)


def _figures(summary, metrics):
    if metrics is not None:
        level = metrics.level
        interval = f" ({level:.0%} interval)" if level else ""
        yield "## Figures"
        yield f"Measured on {metrics.where}."
        yield of_run.table(
            ("", f"measured{interval}"),
            ((x.title, x.text) for x in metrics.figures),
        )
    elif summary is not None:
        yield "## Figures"
        yield CHOSEN_ON_THEM
        yield from of_run.figures(summary)


def _license(subject, license):
    inherited = subject.info.license
    lines = [
        f"The model is under `{license}`."
        if license
        else "No license is known: ask who made the model."
    ]
    if inherited:
        lines.append(f"The weights it began with are under `{inherited}`.")
    return " ".join(lines)


def _classes(subject):
    if subject.metadata["classes"] is None:
        return
    yield "## Targets" if subject.is_regression else "## Classes"
    names = [_text(x) for x in subject.names[:MOST_CLASSES]]
    more = subject.outputs - len(names)
    yield ", ".join(names) + (f" and {more} more" if more else "")


def _checked(report):
    if report.opened_by is None:
        return "It was not compared with the model that it was made from."
    pixels = (
        "are the same bit for bit"
        if report.pixels == 0
        else f"differ by {report.pixels:.1g} levels of 255 on average"
    )
    aside = (
        f" In {report.aside} of them its crop begins a pixel aside."
        if report.aside
        else ""
    )
    return (
        f"{report.opened_by} opened it. On {report.images} photographs its "
        f"outputs differ from the original's by at most "
        f"{report.difference:.1e}, from equal pixels. The pixels that it reads "
        f"itself {pixels}.{aside}"
    )


def _then(summary):
    if summary is None:
        return {"published by": f"keras_convnext {__version__}"}
    return {
        f"{name}, in training": version
        for name, version in summary["versions"].items()
    }


def _text(name):
    """A name in a line of Markdown, whatever it holds."""
    plain = " ".join(name.split())
    return "".join(f"\\{x}" if x in "\\`*_[]<>|" else x for x in plain)
