"""A model over HTTP: asked as clients do, with a model whose answers are known.

The image of number `n` is of one color, and gets row `n` of a table: an answer
that was mixed up with another would show.
"""

import contextlib
import json
import re
import socket
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import served_model
import serving as load_test
from PIL import Image
from PIL import ImageFile
from prometheus_client import parser
from served_model import encode
from served_model import encoded
from served_model import form
from served_model import served
from served_model import wait_until
from table_classifier import TableClassifier
from table_classifier import named

import keras_convnext
from keras_convnext.artifacts import running
from keras_convnext.artifacts.serving.batching import Batcher
from keras_convnext.artifacts.serving.limits import Limits

pytestmark = pytest.mark.once

PAGE = Path(__file__).parents[2] / "docs" / "how_to" / "serve.md"
IMAGES = 500
NAMES = ("ant", "bee", "cat", "dog", "elk", "fox")
TABLE = np.random.default_rng(0).normal(0, 3, (IMAGES, len(NAMES)))


def classifier(table=TABLE, **metadata):
    return TableClassifier(table, named(*NAMES), **metadata)


def told(number, top=5):
    """What is to be answered of an image, worked out here."""
    scores = np.exp(TABLE[number]) / np.exp(TABLE[number]).sum()
    return [
        {
            "class": NAMES[index],
            "id": str(index),
            "score": pytest.approx(scores[index], rel=1e-9, abs=0),
        }
        for index in np.argsort(-scores)[:top]
    ]


class Held(TableClassifier):
    """One whose model waits until it is let go."""

    def __init__(self):
        self.is_free, self.is_running = threading.Event(), threading.Event()
        super().__init__(TABLE, named(*NAMES))

    def answers(self, inputs):
        self.is_running.set()
        assert self.is_free.wait(served_model.SECONDS)
        return super().answers(inputs)


@contextlib.contextmanager
def asking(server, *requests):
    """Requests that are on their way; their answers after the block."""
    with ThreadPoolExecutor(len(requests)) as pool:
        yield [pool.submit(server.ask, **request) for request in requests]


def test_one_image_or_several():
    with served(classifier()) as server:
        status, _, content = server.ask(body=encoded(7))
        assert status == 200
        assert content == {"results": [{"image": None, "predictions": told(7)}]}
        files = [(f"{n}.png", encoded(n)) for n in (300, 7, 42)]
        _, _, content = server.ask("/predict?top=2", **form(*files))
        assert content["results"] == [
            {"image": f"{n}.png", "predictions": told(n, 2)}
            for n in (300, 7, 42)
        ]


