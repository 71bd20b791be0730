"""What is measured: sweeps, each of which changes one thing."""

from dataclasses import dataclass
from dataclasses import replace

# Mode and builder of each way. Freed memory is kept, as the commands keep it.
WAYS = {
    "inference": ("inference", "in_keras.py:OursKeeping"),
    "training": ("training", "in_keras.py:OursKeeping"),
    "rematerialized": ("training", "in_keras.py:OursRematerialized"),
}
BACKENDS = ("torch", "tensorflow", "jax")
# What each sweep changes, from the first point on.
SWEEPS = {
    "batch_size": (1, 4, 16, 64),
    "image_size": (128, 224, 512),
    "model": ("convnext_atto", "convnext_tiny", "convnext_base"),
}
SWEEPS_OF = {
    "inference": tuple(SWEEPS),
    "training": tuple(SWEEPS),
    "rematerialized": ("batch_size",),
}


@dataclass(frozen=True)
class Point:
    """What one process does.

    Attributes:
        backend: of Keras.
        way: key of `WAYS`.
        model: name of a variant.
        image_size: height and width in pixels.
        batch_size: images in a call.
    """

    backend: str
    way: str
    model: str = "convnext_tiny"
    image_size: int = 224
    batch_size: int = 4

    def __str__(self):
        return (
            f"{self.backend} {self.way} {self.model} {self.image_size} px "
            f"x{self.batch_size}"
        )


def sweep(backend, way, name):
    """Points of one sweep, in order."""
    size = 224 if way == "inference" else 128
    base = Point(backend, way, image_size=size)
    return [replace(base, **{name: value}) for value in SWEEPS[name]]


def points(backends=BACKENDS, ways=tuple(WAYS)):
    """Every point once, those of a sweep one after the other."""
    every = (
        point
        for way in ways
        for backend in backends
        for name in SWEEPS_OF[way]
        for point in sweep(backend, way, name)
    )
    return list(dict.fromkeys(every))
