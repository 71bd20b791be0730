"""Section: single images, with what was said of them."""

from keras_convnext._util.progress import progress
from keras_convnext.evaluation.pages.choosing import CHOICES
from keras_convnext.evaluation.pages.images import Views
from keras_convnext.evaluation.pages.markup import join
from keras_convnext.evaluation.pages.markup import name_of
from keras_convnext.evaluation.pages.markup import picture
from keras_convnext.evaluation.pages.markup import tag


def sections(content):
    """Pairs of a title and what to show, for what there are images of."""
    measured = content.measured
    if measured is None or not content.examples:
        return []
    kinds = [
        (
            choice,
            [
                choice.tell(measured, int(index))
                for index in choice.of(measured)[: content.examples]
            ],
        )
        for choice in CHOICES[measured.sources[0].task]
    ]
    total = sum(len(examples) for _, examples in kinds)
    views = Views(measured)
    with progress("drawing", total, "images", content.verbose) as advance:
        return [
            (choice.title, _section(choice, examples, views, advance))
            for choice, examples in kinds
            if examples
        ]


def _section(choice, examples, views, advance):
    shown = []
    for example, pictures in zip(examples, views.of(examples)):
        name = filename(views.measured, example)
        shown.append(_shown(name, example.facts, *pictures))
        advance()
    beside = (
        f"No Grad-CAM: {views.refusal}."
        if views.refusal
        else f"Beside each its Grad-CAM, of {choice.seen}."
    )
    text = f"{choice.why} As the model sees them. {beside}"
    return join(
        [
            tag("p", text, class_="quiet"),
            tag("div", *shown, class_="grid"),
        ]
    )


def filename(measured, example):
    """The name of an image, below that of its part where there are several."""
    name = measured.sources[example.part].filename(example.place)
    if len(measured.sources) == 1:
        return name
    part = [*measured.truth.parts][example.part]
    return "/".join([*map(str, part), name])


def _shown(name, facts, image, heat):
    """A picture, the Grad-CAM beside it, and what is said of them."""
    pictures = [
        picture(x, text)
        for x, text in ((image, name), (heat, f"Grad-CAM of {name}"))
        if x is not None
    ]
    if image is None:
        pictures = [tag("p", "could not be read again")]
    rows = [tag("div", title, ": ", fact) for title, fact in facts]
    caption = tag("figcaption", tag("div", name_of(name)), *rows)
    return tag("figure", tag("div", *pictures, class_="pair"), caption)
