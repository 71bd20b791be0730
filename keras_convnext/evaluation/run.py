"""A model over a data set, scored by a rule."""

import time
from typing import Any

import numpy as np

from keras_convnext._util.annotations import PathLike
from keras_convnext._util.progress import progress
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import CountOrZero
from keras_convnext._util.ranges import in_range
from keras_convnext.data.source import Source
from keras_convnext.data.threads import in_order
from keras_convnext.evaluation import bootstrap
from keras_convnext.evaluation import calibration
from keras_convnext.evaluation import corruptions
from keras_convnext.evaluation import multi_label
from keras_convnext.evaluation import per_image
from keras_convnext.evaluation import published
from keras_convnext.evaluation import regression
from keras_convnext.evaluation import rules
from keras_convnext.evaluation.classifier import Classifier
from keras_convnext.evaluation.ground_truth import ground_truth_of
from keras_convnext.evaluation.ground_truth import view
from keras_convnext.evaluation.multi_label import MultiLabelEvaluation
from keras_convnext.evaluation.per_image import Measured
from keras_convnext.evaluation.per_image import PerImage
from keras_convnext.evaluation.regression import RegressionEvaluation
from keras_convnext.evaluation.report import Evaluation
from keras_convnext.evaluation.runner import artifact_of
from keras_convnext.evaluation.runner import check_finite
from keras_convnext.evaluation.runner import check_some_read
from keras_convnext.evaluation.runner import identity_of
from keras_convnext.evaluation.runner import sized
from keras_convnext.evaluation.tally import Tally
from keras_convnext.evaluation.tally import cross_entropies
from keras_convnext.images.preprocessing import Preprocessing
from keras_convnext.training.class_scores import scores_of

# What the metadata of an `Artifact` tells of what is evaluated.
IDENTITY = ("model", "weights", "license", "quantization", "temperature")
# How data of other tasks than a class for each image are measured.
BY_TASK = {
    "multi-label": multi_label.measure,
    "regression": regression.measure,
}


@in_range
def evaluate(
    model: Any,
    source: Source | PathLike,
    rule: str = "classes",
    batch_size: Count = 32,
    top: Count = 5,
    confused: CountOrZero = 10,
    verbose: bool = True,
    *,
    labels: PathLike | None = None,
    all_classes: bool = False,
    partial: bool = False,
    preprocessing: Preprocessing | None = None,
    apply_exif: bool | None = None,
    image_size: Count | tuple[Count, Count] | None = None,
    tta: str | None = None,
) -> Evaluation | MultiLabelEvaluation | RegressionEvaluation:
    """Measures a model on labeled images, by the rules of its data set.

    Every image counts once, as the weights' own evaluation sees it. Memory
    grows by some bytes with each image, unless these have many labels each:
    then all scores are kept, and `top` and `confused` do not apply.

    Args:
        model: a model of this package, or an `Artifact`: whatever
            `artifacts.open_artifact` opens.
        source: a `Source`, or what `keras_convnext.data.open_splits` opens:
            the validation images where there are some, else all. For
            `rule="c"` the folder of ImageNet-C.
        rule: `"classes"`: the data's classes, found among the model's by
            name, by id or by number. ImageNet's own sets, with all their
            classes: `"imagenet"`, `"real"` (ReaL labels for the validation
            images), `"v2"`, `"sketch"`, `"a"` and `"r"` (200 classes: the
            other outputs do not compete), `"c"` (mCE).
        batch_size: images at a time.
        top: beside the best output, in how many of the best to look for the
            right one; of equal outputs the first is better.
        confused: how many of the most confused pairs to keep.
        verbose: whether to show progress on stderr, where that is a terminal.
        labels: for `rule="real"`: path of `real.json`.
        all_classes: for `rule="a"` and `"r"`: let all outputs compete, not
            only the 200 classes of the set. The accuracy is then lower.
        partial: for `rule="c"`: whether corruptions and severities may be
            missing; there is no mCE then.
        preprocessing: a `Preprocessing` in place of the weights' own.
        apply_exif: whether to turn photographs upright; if `None`, as the
            `Source` says, for `rule="classes"` alone: published results do
            not.
        image_size: int or `(height, width)`, at which to measure; that of
            `preprocessing` if `None`. An official crop becomes that size's.
            Exported models may take one size only.
        tta: test-time augmentation. `"flip"`: the scores of an image are the
            means of its own and of those of its mirror image. `"five-crop"`:
            of those of the center and the four corners, at the model's size,
            of the image as it is resized before the crop. Where nothing is
            left around the center (`crop_pct` 1) it is refused, and so are
            views by the rules `"a"`, `"r"` and `"c"`. `None` is one view.

    Returns:
        An `Evaluation`; a `MultiLabelEvaluation` of a source whose images may
        have many labels; a `RegressionEvaluation` of one with numbers. A list
        by its path has the columns of the targets that the model predicts.

    Raises:
        ValueError: for a model without a classifier or without known
            preprocessing, data whose classes are not the model's or not the
            rule's, outputs that are no numbers, and no readable images.

    Source: the papers named beside each rule in `evaluation/rules.py`.

    Examples:
        >>> model = keras_convnext.ConvNeXt(
        ...     (1,), (8,), patch_size=1, input_shape=(8, 8, 1), mean=0.3,
        ...     std=0.35, classes=10,
        ... )
        >>> result = keras_convnext.evaluate(model, "digits", verbose=False)
        >>> result.images
        359
    """
    return measured(
        model,
        source,
        rule,
        batch_size,
        top,
        confused,
        verbose,
        labels=labels,
        all_classes=all_classes,
        partial=partial,
        preprocessing=preprocessing,
        apply_exif=apply_exif,
        image_size=image_size,
        tta=tta,
    ).result