def test_the_page_asks_as_it_says(monkeypatch, tmp_path, capsys):
    for name, content in (("cat.jpg", encoded(3)), ("dog.jpg", HALF)):
        (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    with served(classifier()) as server:
        exec(code.replace(":8000/", f":{server.port}/"), {})
    first, second = capsys.readouterr().out.splitlines()
    best = told(3)[0]["class"]
    assert first.startswith(f"cat.jpg [{{'class': '{best}'")
    assert second.startswith("dog.jpg Expected an image.")


def test_labels_that_do_not_compete_and_numbers():
    scores = np.array([[0.9, 0.2, 0.6], [0.1, 0.1, 0.1]])
    sigmoid = {"outputs": ["scores"], "activation": "sigmoid"}
    tags = TableClassifier(
        scores, named(*NAMES[:3]), thresholds=[0.95, 0.1, 0.5], **sigmoid
    )
    both = form(("a", encoded(0)), ("b", encoded(1)))
    with served(tags) as server:
        first, second = server.ask(**both)[2]["results"]
        found = [(x["class"], x["score"]) for x in first["predictions"]]
        assert found == [("cat", 0.6), ("bee", 0.2)]
        assert [x["class"] for x in second["predictions"]] == ["bee"]
    with served(tags, threshold=0.55) as server:
        first, _ = server.ask(**both)[2]["results"]
        found = [x["class"] for x in first["predictions"]]
        assert found == ["ant", "cat"]
        (one,) = server.ask("/predict?top=1", body=encoded(0))[2]["results"]
        assert [x["class"] for x in one["predictions"]] == ["ant"]
    units = {"mean": [40.0], "std": [9.0]}
    ages = TableClassifier(
        np.array([[31.5], [44.0]]),
        named("age"),
        outputs=["values"],
        units=units,
    )
    with served(ages) as server:
        (result,) = server.ask(body=encoded(1))[2]["results"]
        assert result["predictions"] == [{"target": "age", "value": 44.0}]
        status, _, content = server.ask("/predict?top=1", body=encoded(1))
        assert status == 400 and "predicts numbers" in content["error"]


def bomb(width, height):
    """A PNG of few bytes whose header tells of many pixels."""

    def chunk(kind, content):
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(100)))
        + chunk(b"IEND", b"")
    )


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshow\n"
NOISE = np.random.default_rng(2).integers(0, 256, (20, 20, 3), "uint8")
HALF = encode(NOISE)[:70]
CUT = {**form(("a.png", encoded(1)))}
CUT["body"] = CUT["body"][:40]
BAD = {
    "text": ({"body": b"hello"}, 400, "5 bytes, which is not an image"),
    "cut_off": ({"body": HALF}, 400, "70 bytes, which cannot be read"),
    "nothing": ({"body": b""}, 400, "no bytes. With curl: -F image=@"),
    "empty_file": (form(("a.png", b"")), 400, "no bytes"),
    "file": (form(("a.txt", b"hello")), 400, "'a.txt', which is not an"),
    "field": (form(("", b"hello")), 400, "the text 'image'"),
    "no_file": (form(), 400, "no bytes"),
    "damaged_form": (CUT, 400, "no bytes"),
    "no_boundary": (
        {**form(("a", b"a")), "kind": "multipart/form-data"},
        400,
        "form is damaged",
    ),
    "other_boundary": (
        {**form(("a", b"a")), "kind": "multipart/form-data; boundary=b"},
        400,
        "form is damaged",
    ),
    "program": ({"body": EPS}, 400, "its format EPS is none of"),
    "many_bytes": ({"body": bytes(100_001)}, 413, "at most 100000 bytes"),
    "many_files": (
        form(*[("a.png", b"a")] * 65),
        413,
        "takes at a time, 64. Received: 65",
    ),
    "more_files": (form(*[("a.png", b"a")] * 66), 400, "Too many files"),
    "many_pixels": ({"body": bomb(101, 100)}, 413, "101×100 pixels"),
    "bomb": ({"body": bomb(60_000, 60_000)}, 413, "too many pixels"),
    "no_number": (
        {"path": "/predict?top=many", "body": encoded(1)},
        400,
        "`top`: ",
    ),
    "no_class": ({"path": "/predict?top=0", "body": encoded(1)}, 400, "`top`"),
    "nowhere": ({"path": "/"}, 404, "Not Found"),
    "not_sent": ({"path": "/predict"}, 405, "Method Not Allowed"),
}


@pytest.fixture(scope="module")
def one_for_all():
    with served(classifier()) as server:
        yield server


@pytest.mark.parametrize("case", BAD)
def test_bad_requests_are_told_why(case, one_for_all, monkeypatch):
    request, status, message = BAD[case]
    seen = one_for_all.service.artifact.seen
    seen.clear()
    if "bomb" in case or "pixels" in case or case == "program":

        def load(self):
            raise AssertionError("decoded")

        monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    found, _, content = one_for_all.ask(**request)
    assert (found, [*content]) == (status, ["error"])
    assert message in content["error"]
    assert not seen and one_for_all.service.taken == 0


def test_bytes_are_counted_where_no_header_tells_them(one_for_all):
    def chunks():
        yield from [bytes(30_000)] * 10

    status, _, content = one_for_all.ask(body=chunks())
    assert status == 413 and "at most 100000 bytes" in content["error"]
    assert one_for_all.ask(body=encoded(3))[0] == 200


def test_a_broken_image_leaves_the_others_alone(one_for_all):
    files = [
        ("1.png", encoded(1)),
        ("cut.png", HALF),
        ("big.png", bomb(1000, 1000)),
        ("2.png", encoded(2)),
    ]
    status, _, content = one_for_all.ask(**form(*files))
    first, cut, big, second = content["results"]
    assert status == 200
    assert first == {"image": "1.png", "predictions": told(1)}
    assert second == {"image": "2.png", "predictions": told(2)}
    assert [*cut] == [*big] == ["image", "error"]
    assert "'cut.png', which cannot be read" in cut["error"]
    assert "'big.png', which has 1000×1000 pixels" in big["error"]
    status, _, content = one_for_all.ask(**form(files[2], files[1]))
    assert status == 400  # the first of 400 and 413, with both reasons
    assert "cut.png" in content["error"] and "big.png" in content["error"]


@pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")
def test_no_damage_ends_the_server(one_for_all):
    """Files with a few bytes changed are images, or told to be none."""
    random = np.random.default_rng(0)
    for format in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"):
        whole = np.frombuffer(encode(NOISE, format), "uint8")
        for _ in range(12):
            damaged = whole.copy()
            places = random.integers(0, len(whole), 4)
            damaged[places] = random.integers(0, 256, 4)
            # What is no image's color would be no number of the table.
            one_for_all.service.artifact.table = np.zeros((2**16, 6))
            cut = damaged[: random.integers(1, 2 * len(whole))].tobytes()
            status, _, content = one_for_all.ask(body=cut)
            assert status in (200, 400, 413), content
    one_for_all.service.artifact.table = TABLE
    assert one_for_all.ask(body=encoded(9))[0] == 200
    assert one_for_all.ask("/health")[2] == {"status": "ok"}


def test_answers_of_many_clients_are_not_mixed_up():
    """One of ten images is broken, and one request in four has several."""
    artifact = classifier()
    random = np.random.default_rng(1)
    requests = [
        random.integers(0, IMAGES, 1 + 4 * (i % 4 == 0)) for i in range(240)
    ]

    def ask(i):
        numbers = requests[i]
        broken = [(i + j) % 10 == 0 for j in range(len(numbers))]
        files = [
            (f"{n}", HALF if is_broken else encoded(n))
            for n, is_broken in zip(numbers, broken)
        ]
        status, _, content = server.ask(**form(*files))
        assert status == (400 if all(broken) else 200)
        results = content.get("results", [])
        for n, is_broken, result in zip(numbers, broken, results):
            assert result["image"] == f"{n}"
            assert is_broken or result["predictions"] == told(n)
        return sum(broken)

    limits = {"max_batch_delay": 20.0}
    with served(artifact, limits) as server, ThreadPoolExecutor(16) as pool:
        broken = sum(pool.map(ask, range(len(requests))))
    sizes = [len(x) for x in artifact.seen]
    assert sum(sizes) == sum(map(len, requests)) - broken
    assert max(sizes) == served_model.LIMITS["batch_size"]


def test_a_full_queue_refuses_at_once():
    artifact = Held()
    limits = {"queue_size": 6, "batch_size": 2}
    requests = [{"body": encoded(n)} for n in range(6)]
    with served(artifact, limits) as server:
        with asking(server, *requests) as answers:
            wait_until(lambda: server.service.taken == 6)
            for request in ({"body": encoded(9)}, form(("a", encoded(9)))):
                status, headers, content = server.ask(**request)
                assert status == 503 and headers["Retry-After"] == "1"
                assert "room for 6 images" in content["error"]
            assert server.ask("/health")[0] == 200
            artifact.is_free.set()
        for number, answer in enumerate(answers):
            status, _, content = answer.result()
            (result,) = content["results"]
            assert (status, result["predictions"]) == (200, told(number))
        # Its images count, and not its requests.
        files = [("a.png", encoded(1))] * 6
        assert server.ask(**form(*files))[0] == 200
        artifact.is_free.clear()
        with asking(server, {"body": encoded(1)}):
            wait_until(lambda: server.service.taken == 1)
            assert server.ask(**form(*files))[0] == 503
            assert server.service.taken == 1
            artifact.is_free.set()


