"""Times exported Tinys against those that others export, pair by pair.

    KERAS_BACKEND=torch python benchmarks/export.py onnx
    KERAS_BACKEND=tensorflow python benchmarks/export.py tflite

`onnx`: our file (NCHW, logits as timm's) and timm's own `torch.onnx.export` in
ONNX Runtime. `tflite`: our file and one made from
`keras.applications.ConvNeXtTiny`, in LiteRT. Both run in one process, in turn,
on as many threads; a pair compares the fastest of three runs each, in CPU time.
`--profile` adds the time of every operation.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import keras
import numpy as np

import keras_convnext

sys.path.append(str(Path(__file__).parent.parent / "tests"))
SIZE = 224
BEST_OF = 3
# CPU time: what else runs on the machine does not count. On several threads
# it is the sum of them.
CLOCK = time.process_time


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("format", choices=SIDES)
    parser.add_argument("--pairs", type=int, default=31)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--model", default="convnext_tiny")
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files, runner = SIDES[arguments.format](Path(folder), arguments.model)
        runs = [runner(file, arguments.threads) for file in files]
        compare(runs, files, arguments)
        if arguments.profile:
            for file in files:
                profile(file, arguments.threads)


def compare(runs, files, arguments):
    for run in runs:  # warm
        best_of(run)
    seconds = []
    for number in range(arguments.pairs):
        order = (0, 1) if number % 2 else (1, 0)
        pair = {side: best_of(runs[side]) for side in order}
        seconds.append([pair[0], pair[1]])
    ours, theirs = np.median(seconds, axis=0) * 1000
    ratios = np.array([b / a for a, b in seconds])
    sizes = [file.stat().st_size / 1e6 for file in files]
    low, middle, high = np.percentile(ratios, [25, 50, 75])
    print(
        f"{arguments.model} {arguments.format}, {arguments.threads} threads, "
        f"{arguments.pairs} pairs: ours {ours:.1f} ms ({sizes[0]:.1f} MB), "
        f"{files[1].stem} {theirs:.1f} ms ({sizes[1]:.1f} MB); their time as "
        f"a multiple of ours: median {middle:.3f}, quartiles {low:.3f} to "
        f"{high:.3f}"
    )


def best_of(run):
    seconds = []
    for _ in range(BEST_OF):
        start = CLOCK()
        run()
        seconds.append(CLOCK() - start)
    return min(seconds)


def onnx_files(folder, name):
    import torch
    from peers import import_timm

    timm = import_timm()
    ours, theirs = folder / "ours.onnx", folder / "timm.onnx"
    model = keras_convnext.create_model(
        name, weights=None, classifier_activation=None
    )
    keras_convnext.export(
        model, ours, data_format="channels_first", verbose=False
    )
    torch.onnx.export(
        timm.create_model(name).eval(),
        (torch.zeros(2, 3, SIZE, SIZE),),
        theirs,
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        external_data=False,
        verbose=False,
    )
    return (ours, theirs), onnx_runner


def onnx_session(file, threads, **settings):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    for key, value in settings.items():
        setattr(options, key, value)
    return onnxruntime.InferenceSession(
        str(file), options, providers=["CPUExecutionProvider"]
    )


def onnx_runner(file, threads):
    session = onnx_session(file, threads)
    inputs = {session.get_inputs()[0].name: image((1, 3, SIZE, SIZE))}
    return lambda: session.run(None, inputs)


def profile(file, threads):
    """Milliseconds of every operation of an ONNX file, after fusion."""
    if file.suffix != ".onnx":
        raise SystemExit("LiteRT in Python tells no times of operations")
    repeats = 10
    session = onnx_session(
        file,
        threads,
        enable_profiling=True,
        profile_file_prefix=str(file.with_suffix("")),
    )
    inputs = {session.get_inputs()[0].name: image((1, 3, SIZE, SIZE))}
    for _ in range(repeats):
        session.run(None, inputs)
    total = Counter()
    for event in json.loads(Path(session.end_profiling()).read_text()):
        if event.get("cat") == "Node" and "kernel_time" in event["name"]:
            total[event["args"]["op_name"]] += event["dur"] / 1000 / repeats
    shown = ", ".join(f"{op} {ms:.1f}" for op, ms in total.most_common())
    print(f"{file.stem}: {shown} ms")


def tflite_files(folder, name):
    import tensorflow as tf

    ours, theirs = folder / "ours.tflite", folder / "keras_applications.tflite"
    model = keras_convnext.create_model(name, weights=None)
    keras_convnext.export(model, ours, verbose=False)
    peer = keras.applications.ConvNeXtTiny(weights=None)
    serve = tf.function(
        lambda image: peer(image, training=False),
        input_signature=[tf.TensorSpec((1, SIZE, SIZE, 3), name="image")],
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [serve.get_concrete_function()]
    )
    theirs.write_bytes(converter.convert())
    return (ours, theirs), tflite_runner


def tflite_runner(file, threads):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(file), num_threads=threads)
    interpreter.allocate_tensors()
    index = interpreter.get_input_details()[0]["index"]
    interpreter.set_tensor(index, image((1, SIZE, SIZE, 3)))
    return interpreter.invoke


def image(shape):
    generator = np.random.default_rng(0)
    return generator.uniform(0, 255, shape).astype("float32")


SIDES = {"onnx": onnx_files, "tflite": tflite_files}

if __name__ == "__main__":
    main()
