"""An encoder as an ONNX file."""

from __future__ import annotations

import itertools
import os
import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np

from mizoo._tools import files
from mizoo.errors import UserError
from mizoo.export.keras_file import to_float32, with_endpoints
from mizoo.export.requirements import quiet, require_export
from mizoo.export.samples import sample_inputs
from mizoo.zoo import interface

if TYPE_CHECKING:
    import keras

OPSET = 15
OPSETS = range(9, 19)
"""Versions of ONNX's operators that the converter writes."""


def save_onnx(encoder: keras.Model, path: str | os.PathLike, opset: int = OPSET) -> None:
    """Save an encoder as ONNX: input "images" float32 (batch, H, W, C) in 0..255, outputs named as the endpoints.

    An encoder of sounds has the input "samples" (batch, T) in -1..1, one of series "series" (batch, T, d); a length
    that is free in Keras stays free.

    The initialisers are the weights of the Keras model, one to one and under their paths ("conv1/kernel"); those
    that float16 holds exactly are stored in it, each followed by a Cast, which the runtime folds when it loads.
    Nothing is rounded here. The same encoder gives the same bytes. The file is written atomically.

    Args:
        encoder: a Functional or Sequential `keras.Model` of one input with a dict of named outputs, or with one output,
            which becomes an endpoint called as the layer that gives it; `to_float32` is applied.
        path: the file to write.
        opset: version of ONNX's operators, 9 to 18.

    Raises:
        UserError: another backend than TensorFlow, a missing package, another opset, or no such encoder.
    """
    if opset not in OPSETS:
        raise UserError(f"`opset` is a whole number from {OPSETS[0]} to {OPSETS[-1]}. Received: {opset!r}")
    path = files.user_path(path)
    require_export()
    from mizoo.export.onnx_graph import finish_graph

    encoder = with_endpoints(to_float32(encoder))
    shapes = endpoint_shapes(encoder)
    weights = [*encoder.trainable_variables, *encoder.non_trainable_variables]
    with tempfile.TemporaryDirectory() as folder:
        raw = os.path.join(folder, "raw.onnx")
        _convert(encoder, weights, raw, opset)
        values = [np.asarray(variable) for variable in weights]
        model = finish_graph(raw, values, _weight_names(weights), shapes, interface.input_name(encoder))
    with files.atomic(path) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))


def _weight_names(weights: list[Any]) -> list[str]:
    """The paths of the weights, numbered where two are the same: of two encoders side by side in one model."""
    names: list[str] = []
    for variable in weights:
        numbered = (f"{variable.path}_{count}" for count in itertools.count(2))
        names.append(next(name for name in itertools.chain([variable.path], numbered) if name not in names))
    return names


def _convert(encoder: keras.Model, weights: list[Any], path: str, opset: int) -> None:
    """Convert with the weights as inputs "w0", "w1", ...

    As constants they would be multiplied into each other by the converter (a normalisation into the kernel before
    it), and the products are no longer the half-precision numbers that the Keras file holds.
    """
    import keras

    trainable = len(encoder.trainable_variables)

    class WithWeights(keras.Model):
        def call(self, inputs):
            images, *values = inputs
            outputs, _ = encoder.stateless_call(values[:trainable], values[trainable:], images, training=False)
            return outputs

    shape = encoder.inputs[0].shape[1:]
    model = WithWeights()
    model([sample_inputs(encoder, 1)[0][:1], *(np.asarray(variable) for variable in weights)])
    signature = [keras.InputSpec(shape=(None, *shape), dtype="float32", name=interface.input_name(encoder))]
    for i, variable in enumerate(weights):
        signature.append(keras.InputSpec(shape=variable.shape, dtype=variable.dtype, name=f"w{i}"))
    with quiet("tf2onnx"):
        model.export(path, format="onnx", opset_version=opset, verbose=False, input_signature=[signature])


def endpoint_shapes(encoder: keras.Model) -> dict[str, tuple[int | None, ...]]:
    """Shape of each endpoint of an encoder without the batch, the shallowest endpoint first.

    Keras sorts the keys of a dict of outputs, so the order in which it was written is lost.

    Raises:
        UserError: if the encoder has several inputs, or outputs that are neither one tensor nor a dict of tensors.
    """
    import keras

    if len(encoder.inputs) != 1:
        raise UserError(f"An exported encoder has one input. {encoder.name!r} has {len(encoder.inputs)}.")
    outputs = interface.outputs(encoder)
    depths = {name: len(keras.Model(encoder.inputs, tensor).layers) for name, tensor in outputs.items()}
    return {name: tuple(outputs[name].shape[1:]) for name in sorted(depths, key=lambda name: depths[name])}
