"""What `fit` and `predict` of an objective are given, by the contract of its encoder: arrays, and shapes of batches."""

from __future__ import annotations

import contextlib
import itertools
import types
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from mizoo._tools.arrays import check_whole, to_numpy
from mizoo.augment import Compose
from mizoo.data import pictures, sound_files
from mizoo.errors import UserError
from mizoo.zoo import interface

KERAS_BATCH = 32  # what `fit` takes where it is given arrays and no `batch_size`
INPUT_KEYS = ("sequences", "images")  # of a batch that is a dict, the first that is there
_CHECKED_RANKS = (1, 2, 3)  # of an input without the batch: sounds, series, pictures


def is_arrays(x: Any) -> bool:
    """Whether `x` is an array, nested lists, or a dict of such, and no data set that gives batches."""
    if isinstance(x, dict):
        return all(is_arrays(value) for value in x.values())
    return isinstance(x, (np.ndarray, list, tuple)) or (hasattr(x, "shape") and hasattr(x, "__array__"))


def is_plain(x: Any) -> bool:
    """Whether `x` is an array or nested lists, and no tensor of the backend, whose values may not be known yet."""
    return is_arrays(x) and not isinstance(x, (dict, keras.KerasTensor)) and not keras.ops.is_tensor(x)


def wanted_shape(encoder: Any, augment: Any = None) -> interface.Shape:
    """The shape without the batch that comes in: that of the encoder, free where the augmentation can change it."""
    shape = interface.input_shape(encoder)
    if augment is None or len(shape) != 3:
        return shape
    if not isinstance(augment, Compose):
        return (None, None, None)
    resized = any(getattr(operation, "side", None) for operation in augment.operations if hasattr(operation, "area"))
    return (None, None, shape[-1]) if resized else shape


def check_augmentation(encoder: Any, augment: Any) -> None:
    """Refuse the operations of this package for an encoder of something else.

    Raises:
        UserError: for operations on pictures where the encoder takes none, and the same of sounds.
    """
    if isinstance(augment, Compose) and augment.operations and augment.takes != (kind := interface.kind(encoder)):
        raise UserError(f"`augment` works on {augment.takes}, and this encoder takes {kind}.")


def check_inputs(values: Any, shape: interface.Shape, argument: str = "x") -> np.ndarray:
    """Pictures, sounds or series as an array (B, ...) of the type that they have.

    Args:
        values: an array, or what NumPy makes one of.
        shape: what an input has without the batch, None for any size; its rank says what it holds.
        argument: what the messages call `values`.

    Raises:
        UserError: for another shape, numbers that are not real or finite, masked values, pictures outside 0..255 and
            sounds that are no floats in -1..1.

    Warns:
        UserWarning: for pictures that all lie within 0..1.
    """
    if len(shape) not in _CHECKED_RANKS:
        return to_numpy(values, argument)
    if interface.kind_of(shape) == "pictures":
        return pictures.check_images(values, shape, argument, cast=False)
    return sound_files.check_samples(values, shape, argument, cast=False)


def check_arrays(model: Any, x: Any) -> Any:
    """What a batch or a whole data set holds, as `Objective.fit` takes it: an array, or a dict with noise and targets.

    Raises:
        UserError: as of `check_inputs`; for a dict without inputs, with other columns of noise than the model takes, or
            whose arrays differ in length.
    """
    shape = wanted_shape(model.encoder, model.augment)
    if not isinstance(x, dict):
        return check_inputs(x, shape)
    key = input_key(x)
    checked = {key: check_inputs(x[key], shape, f"x[{key!r}]")}
    for name in x:
        if name == key:
            continue
        values = checked[name] = to_numpy(x[name], f"x[{name!r}]")
        if values.ndim == 0 or len(values) != len(checked[key]):
            raise UserError(
                f"`x` has one row of {name!r} for each of {len(checked[key])} inputs. Received: shape {values.shape}."
            )
        if values.dtype.kind not in "fiub" or not np.isfinite(values).all():
            raise UserError(
                f"`x[{name!r}]` holds finite real numbers. Received: dtype {values.dtype}"
                + (", with NaN or infinity in it." if values.dtype.kind == "f" else ".")
            )
    return checked


def input_key(batch: dict) -> str:
    """The key of the pictures or sequences of a batch.

    Raises:
        UserError: if it has none.
    """
    key = next((key for key in INPUT_KEYS if key in batch), None)
    if key is None:
        raise UserError(
            "A batch is pictures, or a dict with the key 'images' (or 'sequences') and, if it brings them, 'noise' and "
            f"'targets'. Received: the keys {', '.join(map(repr, batch)) or 'none'}."
        )
    return key


def rows_of(x: Any) -> int:
    """How many inputs there are, of what `check_arrays` gave."""
    return len(x[input_key(x)] if isinstance(x, dict) else x)


def with_first_batch_checked(model: Any, batches: Iterator[Any]) -> tuple[Iterator[Any], int | None]:
    """The batches of a generator, of which the first is looked at before the training begins, and its inputs if known.

    Raises:
        UserError: if there is none, or as of `check_arrays` and `check_rows`.
    """
    first = next(batches, None)
    if first is None:
        raise UserError("`x` is a generator that gives no batch: it may have been used before. Make a new one.")
    content = first[0] if isinstance(first, (tuple, list)) and len(first) else first
    rows = None
    if is_arrays(content):
        rows = rows_of(check_arrays(model, content))
        check_rows(model, rows)
    return _again(first, batches), rows


