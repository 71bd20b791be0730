"""torch `.pt2` programs: torch alone runs them.

`keras.Model.export(format="torch")` (Keras 3.15) writes such files, too, but
takes no extra files: the artifact would not carry its classes and its
preprocessing, and would take the model's own layout and dtype only.
"""

from keras_convnext.artifacts import metadata


def write(exportable, path, images=None):
    """Writes a program for batches of any size."""
    import torch

    shape = [side or 224 for side in exportable.input_shape]
    dtype = getattr(torch, exportable.metadata["input_dtype"])
    images = torch.zeros((2, *shape), dtype=dtype)
    dynamic = {0: torch.export.Dim("batch")}
    for axis, side in enumerate(exportable.input_shape, 1):
        if side is None:
            dynamic[axis] = torch.export.Dim.AUTO
    program = torch.export.export(
        _module(torch, exportable).eval(),
        (images,),
        dynamic_shapes=(dynamic,),
    )
    files = {metadata.FILE: exportable.text}
    torch.export.save(program, str(path), extra_files=files)


def _module(torch, exportable):
    inner = exportable.rebuilt(exportable.lean)

    class Module(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = inner

        def forward(self, image):
            x = image.to(torch.float32)
            if exportable.permutation:
                x = x.permute(exportable.permutation)
            return self.inner(x, training=False)

    return Module()
