"""What the figures were measured on."""

import contextlib
import importlib.metadata
import os
import platform
from pathlib import Path

from keras_convnext import training

PACKAGES = (
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "timm",
    "transformers",
    "zeromodels",
)


def usable_cores():
    """Numbers of the processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count()))


def describe():
    """Processor, cores, memory and system as a dict of JSON's types."""
    return {
        "cpu": _cpu(),
        "usable_cores": len(usable_cores()),
        "memory_bytes": _memory(),
        "os": platform.platform(),
    }


def versions():
    """Of everything that takes part, as far as installed."""
    found = training.versions()
    del found["backend"]
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _cpu():
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory():
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError):
        return None