def _again(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    for batch in itertools.chain([first], rest):
        yield batch if isinstance(batch, tuple) else (batch,)  # Keras takes tuples alone from a generator


def check_unweighted(given: Mapping[str, Any]) -> None:
    """Refuse weights of inputs or classes among the arguments of a call: the step would pass over them in silence.

    Raises:
        UserError: naming the first.
    """
    for name in ("sample_weight", "class_weight"):
        if given.get(name) is not None:
            raise UserError(
                f"All inputs of a batch count alike, as its loss is one of the whole batch. Received: `{name}`. Leave "
                "it out, and of the inputs those that should not count."
            )


def is_generator(x: Any) -> bool:
    """Whether `x` is a generator, which Keras takes for batches."""
    return isinstance(x, types.GeneratorType)


@contextlib.contextmanager
def failures_named(batches: Any) -> Iterator[None]:
    """Within it, the error of `mizoo.data.batches` comes as it was raised, and not as TensorFlow's own."""
    try:
        yield
    except Exception as error:
        failure = getattr(batches, "failure", None)
        if failure is None or failure is error:
            raise
        raise failure from error


def check_rows(model: Any, rows: int) -> None:
    """Refuse a batch of too few inputs for the objective to have anything to tell apart.

    Raises:
        UserError: that says why.
    """
    if rows < model.fewest_rows:
        raise UserError(
            f"A batch for {type(model).__name__} holds {model.fewest_rows} inputs or more: {model.fewest_because}. "
            f"Received: a batch of {rows}."
        )


def check_declared_rows(model: Any, x: Any) -> int | None:
    """Refuse a data set whose batches hold too few inputs: by its `batch_size`, its shape, or its first batch.

    Returns:
        How many inputs a batch holds, where the data set tells.

    A `keras.utils.PyDataset` that does not say is asked for its batch 0. A `tf.data.Dataset` of batches of any size is
    looked at when its first batch is there, in `_tf_data.py`.

    Raises:
        UserError: as of `check_rows`.
    """
    declared = getattr(x, "batch_size", None)
    if declared is None and isinstance(x, keras.utils.PyDataset):
        declared = _rows_of_first(x[0])
    shape = getattr(_first_leaf(getattr(x, "element_spec", None)), "shape", None)
    if shape is not None and getattr(shape, "rank", None):
        declared = shape[0]
    if not isinstance(declared, int) or isinstance(declared, bool):
        return None
    check_rows(model, declared)
    return declared


def _first_leaf(content: Any) -> Any:
    while isinstance(content, (tuple, list, dict)) and content:
        content = next(iter(content.values() if isinstance(content, dict) else content))
    return content


def _rows_of_first(batch: Any) -> int | None:
    content = batch[0] if isinstance(batch, (tuple, list)) and len(batch) else batch
    return rows_of(content) if is_arrays(content) else None


def check_batch_size(model: Any, batch_size: Any, rows: int | None = None) -> int:
    """The size of the first batch, of `rows` inputs in all where that is known, once it is enough.

    Raises:
        UserError: otherwise.
    """
    size = KERAS_BATCH if batch_size is None else check_whole(batch_size, "batch_size", 1)
    size = size if rows is None else min(size, rows)
    check_rows(model, size)
    return size


def check_shared(x: Any, batch_size: int | None, replicas: int) -> None:
    """Refuse batches that TensorFlow cannot deal out, where they are known: of arrays and of `mizoo.data.batches`.

    Raises:
        UserError: for a first batch that is no multiple of `replicas`, and a last one that leaves one without an input.
    """
    arrays = list(x.values()) if isinstance(x, dict) else [x]
    count = len(arrays[0]) if all(getattr(array, "shape", None) for array in arrays) else None
    size = getattr(x, "batch_size", batch_size or (None if count is None else KERAS_BATCH))
    first = size if count is None else min(size, count)
    if first and first % replicas:  # Keras adds up the replicas' shares of the first batch
        raise UserError(
            f"The {replicas} replicas share the first batch equally: give a multiple of {replicas} as `batch_size`, "
            f"and as many pictures. Received: a batch of {first}"
        )
    last = 0 if count is None else count % size
    each = -(-last // replicas)
    if last and last <= each * (replicas - 1):  # dealt out in equal shares rounded up: nothing is left for one
        raise UserError(
            f"A last batch of {last} leaves one of the {replicas} replicas without a picture: give another "
            f"`batch_size`, or {count - last} pictures."
        )


def check_batch_shape(shape: Any, dtype: str, wanted: interface.Shape) -> None:
    """Refuse a batch, as far as its shape (B, ...) is known while a step is traced.

    Raises:
        UserError: for another shape than the encoder and the augmentation take, one of which nothing is known, and for
            sounds that are whole numbers.
    """
    if getattr(shape, "rank", 0) is None:  # of a `tf.py_function`
        raise UserError(
            "A batch has a shape. Received: a tensor of which not even the number of axes is known. Fix it in the data "
            f"set: `tf.ensure_shape(x, {(None, *wanted)})`."
        )
    if shape is None or len(wanted) not in _CHECKED_RANKS:
        return
    sizes = tuple(shape)
    fits = len(sizes) == len(wanted) + 1 and all(
        None in (size, want) or size == want for size, want in zip(sizes[1:], wanted)
    )
    if not fits:
        said = ", ".join("any" if size is None else str(size) for size in wanted)
        received = ", ".join("any" if size is None else str(size) for size in sizes)
        remedy = "Bring them to that form first"
        if len(wanted) == 3:
            remedy += " (`mizoo.data.load(images, size=...)` resizes pictures)"
        raise UserError(f"A batch has the shape (B, {said}). Received: ({received}). {remedy}.")
    if len(wanted) == 1 and not dtype.startswith(("float", "bfloat")):
        raise UserError(
            f"Sounds are floats in -1..1. Received: a batch of {dtype}. Divide 16-bit samples by 32768 first."
        )
