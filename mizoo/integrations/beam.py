"""Embedding on a cluster: a transform of Apache Beam, from paths of pictures to rows of features."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.io.parquetio import WriteToParquet
from apache_beam.ml.inference.base import KeyedModelHandler, RunInference
from apache_beam.ml.inference.onnx_inference import OnnxModelHandlerNumpy

from mizoo.data import pictures
from mizoo.errors import UserError
from mizoo.zoo import interface
from mizoo.zoo.loading import encoder_file, load

_FAILED = "failed"


class Embed(beam.PTransform):
    """Paths of pictures to the features of an encoder, by Beam's RunInference and its ONNX handler.

    Takes a PCollection of paths (text), of any file system that Beam opens. Gives a dict of two PCollections:

    - "features": a dict for each picture, with `path`, `sha256` of the file, and a float32 array for each endpoint;
    - "failed": a dict with `path` and `error` for each file that is missing or no picture. What may pass, such as a
      file system that does not answer, raises, and the runner repeats the bundle.

    The rows are those of `mizoo embed`. The file of the encoder must lie at the same path on every worker.

    Args:
        name: a published encoder, or the path of an ONNX form, as for `mizoo.load`.
        endpoint: this one alone; all of them if None.
        batch_size: pictures in a batch at most.
        depth, max_pixels: as of `mizoo.data.pictures.read`.

    Raises:
        UserError: for an unknown encoder or endpoint, and encoders of other inputs than square pictures.

    Example:

    ```python
    with beam.Pipeline() as pipeline:
        embed = mizoo.beam.Embed("dim_local_cifar10", "fc")
        rows = pipeline | beam.Create(paths) | embed
        rows["features"] | embed.write("features/part")
        rows["failed"] | beam.Map(json.dumps) | beam.io.WriteToText("features/failed")
    ```
    """

    def __init__(
        self,
        name: str | os.PathLike,
        endpoint: str | None = None,
        batch_size: int = 256,
        depth: int | None = None,
        max_pixels: int | None = None,
    ) -> None:
        super().__init__()
        encoder = load(name, endpoint, "onnx")
        shape = interface.input_shape(encoder)
        if len(shape) != 3 or None in shape:
            raise UserError(f"`Embed` needs an encoder of pictures of one size. {name} takes {shape}.")
        every = interface.endpoint_names(encoder)
        self.endpoints = (endpoint,) if endpoint else tuple(every)
        self.batch_size = batch_size
        self._file = str(encoder_file(name, "onnx").absolute())
        self._read = _Read(tuple(shape), depth, max_pixels)  # type: ignore[arg-type]

    def expand(self, paths):
        """Build the steps."""
        read = paths | "Read" >> beam.ParDo(self._read).with_outputs(_FAILED, main="read")
        handler = OnnxModelHandlerNumpy(
            self._file, inference_fn=_Infer(self.endpoints), min_batch_size=1, max_batch_size=self.batch_size
        )
        features = read["read"] | "Encode" >> RunInference(KeyedModelHandler(handler)) | "Rows" >> beam.Map(_row)
        return {"features": features, _FAILED: read[_FAILED]}

    def write(self, prefix: str, **settings: Any) -> beam.PTransform:
        """A transform that writes the rows of "features" as Parquet, an endpoint as a flat list of float32.

        Args:
            prefix: of the names of the files, such as "gs://bucket/features/part".
            **settings: as of `apache_beam.io.WriteToParquet`, such as `num_shards`.
        """
        fields = [("path", pa.string()), ("sha256", pa.string())]
        fields += [(name, pa.list_(pa.float32())) for name in self.endpoints]
        return _Write(prefix, pa.schema(fields), settings)


class _Write(beam.PTransform):
    def __init__(self, prefix: str, schema: pa.Schema, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.prefix, self.schema, self.settings = prefix, schema, settings

    def expand(self, rows):
        """Build the steps."""
        return (
            rows
            | "Flatten" >> beam.Map(_flat)
            | WriteToParquet(self.prefix, self.schema, **{"file_name_suffix": ".parquet", **self.settings})
        )


class _Read(beam.DoFn):
    """Path -> ((path, SHA-256), picture as the encoder takes it), or a dead letter."""

    def __init__(self, shape: Sequence[int], depth: int | None, max_pixels: int | None) -> None:
        self.shape, self.depth, self.max_pixels = shape, depth, max_pixels

    def process(self, path: str) -> Iterator[Any]:
        """The picture of one path."""
        try:
            picture = self._picture(path)
        except UserError as error:
            yield beam.pvalue.TaggedOutput(_FAILED, {"path": path, "error": str(error)})
        else:
            yield picture

    def _picture(self, path: str) -> tuple[tuple[str, str], np.ndarray]:
        try:
            # No decompression by the suffix: the bytes are those of the file.
            with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
                content = stream.read()
        except (BeamIOError, FileNotFoundError, IsADirectoryError) as error:
            if not FileSystems.exists(path) or isinstance(error, IsADirectoryError):
                raise UserError("no such file.") from error
            raise
        with tempfile.NamedTemporaryFile(suffix=Path(path).suffix) as local:  # pictures are read from files
            local.write(content)
            local.flush()
            try:
                picture = pictures.prepare(local.name, self.shape, self.depth, self.max_pixels)
            except UserError as error:
                raise UserError(str(error).removeprefix(f"{local.name}: ")) from error
        return (path, hashlib.sha256(content).hexdigest()), picture


class _Infer:
    """The handler's inference function: endpoints by name, as a dict. By itself it gives the first output alone."""

    def __init__(self, endpoints: Sequence[str]) -> None:
        self.endpoints = list(endpoints)

    def __call__(self, session: Any, batch: Sequence[np.ndarray], arguments: Any = None) -> dict[str, np.ndarray]:
        """Endpoint -> rows (B, ...)."""
        images = np.stack(batch).astype(np.float32)
        values = session.run(self.endpoints, {session.get_inputs()[0].name: images})
        return dict(zip(self.endpoints, values, strict=True))


def _row(keyed: tuple[tuple[str, str], Any]) -> dict[str, Any]:
    (path, digest), prediction = keyed
    return {"path": path, "sha256": digest, **prediction.inference}


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value.ravel().tolist() if isinstance(value, np.ndarray) else value for key, value in row.items()}
