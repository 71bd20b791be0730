"""Draws the pictures of the reference: `docs/reference/pictures/NAME.webp`.

    PYTHONPATH=. python conversion/reference_pictures.py

Each is output of the public name NAME. Most are cut out of the executed
notebooks, so they take no training.
"""

import base64
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.linear_model import Ridge

from keras_convnext import data
from keras_convnext import segmentation
from keras_convnext import visualize

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "reference" / "pictures"
WIDEST = 900  # pixels
# Of each the notebook, the number of its picture there, and which part of
# that, from 0 at the top to 1.
IN_NOTEBOOKS = {
    "drawn": ("detection", 1, (0, 1)),
    "grad_cam": ("features_and_gradcam", 0, (0, 1)),
    "explanation": ("features_and_gradcam", 1, (0, 1)),
    "feature_maps": ("features_and_gradcam", 2, (0, 0.59)),
    "filters": ("features_and_gradcam", 2, (0.59, 1)),
    "augmentation_grid": ("recipe_anatomy", 2, (0, 1)),
    "learning_rate_range": ("read_a_run", 0, (0, 1)),
    "learning_curves": ("read_a_run", 1, (0, 1)),
    "write_run_report": ("read_a_run", 2, (0, 1)),
    "reliability_diagram": ("read_a_run", 4, (0, 1)),
    "overlaid": ("segmentation", 0, (0, 1)),
    "reconstructed": ("few_labels", 1, (0, 1)),
    "chart": ("roadmap", 0, (0, 1)),
}


def main():
    FOLDER.mkdir(exist_ok=True)
    pictures = {
        "palette": palette(),
        "predicted_against_true": turned_digits(),
        **{name: cut_out(*place) for name, place in IN_NOTEBOOKS.items()},
    }
    for name, picture in pictures.items():
        picture.save(FOLDER / f"{name}.webp", quality=75, method=6)
    print(f"wrote {len(pictures)} pictures into {FOLDER}")


def cut_out(notebook, number, part):
    """A part of a picture among the outputs of a notebook."""
    text = (ROOT / "notebooks" / f"{notebook}.ipynb").read_text()
    encoded = [
        output["data"]["image/png"]
        for cell in json.loads(text)["cells"]
        for output in cell.get("outputs", ())
        if "image/png" in output.get("data", ())
    ]
    picture = opened(base64.b64decode(encoded[number]))
    top, bottom = (round(x * picture.height) for x in part)
    picture = picture.crop((0, top, picture.width, bottom)).convert("RGB")
    picture.thumbnail((WIDEST, 10 * WIDEST))
    return picture


def opened(content):
    """White where the picture is clear."""
    picture = Image.open(io.BytesIO(content)).convert("RGBA")
    ground = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(ground, picture)


def palette():
    colors = segmentation.palette(21)[None]
    return Image.fromarray(colors.repeat(40, 0).repeat(40, 1))


def turned_digits():
    """By how many degrees scans were turned, by a regression of pixels."""
    generator = np.random.default_rng(0)
    sets = []
    for images, labels in data.load_digits():
        scans = images[labels == 4, ..., 0]
        angles = generator.uniform(-60, 60, (8, len(scans)))
        pixels = [
            np.asarray(Image.fromarray(scan).rotate(angle, Image.BICUBIC))
            for row in angles
            for scan, angle in zip(scans, row)
        ]
        sets.append((np.reshape(pixels, (len(pixels), -1)), angles.ravel()))
    (pixels, angles), (others, true) = sets
    predicted = Ridge(1000.0).fit(pixels, angles).predict(others)
    figure = visualize.predicted_against_true(true, predicted, ["degrees"])
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=80)
    return opened(file.getvalue()).convert("RGB")


if __name__ == "__main__":
    main()
