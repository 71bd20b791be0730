"""torch `.pt2` programs: torch alone runs them.

`keras.Model.export(format="torch")` (Keras 3.15) writes such files, too, but
takes no extra files: the artifact would not carry its classes and its
preprocessing, and would take the model's own layout and dtype only.
"""

import functools
import io

import torch

from keras_convnext._util.writing import writing
from keras_convnext.artifacts import metadata


def write(exportable, path, images=None):
    """Writes a program for batches of any size."""
    files = {metadata.FILE: exportable.text}
    # Writing to a full disk itself, PyTorch ends the process.
    content = io.BytesIO()
    torch.export.save(program_of(exportable), content, extra_files=files)
    with writing(path):
        path.write_bytes(content.getbuffer())


def program_of(exportable):
    """The model as a `torch.export.ExportedProgram`."""
    shape = [side or 224 for side in exportable.input_shape]
    dtype = getattr(torch, exportable.metadata["input_dtype"])
    images = torch.zeros((2, *shape), dtype=dtype)
    dynamic = {0: torch.export.Dim("batch")}
    for axis, side in enumerate(exportable.input_shape, 1):
        if side is None:
            dynamic[axis] = torch.export.Dim.AUTO
    return torch.export.export(
        _Program(exportable).eval(), (images,), dynamic_shapes=(dynamic,)
    )


class _Program(torch.nn.Module):
    """The model as a function of weights that are parameters of this module.

    As a module of its own it would be in the file twice: torch finds the
    parameters, and beside them, as constants, the tensors that Keras' variables
    hold.
    """

    def __init__(self, exportable):
        super().__init__()
        model = exportable.rebuilt(exportable.lean)
        self.permutation = exportable.permutation
        self.call = functools.partial(model.stateless_call, training=False)
        for kind in ("trainable_variables", "non_trainable_variables"):
            values = [variable.value for variable in getattr(model, kind)]
            setattr(self, kind, torch.nn.ParameterList(values))

    def forward(self, image):
        x = image.to(torch.float32)
        if self.permutation:
            x = x.permute(self.permutation)
        outputs, _ = self.call(
            list(self.trainable_variables),
            list(self.non_trainable_variables),
            x,
        )
        return outputs