def head(length):
    return (
        f"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def test_slow_clients_wait_alone():
    content = encoded(5)
    with served(classifier(), {"timeout": 0.5}) as server:
        address = "127.0.0.1", server.port
        with socket.create_connection(address, served_model.SECONDS) as slow:
            slow.sendall(head(len(content)) + content[:20])
            wait_until(lambda: server.service.taken == 1)
            assert server.ask(body=content)[0] == 200
            assert b" 408 " in slow.recv(1000).splitlines()[0]
        assert server.service.taken == 0
        with socket.create_connection(address, served_model.SECONDS) as gone:
            gone.sendall(head(len(content)) + content[:20])
            wait_until(lambda: server.service.taken == 1)
        wait_until(lambda: server.service.taken == 0)


def test_who_waits_too_long_is_told_and_not_computed():
    artifact = Held()
    limits = {"timeout": 0.3, "batch_size": 1}
    requests = [{"body": encoded(n)} for n in range(4)]
    with served(artifact, limits) as server:
        with asking(server, *requests) as answers:
            statuses = [answer.result()[0] for answer in answers]
        assert statuses == [504] * 4 and server.service.taken == 0
        artifact.is_free.set()
        assert server.ask(body=encoded(8))[0] == 200
    # The first was in the model; the others were not waited for.
    assert len(artifact.seen) == 2


def test_what_was_taken_is_answered_before_the_end():
    artifact = Held()
    requests = [{"body": encoded(n)} for n in range(5)]
    with served(artifact) as server:
        with asking(server, *requests) as answers:
            wait_until(lambda: server.service.taken == 5)
            server.server.should_exit = True

            def is_refused():
                with contextlib.suppress(ConnectionRefusedError):
                    socket.create_connection(("127.0.0.1", server.port)).close()
                    return False
                return True

            wait_until(is_refused)
            artifact.is_free.set()
        for number, answer in enumerate(answers):
            (result,) = answer.result()[2]["results"]
            assert result["predictions"] == told(number)
        server.thread.join(served_model.SECONDS)
        assert not server.thread.is_alive()


def test_a_model_that_fails_is_told_and_goes_on(monkeypatch, capsys):
    """To whoever runs the server, and not with its files to clients."""
    table = TABLE.copy()
    table[3] = np.nan
    artifact = classifier(table)
    with served(artifact) as server:
        status, _, content = server.ask(body=encoded(3))
        assert status == 500 and "The model failed" in content["error"]
        assert "are no numbers" in capsys.readouterr().err
        assert server.ask(body=encoded(4))[0] == 200
        with monkeypatch.context() as patch:
            patch.setattr(server.service._batcher, "_predict", 1 / 1)
            status, _, content = server.ask(body=encoded(4))
        assert status == 500 and [*content] == ["error"]
        assert "not callable" in capsys.readouterr().err
        assert samples(server)["requests_total", "500"] == 2
        assert server.ask(body=encoded(4))[0] == 200
        server.service._batcher.close()
        assert server.ask("/health")[0] == 503


def samples(server):
    text = server.ask("/metrics")[2].decode()
    families = parser.text_string_to_metric_families(text)
    return {
        (x.name.removeprefix("keras_convnext_"), *x.labels.values()): x.value
        for family in families
        for x in family.samples
    }


def test_what_is_counted_and_told():
    artifact = classifier(temperature=1.5)
    with served(artifact, {"max_batch_delay": 500.0}) as server:
        server.ask(**form(("a", encoded(1)), ("b", HALF), ("c", encoded(2))))
        server.ask(body=HALF)
        found = samples(server)
        assert found["requests_total", "200"] == 1
        assert found["requests_total", "400"] == 1
        assert found["images_total", "answered"] == 2
        assert found["images_total", "refused"] == 2
        assert found["request_seconds_count",] == 2
        assert found["batch_images_sum",] == 2
        assert found["batch_images_count",] == found["batch_seconds_count",]
        assert found["waiting_images",] == 0
        metadata = server.ask("/metadata")[2]
        assert metadata["limits"]["queue_size"] == 64
        assert metadata["temperature"] == 1.5
        assert metadata["preprocessing"]["image_size"] == [4, 4]
        assert metadata["classes"] == named(*NAMES)
        body = server.ask("/openapi.json")[2]["paths"]["/predict"]["post"]
        assert "multipart/form-data" in body["requestBody"]["content"]


def test_photographs_are_turned_unless_told_otherwise():
    """Red grows from left to right, or the other way."""
    pixels = np.zeros((8, 24, 3), "uint8")
    pixels[:, :, 0] = np.arange(24)
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    content = encode(pixels, exif=exif)
    numbers = []
    for apply_exif in (True, False):
        artifact = classifier()
        with served(artifact, apply_exif=apply_exif) as server:
            assert server.ask(body=content)[0] == 200
        ((image,),) = artifact.seen
        numbers.append(image[0, :, 0])
    turned, plain = numbers
    np.testing.assert_array_equal(turned, plain[::-1])
    assert turned[0] > turned[-1]


def test_batches_have_few_widths_where_each_is_compiled():
    seen, ran = [], []

    def predict(images):
        seen.append(images)
        return images[:, 0, 0, 0]

    images = np.arange(23, dtype="uint8")[:, None, None, None]
    batcher = Batcher(
        predict, 6, 60.0, widths=True, ran=lambda *x: ran.append(x[0])
    )
    batcher.warm_up(images[0])
    assert [len(x) for x in seen] == [1, 2, 4, 6]
    seen.clear()
    futures = [batcher.submit(image) for image in images]
    batcher.close()
    assert [x.result() for x in futures] == [*range(23)]
    assert ran == [6, 6, 6, 5]
    assert [len(x) for x in seen] == [6, 6, 6, 6]
    assert not batcher.is_alive


def test_an_image_alone_does_not_wait_for_others():
    batcher = Batcher(lambda x: x[:, 0], 8, 0.0)
    assert batcher.submit(np.array([3])).result(served_model.SECONDS) == 3
    batcher.close()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"queue_size": 3}, "`batch_size` may be at most `queue_size`"),
        ({"timeout": 0}, "`timeout` must be a positive"),
        ({"max_pixels": 0}, "`max_pixels` must be a positive int"),
    ],
)
def test_limits_that_cannot_be(change, message):
    with pytest.raises(ValueError, match=f"{message}.*Received: "):
        Limits(**{**served_model.LIMITS, **change})


