"""The same seed, the same weights."""

import keras

from keras_convnext._util.ranges import Seed
from keras_convnext._util.ranges import in_range


@in_range
def make_repeatable(seed: Seed, deterministic: bool = True) -> None:
    """Seeds what Keras draws, and asks for kernels that always agree.

    Args:
        seed: int of at least 0, for initial weights and drop path.
        deterministic: whether parallel kernels of TensorFlow and torch may
            not add up in another order each time; somewhat slower. JAX' do
            not on CPU and TPU.

    Examples:
        >>> keras_convnext.training.make_repeatable(0)
    """
    keras.utils.set_random_seed(seed)
    backend = keras.backend.backend()
    if deterministic and backend == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    elif deterministic and backend == "torch":
        import torch

        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False
