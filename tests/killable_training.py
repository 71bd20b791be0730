"""Runs in a process of its own: `keras-convnext train` that can be killed.

Usage: KERAS_BACKEND=... python killable_training.py SECONDS_PER_STEP
KILL_IN_SAVE ARGUMENTS

A step lasts long enough to be hit, and with KILL_IN_SAVE above 0 the process
kills itself in the middle of writing the checkpoint of that number.
"""

import os
import signal
import sys
import time

from keras_convnext.cli import main
from keras_convnext.training import callbacks
from keras_convnext.training import checkpoints


def slow(method, seconds):
    def step(*args, **kwargs):
        time.sleep(seconds)
        return method(*args, **kwargs)

    return step


def deadly(save_file, number):
    count = 0

    def save(tensors, path):
        nonlocal count
        count += 1
        save_file(tensors, path)
        if count == number:
            os.truncate(path, os.path.getsize(path) // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    return save


if __name__ == "__main__":
    seconds, kill_in_save, *arguments = sys.argv[1:]
    checkpointing = callbacks.Checkpointing
    checkpointing.on_train_batch_end = slow(
        checkpointing.on_train_batch_end, float(seconds)
    )
    checkpoints.save_file = deadly(checkpoints.save_file, int(kill_in_save))
    sys.argv = ["keras-convnext", *arguments]
    main()
