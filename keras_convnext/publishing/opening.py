"""Opens what was published in the library that it was published for.

As a program it runs where nothing else is imported:

    python opening.py EXCHANGE

EXCHANGE is a file of pickled jobs, which the pickled results replace. It is run
by its path, so that this package stays out, and TensorFlow with it: beside that
torchvision ends the process.
"""

import os
import pickle
import sys
from pathlib import Path


def open_timm(folder, images, photographs):
    """What timm makes of a folder.

    Args:
        folder: path.
        images: `float32` array `(n, channels, height, width)`, normalized.
        photographs: list of `uint8` arrays `(height, width, 3)`.

    Returns:
        `logits`; `pixels` of each photograph, as `images`; `names` of the
        outputs; `best`, the name of the best for each photograph, where the
        library tells; the `version` of the library.
    """
    timm = import_timm()
    import torch
    from PIL import Image
    from timm.data import create_transform
    from timm.data import resolve_model_data_config

    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform = create_transform(**resolve_model_data_config(model))
    with torch.inference_mode():
        logits = model(torch.from_numpy(images)).numpy()
    config = model.pretrained_cfg
    descriptions = config.get("label_descriptions") or {}
    return {
        "logits": logits,
        "pixels": [transform(Image.fromarray(x)).numpy() for x in photographs],
        "names": [descriptions.get(x, x) for x in config["label_names"]],
        "best": None,
        "version": timm.__version__,
    }


def open_transformers(folder, images, photographs):
    """The same by transformers."""
    import_torchvision()
    import torch
    import transformers
    from PIL import Image

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    classify = transformers.pipeline(
        "image-classification", model=str(folder), device="cpu"
    )
    model = classify.model.eval()
    with torch.inference_mode():
        logits = model(torch.from_numpy(images)).logits.numpy()
    read = [Image.fromarray(x) for x in photographs]
    processed = [
        classify.image_processor(x, return_tensors="pt")["pixel_values"][0]
        for x in read
    ]
    names = model.config.id2label
    return {
        "logits": logits,
        "pixels": [x.numpy() for x in processed],
        "names": [names[index] for index in range(len(names))],
        "best": [classify(x, top_k=1)[0]["label"] for x in read],
        "version": transformers.__version__,
    }


OPENED_BY = {"timm": open_timm, "transformers": open_transformers}


def import_timm():
    import_torchvision()
    import timm

    return timm


def import_torchvision():
    """torchvision, also of another build than torch.

    It then lacks its operators, and asks for two of them while it is imported.
    Neither timm nor transformers calls them here.
    """
    import torch

    try:
        import torchvision  # noqa: F401
    except ImportError:
        pass  # timm says that it needs it, and transformers does without
    except RuntimeError:
        for name in [x for x in sys.modules if x.startswith("torchvision")]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "FRAGMENT")
        boxes = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        for name in ("nms", "qnms"):
            library.define(f"{name}{boxes}")
        # Dropped schemas are undeclared again.
        import_torchvision.library = library


def main(exchange):
    # Nothing here may ask a server.
    os.environ["HF_HUB_OFFLINE"] = "1"
    jobs = pickle.loads(Path(exchange).read_bytes())
    results = [OPENED_BY[name](*arguments) for name, *arguments in jobs]
    for heavy in ("keras_convnext", "tensorflow"):
        if heavy in sys.modules:
            raise RuntimeError(f"{heavy} was in the other library's process")
    Path(exchange).write_bytes(pickle.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
