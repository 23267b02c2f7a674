"""Keras layers as augmentations, and what a caller passes as `augment` -> an augmentation."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from mizoo._tools.arrays import check_whole
from mizoo._tools.checks import check_seed
from mizoo.augment.compose import Compose
from mizoo.augment.operations import Operation
from mizoo.errors import UserError


@keras.saving.register_keras_serializable("mizoo")
class FromLayer:
    """A Keras layer, such as `keras.layers.RandomFlip`, or several in a `keras.Sequential`, as an augmentation.

    An objective makes one of a layer that it gets as `augment`. The layer draws from a generator of its own and not
    from the noise of the batch: `fit` repeats exactly only after `keras.utils.set_random_seed`, and with several
    replicas a layer may draw the same numbers on each. The operations of this package repeat exactly, as does a layer
    in a run of `mizoo.pretrain`, which sets the generators at each epoch.

    Args:
        layer: from pictures (N, H, W, C), float32 in 0..255, to pictures; called with `training=True` where it takes
            that. It has no weights to train.

    Raises:
        UserError: for anything else.
    """

    noise_size = 0

    def __init__(self, layer: keras.layers.Layer) -> None:
        if not isinstance(layer, keras.layers.Layer):
            raise UserError(f"`layer` is a Keras layer, such as keras.layers.RandomFlip(). Received: {_said(layer)}")
        self.layer = layer
        self._check_weights()

    def __call__(self, images, noise=None):
        """The layer's views, float32, of pictures (N, H, W, C); the noise is not used."""
        views = self.layer(ops.cast(images, "float32"), training=True)
        self._check_weights()  # of a layer that is built by its first call
        return ops.cast(views, "float32")

    def _check_weights(self) -> None:
        if self.layer.trainable_variables:
            raise UserError(
                f"An augmentation has nothing to train. Received: the layer {self.layer.name!r} with "
                f"{len(self.layer.trainable_variables)} trainable variables. Put it into the encoder."
            )

    def get_config(self) -> dict:
        """The layer, for `model.save`."""
        return {"layer": keras.saving.serialize_keras_object(self.layer)}

    @classmethod
    def from_config(cls, config: dict) -> FromLayer:
        """The augmentation of a `get_config`."""
        return cls(keras.saving.deserialize_keras_object(config["layer"]))


@keras.saving.register_keras_serializable("mizoo")
class Augment(keras.layers.Layer):
    """An augmentation as a Keras layer, for a classifier: at work while `training`, and nothing otherwise.

    Its noise comes from a generator of its own, so every call draws other views. On the TensorFlow backend it also
    works in `tf.data`, `dataset.map(lambda x, y: (layer(x, training=True), y))`; on the others it stands in front of
    the model, and a tensor of a `tf.data` graph is a `UserError`.

    Args:
        augmentation: what an objective takes as `augment`: an operation of this package, several in a list, or a
            `Compose`. It keeps the size of the pictures.
        seed: of the generator; a random one if None.

    Raises:
        UserError: for anything else.
    """

    def __init__(self, augmentation: Any, seed: int | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        made = as_augmentation(augmentation, "augmentation")
        if not isinstance(made, Compose):
            raise UserError(f"`augmentation` is made of operations of mizoo.augment. Received: {_said(augmentation)}")
        self.augmentation = made
        self.seed = seed if seed is None else check_seed(seed)
        self.generator = keras.random.SeedGenerator(self.seed)

    def __call__(self, images, *arguments, **settings):
        """What Keras does with a call, but for a tensor of a graph of TensorFlow's, which another backend cannot read.

        Raises:
            UserError: for that tensor.
        """
        backend = keras.backend.backend()
        of_graph = type(images).__module__.startswith("tensorflow.") and not hasattr(images, "numpy")
        if of_graph and backend != "tensorflow":
            raise UserError(
                "An augmentation in tf.data needs Keras on TensorFlow. Received: a symbolic tensor of TensorFlow, with "
                f"Keras on {backend}. Put the layer in front of the model, or set KERAS_BACKEND=tensorflow."
            )
        return super().__call__(images, *arguments, **settings)

    def call(self, images, training=None):
        """Views of pictures (N, H, W, C) in 0..255, float32 of the same shape; the pictures where not `training`."""
        images = ops.cast(images, "float32")
        if not training:
            return images
        noise = keras.random.uniform((ops.shape(images)[0], self.augmentation.noise_size), seed=self.generator)
        return self.augmentation(images, noise)

    def compute_output_shape(self, input_shape):
        """The shape of the pictures."""
        return input_shape

    def get_config(self) -> dict:
        """The augmentation and the seed, for `model.save`."""
        augmentation = keras.saving.serialize_keras_object(self.augmentation)
        return {**super().get_config(), "augmentation": augmentation, "seed": self.seed}

    @classmethod
    def from_config(cls, config: dict) -> Augment:
        """The layer of a `get_config`."""
        return cls(**{**config, "augmentation": keras.saving.deserialize_keras_object(config["augmentation"])})


def as_augmentation(value: Any, argument: str = "augment") -> Any:
    """What an objective calls with (images, noise): `value` itself where it takes both, or what is made of it.

    Args:
        value: None; a callable of (images, noise) with a `noise_size`, such as `mizoo.augment.preset("views")`; an
            operation of this package or several in a list; or a Keras layer.
        argument: what the messages call it.

    Raises:
        UserError: for anything else, with what to do.
    """
    if value is None or isinstance(value, Compose):
        return value
    if isinstance(value, Operation) or (isinstance(value, (list, tuple)) and value):
        return Compose([value] if isinstance(value, Operation) else value)
    if isinstance(value, keras.layers.Layer) and not hasattr(value, "noise_size"):
        return FromLayer(value)
    if isinstance(value, type) or not callable(value):
        remedy = f" Pass `mizoo.augment.preset({value!r})`." if isinstance(value, str) else ""
        raise UserError(
            f"`{argument}` is a callable of (images, noise), such as mizoo.augment.preset('views') or "
            f"mizoo.augment.Compose([...]), a Keras layer, or None. Received: {_said(value)}.{remedy}"
        )
    if not hasattr(value, "noise_size"):
        raise UserError(
            f"`{argument}` has a `noise_size`, how many columns of uniform noise it takes for each picture. Received: "
            f"{_said(value)} without one. Give it the attribute (0 if it draws from elsewhere), or wrap it in a Keras "
            "layer."
        )
    check_whole(value.noise_size, f"{argument}.noise_size")
    return value


def layer_of(augmentation: Any) -> keras.layers.Layer | None:
    """The Keras layer inside an augmentation that is made of one."""
    return augmentation.layer if isinstance(augmentation, FromLayer) else None


def _said(value: Any) -> str:
    name = getattr(value, "__name__", None)
    return f"{type(value).__name__} {name or repr(value)}"[:120]
