"""One HTML file that tells an evaluation, or a run: no server, no request."""

from keras_convnext.evaluation.pages.writing import write_report
from keras_convnext.evaluation.pages.writing import write_run_report

__all__ = ["write_report", "write_run_report"]
