"""torch `.pt2` programs: torch alone runs them.

`keras.Model.export(format="torch")` (Keras 3.15) writes such files, too, but
takes no extra files: the artifact would not carry its classes and its
preprocessing, and would take the model's own layout and dtype only.
"""

import io

import torch

from keras_convnext._util.writing import writing
from keras_convnext.artifacts import metadata


def write(exportable, path, images=None):
    """Writes a program for batches of any size."""
    shape = [side or 224 for side in exportable.input_shape]
    dtype = getattr(torch, exportable.metadata["input_dtype"])
    images = torch.zeros((2, *shape), dtype=dtype)
    dynamic = {0: torch.export.Dim("batch")}
    for axis, side in enumerate(exportable.input_shape, 1):
        if side is None:
            dynamic[axis] = torch.export.Dim.AUTO
    program = torch.export.export(
        _Program(exportable).eval(), (images,), dynamic_shapes=(dynamic,)
    )
    files = {metadata.FILE: exportable.text}
    # Writing to a full disk itself, PyTorch ends the process.
    content = io.BytesIO()
    torch.export.save(program, content, extra_files=files)
    with writing(path):
        path.write_bytes(content.getbuffer())


class _Program(torch.nn.Module):
    def __init__(self, exportable):
        super().__init__()
        self.inner = exportable.rebuilt(exportable.lean)
        self.permutation = exportable.permutation

    def forward(self, image):
        x = image.to(torch.float32)
        if self.permutation:
            x = x.permute(self.permutation)
        return self.inner(x, training=False)
