"""Encoders: pictures in, a dict of named endpoints out. Keras Functional models of stock layers."""

from mizoo.encoders.conv import conv32
from mizoo.encoders.resnet import resnet18

__all__ = ["conv32", "resnet18"]
