"""ConvNeXt for Keras 3, on TensorFlow, JAX and PyTorch."""

# First: nothing may import Keras before.
from keras_convnext import backend_choice  # noqa: F401
from keras_convnext import data
from keras_convnext import distribution
from keras_convnext import layers
from keras_convnext import recipes
from keras_convnext import roadmap
from keras_convnext import segmentation
from keras_convnext import training
from keras_convnext import visualize
from keras_convnext.applications import ConvNeXt
from keras_convnext.applications import ConvNeXtAtto
from keras_convnext.applications import ConvNeXtBase
from keras_convnext.applications import ConvNeXtFemto
from keras_convnext.applications import ConvNeXtIsotropicBase
from keras_convnext.applications import ConvNeXtIsotropicLarge
from keras_convnext.applications import ConvNeXtIsotropicSmall
from keras_convnext.applications import ConvNeXtLarge
from keras_convnext.applications import ConvNeXtNano
from keras_convnext.applications import ConvNeXtPico
from keras_convnext.applications import ConvNeXtSmall
from keras_convnext.applications import ConvNeXtTiny
from keras_convnext.applications import ConvNeXtV2Atto
from keras_convnext.applications import ConvNeXtV2Base
from keras_convnext.applications import ConvNeXtV2Femto
from keras_convnext.applications import ConvNeXtV2Huge
from keras_convnext.applications import ConvNeXtV2Large
from keras_convnext.applications import ConvNeXtV2Nano
from keras_convnext.applications import ConvNeXtV2Pico
from keras_convnext.applications import ConvNeXtV2Small
from keras_convnext.applications import ConvNeXtV2Tiny
from keras_convnext.applications import ConvNeXtXLarge
from keras_convnext.applications import ConvNeXtXXLarge
from keras_convnext.applications import create_model
from keras_convnext.applications import list_models
from keras_convnext.evaluation import evaluate
from keras_convnext.exporters import export
from keras_convnext.images import load_image
from keras_convnext.images import load_image_for
from keras_convnext.labels import decode_predictions
from keras_convnext.model import ConvNeXtModel
from keras_convnext.optimization import optimize_for_inference
from keras_convnext.preprocessing import Preprocessing
from keras_convnext.profiling import profile
from keras_convnext.pyramid import feature_pyramid
from keras_convnext.rematerialization import rematerialized
from keras_convnext.tf_images import tf_load_image
from keras_convnext.training import train
from keras_convnext.variants import VARIANTS
from keras_convnext.variants import Variant
from keras_convnext.version import __version__
from keras_convnext.weights.conversion import convert_weights
from keras_convnext.weights.heads import imagenet1k_from_22k
from keras_convnext.weights.normalisation import preprocess_input
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
    "convert_weights",
    "create_model",
    "data",
    "decode_predictions",
    "distribution",
    "evaluate",
    "export",
    "feature_pyramid",
    "imagenet1k_from_22k",
    "layers",
    "list_models",
    "list_weights",
    "load_image",
    "load_image_for",
    "optimize_for_inference",
    "preprocess_input",
    "profile",
    "recipes",
    "rematerialized",
    "roadmap",
    "segmentation",
    "tf_load_image",
    "train",
    "training",
    "visualize",
]
