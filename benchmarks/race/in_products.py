"""A model's matrix products alone; `worker` runs this file, without Keras."""

import numpy as np


class Products:
    """Products of matrices of the model's shapes, one after the other.

    Right sides are apart, as weights are; left sides of a shape are one array.
    """

    takes_normalized = False
    device = "CPU"

    def __init__(self, job):
        self.is_training = job["mode"] == "training"
        generator = np.random.default_rng(0)
        left = {}
        self.pairs = []
        for rows, inner, columns in job["products"]:
            sides = (rows, inner), (inner, columns)
            first, second = (
                generator.standard_normal(x, "float32") for x in sides
            )
            if sides[0] not in left:
                left[sides[0]] = self.tensor(first)
            self.pairs.append((left[sides[0]], self.tensor(second)))

    def prepare(self, *_):
        return self.run

    def run(self):
        for left, right in self.pairs:
            result = self.product(left, right)
        result = np.asarray(result)
        return result[0, 0] if self.is_training else result

    def finish(self):
        """Every product is waited for."""

    def peak_bytes(self):
        return None


class TorchProducts(Products):
    """Into memory that is there."""

    def __init__(self, job):
        import torch

        torch.set_num_threads(job["threads"])
        self.tensor, self.multiply = torch.from_numpy, torch.mm
        super().__init__(job)
        shapes = {(len(a), b.shape[1]) for a, b in self.pairs}
        self.results = {x: torch.empty(x) for x in shapes}

    def product(self, left, right):
        result = self.results[len(left), right.shape[1]]
        return self.multiply(left, right, out=result)


class TensorflowProducts(Products):
    def __init__(self, job):
        import tensorflow as tf

        self.tensor, self.product = tf.constant, tf.matmul
        super().__init__(job)


class JaxProducts(Products):
    def __init__(self, job):
        import jax

        self.tensor, self.multiply = jax.numpy.asarray, jax.numpy.matmul
        super().__init__(job)

    def product(self, left, right):
        return self.multiply(left, right).block_until_ready()
