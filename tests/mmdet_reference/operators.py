"""A stand-in for `mmcv._ext`, whose compiled operators no wheel brings.

ONNX Runtime answers NMS and RoIAlign. Import this before `mmcv.ops`.
"""

import functools
import math
import sys
import types

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper

FLOAT, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64


class Extension(types.ModuleType):
    """Has an operator of every name; the unknown ones raise when called."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*args, **kwargs):
            raise NotImplementedError(f"The stand-in has no operator {name!r}")

        return missing


def nms(boxes, scores, iou_threshold, offset):
    assert offset == 0
    if boxes.dtype == torch.float64:
        return _nms_in_double(boxes, scores, iou_threshold)
    count = len(boxes)
    session = _session("NonMaxSuppression", (FLOAT,) * 2 + (INT64, FLOAT))
    (selected,) = session.run(
        None,
        {
            "x0": boxes.detach().numpy()[None].astype("float32"),
            "x1": scores.detach().numpy()[None, None].astype("float32"),
            "x2": np.array([count]),
            "x3": np.array([iou_threshold], "float32"),
        },
    )
    return torch.from_numpy(selected[:, 2].copy())


def _nms_in_double(boxes, scores, iou_threshold):
    """ONNX Runtime has floats alone."""
    left, kept = scores.argsort(descending=True, stable=True), []
    while len(left):
        first, left = left[0], left[1:]
        kept.append(first)
        a, b = boxes[first], boxes[left]
        sides = torch.minimum(a[2:], b[:, 2:]) - torch.maximum(a[:2], b[:, :2])
        shared = sides.clamp(min=0).prod(1)
        areas = [(x[..., 2:] - x[..., :2]).prod(-1) for x in (a, b)]
        left = left[shared <= iou_threshold * (sum(areas) - shared)]
    return torch.stack(kept)


def roi_align_forward(
    input,
    rois,
    output,
    argmax_y,
    argmax_x,
    aligned_height,
    aligned_width,
    spatial_scale,
    sampling_ratio,
    pool_mode,
    aligned,
):
    assert pool_mode == 1 and aligned
    if input.dtype == torch.float64:
        height, width = input.shape[2:]
        for target, (index, *box) in zip(output, rois.tolist()):
            x1, y1, x2, y2 = np.array(box) * spatial_scale - 0.5
            rows = _samples(y1, y2, aligned_height, height)
            columns = _samples(x1, x2, aligned_width, width)
            target.copy_(rows @ input[int(index)] @ columns.T)
        return
    session = _session(
        "RoiAlign",
        (FLOAT, FLOAT, INT64),
        coordinate_transformation_mode="half_pixel",
        mode="avg",
        output_height=aligned_height,
        output_width=aligned_width,
        sampling_ratio=sampling_ratio,
        spatial_scale=spatial_scale,
    )
    (values,) = session.run(
        None,
        {
            "x0": input.detach().float().numpy(),
            "x1": rois[:, 1:].detach().float().numpy(),
            "x2": rois[:, 0].long().numpy(),
        },
    )
    output.copy_(torch.from_numpy(values))


def roi_align_backward(
    grad_output,
    rois,
    argmax_y,
    argmax_x,
    grad_input,
    aligned_height,
    aligned_width,
    spatial_scale,
    sampling_ratio,
    pool_mode,
    aligned,
):
    """The transposed of the forward pass, which is rows × map × columns."""
    assert pool_mode == 1 and aligned and sampling_ratio == 0
    height, width = grad_input.shape[2:]
    for gradient, (index, *box) in zip(grad_output, rois.tolist()):
        dtype = np.float64 if rois.dtype == torch.float64 else np.float32
        x1, y1, x2, y2 = dtype(box) * dtype(spatial_scale) - dtype(0.5)
        rows = _samples(y1, y2, aligned_height, height).to(gradient)
        columns = _samples(x1, x2, aligned_width, width).to(gradient)
        grad_input[int(index)] += rows.T @ gradient @ columns


def _samples(start, end, bins, size):
    """Weights `(bins, size)` of the pixels along one side."""
    length = end - start
    count = max(1, math.ceil(length / bins))
    weights = torch.zeros(bins, size, dtype=torch.float64)
    for bin in range(bins):
        for sample in range(count):
            at = start + (bin + (sample + 0.5) / count) * length / bins
            if at < -1 or at > size:
                continue
            at = min(max(at, 0), size - 1)
            low = math.floor(at)
            weights[bin, low] += (1 - (at - low)) / count
            weights[bin, min(low + 1, size - 1)] += (at - low) / count
    return weights


@functools.cache
def _session(op, dtypes, **attributes):
    names = [f"x{index}" for index in range(len(dtypes))]
    graph = helper.make_graph(
        [helper.make_node(op, names, ["y"], **attributes)],
        op,
        [helper.make_tensor_value_info(*x, None) for x in zip(names, dtypes)],
        [
            helper.make_tensor_value_info(
                "y", INT64 if op.startswith("Non") else FLOAT, None
            )
        ],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


EXTENSION = Extension("mmcv._ext")
EXTENSION.nms = nms
EXTENSION.roi_align_forward = roi_align_forward
EXTENSION.roi_align_backward = roi_align_backward
sys.modules["mmcv._ext"] = EXTENSION
