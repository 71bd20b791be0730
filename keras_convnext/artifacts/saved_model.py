"""SavedModels: TensorFlow's own format, for TF Serving and other languages."""

import tempfile
from pathlib import Path

from keras_convnext._util.writing import writing
from keras_convnext.artifacts import metadata
from keras_convnext.artifacts import tf_graph
from keras_convnext.images.tf_transform import tf_load_image
from keras_convnext.models import inspection

SERVING = "serving_default"
JPEG = "serving_jpeg"


def write(exportable, path, images=None):
    """Writes a folder with the signatures `serving_default`, from images to
    named outputs, and for RGB `serving_jpeg`, from encoded JPEG or PNG.

    Detectors, and what becomes a file of another format, have the first alone.
    """
    import tensorflow as tf

    forward = tf_graph.forward(exportable)
    image = tf.TensorSpec(
        (exportable.metadata["batch_size"], *exportable.input_shape),
        exportable.metadata["input_dtype"],
        name="image",
    )
    signatures = {SERVING: tf.function(forward, input_signature=[image])}
    preprocessing = exportable.metadata["preprocessing"]
    is_rgb = exportable.metadata["channels"] == 3
    outputs = exportable.outputs
    # A detector's boxes would be in pixels that nobody knows.
    is_known = preprocessing is not None and not metadata.is_detector(outputs)
    if exportable.format == "saved_model" and is_rgb and is_known:
        signatures[JPEG] = _from_jpeg(tf, exportable, forward, preprocessing)
    module = tf.Module()
    module.variables_ = [x.value for x in forward.model.variables]
    with tempfile.TemporaryDirectory() as folder, writing(path):
        file = Path(folder) / metadata.FILE
        file.write_text(exportable.text, encoding="utf-8")
        module.metadata = tf.saved_model.Asset(str(file))
        tf.saved_model.save(module, str(path), signatures=signatures)


def _from_jpeg(tf, exportable, forward, preprocessing):
    arguments = preprocessing.arguments()
    shape = (*preprocessing.image_size, 3)
    normalizes = exportable.metadata["normalizes"]
    turn = inspection.data_format(exportable.lean) == "channels_first"

    def load(encoded):
        image = tf.cast(tf_load_image(encoded, **arguments), tf.float32)
        if not normalizes:
            image = (image / 255 - preprocessing.mean) / preprocessing.std
        return image

    def from_jpeg(jpeg):
        images = tf.map_fn(
            load, jpeg, fn_output_signature=tf.TensorSpec(shape, tf.float32)
        )
        if turn:
            images = tf.transpose(images, (0, 3, 1, 2))
        return forward.model(images, training=False)

    return tf.function(
        from_jpeg,
        input_signature=[tf.TensorSpec((None,), tf.string, name="jpeg")],
    )
