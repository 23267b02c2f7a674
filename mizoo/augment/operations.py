"""Operations: each takes columns of uniform noise and resamples, recolours or works pixel by pixel."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import keras
import numpy as np
from keras import ops

from mizoo._tools.arrays import check_whole
from mizoo._tools.checks import check_real, check_size, check_span

_LUMA = np.array([0.299, 0.587, 0.114], "float32")  # ITU-R BT.601
_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]], "float32")


class Operation:
    """Base of the operations: configuration for `model.save`."""

    noise_size = 0  # columns of noise that an operation takes

    def get_config(self) -> dict:
        """The arguments of the constructor."""
        return asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_config(cls, config: dict):
        """The operation of a `get_config`."""
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in config.items()})


class Resample(Operation):
    """An operation that is one matrix for the rows and one for the columns of a picture.

    `matrices(noise, height, width)` returns row matrices (N, new height, height) and column matrices (N, new width,
    width), each None for the identity.
    """


class Colour(Operation):
    """An operation that maps each pixel's colour by one matrix and one offset for a whole picture.

    `affine(noise, mean)` returns a matrix (N, 3, 3), acting as colour @ matrix, and an offset (N, 1, 3), from the noise
    and the mean colour (N, 1, 3).
    """


class Pixel(Operation):
    """Any other operation: `apply(noise, images)` takes and returns pictures (N, H, W, C), float32 in 0..255."""


@keras.saving.register_keras_serializable("mizoo")
@dataclass(frozen=True)
class Translate(Resample):
    """Translation with reflected borders; noise: down, right.

    Attributes:
        shift: largest translation along each axis, in pixels; every whole number up to it is equally likely. 4 is the
            padded crop common on 32-pixel pictures. Beyond the size of the picture reflections are reflected again.
    """

    shift: int = 4

    noise_size = 2

    def __post_init__(self) -> None:
        check_whole(self.shift, "shift")

    def matrices(self, noise, height, width):
        """Selections of rows and of columns: every pixel is a pixel of the picture it came from."""
        moves = ops.floor(noise * (2 * self.shift + 1)) - self.shift
        sides = []
        for axis, size in enumerate((height, width)):
            index = ops.cast(ops.arange(size, dtype="float32")[None] + moves[:, axis : axis + 1], "int32")
            index = ops.mod(index, max(2 * (size - 1), 1))  # mirrors on both sides that do not repeat the border
            index = (size - 1) - ops.abs((size - 1) - index)
            sides.append(ops.one_hot(index, size, dtype="float32"))
        return tuple(sides)


@keras.saving.register_keras_serializable("mizoo")
@dataclass(frozen=True)
class RandomResizedCrop(Resample):
    """A random rectangle resized to the whole picture, bilinear (Szegedy et al. 2015); noise: area, aspect, y, x.

    Attributes:
        area: range of the rectangle's share of the picture, drawn uniformly.
        aspect: range of its width over its height, drawn log-uniformly, each as a share of the picture's: 1 is a
            rectangle of the shape of the picture, square or not. A side longer than the picture is cut to it.
        side: height and width that the rectangle is resized to; those of the picture if None. Views smaller than the
            pictures cost less, and show things at the size at which whole pictures show them: crops are enlarged less
            (Touvron et al. 2019, section 3).
    """

    area: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    side: int | None = None

    noise_size = 4

    def __post_init__(self) -> None:
        # A list, as a JSON file has it, would make the operation unequal to itself.
        object.__setattr__(self, "area", check_span(self.area, "area", above=0, maximum=1))
        object.__setattr__(self, "aspect", check_span(self.aspect, "aspect", above=0))
        if self.side is not None:
            check_size(self.side, "side")

    def matrices(self, noise, height, width):
        """Interpolation by triangles: two taps where the rectangle grows, wider where it shrinks (antialiased)."""
        area = self.area[0] + noise[:, 0:1] * (self.area[1] - self.area[0])
        low, high = np.log(self.aspect[0]), np.log(self.aspect[1])
        root = ops.exp(0.5 * (low + noise[:, 1:2] * (high - low)))
        shares = (ops.minimum(ops.sqrt(area) / root, 1.0), ops.minimum(ops.sqrt(area) * root, 1.0))
        sides = []
        for axis, (size, share) in enumerate(zip((height, width), shares)):
            first = noise[:, 2 + axis : 3 + axis] * (1.0 - share) * size
            step = share * (size / (self.side or size))  # pixels of the picture for each of the view
            position = first + (ops.arange(self.side or size, dtype="float32")[None] + 0.5) * step - 0.5
            position = ops.clip(position, 0.0, size - 1.0)[:, :, None]
            reach = ops.maximum(step, 1.0)[:, :, None]
            taps = ops.maximum(1.0 - ops.abs(position - ops.arange(size, dtype="float32")) / reach, 0.0)
            sides.append(taps / ops.sum(taps, axis=-1, keepdims=True) if self.side else taps)
        return tuple(sides)


@keras.saving.register_keras_serializable("mizoo")
@dataclass(frozen=True)
class Flip(Resample):
    """A horizontal flip; noise: whether.

    Attributes:
        probability: share of the pictures that are flipped.
    """

    probability: float = 0.5

    noise_size = 1

    def __post_init__(self) -> None:
        check_real(self.probability, "probability", minimum=0, maximum=1)

    def matrices(self, noise, height, width):
        """The columns in reverse for some pictures."""
        flipped = ops.cast(noise < self.probability, "float32")[:, :, None]
        straight = ops.eye(width, dtype="float32")
        return None, flipped * ops.flip(straight, axis=1) + (1.0 - flipped) * straight


@keras.saving.register_keras_serializable("mizoo")
@dataclass(frozen=True)
class Blur(Resample):
    """Gaussian blur; noise: whether, how much.

    Attributes:
        sigma: range of the standard deviation in pixels.
        probability: share of the pictures that are blurred.
    """

    sigma: tuple[float, float] = (0.1, 2.0)
    probability: float = 0.5

    noise_size = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "sigma", check_span(self.sigma, "sigma", above=0))
        check_real(self.probability, "probability", minimum=0, maximum=1)

    def matrices(self, noise, height, width):
        """Gaussian bands whose rows sum to one (at a border the weights that fall outside go to the others)."""
        sigma = (self.sigma[0] + noise[:, 1:2] * (self.sigma[1] - self.sigma[0]))[:, :, None]
        applied = (noise[:, 0:1] < self.probability)[:, :, None]
        sides = []
        for size in (height, width):
            positions = np.arange(size, dtype="float32")
            squares = ops.convert_to_tensor((positions[:, None] - positions[None]) ** 2)
            band = ops.softmax(-squares[None] / (2.0 * sigma**2), axis=-1)
            sides.append(ops.where(applied, band, ops.eye(size, dtype="float32")))
        return tuple(sides)


@keras.saving.register_keras_serializable("mizoo")
@dataclass(frozen=True)
class ColourJitter(Colour):
    """Brightness, contrast, saturation and hue, in this order; noise: whether, then one for each.

    All four are linear in the colour, so they are one matrix; values are clipped to 0..255 once, after the last colour
    operation. Hue turns the colour plane of YIQ (as the NTSC tint does) and not the hexagon of HSV.

    Attributes:
        brightness, contrast, saturation: half-widths s of the factor's range, [max(0, 1 - s), 1 + s].
        hue: largest turn, in whole turns (0.1 is 36 degrees).
        probability: share of the pictures that are changed.
    """

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    probability: float = 0.8

    noise_size = 5

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation", "hue"):
            check_real(getattr(self, name), name, minimum=0)
        check_real(self.probability, "probability", minimum=0, maximum=1)

    def affine(self, noise, mean):
        """Four matrices multiplied; contrast keeps the mean grey of the brightened picture."""

        def factor(column, strength):
            """A factor for each picture, uniform within the strength of 1: (N, 1, 1)."""
            return (1.0 + strength * (2.0 * noise[:, column] - 1.0))[:, None, None]

        brightness = ops.maximum(factor(1, self.brightness), 0.0)
        contrast = ops.maximum(factor(2, self.contrast), 0.0)
        saturation = ops.maximum(factor(3, self.saturation), 0.0)
        angle = ((2.0 * noise[:, 4] - 1.0) * (2.0 * np.pi * self.hue))[:, None, None]
        cosine, sine = ops.cos(angle), ops.sin(angle)

        back = np.linalg.inv(_TO_YIQ)
        plane, turn = np.diag([0.0, 1.0, 1.0]), np.array([[0.0, 0, 0], [0, 0, -1], [0, 1, 0]])
        terms = [
            (back @ np.diag([1.0, 0, 0]) @ _TO_YIQ, 1.0),
            (back @ plane @ _TO_YIQ, cosine),
            (back @ turn @ _TO_YIQ, sine),
        ]
        hue = sum(ops.convert_to_tensor(term.T.astype("float32"))[None] * weight for term, weight in terms)
        grey = ops.convert_to_tensor(np.repeat(_LUMA[:, None], 3, axis=1))[None]
        eye = ops.eye(3, dtype="float32")[None]
        colour = ops.matmul(saturation * eye + (1.0 - saturation) * grey, hue)
        # Brightness and contrast are factors; contrast adds what it takes from the mean grey, which hue and
        # saturation leave as it is.
        offset = (1.0 - contrast) * brightness * ops.matmul(mean, grey)
        applied = (noise[:, 0] < self.probability)[:, None, None]
        matrix = ops.where(applied, brightness * contrast * colour, eye)
        return matrix, ops.where(applied, ops.matmul(offset, colour), 0.0)


@keras.saving.register_keras_serializable("mizoo")
@dataclass(frozen=True)
class Grey(Colour):
    """Grey pictures (luma of BT.601 in all channels); noise: whether.

    Attributes:
        probability: share of the pictures that lose their colour.
    """

    probability: float = 0.2

    noise_size = 1

    def __post_init__(self) -> None:
        check_real(self.probability, "probability", minimum=0, maximum=1)

    def affine(self, noise, mean):
        """The luma in each column, for some pictures."""
        grey = ops.convert_to_tensor(np.repeat(_LUMA[:, None], 3, axis=1))[None]
        applied = (noise < self.probability)[:, :, None]
        return ops.where(applied, grey, ops.eye(3, dtype="float32")[None]), ops.zeros_like(mean)


@keras.saving.register_keras_serializable("mizoo")
@dataclass(frozen=True)
class DropColour(Colour):
    """One colour channel in the place of all three (Henaff et al. 2019: colour dropping); noise: whether, which.

    Attributes:
        probability: share of the pictures that are changed.
    """

    probability: float = 0.5

    noise_size = 2

    def __post_init__(self) -> None:
        check_real(self.probability, "probability", minimum=0, maximum=1)

    def affine(self, noise, mean):
        """The channel that stays, in all three columns."""
        channel = ops.one_hot(ops.cast(ops.floor(noise[:, 1] * 3), "int32"), 3, dtype="float32")  # (N, 3)
        single = ops.repeat(channel[:, :, None], 3, axis=2)  # row: of which channel
        applied = (noise[:, 0] < self.probability)[:, None, None]
        return ops.where(applied, single, ops.eye(3, dtype="float32")[None]), ops.zeros_like(mean)


@keras.saving.register_keras_serializable("mizoo")
@dataclass(frozen=True)
class Solarise(Pixel):
    """Values at or above a threshold are inverted (255 - v); noise: whether.

    Attributes:
        threshold: first value that is inverted.
        probability: share of the pictures that are changed.
    """

    threshold: float = 128.0
    probability: float = 0.2

    noise_size = 1

    def __post_init__(self) -> None:
        check_real(self.threshold, "threshold")
        check_real(self.probability, "probability", minimum=0, maximum=1)

    def apply(self, noise, images):
        """Invert the bright values of some pictures."""
        applied = (noise < self.probability)[:, :, None, None]
        return ops.where(ops.logical_and(applied, images >= self.threshold), 255.0 - images, images)


@keras.saving.register_keras_serializable("mizoo")
@dataclass(frozen=True)
class Intensity(Pixel):
    """Brightness and contrast of pictures of any number of channels, all alike; noise: whether, then one for each.

    What `ColourJitter` is without hue and saturation; its contrast keeps the mean of each channel.

    Attributes:
        brightness, contrast: half-widths s of the factor's range, [max(0, 1 - s), 1 + s].
        probability: share of the pictures that are changed.
    """

    brightness: float = 0.4
    contrast: float = 0.4
    probability: float = 0.8

    noise_size = 3

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast"):
            check_real(getattr(self, name), name, minimum=0)
        check_real(self.probability, "probability", minimum=0, maximum=1)

    def apply(self, noise, images):
        """The pictures times a factor, then away from their mean or towards it."""
        factors = 1.0 + ops.convert_to_tensor([self.brightness, self.contrast]) * (2.0 * noise[:, 1:] - 1.0)
        brightness, contrast = (ops.maximum(factors[:, i], 0.0)[:, None, None, None] for i in (0, 1))
        brighter = brightness * images
        mean = ops.mean(brighter, axis=(1, 2), keepdims=True)
        changed = ops.clip(mean + contrast * (brighter - mean), 0.0, 255.0)
        return ops.where((noise[:, 0] < self.probability)[:, None, None, None], changed, images)


@keras.saving.register_keras_serializable("mizoo")
@dataclass(frozen=True)
class Occlude(Pixel):
    """A grey square over part of the picture (DeVries and Taylor 2017); noise: down, right.

    The grey is 127.5, zero for the encoders, and the square lies wholly within the picture, anywhere equally likely.

    Attributes:
        side: side of the square as a share of the picture's, above 0 and at most 1; the nearest whole
            number of pixels is covered, one at least.
    """

    side: float = 0.5

    noise_size = 2

    def __post_init__(self) -> None:
        check_real(self.side, "side", above=0, maximum=1, what="a share of the picture's side")

    def apply(self, noise, images):
        """The pictures with their squares."""
        covered = []
        for axis, size in enumerate(images.shape[1:3]):
            square = max(round(self.side * size), 1)
            first = ops.floor(noise[:, axis : axis + 1] * (size - square + 1))
            positions = ops.arange(size, dtype="float32")[None]
            covered.append(ops.logical_and(positions >= first, positions < first + square))
        inside = ops.logical_and(covered[0][:, :, None], covered[1][:, None, :])[..., None]
        return ops.where(inside, 127.5, images)
