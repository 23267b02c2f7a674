"""Operations one after the other, with neighbouring matrices multiplied before any pixel is touched."""

from __future__ import annotations

import keras
from keras import ops

from mizoo.augment.operations import Colour, Operation, Resample
from mizoo.augment.sounds import Sound
from mizoo.errors import UserError


@keras.saving.register_keras_serializable("mizoo")
class Compose:
    """Operations one after the other, as a function of pictures, or of sounds, and noise.

    Args:
        operations: operations of `mizoo.augment`, in the order in which they work, all on pictures or all on sounds.

    Raises:
        UserError: for anything else.
    """

    def __init__(self, operations) -> None:
        if not isinstance(operations, (list, tuple)):
            raise UserError(f"`operations` is a list of operations of mizoo.augment. Received: {operations!r}")
        self.operations = tuple(operations)
        for operation in self.operations:
            if not isinstance(operation, Operation):
                raise UserError(
                    f"An augmentation is made of operations of mizoo.augment. Received: {operation!r}. Keras layers "
                    "are put together by keras.Sequential, and go in as `augment` by themselves."
                )
        if len({isinstance(operation, Sound) for operation in self.operations}) > 1:
            raise UserError(f"Operations on sounds and on pictures do not go together. Received: {operations!r}")

    @property
    def takes(self) -> str:
        """What is augmented: "pictures" or "sounds"."""
        return "sounds" if self.operations and isinstance(self.operations[0], Sound) else "pictures"

    @property
    def noise_size(self) -> int:
        """Columns of uniform noise that a call takes: those of the operations, in order."""
        return sum(operation.noise_size for operation in self.operations)

    def __call__(self, images, noise):
        """Augment a batch.

        Args:
            images: (N, H, W, C), values in 0..255; colour operations take C = 3. Of sounds samples (N, T) in -1..1.
            noise: (N, noise_size), uniform in [0, 1).

        Returns:
            float32 pictures in 0..255, of the same shape unless a crop has a `side`, or sounds of the same shape.
            Picture i depends on picture i and row i of the noise alone.

        Raises:
            UserError: for another kind of input, pictures of unknown size, or of other channels than operations take.
        """
        images = ops.cast(images, "float32")
        noise = ops.convert_to_tensor(noise)
        if not self.operations:
            return images
        if (self.takes == "sounds") != (len(images.shape) == 2):
            raise UserError(f"This augmentation is of {self.takes}. Received: shape {tuple(images.shape)}")
        if self.takes == "sounds":
            return self._sounds(images, noise)
        if None in images.shape[1:]:
            raise UserError(
                "The size of pictures (N, H, W, C) is known where they are augmented. Received: shape "
                f"{tuple(images.shape)}. Resize them in the data set, or fix what they have: "
                "`dataset.map(lambda x: tf.ensure_shape(x, (None, 32, 32, 3)))`."
            )
        height, width, channels = images.shape[1:]
        rows = columns = colours = None  # matrices not applied yet: later ones are multiplied in
        begin = 0
        for operation in self.operations:
            uniform = noise[:, begin : begin + operation.noise_size]
            begin += operation.noise_size
            if not isinstance(operation, Resample) and (rows is not None or columns is not None):
                images, rows, columns = _resample(images, rows, columns), None, None
            if not isinstance(operation, Colour) and colours is not None:
                images, colours = _recolour(images, *colours), None
            if isinstance(operation, Resample):
                more_rows, more_columns = operation.matrices(uniform, height, width)
                rows, columns = _product(more_rows, rows), _product(more_columns, columns)
                height = height if rows is None else rows.shape[1]
                width = width if columns is None else columns.shape[1]
            elif isinstance(operation, Colour):
                if channels != 3:
                    raise UserError(
                        f"{type(operation).__name__} takes pictures of 3 channels. Received: {channels}. Leave it out, "
                        "or take `Intensity`; `mizoo.augment.preset(name, channels=...)` does."
                    )
                if colours is None:
                    mean = ops.mean(images, axis=(1, 2))[:, None]
                    colours = operation.affine(uniform, mean)
                else:
                    matrix, offset = colours
                    more, shift = operation.affine(uniform, ops.matmul(mean, matrix) + offset)
                    colours = ops.matmul(matrix, more), ops.matmul(offset, more) + shift
            else:
                images = operation.apply(uniform, images)
        images = _resample(images, rows, columns)
        return images if colours is None else _recolour(images, *colours)

    def _sounds(self, samples, noise):
        """The operations on samples (N, T), one after the other."""
        begin = 0
        for operation in self.operations:
            samples = operation.apply(noise[:, begin : begin + operation.noise_size], samples)
            begin += operation.noise_size
        return samples

    def get_config(self) -> dict:
        """The operations, for `model.save`."""
        return {"operations": [keras.saving.serialize_keras_object(operation) for operation in self.operations]}

    @classmethod
    def from_config(cls, config: dict) -> Compose:
        """The augmentation of a `get_config`."""
        return cls([keras.saving.deserialize_keras_object(operation) for operation in config["operations"]])

    def __eq__(self, other) -> bool:
        return isinstance(other, Compose) and self.operations == other.operations

    def __hash__(self) -> int:
        return hash(self.operations)

    def __repr__(self) -> str:
        return f"Compose({list(self.operations)})"


def _product(later, earlier):
    if later is None or earlier is None:
        return earlier if later is None else later
    return ops.matmul(later, earlier)


def _resample(images, rows, columns):
    """rows (N, new H, H) times picture times columns transposed (N, W, new W), channel by channel."""
    height, width, channels = images.shape[1:]
    if rows is not None:
        flat = ops.reshape(images, (-1, height, width * channels))
        height = rows.shape[1]
        images = ops.reshape(ops.matmul(rows, flat), (-1, height, width, channels))
    if columns is not None:
        # The picture on its side, so that one product for each picture does all its rows and channels.
        flat = ops.reshape(ops.transpose(images, (0, 2, 1, 3)), (-1, width, height * channels))
        turned = ops.reshape(ops.matmul(columns, flat), (-1, columns.shape[1], height, channels))
        images = ops.transpose(turned, (0, 2, 1, 3))
    return images


def _recolour(images, matrix, offset):
    shape = images.shape[1:]
    flat = ops.matmul(ops.reshape(images, (-1, shape[0] * shape[1], 3)), matrix) + offset
    return ops.reshape(ops.clip(flat, 0.0, 255.0), (-1, *shape))
