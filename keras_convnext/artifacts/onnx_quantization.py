"""Static int8 quantization of ONNX files, by ONNX Runtime."""

from keras_convnext._util.requirements import require

CALIBRATION_IMAGES = 200
# Norms, GELU and GRN stay float: they are cheap, and their range is wide.
OPERATIONS = ("Conv", "MatMul")


def quantize(source, target, images):
    """Writes `source` with int8 weights and activations calibrated on an
    array of model inputs."""
    require("onnxruntime", "int8 in ONNX files")
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        def __init__(self):
            self.batches = iter(images[:CALIBRATION_IMAGES, None])

        def get_next(self):
            batch = next(self.batches, None)
            return None if batch is None else {"image": batch}

    quantization.quantize_static(
        str(source),
        str(target),
        Reader(),
        quant_format=quantization.QuantFormat.QDQ,
        op_types_to_quantize=list(OPERATIONS),
        per_channel=True,
    )