def measured(
    model,
    source,
    rule="classes",
    batch_size=32,
    top=5,
    confused=10,
    verbose=True,
    *,
    labels=None,
    all_classes=False,
    partial=False,
    preprocessing=None,
    apply_exif=None,
    image_size=None,
    tta=None,
    keep_logits=False,
):
    """What `evaluate` returns, and what it is made of: a `Measured`.

    Args:
        model, source, rule, batch_size, top, confused, verbose, labels,
            all_classes, partial, preprocessing, apply_exif, image_size, tta:
            as for `evaluate`.
        keep_logits: whether its columns are to have the logits, too.
    """
    counting = rules.get(rule)
    _check_options(rule, counting, labels, all_classes, partial)
    _check_views(rule, counting, tta)
    if apply_exif is None and rule != "classes":
        apply_exif = False  # as published results are
    artifact = artifact_of(model)
    own, preprocessing = sized(artifact, preprocessing, image_size)
    preprocessing = preprocessing or rules.preprocessing_for(counting, own)
    measure = None
    if rule == "classes":
        source = images = regression.source_of(artifact.metadata, source)
        measure = BY_TASK.get(images.task)
    else:
        regression.check_rule(artifact.metadata, rule, counting.title)
    classifier = Classifier(artifact, preprocessing, batch_size, tta)
    identity = identity_of(artifact, IDENTITY)
    if measure:
        images = view(images, apply_exif)
        found = measure(classifier, images, identity, verbose, keep_logits)
        return Measured(*found, classifier, [images], classifier.outputs)
    truth = ground_truth_of(
        counting, source, classifier, apply_exif, labels, all_classes, partial
    )
    started = time.perf_counter()
    tally, each, unreadable = _count(
        classifier, truth, top, verbose, keep_logits
    )
    seconds = time.perf_counter() - started

    first = next(iter(truth.parts.values()))
    count, competing = int(tally.images.sum()), int(truth.competes.sum())
    outputs = classifier.outputs_of(truth.columns, first.classes)
    accuracy = {"top1": float(each["right"].mean())}
    if top < competing:
        accuracy[f"top{top}"] = float(each["in_top"].mean())
    corrupted = mce = None
    if counting.is_corrupted:
        errors = 1 - tally.right.sum(axis=1) / tally.images.sum(axis=1)
        errors = dict(zip(truth.parts, errors.tolist()))
        corrupted, mce = corruptions.summary(errors)
    figures = None
    is_part = counting.is_corrupted and mce is None
    if not (all_classes or is_part or tta):
        classes = len(truth.columns)
        figures = published.find(rule, artifact.metadata, classes)
    result = Evaluation(
        **identity,
        rule=rule,
        images=count,
        accuracy=accuracy,
        cross_entropy=float(each["loss"].mean()) if "loss" in each else None,
        **per_image.calibration_of(each),
        intervals=per_image.intervals_of(each, truth, accuracy, mce),
        **_balanced(truth, tally),
        bootstrap=bootstrap.method(first.groups),
        **_by_class(outputs, truth, tally, confused),
        unreadable=unreadable,
        unlabeled=truth.unlabeled,
        matched_by=truth.matched_by,
        outputs=competing,
        preprocessing=preprocessing,
        applies_exif=first.is_upright,
        published=figures,
        corruptions=corrupted,
        mce=mce,
        seconds=seconds,
        tta=tta,
    )
    parts = [*truth.parts.values()]
    return Measured(result, each, classifier, parts, outputs, truth)


