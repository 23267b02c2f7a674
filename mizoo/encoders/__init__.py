"""Encoders: pictures, sounds or series in, a dict of named endpoints out. Keras Functional models of stock layers."""

from mizoo._tools.lazy import submodules
from mizoo.encoders.conv import conv32
from mizoo.encoders.conv64 import conv64
from mizoo.encoders.decoder import decoder
from mizoo.encoders.log_mel import log_mel
from mizoo.encoders.patch_grid import patch_grid
from mizoo.encoders.resnet import resnet18
from mizoo.encoders.series import series
from mizoo.encoders.statistics import fit_statistics
from mizoo.encoders.three_stage import three_stage
from mizoo.encoders.waveform import waveform

__all__ = [
    "conv32",
    "conv64",
    "decoder",
    "fit_statistics",
    "log_mel",
    "patch_grid",
    "resnet18",
    "series",
    "three_stage",
    "waveform",
]

__getattr__ = submodules(__name__)
