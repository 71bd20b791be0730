"""TensorFlow: the devices of one host, by `tf.distribute.MirroredStrategy`."""

import json
import os

import keras

from keras_convnext.training.distribution.cluster import Cluster
from keras_convnext.training.distribution.cluster import number_of_devices
from keras_convnext.training.distribution.replicas import Replicas
from keras_convnext.training.distribution.validation import PaddedLoader
from keras_convnext.training.optimizers.adamw import has_float16


class TensorFlowCluster(Cluster):
    """Replicas of a model on the devices of this host.

    Args:
        devices: int, how many.
    """

    eval_loader_class = PaddedLoader

    def __init__(self, devices):
        self.device_count = devices
        self.replicas = Replicas(devices, _index, _total, 1 / devices)

    def check(self, model, recipe, loader):
        if has_float16(model):
            raise ValueError(
                "On several devices Keras looks for overflows in the gradients "
                "of the first only, on TensorFlow. Received: a model that "
                "computes in float16. Take mixed_bfloat16, or JAX or PyTorch"
            )
        # Those of detectors have none.
        is_float64 = model.outputs[0].dtype == "float64"
        if is_float64 and getattr(recipe, "lora_rank", None):
            raise ValueError(
                "On several devices TensorFlow adds up gradients of one type, "
                "and Keras' LoRA is float32. Received: lora_rank="
                f"{recipe.lora_rank} for the model {model.name!r} in float64. "
                "Build it in float32, or take JAX or PyTorch"
            )
        if loader == "python":
            raise ValueError(
                "On several devices Keras reads ahead in a Python iterator, "
                "and loses the batches, on TensorFlow. Received: "
                "loader='python'. Take the loader 'tf'"
            )
        # Those of detectors have none.
        micro_batches = getattr(recipe, "gradient_accumulation_steps", 1)
        if micro_batches > 1:
            raise ValueError(
                "On several devices Keras' optimizers accumulate no gradients "
                "on TensorFlow. Received: gradient_accumulation_steps="
                f"{micro_batches}. Take JAX or PyTorch "
                "for it, or rematerialize to fit a larger batch"
            )

    def batches(self, batches):
        # Keras adds up the first batch of all replicas, and no booleans can be.
        return batches.map(
            lambda *batch: keras.tree.map_structure(_number, batch)
        )


def _number(x):
    import tensorflow as tf

    return tf.cast(x, tf.uint8) if x.dtype == tf.bool else x


def _index():
    import tensorflow as tf

    return tf.distribute.get_replica_context().replica_id_in_sync_group


def _total(x):
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return context.all_reduce(tf.distribute.ReduceOp.SUM, x)


def is_launched():
    """Whether `TF_CONFIG` names several workers, which `check` refuses."""
    return _workers() > 1


def check(hosts, model_parallel):
    """Raises `ValueError` for what the engine cannot do."""
    is_alone = len(hosts) == 1 and hosts != ["auto"] and not is_launched()
    if not is_alone or model_parallel > 1:
        raise ValueError(
            "TensorFlow trains on the devices of one host, with all weights "
            "on each: Keras' optimizers refuse the variables of "
            "`MultiWorkerMirroredStrategy`. Received: "
            f"hosts={','.join(hosts)}, model_parallel={model_parallel}, "
            f"{_workers()} workers in TF_CONFIG. Take JAX or PyTorch for it"
        )


def _workers():
    text = os.environ.get("TF_CONFIG") or "{}"
    try:
        cluster = json.loads(text).get("cluster") or {}
        return len([*cluster.get("chief", ()), *cluster.get("worker", ())])
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            "The environment variable TF_CONFIG must hold a JSON object, as "
            f"TensorFlow describes it. Received: {text!r}. Unset it: training "
            "is on one host"
        ) from error


def set_up(devices, hosts, host_index, model_parallel, oversubscribe=False):
    """Mirrors all that is built from now on."""
    import tensorflow as tf

    available = tf.config.list_logical_devices("GPU")
    available = available or tf.config.list_logical_devices("CPU")
    kind = f"{available[0].device_type} devices"
    wanted = number_of_devices(devices, len(available), kind)
    if wanted == 1:
        return Cluster()
    names = [device.name for device in available[:wanted]]
    strategy = tf.distribute.MirroredStrategy(names)
    tf.distribute.experimental_set_strategy(strategy)
    return TensorFlowCluster(wanted)
