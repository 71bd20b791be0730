"""ONNX Runtime's RoIAlign and NonMaxSuppression, as functions."""

import functools

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto
from onnx import helper


@functools.cache
def _session(operator, inputs, outputs, **attributes):
    """A model of one node, whose inputs and outputs may have any shape."""
    names = [
        [f"{side}{i}" for i in range(n)]
        for side, n in (("in", len(inputs)), ("out", len(outputs)))
    ]
    node = helper.make_node(operator, *names, **attributes)
    graph = helper.make_graph(
        [node],
        operator,
        [
            helper.make_tensor_value_info(name, kind, [None] * rank)
            for name, (kind, rank) in zip(names[0], inputs)
        ],
        [
            helper.make_tensor_value_info(name, kind, [None] * rank)
            for name, (kind, rank) in zip(names[1], outputs)
        ],
    )
    opset = helper.make_opsetid("", 16)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
    onnx.checker.check_model(model)
    return onnxruntime.InferenceSession(model.SerializeToString())


def _run(session, *arrays):
    inputs = {f"in{i}": x for i, x in enumerate(arrays)}
    return session.run(None, inputs)[0]


def roi_align(features, boxes, size, scale=1.0, sampling_ratio=0):
    """`detection.roi_align` of float32 arrays."""
    number = TensorProto.FLOAT
    session = _session(
        "RoiAlign",
        ((number, 4), (number, 2), (TensorProto.INT64, 1)),
        ((number, 4),),
        coordinate_transformation_mode="half_pixel",
        mode="avg",
        output_height=size,
        output_width=size,
        sampling_ratio=sampling_ratio,
        spatial_scale=scale,
    )
    batch, count = boxes.shape[:2]
    out = _run(
        session,
        np.ascontiguousarray(features.transpose(0, 3, 1, 2)),
        boxes.reshape(-1, 4),
        np.repeat(np.arange(batch), count),
    )
    out = out.transpose(0, 2, 3, 1)
    return out.reshape(batch, count, *out.shape[1:])


def non_max_suppression(boxes, scores, iou_threshold, max_outputs):
    """Indices by falling score, of float32 arrays `(n, 4)` and `(n,)`."""
    number = TensorProto.FLOAT
    session = _session(
        "NonMaxSuppression",
        ((number, 3), (number, 3), (TensorProto.INT64, 1), (number, 1)),
        ((TensorProto.INT64, 2),),
    )
    return _run(
        session,
        boxes[None],
        scores[None, None],
        np.array([max_outputs]),
        np.array([iou_threshold], "float32"),
    )[:, 2]
