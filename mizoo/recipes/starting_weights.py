"""The weights that a run begins with where `init_from` names some: of another side or other channels where they fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mizoo import zoo
from mizoo._tools.files import user_path
from mizoo.errors import UserError
from mizoo.recipes.encoders import ENCODERS
from mizoo.recipes.loading import ancestors
from mizoo.recipes.recipe import Recipe
from mizoo.zoo import interface
from mizoo.zoo.loading import encoder_file

if TYPE_CHECKING:
    import keras

_INPUTS = 2  # the axis of a convolution's kernel (height, width, inputs, outputs) that the channels lie along


def check_ancestor(recipe: Recipe) -> None:
    """Refuse a recipe whose `init_from` is not there.

    Raises:
        UserError: with the command of the run that has to come first, where that is known.
    """
    source = recipe.init_from
    assert source is not None
    first = ancestors(source)
    if first and not user_path(source).exists():
        raise UserError(
            f"`init_from`: {recipe.name} continues from the run {source}, which is not here. Train that first: "
            f"`mizoo pretrain {first[-1]}`"
        )
    encoder_file(source)


def copy_weights(recipe: Recipe, encoder: keras.Model) -> None:
    """Give `encoder` the weights that `init_from` names: of a published entry or of a file of one's own.

    Pictures of another side take the same weights where none belongs to a place in the picture. Of pictures with other
    channels the first convolution is that of a picture whose channels are all equal: its kernel is averaged over the
    channels and shared out among the new ones, so that such a picture gives what it gave before. From 3 channels to 1
    this is the encoder of grey pictures as RGB.

    Args:
        recipe: with `init_from`.
        encoder: of this recipe. It is changed.

    Raises:
        UserError: if they are not there, or do not fit, with the layer and why.
    """
    source = recipe.init_from
    assert source is not None
    check_ancestor(recipe)
    model = zoo.load(source)
    encoder.set_weights(fitted(model, encoder, f"`init_from`: the weights of {source} do not fit the recipe's encoder"))


def fitted(source: keras.Model, target: keras.Model, refusal: str) -> list[np.ndarray]:
    """The weights of one encoder in the shapes of another.

    Args:
        source: whose weights are taken.
        target: whose shapes they get.
        refusal: how the message begins that says why not.

    Raises:
        UserError: if they do not fit.
    """
    values = source.get_weights()
    differing = [i for i, pair in enumerate(zip(source.variables, target.variables)) if _differ(*pair)]
    if len(source.variables) != len(target.variables):
        raise UserError(
            f"{refusal}: it is another network, of {len(source.variables)} arrays of weights, and this one has "
            f"{len(target.variables)}. {_same_encoder(source)}"
        )
    if not differing:
        return values
    first, channels = differing[0], [interface.channels(model) for model in (source, target)]
    shapes = [tuple(model.variables[first].shape) for model in (source, target)]
    if len(differing) == 1 and _by_channels(shapes, channels):
        mean = values[first].astype("float64").mean(axis=_INPUTS, keepdims=True)
        values[first] = np.broadcast_to(mean * (shapes[0][_INPUTS] / shapes[1][_INPUTS]), shapes[1]).astype("float32")
        return values
    raise UserError(f"{refusal}: {_why_not(source, target, shapes, target.variables[first].path)}")


def _differ(one: Any, other: Any) -> bool:
    return tuple(one.shape) != tuple(other.shape)


def _by_channels(shapes: list[tuple[int, ...]], channels: list[int | None]) -> bool:
    """Whether two kernels are of convolutions of pictures and differ in the channels of those alone."""
    rest = [shape[:_INPUTS] + shape[_INPUTS + 1 :] for shape in shapes]
    return (
        [len(shape) for shape in shapes] == [4, 4] and rest[0] == rest[1] and [s[_INPUTS] for s in shapes] == channels
    )


def _why_not(source: keras.Model, target: keras.Model, shapes: list[tuple[int, ...]], path: str) -> str:
    """The first layer that differs, and what is the reason."""
    layer = f"`{path}` has the shape {shapes[0]} there and {shapes[1]} here."
    sizes = [interface.picture_shape(model) for model in (source, target)]
    if None not in sizes and sizes[0] != sizes[1] and sizes[0][2] == sizes[1][2]:  # type: ignore[index]
        free = " and ".join(name for name, settings in ENCODERS.items() if settings.any_side)
        return (
            f"it takes pictures of {_size(sizes[0])} pixels and this one {_size(sizes[1])}, and {layer} Weights that "
            f"belong to places in the picture fit no other side. Take {_size(sizes[0])}, or an entry of {free}, whose "
            "weights fit every side."
        )
    return f"{layer} {_same_encoder(source)}"


def _same_encoder(source: keras.Model) -> str:
    return (
        "Give the recipe the `encoder` that they were trained with, of which `side` and `channels` may differ "
        f"({source.name}: pictures of {_size(interface.picture_shape(source))})."
        if interface.picture_shape(source)
        else "Give the recipe the `encoder` that they were trained with."
    )


def _size(shape: Any) -> str:
    return f"{shape[0]}x{shape[1]}"
