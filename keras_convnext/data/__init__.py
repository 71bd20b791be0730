"""Images to train on, wherever they are kept, and their way into `fit`."""

from keras_convnext.data.augmentation.scales import RandomScales
from keras_convnext.data.digits import load_digits
from keras_convnext.data.eval_loader import EvalLoader
from keras_convnext.data.folder import ImageFolder
from keras_convnext.data.lists.image_list import ImageList
from keras_convnext.data.lists.tag_list import TagList
from keras_convnext.data.lists.target_list import TargetList
from keras_convnext.data.objects.coco import read_coco
from keras_convnext.data.objects.loader import ObjectLoader
from keras_convnext.data.objects.opening import open_objects
from keras_convnext.data.objects.source import Objects
from keras_convnext.data.objects.source import ObjectSource
from keras_convnext.data.objects.source import ObjectSubset
from keras_convnext.data.objects.summary import ObjectSummary
from keras_convnext.data.objects.summary import summarize_objects
from keras_convnext.data.objects.tags import Tags
from keras_convnext.data.objects.tags import open_many_labels
from keras_convnext.data.objects.voc import read_voc
from keras_convnext.data.objects.yolo import read_yolo
from keras_convnext.data.record_writing import write_records
from keras_convnext.data.records import Records
from keras_convnext.data.source import Arrays
from keras_convnext.data.source import Source
from keras_convnext.data.source import Subset
from keras_convnext.data.source import order_of
from keras_convnext.data.splits import open_splits
from keras_convnext.data.targets import TargetArrays
from keras_convnext.data.targets import open_targets
from keras_convnext.data.tfds import Tfds
from keras_convnext.data.train_loader import TrainLoader
from keras_convnext.data.unlabeled import ImageFiles
from keras_convnext.data.unlabeled import ListedImages
from keras_convnext.data.unlabeled import open_images

__all__ = [
    "Arrays",
    "EvalLoader",
    "ImageFiles",
    "ImageFolder",
    "ImageList",
    "ListedImages",
    "ObjectLoader",
    "ObjectSource",
    "ObjectSubset",
    "ObjectSummary",
    "Objects",
    "RandomScales",
    "Records",
    "Source",
    "Subset",
    "TagList",
    "Tags",
    "TargetArrays",
    "TargetList",
    "Tfds",
    "TrainLoader",
    "load_digits",
    "open_images",
    "open_many_labels",
    "open_objects",
    "open_splits",
    "open_targets",
    "order_of",
    "read_coco",
    "read_voc",
    "read_yolo",
    "summarize_objects",
    "write_records",
]
