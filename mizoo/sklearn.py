"""Features of an encoder as a transformer of scikit-learn: pictures or their paths in, columns of numbers out."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from mizoo._tools.arrays import check_whole
from mizoo.data import pictures
from mizoo.data.pictures import check_images
from mizoo.data.sound_files import check_samples
from mizoo.errors import UserError
from mizoo.zoo import interface
from mizoo.zoo.loading import load_hashed


class Features(TransformerMixin, BaseEstimator):
    """The features that a frozen encoder gives.

    Nothing is fitted: `fit` loads the encoder and notes its hash, and `transform` works without it. A pickle holds the
    parameters and that hash, and no weights; where it is read, the encoder is loaded again by its name, and refused if
    it is another one.

    Args:
        name: what `mizoo.load` takes: an entry, a folder, a file, or an address on the hub.
        endpoint: one endpoint of it, of a fixed size.
        runtime: "onnx" or "keras".
        batch_size: pictures encoded at a time.
        depth, max_pixels: of picture files, as of `mizoo.data.pictures.read`.

    Attributes:
        encoder_sha256_: the hash of the file that was loaded, after `fit`.
        n_features_out_: how many columns there are: the values of the endpoint.

    Example:
        model = make_pipeline(mizoo.sklearn.Features("simclr_views_cifar10"), StandardScaler(), LogisticRegression())
        model.fit(images, labels)
    """

    _loaded: tuple[Any, ...]  # (the parameters that decide, the encoder, its columns, its hash)

    def __init__(
        self,
        name: str = "simclr_views_cifar10",
        endpoint: str = "fc",
        runtime: str = "onnx",
        batch_size: int = 256,
        depth: int | None = None,
        max_pixels: int | None = None,
    ) -> None:
        self.name = name
        self.endpoint = endpoint
        self.runtime = runtime
        self.batch_size = batch_size
        self.depth = depth
        self.max_pixels = max_pixels

    def fit(self, X: Any, y: Any = None) -> Features:
        """Load the encoder. Neither argument is read.

        Raises:
            UserError: as of `mizoo.load`, for an endpoint whose size depends on the input, or another `batch_size`.
        """
        self._forget()
        self.encoder_sha256_ = self._load()[2]
        self.n_features_out_ = self._load()[1]
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Encode pictures.

        Args:
            X: an array (N, H, W, C) of decoded pictures in 0..255, uint8 or float, of the encoder's size; or N paths of
                picture files of any size (a list, an array, a column of a table), which are resized and cropped as
                `mizoo embed` does. Of an encoder of sounds or series, an array (N, T) or (N, T, d).

        Returns:
            float32 array (N, values of the endpoint): an endpoint (h, w, c) is flattened in that order.

        Raises:
            UserError: for pictures of another size, a file that cannot be read, or an encoder that is no longer the one
                that was fitted.

        Warns:
            UserWarning: naming the first file, if deep files come out almost black.
        """
        encoder, columns, _ = self._load()
        shape = interface.input_shape(encoder)
        result = []
        notes: list[tuple[Path, str]] = []
        for batch in self._batches(X, shape, notes):
            values = encoder(batch) if self.runtime == "onnx" else encoder.predict_on_batch(batch)
            result.append(np.asarray(values, np.float32).reshape(len(batch), columns))
        features = np.concatenate(result)
        if notes:
            notes.sort()  # the threads finish in any order
            warnings.warn(pictures.summary(notes, len(features)), UserWarning, stacklevel=3)  # `set_output` wraps this
        return features

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the columns: "fc_0", "fc_1", ..."""
        return np.array([f"{self.endpoint}_{i}" for i in range(self._load()[1])], dtype=object)

    def _batches(self, X: Any, shape: Any, notes: list[tuple[Path, str]]) -> Iterator[np.ndarray]:
        """Arrays that the encoder takes, of up to `batch_size` rows; what is to know of files goes to `notes`."""
        paths = _paths(X)
        if paths is not None:
            if len(shape) != 3:
                raise UserError("Paths are of pictures, and this encoder takes none: pass an array.")

            def read(path: Any) -> np.ndarray:
                """A picture as the encoder takes it."""
                return pictures.prepare(path, shape, self.depth, self.max_pixels, notes)

            with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
                for start in range(0, len(paths), self.batch_size):
                    part = paths[start : start + self.batch_size]
                    yield np.stack(list(pool.map(read, part)))
            return
        check = check_images if len(shape) == 3 else check_samples
        array = check(X, shape, cast=False)
        for start in range(0, len(array), self.batch_size):
            yield array[start : start + self.batch_size]

    def _load(self) -> tuple[Any, int, str]:
        """The encoder, how many values its endpoint has, and the hash of its file; loaded on first use."""
        check_whole(self.batch_size, "batch_size", 1)
        chosen = (self.name, self.endpoint, self.runtime)
        if getattr(self, "_loaded", (None,))[0] == chosen:
            return self._loaded[1:]
        if not isinstance(self.endpoint, str):
            raise UserError(f"`endpoint` is the name of one endpoint. Received: endpoint={self.endpoint!r}")
        encoder, digest = load_hashed(self.name, self.endpoint, self.runtime)
        if digest != getattr(self, "encoder_sha256_", digest):
            raise UserError(
                f"{self.name} is not the encoder that was fitted: its SHA-256 was {self.encoder_sha256_}, and is "
                f"{digest}. Put the old one back, or fit again."
            )
        size = encoder.output_shapes[self.endpoint] if self.runtime == "onnx" else encoder.outputs[0].shape
        if None in size[1:]:
            raise UserError(
                f"The endpoint {self.endpoint!r} of {self.name} has a size that depends on the input, {tuple(size)}: "
                "choose one of a fixed size, such as `global`."
            )
        self._loaded = (chosen, encoder, math.prod(size[1:]), digest)
        return self._loaded[1:]

    def _forget(self) -> None:
        self.__dict__.pop("_loaded", None)
        self.__dict__.pop("encoder_sha256_", None)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in super().__getstate__().items() if key != "_loaded"}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = False
        tags.input_tags.string = True
        return tags


def _paths(X: Any) -> list[Any] | None:
    """X as a list of paths, where it holds text or paths; None for numbers."""
    if isinstance(X, (str, os.PathLike)):
        raise UserError(f"Several paths are given in a list. Received: {X!r}")
    if hasattr(X, "columns") and len(X.columns) == 1:  # a table of one column is that column
        X = np.asarray(X).ravel()
    items = list(X) if isinstance(X, (list, tuple)) else None
    if items is None and getattr(X, "dtype", None) is not None and getattr(X.dtype, "kind", "O") in "OUST":
        array = np.asarray(X)
        items = list(array.ravel()) if array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1) else None
    if not items or not all(isinstance(each, (str, os.PathLike)) for each in items):
        return None
    return items
