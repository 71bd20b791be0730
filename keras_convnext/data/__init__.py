"""Images to train on, wherever they are kept, and their way into `fit`."""

from keras_convnext.data.digits import load_digits
from keras_convnext.data.eval_loader import EvalLoader
from keras_convnext.data.folder import ImageFolder
from keras_convnext.data.record_writing import write_records
from keras_convnext.data.records import Records
from keras_convnext.data.source import Arrays
from keras_convnext.data.source import Source
from keras_convnext.data.source import Subset
from keras_convnext.data.source import order_of
from keras_convnext.data.splits import open_splits
from keras_convnext.data.tfds import Tfds
from keras_convnext.data.train_loader import TrainLoader

__all__ = [
    "Arrays",
    "EvalLoader",
    "ImageFolder",
    "Records",
    "Source",
    "Subset",
    "Tfds",
    "TrainLoader",
    "load_digits",
    "open_splits",
    "order_of",
    "write_records",
]
