"""Of `evaluate`: scores that mean what they say, and the picture of them."""

from keras_convnext import visualize
from keras_convnext._util.writing import written_aside
from keras_convnext.cli.files import check_output
from keras_convnext.cli.files import check_picture
from keras_convnext.evaluation.calibrating import measured_and_calibrated
from keras_convnext.evaluation.calibrating import network_of


def check(calibrate, reliability, force, rule, tta):
    """Raises `ValueError` for what could not be written in the end."""
    if reliability is not None:
        check_picture(reliability, force, "--reliability")
    if calibrate is None:
        return
    check_output(calibrate, force, (".keras",), "--calibrate")
    if rule != "classes" or tta:
        raise ValueError(
            "A temperature is fitted by `rule='classes'`, to one view of each "
            f"image. Received: rule={rule!r} and tta={tta!r}. Leave out "
            f"{'`tta`' if tta else '`rule`'}, or `calibrate`"
        )


def calibrated(artifact, source, batch_size, path, **options):
    """A `Measured` with its calibration, whose model is written.

    Args:
        artifact: of a Keras model.
        source, batch_size, options: as for `evaluation.calibrate`.
        path: of the `.keras` file to write.
    """
    found = measured_and_calibrated(
        artifact, source, batch_size=batch_size, **options
    )
    with written_aside(path) as unfinished:
        artifact.model.save(unfinished)
    return found


def refusal(artifact):
    """Why a model cannot be calibrated, an error; `None` if it can."""
    try:
        network_of(artifact)
    except ValueError as error:
        return error
    return None


def draw(result, path):
    """Writes the reliability diagram of an evaluation.

    Raises:
        ValueError: if its scores are no probabilities.
    """
    if getattr(result, "reliability", None) is None:
        raise ValueError(
            "`reliability` draws scores that are probabilities, of images "
            f"whose labels are known. Received: {result.model!r} by the rule "
            f"{result.rule!r}, which has none. Leave it out"
        )
    found = result.calibration
    after = found and found.reliability_after
    figure = visualize.reliability_diagram(result.reliability, after)
    visualize.written_figure(figure, path)
