"""Average precision, beside pycocotools on its own."""

import json
from types import SimpleNamespace

import numpy as np
import object_files
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from keras_convnext._util import requirements
from keras_convnext.data import ObjectSubset
from keras_convnext.data import read_coco
from keras_convnext.data import read_voc
from keras_convnext.images import rle
from keras_convnext.tasks.detection import ap

pytestmark = pytest.mark.once


def content():
    """Images of all sizes of objects, with crowds, of polygons and runs."""
    generator = np.random.default_rng(0)
    images = {}
    for number in range(12):
        objects = []
        for _ in range(generator.integers(0, 8)):
            corners = generator.integers(0, (200, 130))
            limit = np.minimum(
                (240, 160) - corners, generator.choice((30, 160))
            )
            sides = generator.integers(3, np.maximum(limit, 4) + 1)
            box = (*corners.tolist(), *(corners + sides).tolist())
            objects.append((int(generator.integers(2)), box, True))
        images[f"{number}.png"] = 160, 240, objects
    content = object_files.coco(images)
    mask = np.zeros((160, 240), bool)
    mask[20:100, 30:200] = generator.random((80, 170)) < 0.5
    crowd = {"image_id": 893, "category_id": 18, "bbox": [30, 20, 170, 80]}
    crowd |= {"iscrowd": 1, "area": int(mask.sum()), "id": 999}
    content["annotations"].append({**crowd, "segmentation": rle.encode(mask)})
    return images, content


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    images, described = content()
    folder = tmp_path_factory.mktemp("ap")
    path = object_files.write_coco(folder, described, images)
    return path, read_coco(path)


def perfect(source):
    rows = []
    for number, id in enumerate(source.ids):
        objects = source.objects(number)
        objects = objects.only(~objects.is_crowd)
        found = SimpleNamespace(
            boxes=objects.boxes,
            scores=np.linspace(0.9, 0.5, len(objects)),
            classes=objects.classes,
            rles=objects.rles(),
        )
        rows += ap.results_of(found, id, source.class_ids)
    return rows


def shifted(source):
    """Moved, missing, of wrong classes, and found twice; some in crowds."""
    generator = np.random.default_rng(1)
    rows = []
    for row in perfect(source):
        for _ in range(generator.integers(0, 4)):
            x, y = generator.integers(-4, 5, 2).tolist()
            mask = rle.decode(row["segmentation"])
            mask = np.roll(mask, (y, x), (0, 1))
            left, top, width, height = row["bbox"]
            category = 18 if generator.random() < 0.2 else row["category_id"]
            rows.append(
                {
                    "image_id": row["image_id"],
                    "category_id": category,
                    "bbox": [left + x, top + y, width, height],
                    "score": float(generator.random()),
                    "segmentation": rle.encode(mask),
                }
            )
    # A small mask in a box of medium size.
    small = np.zeros((160, 240), bool)
    small[:5, :5] = True
    wrong = {"image_id": 900, "category_id": 18, "bbox": [0, 0, 40, 40]}
    rows.append({**wrong, "score": 0.98, "segmentation": rle.encode(small)})
    inside = np.zeros((160, 240), bool)
    inside[30:50, 40:90] = True
    for score in (0.95, 0.99):
        in_crowd = {"image_id": 893, "category_id": 18, "score": score}
        in_crowd["bbox"] = [40, 30, 50, 20]
        rows.append({**in_crowd, "segmentation": rle.encode(inside)})
    return rows


def own_figures(path, results, kind):
    """What pycocotools gives for the files alone."""
    truth = COCO(path)
    if kind == "segm":  # with boxes, sizes would be those of boxes
        keys = ("image_id", "category_id", "score", "segmentation")
        results = [{key: x[key] for key in keys} for x in results]
    judge = COCOeval(
        truth, truth.loadRes(json.loads(json.dumps(results))), kind
    )
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    return judge


@pytest.mark.parametrize("detections", [perfect, shifted])
def test_figures_are_those_of_pycocotools(detections, opened, capsys):
    path, source = opened
    results = detections(source)
    found = ap.average_precision(source, results)
    assert not capsys.readouterr().out
    assert found.images == 12
    for name, kind in (("boxes", "bbox"), ("masks", "segm")):
        judge = own_figures(path, results, kind)
        figures = getattr(found, name)
        for key, row in ap.FIGURES.items():
            expected = judge.stats[row]
            assert expected > -1, "there are objects of all sizes"
            assert figures[key] == expected, key
        for label, one in enumerate(found.classes):
            precision = judge.eval["precision"][:, :, label, 0, -1]
            assert one[name]["ap"] == pytest.approx(precision.mean(), 1e-12)
            assert one[name]["ap50"] == pytest.approx(
                precision[0].mean(), 1e-12
            )
    if detections is perfect:
        # The mean of ones, added up.
        assert found.boxes["ap"] == pytest.approx(1, 1e-12)
    else:
        assert 0.05 < found.masks["ap"] < found.masks["ap50"] < 0.95
        assert found.masks["ap"] != found.boxes["ap"]


