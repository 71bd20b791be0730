"""What the figures were measured on."""

import os
import platform
from datetime import date

from keras_convnext._util import requirements
from keras_convnext._util.machine import cpu_name
from keras_convnext._util.machine import usable_cores

PACKAGES = (
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "timm",
    "transformers",
    "zeromodels",
)


def describe():
    """Processor, cores, memory and system as a dict of JSON's types."""
    return {
        "cpu": cpu_name(),
        "usable_cores": len(usable_cores()),
        "memory_bytes": _memory(),
        "os": platform.platform(),
    }


def conditions():
    """Of one measurement, for a table that may hold others' too."""
    return {
        "date": date.today().isoformat(),
        "processor": cpu_name(),
        "cores": len(usable_cores()),
        "versions": versions(),
    }


def versions():
    """Of everything that takes part, as far as installed."""
    found = requirements.versions((*requirements.COMPUTING, *PACKAGES))
    del found["backend"]
    return found


def _memory():
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError):
        return None
