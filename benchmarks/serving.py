"""A server of `keras-convnext serve` against the same artifact in a loop.

    KERAS_BACKEND=torch python benchmarks/serving.py

Many clients send single JPEGs at a time, of which one in twenty is broken, to a
server in a process of its own on this machine. Every answer is compared with
that of the loop, which reads, prepares and predicts the same images in full
batches; no two images have the same answer, so that a mix-up shows. Loop and
server run in turn. Ratios are of images per second, and of CPU seconds per
image: in the first the clients take their part of the cores, too.
"""

import argparse
import contextlib
import http.client
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

import keras_convnext
from keras_convnext._util import subprocesses
from keras_convnext.artifacts.answers import answering

SCORES_ATOL = 1e-4


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", default="convnext_atto")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--broken", type=float, default=0.05)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--clients", type=int, default=48)
    parser.add_argument("--images", type=int, default=64)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        keras_convnext.export(new_model(options), file, verbose=False)
        run(file, photographs(options), options)


def new_model(options):
    """Random weights, whose answers differ from image to image."""
    keras.utils.set_random_seed(0)
    shape = options.image_size, options.image_size, 3
    model = keras_convnext.create_model(
        options.model, weights=None, input_shape=shape, head_init_scale=200
    )
    return model


def photographs(options):
    """JPEGs of pieces of two photographs."""
    random = np.random.default_rng(0)
    sources, contents = load_sample_images().images, []
    for number in range(options.images):
        pixels = sources[number % 2]
        top, left = (random.integers(side - 256) for side in pixels.shape[:2])
        piece = Image.fromarray(pixels[top : top + 256, left : left + 256])
        buffer = io.BytesIO()
        piece.save(buffer, "JPEG", quality=90)
        contents.append(buffer.getvalue())
    return contents


def run(file, contents, options):
    artifact = keras_convnext.open_artifact(file)
    answer = answering(artifact)
    expected = [answer(x) for x in looped(artifact, contents, options)]
    check_differ(expected)
    random = np.random.default_rng(0)
    sent = random.integers(0, len(contents), options.requests)
    broken = random.random(options.requests) < options.broken
    ratios, results = [], []
    with server_of(file, options) as port:
        ask(port, contents[:1] * options.batch_size, options)  # warm
        for part in np.array_split(np.arange(options.requests), options.rounds):
            good = [contents[i] for i in sent[part[~broken[part]]]]
            of_loop = timed(
                time.process_time, lambda x=good: looped(artifact, x, options)
            )
            bodies = [
                contents[i][: len(contents[i]) // 2]
                if is_broken
                else contents[i]
                for i, is_broken in zip(sent[part], broken[part])
            ]
            found = []
            of_server = timed(
                lambda: counters(port)["process_cpu_seconds_total"],
                lambda x=bodies, y=found: y.extend(ask(port, x, options)),
            )
            results += found
            ratios.append([a / b for a, b in zip(of_loop, of_server)])
        sums = counters(port)
    report(results, sent, broken, expected, np.array(ratios), sums, options)


def looped(artifact, contents, options):
    """Rows of the artifact's scores, for full batches."""
    rows, width = [], options.batch_size
    for start in range(0, len(contents), width):
        images = [
            artifact.preprocessing(x) for x in contents[start : start + width]
        ]
        rows += [*artifact.predict(np.stack(images))]
    return rows


def timed(clock, work):
    """Seconds of the wall, and those of a clock of CPU time."""
    start, cpu = time.perf_counter(), clock()
    work()
    return time.perf_counter() - start, clock() - cpu


def check_differ(expected):
    """Ends unless each image's answer is told from all others."""
    best = [tuple((x["class"], x["score"]) for x in row) for row in expected]
    for i, one in enumerate(best):
        if any(alike(one, other) for other in best[:i]):
            sys.exit("Two images have one answer: take another model")


def alike(one, other):
    same = [a[0] for a in one] == [b[0] for b in other]
    return same and np.allclose(
        [a[1] for a in one], [b[1] for b in other], rtol=0, atol=2 * SCORES_ATOL
    )


@contextlib.contextmanager
def server_of(file, options):
    """The port of a server in a process."""
    queue = max(options.clients, options.batch_size)
    command = subprocesses.program(
        *("-m", "keras_convnext", "serve", file, "--port", 0),
        *("--batch-size", options.batch_size, "--queue-size", queue),
    )
    process = subprocess.Popen(
        [sys.executable, *command],
        env=subprocesses.environment(keras.backend.backend()),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        yield int(re.search(r":(\d+)/predict", line)[1])
        process.terminate()
        if process.wait(60):
            sys.exit(f"The server ended with status {process.returncode}")
    finally:
        process.kill()


def ask(port, bodies, options):
    """The status, the content and the seconds of every answer, in order."""
    waiting = iter(range(len(bodies)))
    answers = [(0, None, 0.0)] * len(bodies)

    def client(_):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        with contextlib.closing(connection):
            for number in waiting:
                start = time.perf_counter()
                connection.request("POST", "/predict", bodies[number])
                response = connection.getresponse()
                content = json.loads(response.read())
                seconds = time.perf_counter() - start
                answers[number] = response.status, content, seconds

    with ThreadPoolExecutor(options.clients) as pool:
        list(pool.map(client, range(options.clients)))
    return answers


def counters(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    rows = [x.rpartition(" ") for x in text.splitlines() if x[:1] != "#"]
    return {name: float(value) for name, _, value in rows}


def report(results, sent, broken, expected, ratios, sums, options):
    wrong = lost = 0
    for (status, content, _), image, is_broken in zip(results, sent, broken):
        lost += status != (400 if is_broken else 200)
        if status == 200:
            (result,) = content["results"]
            pairs = zip(result["predictions"], expected[image])
            wrong += not all(
                a["class"] == b["class"]
                and abs(a["score"] - b["score"]) <= SCORES_ATOL
                for a, b in pairs
            )
    seconds = [x[2] for x in results]
    name = "keras_convnext_batch_"
    count = sums[f"{name}images_count"]
    batch = sums[f"{name}seconds_sum"] / count
    p50, p99 = np.percentile(seconds, [50, 99]) / batch
    wall, cpu = np.median(ratios, axis=0)
    low, high = ratios[:, 0].min(), ratios[:, 0].max()
    print(
        f"{options.model}, {options.image_size} pixels, batches of "
        f"{options.batch_size}, {options.clients} clients, "
        f"{os.cpu_count()} cores: {len(results)} requests, "
        f"{int(broken.sum())} broken; lost {lost}, mixed up {wrong}\n"
        f"mean batch {sums[f'{name}images_sum'] / count:.1f} images; images/s "
        f"as a part of the loop's: median {wall:.2f}, {low:.2f} to {high:.2f} "
        f"in {options.rounds} rounds; by CPU time {cpu:.2f}\n"
        f"latency in times of a batch: p50 {p50:.1f}, p99 {p99:.1f}"
    )
    if lost or wrong:
        sys.exit(1)


if __name__ == "__main__":
    main()
