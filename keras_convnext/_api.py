"""The public names, and behind them the whole package.

`keras_convnext` takes them all as it is imported, but for the command.
"""

# First: nothing may import Keras before.
from keras_convnext._util import keras_start  # noqa: F401

# isort: split
from keras_convnext import data
from keras_convnext import layers
from keras_convnext import training
from keras_convnext import visualize
from keras_convnext._util.memory import keep_freed_memory
from keras_convnext._util.version import __version__
from keras_convnext.artifacts import accelerate
from keras_convnext.artifacts import export
from keras_convnext.artifacts import open_artifact
from keras_convnext.evaluation import evaluate
from keras_convnext.facts.labels import decode_predictions
from keras_convnext.facts.variants import VARIANTS
from keras_convnext.facts.variants import Variant
from keras_convnext.facts.variants import list_models
from keras_convnext.images.preprocessing import Preprocessing
from keras_convnext.images.preprocessing import load_image_for
from keras_convnext.images.tf_transform import tf_load_image
from keras_convnext.images.transform import load_image
from keras_convnext.models.applications import ConvNeXt
from keras_convnext.models.applications import ConvNeXtAtto
from keras_convnext.models.applications import ConvNeXtBase
from keras_convnext.models.applications import ConvNeXtFemto
from keras_convnext.models.applications import ConvNeXtIsotropicBase
from keras_convnext.models.applications import ConvNeXtIsotropicLarge
from keras_convnext.models.applications import ConvNeXtIsotropicSmall
from keras_convnext.models.applications import ConvNeXtLarge
from keras_convnext.models.applications import ConvNeXtNano
from keras_convnext.models.applications import ConvNeXtPico
from keras_convnext.models.applications import ConvNeXtSmall
from keras_convnext.models.applications import ConvNeXtTiny
from keras_convnext.models.applications import ConvNeXtV2Atto
from keras_convnext.models.applications import ConvNeXtV2Base
from keras_convnext.models.applications import ConvNeXtV2Femto
from keras_convnext.models.applications import ConvNeXtV2Huge
from keras_convnext.models.applications import ConvNeXtV2Large
from keras_convnext.models.applications import ConvNeXtV2Nano
from keras_convnext.models.applications import ConvNeXtV2Pico
from keras_convnext.models.applications import ConvNeXtV2Small
from keras_convnext.models.applications import ConvNeXtV2Tiny
from keras_convnext.models.applications import ConvNeXtXLarge
from keras_convnext.models.applications import ConvNeXtXXLarge
from keras_convnext.models.applications import create_model
from keras_convnext.models.class_selection import imagenet1k_from_22k
from keras_convnext.models.conversion import convert_weights
from keras_convnext.models.inference import optimize_for_inference
from keras_convnext.models.input_preprocessing import preprocess_input
from keras_convnext.models.model import ConvNeXtModel
from keras_convnext.models.profiling import profile
from keras_convnext.models.pyramid import feature_pyramid
from keras_convnext.models.rematerialization import rematerialized
from keras_convnext.publishing import publish
from keras_convnext.tasks import detection
from keras_convnext.tasks import pretraining
from keras_convnext.tasks import roadmap
from keras_convnext.tasks import segmentation
from keras_convnext.training import distribution
from keras_convnext.training import optimizers
from keras_convnext.training import recipes
from keras_convnext.training import train
from keras_convnext.weights.registry import list_weights

__all__ = [
    "ConvNeXt",
    "ConvNeXtAtto",
    "ConvNeXtBase",
    "ConvNeXtFemto",
    "ConvNeXtIsotropicBase",
    "ConvNeXtIsotropicLarge",
    "ConvNeXtIsotropicSmall",
    "ConvNeXtLarge",
    "ConvNeXtModel",
    "ConvNeXtNano",
    "ConvNeXtPico",
    "ConvNeXtSmall",
    "ConvNeXtTiny",
    "ConvNeXtV2Atto",
    "ConvNeXtV2Base",
    "ConvNeXtV2Femto",
    "ConvNeXtV2Huge",
    "ConvNeXtV2Large",
    "ConvNeXtV2Nano",
    "ConvNeXtV2Pico",
    "ConvNeXtV2Small",
    "ConvNeXtV2Tiny",
    "ConvNeXtXLarge",
    "ConvNeXtXXLarge",
    "Preprocessing",
    "VARIANTS",
    "Variant",
    "__version__",
    "accelerate",
    "convert_weights",
    "create_model",
    "data",
    "decode_predictions",
    "detection",
    "distribution",
    "evaluate",
    "export",
    "feature_pyramid",
    "imagenet1k_from_22k",
    "keep_freed_memory",
    "layers",
    "list_models",
    "list_weights",
    "load_image",
    "load_image_for",
    "open_artifact",
    "optimize_for_inference",
    "optimizers",
    "preprocess_input",
    "pretraining",
    "profile",
    "publish",
    "recipes",
    "rematerialized",
    "roadmap",
    "segmentation",
    "tf_load_image",
    "train",
    "training",
    "visualize",
]
