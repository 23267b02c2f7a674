"""Encoders on ONNX Runtime: the call of the Keras model, its input checked, ready in a fraction of a second."""

from __future__ import annotations

import numbers
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from mizoo._tools.checks import check_size
from mizoo._tools.files import user_path
from mizoo.data.pictures import check_images
from mizoo.data.resizing import fitted
from mizoo.data.sound_files import check_samples
from mizoo.errors import UserError
from mizoo.zoo.interface import kind_of
from mizoo.zoo.reading import EncoderFile, check_onnx, read_checked

_TYPES = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}


class OnnxEncoder:
    """An encoder exported to ONNX: pictures in 0..255 in (or sounds, or series), named endpoints out. No Keras.

    Args:
        path: an ONNX file with one input, float32 or uint8 (B, H, W, C) of pictures, float32 (B, T) of sounds or
            (B, T, d) of series, and named outputs; or its bytes, as `mizoo.zoo.reading.read_checked` gives them. All of
            it is in one file. Where B is fixed, batches are run in pieces of B, the last one filled up.
        endpoint: compute and return this output only, as an array; all of them in a dict if None.
        name: what messages call the encoder; the file's name if None.
        providers: names of execution providers of ONNX Runtime, in order of preference.
        sha256: what the hash of the file must be, if that is known.
        resize: whether it takes pictures of any size and brings them to its own, as of `mizoo.load`.
        threads: how many a call may use; where None as many as ONNX Runtime takes by itself, one a core.

    Copies and pickles open the file again, by its path, and refuse one that has changed.

    Attributes:
        name, providers, threads: see above.
        path: the file, absolute.
        sha256: the hash of what was loaded.
        kind: "pictures", "sounds" or "series".
        endpoints: names of what is returned.
        input_shape: (None, H, W, C), None where any size is taken.
        output_shapes: endpoint -> shape, with None for the batch.

    Raises:
        UserError: unknown endpoint (with the list), a damaged file, or one that takes something else.
    """

    def __init__(
        self,
        path: str | os.PathLike | EncoderFile,
        endpoint: str | None = None,
        name: str | None = None,
        providers: Sequence[str] = ("CPUExecutionProvider",),
        sha256: str | None = None,
        resize: bool = False,
        threads: int | None = None,
    ) -> None:
        self.threads = None if threads is None else check_size(threads, "threads")
        if endpoint is not None and not isinstance(endpoint, str):
            raise UserError(f"`endpoint` is the name of one endpoint, or None for all of them. Received: {endpoint!r}")
        self.providers = _names_of(providers)
        file = path if isinstance(path, EncoderFile) else read_checked(user_path(path), sha256)
        path = file.path
        self.path, self.sha256 = path.absolute(), file.sha256
        self.name = name or path.stem
        self._session = _session(file, self.providers, self.threads)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        self._dtype = _TYPES.get(inputs[0].type) if len(inputs) == 1 else None
        shape: list = inputs[0].shape if self._dtype else []
        if len(shape) != 4 and not (len(shape) in (2, 3) and self._dtype is np.float32):
            received = ", ".join(f"{each.name}: {each.type} {each.shape}" for each in inputs)
            raise UserError(
                f"{path} is no encoder: one of pictures takes one float32 or uint8 tensor (B, H, W, C), one of sounds "
                f"float32 (B, T), one of series float32 (B, T, d). It takes {received}."
            )
        self._input, self._batch = inputs[0].name, _size(shape[0])
        self.input_shape = (None, *map(_size, inputs[0].shape[1:]))
        self.kind = kind_of(self.input_shape[1:])
        self._size = self._size_to_fit() if resize else None
        self._check_input = check_images if self.kind == "pictures" else check_samples
        self.output_shapes = {each.name: (None, *map(_size, each.shape[1:])) for each in outputs}
        if endpoint is not None:
            if endpoint not in self.output_shapes:
                known = ", ".join(self.output_shapes)
                raise UserError(f"{self.name} has no endpoint {endpoint!r}. Its endpoints: {known}.")
            self.output_shapes = {endpoint: self.output_shapes[endpoint]}
        self.endpoint = endpoint
        self.endpoints = tuple(self.output_shapes)

    def __call__(self, images: Any) -> dict[str, np.ndarray] | np.ndarray:
        """Encode one batch.

        Args:
            images: array (B, H, W, C) of decoded pictures, 0..255, uint8 or float; B >= 1. Of sounds, floats (B, T) in
                -1..1 at the encoder's sampling rate; of series, floats (B, T, d).

        Returns:
            dict endpoint -> float32 array (B, ...), or that array alone if an endpoint was chosen. Endpoints of whole
            numbers keep their type.

        Raises:
            UserError: wrong shape, empty batch, NaN, values outside 0..255 (of sounds -1..1), sounds shorter than
                one frame, or pictures or series that the graph cannot compute, such as ones smaller than a kernel.
                Pictures of floats within 0..1 give a warning.
        """
        return self._chosen(self._run(self._check_input(images, self.input_shape[1:])))

    def _size_to_fit(self) -> tuple[int, int]:
        """Height and width that pictures are brought to; `input_shape` becomes that of pictures of any size."""
        shape = self.input_shape[1:]
        height, width, channels = shape if self.kind == "pictures" else (None, None, None)
        if height is None or width is None:
            raise UserError(f"`resize` is for an encoder of pictures of one size. {self.name} takes {shape}.")
        self.input_shape = (None, None, None, channels)
        return height, width

    def predict(self, images: Any, batch_size: int = 256) -> dict[str, np.ndarray] | np.ndarray:
        """Encode any number of pictures, a batch at a time; otherwise as `__call__`.

        Args:
            images: array (N, H, W, C); N >= 1.
            batch_size: pictures in memory as float32 at once.
        """
        if not isinstance(batch_size, numbers.Integral) or batch_size < 1:
            raise UserError(f"`batch_size` must be a whole number of at least 1. Received: {batch_size!r}")
        images = self._check_input(images, self.input_shape[1:], cast=False)
        results: dict[str, np.ndarray] = {}
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            for key, value in self._run(batch).items():
                if key not in results:
                    results[key] = np.empty((len(images), *value.shape[1:]), value.dtype)
                results[key][start : start + len(value)] = value
        return self._chosen(results)

    def _run(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        if self._size is not None:
            batch = fitted(batch.astype(np.float32, copy=False), batch.shape[1], batch.shape[2], self._size)
        if self._dtype is np.uint8 and batch.dtype != np.uint8:
            batch = np.round(batch)
        batch = batch.astype(self._dtype, copy=False)
        if self.kind != "sounds":
            try:
                values = self._outputs(batch)
                if not all(value.size for value in values):
                    raise ValueError("an output is empty.")
            except Exception as error:  # ONNX Runtime has one class of exception for each kind of failure
                raise UserError(
                    f"{self.name} could not encode {self.kind} of the shape {batch.shape}: they may be smaller than a "
                    f"kernel of it, or too many for the memory. ONNX Runtime says: {str(error).strip()}"
                ) from error
        elif (values := self._attempt(batch)) is None:
            samples, shortest = batch.shape[1], self.shortest()
            if samples < shortest:
                raise UserError(
                    f"{self.name} takes sounds of {shortest} samples and more. Received: {samples} samples."
                )
            raise UserError(
                f"{self.name} could not encode {samples} samples at once: the memory may be too small for so many, or "
                "the features are not finite. Cut the sound into shorter pieces."
            )
        return dict(zip(self.endpoints, values, strict=True))

    def _outputs(self, batch: np.ndarray) -> list[np.ndarray]:
        """The outputs for a batch, floats as float32; in pieces where the graph takes batches of one size alone."""
        import onnxruntime

        quiet = onnxruntime.RunOptions()
        quiet.log_severity_level = 4  # a failure here becomes a message of our own
        size, parts = self._batch or len(batch), []
        for start in range(0, len(batch), size):
            piece = batch[start : start + size]
            if missing := size - len(piece):
                piece = np.concatenate([piece, np.repeat(piece[-1:], missing, axis=0)])
            parts.append(self._session.run(list(self.endpoints), {self._input: piece}, quiet))
        whole = parts[0] if len(parts) == 1 else [np.concatenate(each) for each in zip(*parts, strict=True)]
        values = [each[: len(batch)] for each in whole] if self._batch else whole
        return [each.astype(np.float32, copy=False) if each.dtype.kind == "f" else each for each in values]

    def _attempt(self, batch: np.ndarray) -> list[np.ndarray] | None:
        """The outputs for sounds; None if there are none, or none that are finite."""
        try:
            values = self._outputs(batch)
        except Exception:  # such as a kernel longer than its input
            return None
        return values if all(value.size and np.isfinite(value).all() for value in values) else None

    def shortest(self) -> int:
        """The fewest samples that an encoder of sounds takes: its own length, or what trying finds."""
        if (fixed := self.input_shape[1]) is not None:
            return fixed
        low, high = 0, 1
        while self._attempt(np.zeros((1, high), np.float32)) is None:
            low, high = high, 2 * high
            if high > 1 << 22:
                raise UserError(f"{self.name} gives no finite features for sounds of any length.")
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._attempt(np.zeros((1, middle), np.float32)) is None else (low, middle)
        return high

    def __reduce__(self) -> tuple:
        resize = self._size is not None
        return type(self), (self.path, self.endpoint, self.name, self.providers, self.sha256, resize, self.threads)

    def _chosen(self, results: dict[str, np.ndarray]) -> dict[str, np.ndarray] | np.ndarray:
        return results if self.endpoint is None else results[self.endpoint]

    def __repr__(self) -> str:
        return f"OnnxEncoder({self.name!r}, input_shape={self.input_shape}, endpoints={self.endpoints})"


def _size(dimension: int | str | None) -> int | None:
    return dimension if isinstance(dimension, int) else None  # ONNX names the sizes that are free


def _names_of(providers: Any) -> tuple[str, ...]:
    if not isinstance(providers, (list, tuple)) or not all(isinstance(each, str) for each in providers):
        raise UserError(f"`providers` is a list of names, such as ['CPUExecutionProvider']. Received: {providers!r}")
    return tuple(providers)


def _session(file: EncoderFile, providers: Sequence[str], threads: int | None) -> Any:
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise UserError('runtime="onnx" needs ONNX Runtime: `pip install onnxruntime`') from error
    if missing := set(providers) - set(onnxruntime.get_available_providers()):
        available = ", ".join(onnxruntime.get_available_providers())
        raise UserError(f"ONNX Runtime has no provider {', '.join(sorted(missing))} here. Available: {available}.")
    check_onnx(file)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3  # errors only: its warnings concern the graph, not what the user does
    try:
        return onnxruntime.InferenceSession(file.content, options, providers=list(providers))
    except Exception as error:  # ONNX Runtime has one class of exception for each kind of damage
        raise UserError(f"{file.path} cannot be opened as an ONNX encoder: {error}") from error
