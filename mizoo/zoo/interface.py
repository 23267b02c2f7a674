"""What an encoder is: its kind, the input that it takes, its endpoints and its name, read here and nowhere else.

Everything takes a Keras model, a `mizoo.zoo.OnnxEncoder` or any callable that has their attributes; none of it imports
Keras.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal

from mizoo._tools.files import user_path
from mizoo.errors import UserError

Kind = Literal["pictures", "sounds", "series"]
Shape = tuple[int | None, ...]

FILES = {"keras": "encoder.keras", "onnx": "encoder.onnx"}
"""The file of an encoder in a folder, by runtime."""

_KINDS: dict[int, Kind] = {1: "sounds", 2: "series", 3: "pictures"}  # by axes of the input without the batch
_ARGUMENTS: dict[Kind, str] = {"pictures": "images", "sounds": "samples", "series": "series"}
_RANGES: dict[Kind, list[int] | None] = {"pictures": [0, 255], "sounds": [-1, 1], "series": None}


def input_shape(encoder: Any) -> Shape:
    """The shape that an encoder takes without the batch, None for a size that is free; () where it gives none.

    Raises:
        UserError: for a Keras model of several inputs.
    """
    inputs = _symbolic(encoder, "inputs")
    if len(inputs) > 1:
        raise UserError(f"An encoder has one input. {encoder.name!r} has {len(inputs)}.")
    shape = inputs[0].shape if inputs else getattr(encoder, "input_shape", None)
    return tuple(shape[1:]) if isinstance(shape, (tuple, list)) else ()


def kind_of(shape: Shape) -> Kind:
    """What an input of this shape without the batch holds: pictures (H, W, C), sounds (T,) or series (T, d).

    Raises:
        UserError: for a shape of another rank.
    """
    if len(shape) not in _KINDS:
        raise UserError(
            f"An encoder takes pictures (B, H, W, C), sounds (B, T) or series (B, T, d). Received: (B, "
            f"{', '.join(map(str, shape))})."
        )
    return _KINDS[len(shape)]


def kind(encoder: Any) -> Kind:
    """What an encoder takes; a callable without an input shape is taken for one of pictures."""
    shape = input_shape(encoder)
    return kind_of(shape) if shape else "pictures"


def input_name(encoder: Any) -> str:
    """What the input is called in the exported forms: "images", "samples" of sounds, or "series"."""
    return _ARGUMENTS[kind(encoder)]


def input_range(encoder: Any) -> list[int] | None:
    """The range of the values of the input: [0, 255] of pictures, [-1, 1] of sounds, None (any) of series."""
    return _RANGES[kind(encoder)]


def side(encoder: Any) -> int | None:
    """Height of the pictures that an encoder takes, or None where it takes any or gives no input shape."""
    shape = input_shape(encoder)
    return shape[0] if len(shape) == 3 else None


def picture_shape(encoder: Any) -> Shape | None:
    """The pictures that an encoder takes, (height, width, channels) with None for what is free, as `mizoo.data.load`
    takes it as `size`; None where it gives no such shape.
    """
    shape = input_shape(encoder)
    return shape if len(shape) == 3 else None


def channels(encoder: Any) -> int | None:
    """Channels of the pictures that an encoder takes, or None where it takes others or gives no input shape."""
    shape = picture_shape(encoder)
    return shape[2] if shape else None


def outputs(encoder: Any) -> dict[str, Any]:
    """Symbolic outputs of a Keras encoder by endpoint; a single output goes by the name of the layer that gives it.

    Raises:
        UserError: if the outputs are neither one tensor nor a dict of tensors, or there are none because the model is
            subclassed or was never built.
    """
    tensors = _symbolic(encoder, "outputs")
    if not tensors:
        raise UserError(_without_outputs(encoder))
    if named := _named_outputs(encoder):
        return named
    if len(tensors) == 1:
        names = getattr(encoder, "output_names", None)  # a Sequential has none
        return {names[0] if names else encoder.layers[-1].name: tensors[0]}
    raise UserError(
        f"The outputs of an encoder must be a dict of named endpoints. {encoder.name} returns a list of "
        f"{len(tensors)}: build it with `keras.Model(inputs, {{'fc': ...}})`."
    )


def endpoint_names(encoder: Any) -> tuple[str, ...]:
    """Names of the endpoints that an encoder returns in a dict, in its own order; () where it returns one array."""
    if _symbolic(encoder, "outputs"):
        return tuple(_named_outputs(encoder))
    declared = getattr(encoder, "output", None)
    if isinstance(declared, Mapping):
        return tuple(declared)
    return tuple(getattr(encoder, "endpoints", None) or ())


def _symbolic(encoder: Any, which: str) -> list[Any]:
    """The symbolic `inputs` or `outputs` of a Keras model as a list; empty for anything else."""
    try:
        tensors = getattr(encoder, which, None)
    except (AttributeError, ValueError):  # a model that was never built
        return []
    return list(tensors) if isinstance(tensors, (list, tuple)) else []


def _named_outputs(encoder: Any) -> dict[str, Any]:
    """The symbolic outputs of a Keras model that returns a dict; {} where it returns anything else."""
    if hasattr(encoder, "output_names"):
        declared = encoder.output
    else:  # a Sequential, whose `output` is missing or that of another model in which it is a layer: a call gives names
        declared = encoder(_symbolic(encoder, "inputs")[0])
    if not isinstance(declared, Mapping):
        return {}
    if unnamed := [name for name, tensor in declared.items() if not hasattr(tensor, "shape")]:
        raise UserError(f"Each endpoint of an encoder is one tensor. Of {encoder.name}, {unnamed[0]!r} is several.")
    return dict(declared)


def _without_outputs(encoder: Any) -> str:
    """Why a model has no endpoints, and what to do: save the encoder inside it, if there is one."""
    kind = type(encoder).__name__
    inside = [
        name
        for name, value in getattr(encoder, "__dict__", {}).items()
        if not name.startswith("_") and _symbolic(value, "outputs")
    ]
    if inside:
        advice = f"The encoder inside it is one: `model.{inside[0]}.save('encoder.keras')`."
    elif kind == "Sequential":
        advice = "It was never built: begin it with `keras.Input(shape)`."
    else:
        advice = "Make one with `keras.Model(inputs, outputs)` of the layers in it."
    return (
        f"An encoder is a Functional or Sequential `keras.Model`, whose endpoints are known before it is called. "
        f"Received: {getattr(encoder, 'name', 'a model')!r}, {'a' if kind == 'Sequential' else 'of the class'} {kind}. "
        f"{advice}"
    )


def encoder_name(encoder: Any) -> str:
    """What an encoder is called in messages, rows and manifests.

    Args:
        encoder: a model, which has a name; a published entry; a folder, also one on the hub, called by its own name; or
            a file, called by its own name too, or by that of its folder if it is "encoder.keras" or "encoder.onnx".
    """
    if not isinstance(encoder, (str, os.PathLike)):
        return str(getattr(encoder, "name", "encoder"))
    path = user_path(encoder).absolute()
    if path.suffix not in (".keras", ".onnx"):
        return path.name
    return path.parent.name if path.name in FILES.values() else path.stem
