"""How good a model is: on images of one's own, and by ImageNet's rules."""

from keras_convnext.evaluation.calibrating import calibrate
from keras_convnext.evaluation.multi_label import MultiLabelEvaluation
from keras_convnext.evaluation.pages import write_report
from keras_convnext.evaluation.pages import write_run_report
from keras_convnext.evaluation.probing import Probe
from keras_convnext.evaluation.probing import probe
from keras_convnext.evaluation.regression import RegressionEvaluation
from keras_convnext.evaluation.report import Evaluation
from keras_convnext.evaluation.run import evaluate
from keras_convnext.evaluation.temperature import Calibration

__all__ = [
    "Calibration",
    "Evaluation",
    "MultiLabelEvaluation",
    "Probe",
    "RegressionEvaluation",
    "calibrate",
    "evaluate",
    "probe",
    "write_report",
    "write_run_report",
]
