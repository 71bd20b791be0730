"""torch `.pt2` programs: torch alone runs them."""

from keras_convnext.artifacts import graph
from keras_convnext.artifacts import metadata as metadata_
from keras_convnext.models import inspection


def write(model, options, metadata, path, representative_data=None):
    """Writes a program for batches of any size."""
    import torch

    channels = inspection.image_shape(model)[2]
    size = [side or 224 for side in options.size]
    shape = graph.to_layout(*size, channels, options.data_format)
    images = torch.zeros((2, *shape), dtype=getattr(torch, options.input_dtype))
    dynamic = {0: torch.export.Dim("batch")}
    start = 2 if options.data_format == "channels_first" else 1
    for axis, side in enumerate(options.size, start):
        if side is None:
            dynamic[axis] = torch.export.Dim.AUTO
    program = torch.export.export(
        _module(torch, model, options).eval(),
        (images,),
        dynamic_shapes=(dynamic,),
    )
    torch.export.save(
        program, str(path), extra_files={metadata_.FILE: metadata}
    )


def _module(torch, model, options):
    named = graph.named(model, options.features)
    inner = graph.rebuild(named, graph.image(named, options.size), graph.step)
    turn = options.data_format != inspection.data_format(model)
    to_last = options.data_format == "channels_first"

    class Module(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = inner

        def forward(self, image):
            x = image.to(torch.float32)
            if turn:
                x = x.permute((0, 2, 3, 1) if to_last else (0, 3, 1, 2))
            return self.inner(x, training=False)

    return Module()
