"""Environment variables for tests, and for processes that they start.

Import this before Keras, which reads them as it starts its backend.
"""

import os
import sys
import zlib
from importlib import metadata
from pathlib import Path


def jax_cache():
    """Where XLA's programs stay, for this JAX and this kind of processor."""
    info = Path("/proc/cpuinfo")
    text = info.read_bytes().partition(b"flags")[2] if info.exists() else b""
    kind = zlib.crc32(text.partition(b"\n")[0])
    name = f"jax-{metadata.version('jaxlib')}-{kind:08x}"
    return Path(sys.prefix) / "cache" / name


XLA_FLAGS = [
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",
]
# A flag that XLA does not know ends the process: JAX 0.12 lacks this one.
if metadata.version("jaxlib").startswith("0.10."):
    XLA_FLAGS.append("--xla_cpu_use_fusion_emitters=false")
DEFAULTS = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    # Most of a test's time on JAX is compilation. Programs alike are compiled
    # once,
    "JAX_COMPILATION_CACHE_DIR": str(jax_cache()),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    # and quickly rather than well, as JAX' own tests do: a training step of two
    # blocks in 2.5 s rather than 9.5 s.
    "XLA_FLAGS": " ".join(XLA_FLAGS),
}
if "--long" in sys.argv:
    # As users have it: a proof of many steps would run three times as long.
    DEFAULTS["XLA_FLAGS"] = ""
for name, value in DEFAULTS.items():
    os.environ.setdefault(name, value)


def backend():
    """The backend that Keras runs on, without importing it where it is told."""
    told = os.environ.get("KERAS_BACKEND")
    if told:
        return told
    import keras

    return keras.backend.backend()


def alone(backend):
    """Variables of a process in which no other backend is to be found."""
    from keras_convnext._util import subprocesses

    others = sorted({"jax", "tensorflow", "torch"} - {backend})
    found = subprocesses.environment(backend, ABSENT=" ".join(others))
    paths = [str(Path(__file__).parent / "absent"), found["PYTHONPATH"]]
    return {**found, "PYTHONPATH": os.pathsep.join(paths)}
