"""The process that `handover.write` starts: `python -m … FOLDER`."""

import sys

from keras_convnext.artifacts import handover

if __name__ == "__main__":
    handover.work(sys.argv[1])