def _count(classifier, truth, top, verbose, keep_logits):
    """Runs over all images.

    Returns:
        A `Tally`, a `PerImage`, and why some could not be read.
    """
    parts = truth.parts.values()
    tally = Tally(len(parts), len(truth.columns), top)
    each, unreadable = PerImage(), {}
    total = sum(map(len, parts))
    with progress("evaluating", total, "images", verbose) as advance:
        for part, source in enumerate(parts):
            loader = classifier.loader(source)
            for places, images in in_order(loader.load, range(len(loader))):
                if not len(places):
                    continue
                logits = classifier.logits(images)
                check_finite(logits, source, places)
                logits = np.where(truth.competes, logits, -np.inf)
                labels = source.labels[places]
                targets = truth.right(places, labels)
                best, right, in_top = tally.add(part, labels, logits, targets)
                each.add(
                    part=np.full(len(places), part, "int16"),
                    place=places.astype("int32"),
                    label=labels.astype("int32"),
                    output=best.astype("int32"),
                    right=right,
                    in_top=in_top,
                )
                if keep_logits:
                    columns = truth.columns[labels]
                    each.add(logits=logits.astype("float32"), column=columns)
                if classifier.has_logits:
                    columns = truth.columns[labels]
                    confidences, briers = calibration.confidences_and_briers(
                        logits, columns
                    )
                    each.add(confidence=confidences)
                    if not truth.is_by_image:
                        losses = cross_entropies(logits, columns)
                        each.add(loss=losses, brier=briers)
                advance(len(places))
            unreadable.update(loader.skipped)
            check_some_read(source, tally.images[part], loader.skipped)
    return tally, each, unreadable


def _balanced(truth, tally):
    """The scores in which every class counts alike, of one label each."""
    if truth.is_by_image:
        return {"balanced_accuracy": None, "f1_macro": None}
    actual, right = tally.images.sum(axis=0), tally.right.sum(axis=0)
    predicted = right.copy()
    place = {output: label for label, output in enumerate(truth.columns)}
    for (_, output), count in tally.mistakes.items():
        if output in place:
            predicted[place[output]] += count
    return scores_of(actual, predicted, right)


def _by_class(outputs, truth, tally, confused):
    """The accuracy of each class, and the most frequent mistakes."""
    classes = [outputs[column] for column in truth.columns]
    counts = zip(classes, tally.images.sum(axis=0), tally.right.sum(axis=0))
    # The most frequent first, then in order.
    mistakes = sorted(tally.mistakes.items(), key=lambda x: (-x[1], x[0]))
    return {
        "classes": [
            {
                "class": name,
                "id": id,
                "images": int(images),
                "accuracy": float(right / images) if images else None,
            }
            for (id, name), images, right in counts
        ],
        "confused": [
            {
                "true": classes[label][1],
                "true_id": classes[label][0],
                "predicted": outputs[output][1],
                "predicted_id": outputs[output][0],
                "count": count,
            }
            for (label, output), count in mistakes[:confused]
        ],
    }


def _check_views(name, rule, tta):
    """Raises `ValueError` for views by a rule that is defined by one."""
    if tta and (rule.is_masked or rule.is_corrupted):
        raise ValueError(
            f"{rule.title} is for how robust a model is to a single look at "
            f"each image. Received: rule={name!r} with tta={tta!r}. Leave "
            "`tta` out"
        )


def _check_options(name, rule, labels, all_classes, partial):
    """Options of one rule are not taken in silence by another."""
    for option, value, is_its in (
        ("labels", labels, rule.is_multi_label),
        ("all_classes", all_classes, rule.is_masked),
        ("partial", partial, rule.is_corrupted),
    ):
        if value and not is_its:
            raise ValueError(
                f"`{option}` is of another rule. Received: rule={name!r} with "
                f"{option}={value!r}. Leave it out"
            )
    if rule.is_multi_label and not labels:
        raise ValueError(
            "rule='real' takes `labels`, the path of `real.json` from "
            "github.com/google-research/reassessed-imagenet. Received: "
            f"labels={labels!r}"
        )
