"""The state that a run begins with, the same in all its processes."""

import json

import numpy as np

from keras_convnext.training import state
from keras_convnext.training.settings import differences


def check_same(cluster, settings):
    """Raises `ValueError` in all processes where one has other settings.

    It might have other images, or steps that the others wait for in vain.

    Args:
        cluster: a `Cluster`.
        settings: as of `settings_of`.
    """
    found = differences(
        _text(cluster, settings), "in process 0", settings, "here"
    )
    (is_any,) = cluster.largest([bool(found)])
    if is_any:
        raise ValueError(
            "All processes of a run must have the same settings and images. "
            f"Received, in process {cluster.process_index}:\n"
            + (found or "  those of process 0, unlike another process")
        )


def from_writer(cluster, found, model):
    """What one process read from a checkpoint, in every process.

    Only the writer needs the output folder, and all begin with its weights.

    Args:
        cluster: a `Cluster`.
        found: in the writer, what `Checkpoints.latest` returned.
        model: compiled.

    Returns:
        `(step, tensors, record)`; of the writer's model, at step 0, if it
        found none.
    """
    # On JAX even making variables takes all processes.
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    if cluster.is_writer and found is None:
        tensors = state.capture(model, metrics=False)
        found = 0, tensors, {"history": [], "best": {}}
    step, tensors, record = found or (None, {}, None)
    arrays = [(name, x.shape, x.dtype.str) for name, x in tensors.items()]
    step, record, arrays = _text(cluster, [step, record, arrays])
    return (
        step,
        {
            name: _array(cluster, tensors.get(name), shape, dtype)
            for name, shape, dtype in arrays
        },
        record,
    )


def _text(cluster, value):
    """A value of JSON's types of the writer."""
    content = np.frombuffer(json.dumps(value).encode(), "uint8")
    length = np.array([len(content)], "int64").view("uint8")
    length = int(cluster.from_writer(length).view("int64")[0])
    own = content if cluster.is_writer else np.zeros(length, "uint8")
    return json.loads(cluster.from_writer(own).tobytes())


def _array(cluster, array, shape, dtype):
    if array is None:
        array = np.zeros(shape, dtype)
    content = np.ascontiguousarray(array).reshape(-1).view("uint8")
    return cluster.from_writer(content).view(dtype).reshape(shape)
