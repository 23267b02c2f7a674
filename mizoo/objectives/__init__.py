"""Objectives: `keras.Model` subclasses that state what is maximised; one training step serves them all."""

from mizoo.objectives.aae import AAE
from mizoo.objectives.base import Objective
from mizoo.objectives.co_training import DeepCoTraining
from mizoo.objectives.cpc import CPC
from mizoo.objectives.deep_infomax import DeepInfoMax
from mizoo.objectives.distillation import Distillation
from mizoo.objectives.information_maximization import InformationMaximization
from mizoo.objectives.simclr import SimCLR
from mizoo.objectives.supervised import Supervised
from mizoo.objectives.vae import VAE

__all__ = [
    "AAE",
    "CPC",
    "DeepCoTraining",
    "DeepInfoMax",
    "Distillation",
    "InformationMaximization",
    "Objective",
    "SimCLR",
    "Supervised",
    "VAE",
]
