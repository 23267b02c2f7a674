"""An index of pictures: their features as unit vectors in one file, searched exactly or by a graph of neighbours."""

from __future__ import annotations

import json
import math
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mizoo._tools.arrays import check_whole, unit_rows
from mizoo._tools.files import atomic, temporary_folder, user_path
from mizoo._tools.progress import bar
from mizoo.data.pictures import find
from mizoo.embed import EmbedReport, choose_runtime, embed
from mizoo.errors import NotInstalled, UserError, not_installed
from mizoo.zoo import entries, hub, interface
from mizoo.zoo.loading import load, load_hashed

EXACT = 50_000
"""Pictures from which on an index holds a graph, by which most of the nearest are found without looking at all."""

_FORMAT = "mizoo index, 1"
_WIDEST = 8192  # numbers of a vector
_SHRINKING = 8  # pictures of zeros that the mean is taken with
_BLOCK = 1 << 24  # similarities that are computed at a time
_PREFERRED = ("fc", "global", "context")
_DAMAGE = (OSError, EOFError, zipfile.BadZipFile, zlib.error, ValueError, KeyError, TypeError, AttributeError)


@dataclass(frozen=True)
class Hit:
    """A picture that was found: its path, and the cosine of its features and those of the query, 1 for the same."""

    path: Path
    similarity: float


