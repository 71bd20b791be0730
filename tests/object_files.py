"""The same small data set of objects, in every format that is read."""

import json

import numpy as np
import yaml
from PIL import Image

NAMES = ("cat", "dog")
# By image: height, width and, of each object, class, box in whole pixels, and
# whether it is a polygon (an octagon that touches all four sides).
IMAGES = {
    "a.png": (40, 60, [(0, (4, 6, 24, 30), True), (1, (20, 0, 60, 40), True)]),
    "deep/b.png": (50, 50, [(1, (1, 2, 49, 40), True)]),
    "c.png": (64, 33, []),
}


def polygon(box):
    left, top, right, bottom = map(float, box)
    x, y = (right - left) / 4, (bottom - top) / 4
    return [
        *(left + x, top, right - x, top, right, top + y, right, bottom - y),
        *(right - x, bottom, left + x, bottom, left, bottom - y, left, top + y),
    ]


def write_images(folder, images=IMAGES):
    for number, (name, (height, width, _)) in enumerate(images.items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        generator = np.random.default_rng(number)
        pixels = generator.integers(0, 256, (height, width, 3), "uint8")
        Image.fromarray(pixels).save(path)


def coco(images=IMAGES):
    """As COCO's JSON: with holes in the numbers, from the last image on."""
    records, annotations = [], []
    for number, (name, (height, width, objects)) in enumerate(images.items()):
        number = 900 - 7 * number
        size = {"height": height, "width": width}
        records.append({"id": number, "file_name": name, **size})
        for label, box, _ in objects:
            left, top, right, bottom = box
            annotations.append(
                {
                    "id": 1 + len(annotations),
                    "image_id": number,
                    "category_id": (18, 90)[label],
                    "bbox": [left, top, right - left, bottom - top],
                    "area": 0.875 * (right - left) * (bottom - top),
                    "segmentation": [polygon(box)],
                    "iscrowd": 0,
                }
            )
    return {
        "images": records,
        "annotations": annotations[::-1],
        "categories": [
            {"id": id, "name": name} for id, name in zip((90, 18), NAMES[::-1])
        ],
    }


def write_coco(folder, content=None, images=IMAGES):
    write_images(folder / "images", images)
    (folder / "annotations").mkdir(parents=True)
    path = folder / "annotations" / "instances_train2017.json"
    path.write_text(json.dumps(content or coco(images)))
    return path


def write_yolo(folder, polygons=True):
    write_images(folder / "images" / "train")
    for name, (height, width, objects) in IMAGES.items():
        lines = []
        for label, box, _ in objects:
            left, top, right, bottom = box
            values = polygon(box)
            if not polygons:
                values = [(left + right) / 2, (top + bottom) / 2]
                values += [right - left, bottom - top]
            parts = np.divide(values, [width, height] * (len(values) // 2))
            lines.append(" ".join(map(str, [label, *parts.tolist()])))
        path = (folder / "labels" / "train" / name).with_suffix(".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        if lines:
            path.write_text("\n".join(lines) + "\n\n")
    content = {"path": "elsewhere", "train": "images/train"}
    content["names"] = dict(enumerate(NAMES))
    (folder / "data.yaml").write_text(yaml.safe_dump(content))
    return folder / "data.yaml"


def octagon(box, height, width):
    """The mask of `polygon(box)`: pixels whose centers are inside."""
    left, top, right, bottom = box
    rows, columns = np.mgrid[:height, :width] + 0.5
    x = np.minimum(columns - left, right - columns) / (right - left)
    y = np.minimum(rows - top, bottom - rows) / (bottom - top)
    return (x > 0) & (y > 0) & (x + y > 0.25)


def mask_numbers(name):
    """What VOC's picture of an image's masks holds: the later of two objects
    hides the other; all have a border that is none's."""
    height, width, objects = IMAGES[name]
    numbers = np.zeros((height, width), "uint8")
    for left, top, right, bottom in (box for _, box, _ in objects):
        around = left - 1, top - 1, right + 1, bottom + 1
        numbers[octagon(around, height, width)] = 255
    for i, (_, box, _) in enumerate(objects):
        numbers[octagon(box, height, width)] = i + 1
    return numbers


def write_voc_masks(folder):
    write_voc(folder)
    for name in IMAGES:
        image = Image.fromarray(mask_numbers(name))
        image.putpalette(np.random.default_rng(0).bytes(768))
        path = (folder / "SegmentationObject" / name).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    return folder


def write_voc(folder):
    write_images(folder / "JPEGImages")
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    (folder / "ImageSets" / "Main" / "train.txt").write_text("deep/b 1\na -1\n")
    for name, (height, width, objects) in IMAGES.items():
        text = [
            "<object><name>{}</name><difficult>{}</difficult><bndbox>"
            "<xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax>"
            "</bndbox><part><name>tail</name></part></object>".format(
                NAMES[label], 0, box[0] + 1, box[1] + 1, *box[2:]
            )
            for label, box, _ in objects
        ]
        size = f"<width>{width}</width><height>{height}</height>"
        path = (folder / "Annotations" / name).with_suffix(".xml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f"<annotation><size>{size}</size>{''.join(text)}</annotation>"
        )
    return folder