def test_no_detections(opened):
    _, source = opened
    found = ap.average_precision(source, [])
    assert found.boxes["ap"] == found.masks["ap"] == 0
    assert found.boxes["recall"] == 0
    # And none at all to find.
    empty = ObjectSubset(source, np.flatnonzero(source.labels == 0))
    assert len(empty) > 0
    found = ap.average_precision(empty, [])
    assert found.boxes["ap"] is None and found.classes[0]["boxes"]["ap"] is None
    found.print()


def test_what_is_found_in_crowds_is_no_mistake(opened):
    _, source = opened
    best = perfect(source)
    results = shifted(source)[-2:]
    both = ap.average_precision(source, best + results)
    assert both.boxes["ap"] == ap.average_precision(source, best).boxes["ap"]
    elsewhere = [{**x, "image_id": 900} for x in results]
    assert ap.average_precision(source, best + elsewhere).boxes["ap"] < 1


def test_boxes_alone(tmp_path):
    source = read_voc(object_files.write_voc(tmp_path))
    results = [
        {
            "image_id": number,
            "category_id": int(label),
            "bbox": [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()],
            "score": 0.5,
        }
        for number in range(3)
        for box, label in zip(
            source.objects(number).boxes, source.objects(number).classes
        )
    ]
    found = ap.average_precision(source, results)
    assert found.masks is None and found.boxes["ap50"] == pytest.approx(1)
    assert "masks" not in found.classes[0]
    # Pieces of the data have figures of their own.
    part = ap.average_precision(ObjectSubset(source, [2]), results[2:])
    assert part.images == 1 and part.boxes["ap50"] == pytest.approx(1)


def test_results_of_other_data_are_refused(opened):
    _, source = opened
    (first, *_) = perfect(source)
    for key, value in (("image_id", 5), ("category_id", 1)):
        with pytest.raises(ValueError, match=f"`{key}`s. Received: {value}"):
            ap.average_precision(source, [{**first, key: value}])


def test_all_images_are_searched(opened, tmp_path, capsys):
    path, source = opened
    by_size = {}
    for number in range(len(source)):
        key = source.image(number).pixels().tobytes()
        by_size[key] = source.objects(number)

    def find(pixels):
        objects = by_size[pixels.tobytes()]
        objects = objects.only(~objects.is_crowd)
        return SimpleNamespace(
            boxes=objects.boxes,
            scores=np.full(len(objects), 0.5),
            classes=objects.classes,
            rles=objects.rles(),
        )

    published = {"boxes": {"ap": 0.462}, "masks": {"ap": 0.417}, "source": "it"}
    found = ap.measure(find, source, None, published, verbose=False)
    assert found.images == 12 and found.seconds > 0 and not found.unreadable
    assert found.boxes["ap50"] == pytest.approx(1, 1e-12)
    found.print()
    shown = capsys.readouterr().out
    assert "boxes, published (it)" in shown and "46.2" in shown
    assert "AP, small" in shown and "100.0" in shown
    assert json.loads(json.dumps(found.as_dict()))["images"] == 12
    # What cannot be read does not count, and is told.
    broken = path.parent.parent / "images" / "0.png"
    kept = broken.read_bytes()
    broken.write_bytes(b"")
    try:
        with pytest.warns(UserWarning, match="Skipped"):
            found = ap.measure(find, source, verbose=False)
        with (
            pytest.warns(UserWarning, match="Skipped"),
            pytest.raises(ValueError, match="at least one must be readable"),
        ):
            ap.measure(find, ObjectSubset(source, [0]), verbose=False)
    finally:
        broken.write_bytes(kept)
    assert found.images == 11 and len(found.unreadable) == 1
    found.print()
    assert "1 images could not be read" in capsys.readouterr().out


def test_without_pycocotools_nothing_is_begun(opened, monkeypatch):
    def missing(module, purpose):
        raise requirements.missing(module, purpose)

    monkeypatch.setattr(ap, "require", missing)
    with pytest.raises(ImportError, match=r"keras-convnext\[detection\]"):
        ap.measure(pytest.fail, opened[1])
