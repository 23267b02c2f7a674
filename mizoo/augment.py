"""Augmentations on the accelerator: functions of the pictures and of uniform noise, on every backend the same."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import keras
from keras import ops

from mizoo.errors import UserError


@keras.saving.register_keras_serializable("mizoo")
@dataclass(frozen=True)
class CropFlip:
    """Translation with reflected borders, and a horizontal flip for half of the pictures.

    Attributes:
        shift: largest translation along each axis, in pixels; 4 is the padded crop common on 32-pixel pictures.
        flip: whether to flip.
    """

    shift: int = 4
    flip: bool = True

    noise_size = 3  # columns of noise that `__call__` takes

    def get_config(self) -> dict:
        """The arguments of the constructor, for `model.save`."""
        return asdict(self)

    @classmethod
    def from_config(cls, config: dict) -> CropFlip:
        """Build it again from `get_config`."""
        return cls(**config)

    def __call__(self, images, noise):
        """Augment a batch.

        Args:
            images: (N, H, W, C), any dtype.
            noise: (N, 3), uniform in [0, 1): down, right, flip.

        Returns:
            Pictures of the same shape and dtype; every pixel is a pixel of the picture it came from.
        """
        n = ops.shape(images)[0]
        height, width, channels = images.shape[1:]
        steps = 2 * self.shift + 1
        moves = ops.cast(ops.floor(noise[:, :2] * steps), "int32") - self.shift
        rows = _reflect(ops.arange(height, dtype="int32")[None] + moves[:, :1], height)  # (N, H)
        columns = _reflect(ops.arange(width, dtype="int32")[None] + moves[:, 1:], width)  # (N, W)
        if self.flip:
            columns = ops.where(noise[:, 2:] < 0.5, columns, ops.flip(columns, axis=1))
        # One gather of whole pixels from the flattened batch is the cheapest form on every backend.
        first = ops.arange(n, dtype="int32")[:, None, None] * (height * width)
        index = first + rows[:, :, None] * width + columns[:, None, :]
        return ops.take(ops.reshape(images, (-1, channels)), index, axis=0)


def _reflect(index, size: int):
    """Indices outside 0..size-1 come back in as in a mirror that does not repeat the border."""
    return (size - 1) - ops.abs((size - 1) - ops.abs(index))


PRESETS = {"none": None, "dim": CropFlip()}


def preset(name: str):
    """The augmentation that a recipe names: "none" (None) or "dim" (shifts of 4 pixels and flips).

    Raises:
        UserError: for any other name.
    """
    if name not in PRESETS:
        raise UserError(f"`augment` is one of {', '.join(PRESETS)}. Received: augment={name!r}")
    return PRESETS[name]
