"""Recipes: what a training run is made of, validated before anything starts. Importing it imports no Keras."""

from mizoo._tools.lazy import submodules
from mizoo.recipes.encoders import ENCODERS
from mizoo.recipes.loading import ancestors, load, names, validate
from mizoo.recipes.objectives import OBJECTIVES
from mizoo.recipes.recipe import Recipe

__all__ = ["ENCODERS", "OBJECTIVES", "Recipe", "ancestors", "load", "names", "validate"]

__getattr__ = submodules(__name__)
