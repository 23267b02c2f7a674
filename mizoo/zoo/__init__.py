"""The zoo: names -> checked files -> encoders, on Keras or ONNX Runtime. Importing it imports neither."""

from mizoo._tools.lazy import submodules
from mizoo.zoo.entries import clone, info, list_models, locate, path, registry, require_clone
from mizoo.zoo.loading import encoder_file, load, sampling_rate
from mizoo.zoo.onnx_encoder import OnnxEncoder

__all__ = [
    "OnnxEncoder",
    "clone",
    "encoder_file",
    "info",
    "list_models",
    "load",
    "locate",
    "path",
    "registry",
    "require_clone",
    "sampling_rate",
]

__getattr__ = submodules(__name__)