@pytest.mark.parametrize("fault", [None, "lost", "mixed up"])
def test_the_load_test_tells_what_is_wrong(fault, capsys):
    """A good answer, one to a broken image, and what may go wrong."""
    sums = {
        f"keras_convnext_batch_{x}": 1.0
        for x in ("images_count", "images_sum", "seconds_sum")
    }
    good = {"results": [{"predictions": [{"class": "ant", "score": 0.9}]}]}
    other = [{"class": "ant", "score": 0.8}]
    results = [(200, good, 0.1), (400, {}, 0.1)]
    if fault == "lost":
        results[1] = (503, {}, 0.1)
    expected = [other, good["results"][0]["predictions"]]
    sent = [0 if fault == "mixed up" else 1, 1]
    options = SimpleNamespace(
        model="m", image_size=4, batch_size=1, clients=1, rounds=1
    )
    arguments = (np.array([False, True]), expected, np.ones((1, 2)), sums)
    if fault is None:
        load_test.report(results, sent, *arguments, options)
    else:
        with pytest.raises(SystemExit, match="1"):
            load_test.report(results, sent, *arguments, options)
    counts = [int(fault == x) for x in ("lost", "mixed up")]
    told = "lost {}, mixed up {}".format(*counts)
    assert told in capsys.readouterr().out


@pytest.mark.long
def test_the_load_test_runs(capsys):
    options = {"image-size": 32, "requests": 60, "rounds": 2, "images": 8}
    options |= {"clients": 8, "batch-size": 4, "broken": 0.2}
    load_test.main([f"--{name}={value}" for name, value in options.items()])
    assert "lost 0, mixed up 0" in capsys.readouterr().out


@pytest.mark.every_backend
def test_models_of_keras_answer_in_their_thread(tmp_path):
    model = keras_convnext.ConvNeXt(
        (1,),
        (8,),
        patch_size=4,
        input_shape=(16, 16, 3),
        classes=3,
        head_init_scale=50,
    )
    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), "uint8")
    prepared = [model.preprocessing(x) for x in pixels]
    expected = keras.ops.convert_to_numpy(model(np.stack(prepared)))
    assert np.ptp(expected, axis=0).max() > 0.01
    artifact = running.of_model(model, "small")
    with served(artifact, {"batch_size": 2}) as server:
        server.service.warm_up()
        files = [(str(i), encode(x)) for i, x in enumerate(pixels)]
        results = server.ask(**form(*files))[2]["results"]
    for row, result in zip(expected, results):
        found = {int(x["id"]): x["score"] for x in result["predictions"]}
        scores = [found[i] for i in range(3)]
        np.testing.assert_allclose(scores, row, rtol=0, atol=1e-5)
    assert json.dumps(results)
