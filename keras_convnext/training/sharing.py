"""The state that a run begins with, the same in all its processes."""

from keras_convnext.training import state
from keras_convnext.training.settings import differences


def check_same(cluster, settings):
    """Raises `ValueError` in all processes where one has other settings.

    It might have other images, or steps that the others wait for in vain.

    Args:
        cluster: a `Cluster`.
        settings: as of `settings_of`.
    """
    unlike = differences(
        cluster.from_writer(settings), "in process 0", settings, "here"
    )
    (is_any,) = cluster.largest([bool(unlike)])
    if is_any:
        raise ValueError(
            "All processes of a run must have the same settings and images. "
            f"Received, in process {cluster.process_index}:\n"
            + (unlike or "  those of process 0, unlike another process")
        )


def from_writer(cluster, checkpoint, model):
    """The checkpoint that one process read, in every process.

    Only the writer needs the output folder, and all begin with its weights.

    Args:
        cluster: a `Cluster`.
        checkpoint: in the writer, that of `Checkpoints.latest`.
        model: compiled.

    Returns:
        `(step, tensors, record)`; of the writer's model, at step 0, if it
        found none.
    """
    # On JAX even making variables takes all processes.
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    if cluster.is_writer and checkpoint is None:
        tensors = state.capture(model, metrics=False)
        checkpoint = 0, tensors, {"history": [], "best": {}}
    step, tensors, record = checkpoint or (None, {}, None)
    step, names, record = cluster.from_writer((step, list(tensors), record))
    # One at a time: together they take several times the memory of the model.
    tensors = {x: cluster.from_writer(tensors.get(x)) for x in names}
    return step, tensors, record