@dataclass(frozen=True)
class PictureIndex:
    """Pictures by their features. Vectors are centred by the mean over the index, which is shrunk to 0 where they are
    few, and scaled to the length 1.

    Attributes:
        file: the file it was read from.
        encoder, sha256, endpoint, runtime: what made the features, and the hash of its file.
        paths: of the pictures.
        vectors: float16 (N, d).
        mean: float32 (d,), which was subtracted.
        graph: the graph of neighbours as usearch writes it, or None.
        depth, max_pixels: how the pictures were read, and how queries are, as of `mizoo.data.pictures.read`.
    """

    file: Path
    encoder: str
    sha256: str
    endpoint: str
    runtime: str
    paths: tuple[Path, ...]
    vectors: np.ndarray
    mean: np.ndarray
    graph: np.ndarray | None = field(default=None, repr=False)
    depth: int | None = None
    max_pixels: int | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def nearest(self, vectors: np.ndarray, count: int = 12, exact: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """The nearest pictures of each vector.

        Args:
            vectors: (Q, d), unit vectors as of `vectors_of`.
            count: pictures for each, all there are if fewer.
            exact: compare with all pictures although there is a graph.

        Returns:
            Rows int64 (Q, count) and cosines float32 (Q, count), the nearest first.
        """
        count = min(check_whole(count, "count", 1), len(self))
        if self.graph is not None and not exact:
            matches = self._usearch.search(np.asarray(vectors, "float32"), count)
            return matches.keys.reshape(-1, count).astype(np.int64), 1 - matches.distances.reshape(-1, count)
        rows, cosines = np.empty((len(vectors), count), np.int64), np.empty((len(vectors), count), np.float32)
        step = max(1, _BLOCK // len(self))
        for start in range(0, len(vectors), step):
            scores = np.asarray(vectors[start : start + step], "float32") @ self._float32.T
            best = np.argpartition(-scores, count - 1, axis=1)[:, :count]
            order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
            rows[start : start + step] = np.take_along_axis(best, order, axis=1)
            cosines[start : start + step] = np.take_along_axis(scores, rows[start : start + step], axis=1)
        return rows, cosines

    def search(
        self, pictures: str | os.PathLike | Iterable[str | os.PathLike], count: int = 12, exact: bool = False
    ) -> list[tuple[Path, list[Hit]]]:
        """The pictures that are most like each of some picture files.

        Args:
            pictures: files, folders, patterns, as for `mizoo.embed.embed`.
            count: how many for each.
            exact: as of `nearest`.

        Returns:
            (query, hits, the nearest first) in the order of the queries.

        Raises:
            UserError: for queries that cannot be read, and an encoder that is not the one of the index.
        """
        queries, vectors = self.vectors_of(pictures)
        rows, cosines = self.nearest(vectors, count, exact)
        return [
            (query, [Hit(self.paths[row], float(cosine)) for row, cosine in zip(*found, strict=True)])
            for query, *found in zip(queries, rows, cosines, strict=True)
        ]

    def vectors_of(self, pictures: str | os.PathLike | Iterable[str | os.PathLike]) -> tuple[list[Path], np.ndarray]:
        """Paths and unit vectors (Q, d) of picture files, in this index's features."""
        _, now = load_hashed(self.encoder, self.endpoint, self.runtime)
        if now != self.sha256:
            raise UserError(
                f"{self.file} was made with another file than {self.encoder} is now, so that its features cannot be "
                "compared. Make the index again: `mizoo search index`."
            )
        settings = (self.endpoint, self.runtime, self.depth, self.max_pixels)
        report, names, features = _features(self.encoder, pictures, *settings, progress=False)
        if report.failed:
            raise UserError("\n".join(f"{path}: {reason}" for path, reason in report.failed[:10]))
        return [Path(name) for name in names], unit_rows(features - self.mean)

    @cached_property
    def _float32(self) -> np.ndarray:
        return self.vectors.astype("float32")

    @cached_property
    def _usearch(self) -> Any:
        assert self.graph is not None
        return _usearch_index().restore(self.graph.tobytes())


def build(
    pictures: str | os.PathLike | Iterable[str | os.PathLike],
    out: str | os.PathLike,
    encoder: str | os.PathLike = "simclr_views_cifar10",
    endpoint: str | None = None,
    runtime: str = "auto",
    exact: bool = False,
    progress: bool = True,
    depth: int | None = None,
    max_pixels: int | None = None,
) -> tuple[PictureIndex, EmbedReport]:
    """Encode pictures and write an index of them, one file.

    Args:
        pictures: files, folders, patterns, as for `mizoo.embed.embed`.
        out: the index. Paths in it are relative to its folder, so that both can be moved together.
        encoder: as for `mizoo.load`, of pictures.
        endpoint: of it; `fc`, else `global`, else the last one.
        runtime: as for `mizoo.embed.embed`: "auto" is ONNX Runtime where there is an ONNX form.
        exact: make no graph, however many pictures there are.
        progress: show bars.
        depth, max_pixels: of the pictures and of later queries, as of `mizoo.data.pictures.read`.

    Returns:
        The index, and what `embed` did: files that cannot be read are left out and listed there.

    Raises:
        UserError: as of `embed`; for an endpoint too wide to compare; with 50,000 pictures or more, if usearch is not
            installed.
    """
    out = user_path(out)
    if out.is_dir():
        raise UserError(f"An index is one file, such as {out / 'photos.index'}. Received a folder: {out}")
    runtime = choose_runtime(encoder, runtime)
    endpoint = endpoint or _endpoint(encoder, runtime)
    model, sha256 = load_hashed(encoder, endpoint, runtime)
    pictures = [pictures] if isinstance(pictures, (str, os.PathLike)) else list(pictures)
    _check_before(model, endpoint, pictures, exact)
    settings = (endpoint, runtime, depth, max_pixels)
    report, names, features = _features(encoder, pictures, *settings, progress, out.parent)
    # Shrunk to 0: the mean of a few pictures that are alike is what they show, and without it only noise is left.
    mean = (features.sum(axis=0, dtype="float64") / (len(features) + _SHRINKING)).astype("float32")
    vectors = unit_rows(features - mean).astype("float16")
    graph = None if exact or len(vectors) < EXACT else _graph(vectors, progress)
    named = entries.is_entry(encoder) or hub.is_address(encoder)
    name = os.fspath(encoder) if named else os.path.abspath(user_path(encoder))
    meta = {"format": _FORMAT, "encoder": name, "sha256": sha256, "endpoint": endpoint, "runtime": runtime}
    meta |= {"depth": depth, "max_pixels": max_pixels}
    folder = out.parent.absolute()
    arrays: dict[str, Any] = {
        "meta": np.array(json.dumps(meta)),
        "paths": np.array([_relative(each, folder) for each in names]),
        "vectors": vectors,
        "mean": mean,
        **({} if graph is None else {"graph": graph}),
    }
    with atomic(out) as path, open(path, "wb") as stream:
        np.savez(stream, **arrays)
    paths = tuple(Path(each) for each in names)
    return PictureIndex(out, name, sha256, endpoint, runtime, paths, vectors, mean, graph, depth, max_pixels), report


def read(file: str | os.PathLike) -> PictureIndex:
    """Read an index that `build` wrote.

    Raises:
        UserError: for a file that is none.
    """
    path = user_path(file)
    if not path.is_file():
        raise UserError(f"There is no index {path}. Make one: `mizoo search index photos/ -o {path}`.")
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
        meta = json.loads(str(arrays.pop("meta")))
        if meta.pop("format") != _FORMAT or len(arrays["paths"]) != len(arrays["vectors"]) or "mean" not in arrays:
            raise ValueError
    except _DAMAGE as error:
        raise UserError(
            f"{path} is no index of pictures, or is damaged. Make it again: `mizoo search index`."
        ) from error
    paths = tuple(Path(os.path.normpath(path.parent / str(each))) for each in arrays["paths"])
    encoder, sha256, endpoint, runtime = (str(meta.get(key)) for key in ("encoder", "sha256", "endpoint", "runtime"))
    read_as = meta.get("depth"), meta.get("max_pixels")  # an index of before has neither
    vectors, mean, graph = arrays["vectors"], arrays["mean"], arrays.get("graph")
    return PictureIndex(path, encoder, sha256, endpoint, runtime, paths, vectors, mean, graph, *read_as)


def _features(
    encoder: Any,
    pictures: Any,
    endpoint: str,
    runtime: str,
    depth: int | None,
    max_pixels: int | None,
    progress: bool,
    folder: Path | None = None,
) -> tuple[EmbedReport, list[str], np.ndarray]:
    """What `embed` says, and the paths and features (N, d) that it writes, into `folder` if one is given."""
    with temporary_folder(folder) if folder else tempfile.TemporaryDirectory(prefix="mizoo-") as temporary:
        written = Path(temporary) / "features.npz"
        read_as: dict[str, Any] = {"depth": depth, "max_pixels": max_pixels}
        report = embed(encoder, pictures, written, endpoint, runtime, progress=progress, **read_as)
        with np.load(written) as stored:
            names, features = [str(each) for each in stored["paths"]], stored[endpoint]
    features = features.reshape(len(features), -1)
    _check_width(features.shape[1], endpoint)
    return report, names, features


def _check_before(model: Any, endpoint: str, pictures: list, exact: bool) -> None:
    """Refuse what would be refused once all pictures were encoded."""
    shapes = getattr(model, "output_shapes", None) or {
        key: each.shape for key, each in interface.outputs(model).items()
    }
    shape = shapes.get(endpoint, next(iter(shapes.values())))[1:]  # a single output goes by the name of its layer
    if None not in shape:
        _check_width(math.prod(shape), endpoint)
    if exact:
        return
    try:
        _usearch_index()
    except NotInstalled:
        if len(find(pictures, [], channels=interface.channels(model))) >= EXACT:
            raise


def _check_width(width: int, endpoint: str) -> None:
    if width > _WIDEST:
        raise UserError(
            f"The endpoint {endpoint!r} has {width:,} numbers a picture, more than {_WIDEST:,}: compare by a vector, "
            "such as `fc` or `global` (--endpoint)."
        )


def _endpoint(encoder: str | os.PathLike, runtime: str) -> str:
    model = load(encoder, None, runtime)
    known = interface.endpoint_names(model) or tuple(interface.outputs(model))
    return next((name for name in _PREFERRED if name in known), known[-1])


def _graph(vectors: np.ndarray, progress: bool) -> np.ndarray:
    """The graph of neighbours (HNSW) of unit vectors."""
    graph = _usearch_index()(ndim=vectors.shape[1], metric="ip", dtype="f16")
    step = 10_000
    with bar("linking neighbours", len(vectors), progress, unit="pictures") as advance:
        for start in range(0, len(vectors), step):
            block = vectors[start : start + step]
            graph.add(np.arange(start, start + len(block)), block)
            advance(len(block))
    return np.frombuffer(graph.save(), np.uint8)


def _usearch_index() -> Any:
    try:
        from usearch.index import Index
    except ModuleNotFoundError as error:
        advice = not_installed(error)
        if advice is None:
            raise
        raise NotInstalled(f"{advice} Below {EXACT:,} pictures, or with `exact` (--exact), none is needed.") from error
    return Index


def _relative(path: str, folder: Path) -> str:
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive of Windows
        return os.path.abspath(path)
