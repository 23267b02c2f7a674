"""Smaller and faster forms of an exported encoder: ONNX that takes bytes, ONNX and LiteRT in 8-bit whole numbers."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mizoo._tools import files
from mizoo.errors import UserError
from mizoo.export.keras_file import to_float32, with_endpoints
from mizoo.export.requirements import quiet, require_export
from mizoo.export.saved_model import save_saved_model
from mizoo.zoo import interface

if TYPE_CHECKING:
    import keras

_BATCH = 64  # pictures of a batch of calibration


def take_uint8(source: str | os.PathLike, path: str | os.PathLike) -> None:
    """Write an ONNX file whose input of float32 pictures takes uint8 instead: a Cast is put before everything else.

    Args:
        source: an ONNX file of `save_onnx`, or one of `quantize_onnx`.
        path: the file to write.

    Raises:
        UserError: for an input of sounds or of series, or one that is uint8 already.
    """
    import onnx

    model = onnx.load(os.fspath(source))
    graph = model.graph
    (images,) = graph.input
    kind = images.type.tensor_type
    if kind.elem_type != onnx.TensorProto.FLOAT or len(kind.shape.dim) != 4:
        raise UserError(f"Pictures of float32 can be taken as uint8, and {source} takes something else.")
    inside = f"{images.name}:float32"
    for node in graph.node:
        node.input[:] = [inside if name == images.name else name for name in node.input]
    kind.elem_type = onnx.TensorProto.UINT8
    graph.node.insert(0, onnx.helper.make_node("Cast", [images.name], [inside], "Cast_input", to=1))
    with files.atomic(path) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))


def quantize_onnx(source: str | os.PathLike, path: str | os.PathLike, pictures: np.ndarray) -> None:
    """Write an ONNX file whose weights and values are 8-bit whole numbers, by ONNX Runtime's static quantisation.

    Weights are scaled for each channel; the ranges of the values are those that the pictures give. What resizes
    pictures of any size stays in float32: 8 bits do not hold its weights and its sizes.

    Args:
        source: an ONNX file of `save_onnx`.
        path: the file to write.
        pictures: what to calibrate on, real inputs (N, H, W, C).
    """
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    batches = iter([pictures[i : i + _BATCH].astype(np.float32) for i in range(0, len(pictures), _BATCH)])
    images = onnx.load(os.fspath(source)).graph.input[0]
    name = images.name
    of_any_size = not all(each.dim_value for each in images.type.tensor_type.shape.dim[1:])

    class Reader(quantization.CalibrationDataReader):
        """Hands out the batches."""

        def get_next(self) -> dict[str, np.ndarray] | None:
            """The next batch, or None."""
            batch = next(batches, None)
            return None if batch is None else {name: batch}

    level = logging.getLogger().level
    with tempfile.TemporaryDirectory(prefix="mizoo-") as folder, files.atomic(path) as temporary:
        logging.getLogger().setLevel(logging.ERROR)  # it advises what is done here
        try:
            whole = _with_float32_weights(source, Path(folder) / "whole.onnx")
            prepared = Path(folder) / "prepared.onnx"
            quant_pre_process(os.fspath(whole), os.fspath(prepared), skip_symbolic_shape=True)
            quantization.quantize_static(
                os.fspath(prepared),
                os.fspath(temporary),
                Reader(),
                quant_format=quantization.QuantFormat.QDQ,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                per_channel=True,
                nodes_to_exclude=_before_kernels(onnx.load(os.fspath(prepared)).graph) if of_any_size else [],
            )
        finally:
            logging.getLogger().setLevel(level)


def _before_kernels(graph: Any) -> list[str]:
    """Names of the nodes that no layer with a kernel comes before."""
    kernels = {tensor.name for tensor in graph.initializer if len(tensor.dims) > 1}
    behind: set[str] = set()
    before = []
    for node in graph.node:  # in the order in which they are computed
        layer = node.op_type in ("Conv", "Gemm", "MatMul") and not kernels.isdisjoint(node.input)
        if layer or not behind.isdisjoint(node.input):
            behind.update(node.output)
        else:
            before.append(node.name)
    return before


def _with_float32_weights(source: str | os.PathLike, path: Path) -> Path:
    """The same graph with its half-precision weights as float32 and no Cast behind them, as the quantiser takes it."""
    import onnx

    model = onnx.load(os.fspath(source))
    graph = model.graph
    halves = {t.name: t for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT16}
    renamed = {
        node.output[0]: node.input[0] for node in graph.node if node.op_type == "Cast" and node.input[0] in halves
    }
    for tensor in halves.values():
        tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor).astype("float32"), tensor.name))
    kept = [node for node in graph.node if node.output[0] not in renamed]
    copies = [type(node).FromString(node.SerializeToString()) for node in kept]
    del graph.node[:]
    graph.node.extend(copies)
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    onnx.save(model, os.fspath(path))
    return path


def save_litert(encoder: keras.Model, path: str | os.PathLike, pictures: np.ndarray | None = None) -> None:
    """Save an encoder for LiteRT (formerly TensorFlow Lite), with the signature `serve` of named input and endpoints.

    Args:
        encoder: as for `save_onnx`.
        path: the .tflite file to write.
        pictures: real inputs (N, H, W, C) to calibrate on: then weights and values are 8-bit whole numbers, while input
            and endpoints stay float32. None writes float32.

    Raises:
        UserError: as for `save_onnx`.
    """
    require_export()
    import tensorflow as tf

    encoder = as_exported(encoder)
    name = interface.input_name(encoder)
    with tempfile.TemporaryDirectory(prefix="mizoo-") as folder, quiet("tensorflow"):
        save_saved_model(encoder, folder)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serve"])
        if pictures is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            samples = pictures.astype(np.float32)
            converter.representative_dataset = lambda: (("serve", {name: each[None]}) for each in samples)
        content = converter.convert()
    with files.atomic(path) as temporary:
        temporary.write_bytes(content)


def run_litert(path: str | os.PathLike, batch: np.ndarray) -> dict[str, np.ndarray]:
    """Endpoints of a LiteRT file by the signature `serve` (the names of its tensors tell nothing)."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=os.fspath(path))
    runner = interpreter.get_signature_runner("serve")
    ((name, details),) = runner.get_input_details().items()
    results = [runner(**{name: row[None].astype(details["dtype"])}) for row in batch]
    return {key: np.concatenate([result[key] for result in results]) for key in results[0]}


def check_pictures(encoder: Any) -> None:
    """Refuse an encoder of sounds or series: the forms here are of pictures.

    Raises:
        UserError: for those.
    """
    if interface.kind(encoder) != "pictures":
        raise UserError(
            f"These forms are of encoders of pictures. {interface.encoder_name(encoder)} takes another kind."
        )


def as_exported(encoder: keras.Model) -> keras.Model:
    """The float32 model with named endpoints that an exported form is compared with."""
    return with_endpoints(to_float32(encoder))
