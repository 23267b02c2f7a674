"""Augmentations on the accelerator: functions of pictures or sounds and of uniform noise, on every backend the same.

Each operation on pictures takes some columns of uniform noise per picture and does one of three things: it resamples
rows and columns (a matrix for each axis), it maps the colours of a pixel (a 3x3 matrix and an offset for each picture),
or it works pixel by pixel. `Compose` multiplies neighbouring matrices before any pixel is touched, so that a crop with
flip and blur costs as much as the crop alone, and colour jitter with grey as much as the jitter. Operations on sounds
work on the samples, one after the other.
"""

from __future__ import annotations

from dataclasses import replace

from mizoo.augment.compose import Compose
from mizoo.augment.layers import Augment, FromLayer, as_augmentation
from mizoo.augment.operations import (
    Blur,
    Colour,
    ColourJitter,
    DropColour,
    Flip,
    Grey,
    Intensity,
    Occlude,
    Operation,
    RandomResizedCrop,
    Solarise,
    Translate,
)
from mizoo.augment.sounds import Level, Noise, Speed, Timbre
from mizoo.errors import UserError

__all__ = [
    "PRESETS",
    "Augment",
    "Blur",
    "ColourJitter",
    "Compose",
    "DropColour",
    "Flip",
    "FromLayer",
    "Grey",
    "Intensity",
    "Level",
    "Noise",
    "Occlude",
    "RandomResizedCrop",
    "Solarise",
    "Speed",
    "Timbre",
    "Translate",
    "as_augmentation",
    "layer",
    "preset",
]

PRESETS = {
    "none": None,
    "dim": Compose([Translate(4), Flip()]),
    "amdim": Compose([Translate(4), Flip(), ColourJitter(0.4, 0.4, 0.4, 0.2), Grey(0.25)]),
    "simclr": Compose([RandomResizedCrop((0.08, 1.0)), Flip(), ColourJitter(0.4, 0.4, 0.4, 0.1), Grey(0.2)]),
    "patches": Compose([Translate(1), Flip(), ColourJitter(0.4, 0.4, 0.4, 0.1), DropColour(0.5)]),
    "views": Compose([RandomResizedCrop((0.3, 1.0)), Flip(), ColourJitter(0.4, 0.4, 0.4, 0.1), Grey(0.2)]),
    "voice": Compose([Speed(), Timbre(), Noise(), Level()]),
}
RESIZED = ("simclr", "views")  # those that begin with a resized crop


def preset(name: str, side: int | None = None, area: tuple[float, float] | None = None, channels: int = 3):
    """The augmentation that a recipe names.

    Args:
        name: "none" (None); "dim": translations of 4 pixels and flips; "amdim": the same with colour jitter and grey
            (Bachman et al. 2019 on CIFAR); "simclr": resized crops from 8% of the area on, flips, colour jitter and
            grey (Chen et al. 2020 on CIFAR-10); "views": that from 30% of the area on, for small encoders; "patches":
            for each patch by itself, a translation of one pixel, flips, colour jitter and colour drop; "voice": of
            sounds, speed with pitch, timbre, noise and level.
        side: height and width of the views, for the presets with resized crops; those of the pictures if None.
        area: range of the crop's share of the picture, for the same presets; theirs if None.
        channels: of the pictures. Hue, saturation, grey and colour drop are of 3: with another number, `Intensity`
            takes the place of the jitter, with its brightness and contrast, and the others are left out.

    Raises:
        UserError: for any other name, or a `side` or an `area` without a resized crop.
    """
    if not isinstance(name, str) or name not in PRESETS:
        raise UserError(f"`augment` is one of {', '.join(PRESETS)}. Received: augment={name!r}")
    if channels != 3 and PRESETS[name] is not None and PRESETS[name].takes == "pictures":
        return _without_colours(preset(name, side, area))
    if side is None and area is None:
        return PRESETS[name]
    if name not in RESIZED:
        raise UserError(
            f"`side` and `area` are for the presets with resized crops, {', '.join(RESIZED)}. Received: {name!r}"
        )
    crop, *others = PRESETS[name].operations
    return Compose([replace(crop, side=side, area=crop.area if area is None else area), *others])


def _without_colours(augmentation: Compose) -> Compose:
    """The same for pictures of any number of channels."""
    kept: list[Operation] = []
    for operation in augmentation.operations:
        if isinstance(operation, ColourJitter):
            kept.append(Intensity(operation.brightness, operation.contrast, operation.probability))
        elif not isinstance(operation, Colour):
            kept.append(operation)
    return Compose(kept)


def layer(name: str, seed: int | None = None, area: tuple[float, float] | None = None, channels: int = 3) -> Augment:
    """The augmentation that a recipe names as a Keras layer, to stand before an encoder that is fine-tuned.

    Args:
        name: as of `preset`, but for "none".
        seed: of its noise; a random one if None.
        area, channels: as of `preset`.

    Raises:
        UserError: as `preset`.
    """
    augmentation = preset(name, area=area, channels=channels)
    if augmentation is None:
        raise UserError("A layer augments: leave it out for `none`.")
    return Augment(augmentation, seed)
