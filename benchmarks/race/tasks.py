"""What the benchmark times."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """What everyone does.

    Attributes:
        mode: `"inference"` (NumPy in, NumPy out) or `"training"` (forward,
            backward and AdamW on a batch).
        batch_size: images in a call.
        image_size: height and width in pixels.
    """

    mode: str
    batch_size: int
    image_size: int

    def __str__(self):
        return f"{self.mode}, batch {self.batch_size}, {self.image_size} px"


TASKS = (
    Task("inference", 1, 224),
    Task("inference", 8, 224),
    Task("inference", 32, 224),
    Task("training", 8, 128),
)
