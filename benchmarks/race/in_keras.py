"""Keras models as users get them; `worker` runs this file on one backend."""

import time
from pathlib import Path

import keras
import numpy as np

import keras_convnext
from keras_convnext.models.profiling import without_numbers

# Side of the matrices whose product is the ceiling, and how often.
SIDE = {"cpu": 2048, "gpu": 8192}
PRODUCTS = 30


class KerasModel:
    """`predict_on_batch` or `train_on_batch`, on NumPy arrays."""

    takes_normalized = False

    def __init__(self, job):
        keras.config.set_dtype_policy(job["dtype"])
        size = job["image_size"]
        self.is_training = job["mode"] == "training"
        self.device = device()[1]
        self.model = self.build(
            job,
            (size, size, 3),
            "linear" if self.is_training else "softmax",
        )

    def prepare(self, images, labels):
        if not self.is_training:
            return lambda: self.model.predict_on_batch(images)
        self.model.compile(
            self.optimizer(),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        return lambda: self.model.train_on_batch(images, labels)

    def optimizer(self):
        return keras.optimizers.AdamW(1e-3)

    def finish(self):
        """Waits: a loss is there before the last update is."""
        if self.is_training:
            fetch(self.model.trainable_weights[-1])

    def peak_bytes(self):
        return device_peak_bytes()


class Ours(KerasModel):
    def build(self, job, shape, activation):
        return keras_convnext.create_model(
            job["model"],
            weights=None,
            input_shape=shape,
            classifier_activation=activation,
        )

    def optimizer(self):
        return keras_convnext.optimizers.AdamW(1e-3)


class OursKeeping(Ours):
    """As the commands are: freed memory stays with the process."""

    def __init__(self, job):
        keras_convnext.keep_freed_memory()
        super().__init__(job)


class OursOptimized(Ours):
    def build(self, job, shape, activation):
        model = super().build(job, shape, activation)
        return keras_convnext.optimize_for_inference(model)


class OursCompiled(Ours):
    """By the backend's own compiler."""

    def prepare(self, images, labels):
        run = super().prepare(images, labels)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.model.compile(self.optimizer(), loss, jit_compile=True)
        return run


class OursAccelerated(Ours):
    """By the fastest engine that is installed."""

    engine = "auto"

    def prepare(self, images, labels):
        fast = keras_convnext.accelerate(
            self.model, self.engine, cache=False, verbose=False
        )
        return lambda: fast(images)


class OursFrozen(OursAccelerated):
    """By PyTorch's compiler, with weights that it has packed."""

    engine = "inductor"


class OursRematerialized(OursKeeping):
    def build(self, job, shape, activation):
        return keras_convnext.rematerialized(
            super().build(job, shape, activation)
        )


class KerasApplications(KerasModel):
    def build(self, job, shape, activation):
        build = getattr(keras.applications, job["their_model"])
        return build(
            weights=None, input_shape=shape, classifier_activation=activation
        )


class ZeroModels(KerasModel):
    takes_normalized = True

    def build(self, job, shape, activation):
        from zeromodels.models.convnext import ConvNeXtImageClassify

        variant = job["variant"]
        return ConvNeXtImageClassify(
            depths=variant["depths"],
            projection_dim=variant["dims"],
            layer_scale_init=variant["layer_scale_init_value"] or None,
            use_grn=variant["grn"],
            image_size=shape,
            classifier_activation=activation,
        )


def survey(job):
    """What a model costs at every size, and the ceiling.

    Returns:
        A dict: `macs` by image size; `gflops`, one figure for each product of
        two large matrices; `device`.
    """
    macs = {}
    for size in job["image_sizes"]:
        with without_numbers():
            model = Ours({**job, "image_size": size, "mode": "inference"}).model
        macs[size] = keras_convnext.profile(model).macs
    kind, name = device()
    side = SIDE[kind]
    dtype = keras.dtype_policies.get(job["dtype"]).compute_dtype
    numbers = np.random.default_rng(0).standard_normal((2, side, side))
    left, right = (keras.ops.convert_to_tensor(x, dtype) for x in numbers)
    fetch(keras.ops.matmul(left, right)[0, 0])
    seconds = []
    for _ in range(PRODUCTS):
        start = time.perf_counter()
        fetch(keras.ops.matmul(left, right)[0, 0])
        seconds.append(time.perf_counter() - start)
    gflops = [2 * side**3 / x / 1e9 for x in seconds]
    return {"macs": macs, "gflops": gflops, "device": name}


def write_ours(job):
    """Our export, as users get it: pixels of 0–255, channels last."""
    size = job["image_size"]
    model = Ours({**job, "mode": "inference"}).model
    keras_convnext.export(
        model, Path(job["path"]), image_size=size, verify=False, verbose=False
    )
    return {}


def fetch(tensor):
    return keras.ops.convert_to_numpy(tensor)


def device():
    """`"cpu"` or `"gpu"` (what else there is counts as one), and its name."""
    kind, name = DEVICES[keras.backend.backend()]()
    return kind, name


def _torch_device():
    import torch

    if torch.cuda.is_available():
        return "gpu", torch.cuda.get_device_name()
    return "cpu", "CPU"


def _jax_device():
    import jax

    first = jax.devices()[0]
    if first.platform == "cpu":
        return "cpu", "CPU"
    return "gpu", first.device_kind


def _tensorflow_device():
    import tensorflow as tf

    found = tf.config.list_physical_devices("GPU")
    if not found:
        return "cpu", "CPU"
    details = tf.config.experimental.get_device_details(found[0])
    return "gpu", details.get("device_name", "GPU")


DEVICES = {
    "jax": _jax_device,
    "tensorflow": _tensorflow_device,
    "torch": _torch_device,
}


def device_peak_bytes():
    """The most that was in use on an accelerator; `None` on a CPU."""
    if device()[0] == "cpu":
        return None
    backend = keras.backend.backend()
    if backend == "torch":
        import torch

        return torch.cuda.max_memory_allocated()
    if backend == "jax":
        import jax

        return jax.devices()[0].memory_stats()["peak_bytes_in_use"]
    import tensorflow as tf

    return tf.config.experimental.get_memory_info("GPU:0")["peak"]
