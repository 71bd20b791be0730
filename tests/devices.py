"""Commands on several devices of this machine, in processes of their own."""

import socket
import subprocess
import sys

import keras
from environment import alone

BACKEND = keras.backend.backend()
SECONDS = 170
# Of several devices TensorFlow takes no other.
LOADER = "tf" if BACKEND == "tensorflow" else "python"
# Two devices where there is one CPU.
TWO_LOGICAL = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
from keras_convnext.cli import main
main()
"""


def start(words, program=("-m", "keras_convnext"), **environment):
    return subprocess.Popen(
        [sys.executable, *program, *words],
        env={
            **alone(BACKEND),
            "JAX_ENABLE_X64": "1",
            "OMP_NUM_THREADS": "1",
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(*processes, seconds=SECONDS):
    """All that they print, once all have ended well."""
    try:
        printed = [x.communicate(timeout=seconds)[0] for x in processes]
    finally:
        for process in processes:
            process.kill()
    for process, text in zip(processes, printed):
        assert process.returncode == 0, text
    return printed


def two_devices(words):
    """The command's processes on two devices of this host."""
    if BACKEND == "tensorflow":
        return [start([*words, "--devices", "2"], ("-c", TWO_LOGICAL))]
    if BACKEND == "torch":
        return [start([*words, "--devices", "2", "--oversubscribe"])]
    return two_jax_processes(words)


def two_jax_processes(words, program=("-m", "keras_convnext")):
    port = free_port()
    return [
        start(words, program, **jax_environment(port, index))
        for index in range(2)
    ]


def jax_environment(port, index):
    return {
        "KERAS_DISTRIBUTION_JOB_ADDRESSES": f"localhost:{port}",
        "KERAS_DISTRIBUTION_NUM_PROCESSES": "2",
        "KERAS_DISTRIBUTION_PROCESS_ID": str(index),
    }


def free_port():
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]
