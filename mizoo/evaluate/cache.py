"""Frozen features on disk, found again by what they were made of: the encoder, the pictures and the endpoint."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mizoo._tools.files import atomic, cache_folder, user_path
from mizoo._tools.locks import lock_file
from mizoo.errors import UserError
from mizoo.evaluate.features import extract
from mizoo.evaluate.source import hash_of_arrays
from mizoo.zoo import interface

FOLDER = "MIZOO_CACHE"
"""Environment variable: the folder of the cache."""
LIMIT = "MIZOO_CACHE_GB"
"""Environment variable: how large it may get, in gigabytes."""
DEFAULT_LIMIT = 8.0
_FORMAT = "mizoo-features-1"  # another one where `extract` comes to give other values
_DIGEST = hashlib.sha256().digest_size
_BLOCK = 1 << 20


class FeatureCache:
    """A folder of features, each file named after what it was computed from.

    A file holds an array and the SHA-256 of it; one that does not agree with its digest counts as missing. Files are
    written whole or not at all. Where they outgrow the limit, those that were not used for longest are removed.

    Args:
        folder: of the cache, made when something is written; None keeps nothing.
        limit: bytes that the files may take together.
        together: endpoints that will be asked for one after the other: one pass over the pictures makes them all.
    """

    def __init__(self, folder: str | os.PathLike | None, limit: int, together: Sequence[str] = ()) -> None:
        self.folder = None if folder is None else user_path(folder)
        self.limit, self.together = limit, together
        self.hits = self.misses = 0
        self.corrupted: list[Path] = []

    def features(
        self,
        encoder: Any,
        images: np.ndarray,
        endpoints: Sequence[str] | None,
        advance: Callable[[int], None] | None = None,
    ) -> dict[str, np.ndarray]:
        """Features as `extract` gives them; only the endpoints that are not in the cache are computed.

        What cannot be identified by its content (a plain callable) and raw pixels, which are quickly made, are not
        cached.
        """
        made_by = None if self.folder is None or encoder is None else identity(encoder)
        known = interface.endpoint_names(encoder) if made_by else ()
        if made_by is None or not known or any(name not in known for name in endpoints or ()):
            return extract(encoder, images, endpoints, advance)
        wanted = list(known if endpoints is None else endpoints)
        content = hash_of_arrays(np.asarray(images))
        paths = {name: self._path(_FORMAT, made_by, content, name) for name in known}
        found = {name: value for name in wanted if (value := self._read(paths[name], len(images))) is not None}
        missing = [name for name in wanted if name not in found]
        self.hits, self.misses = self.hits + len(found), self.misses + len(missing)
        if missing:
            soon = [name for name in known if name in self.together and not paths[name].exists()]
            made = extract(encoder, images, list(dict.fromkeys(missing + soon)), advance)
            for name, values in made.items():
                self._write(paths[name], values)
            found |= made
        elif advance is not None:
            advance(len(images))
        return {name: found[name] for name in wanted}

    def _path(self, *facts: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{hashlib.sha256(chr(10).join(facts).encode()).hexdigest()}.features"

    def _read(self, path: Path, count: int) -> np.ndarray | None:
        """The array of a file, or None where it is not there or not whole."""
        try:
            with open(path, "rb") as file:
                length = path.stat().st_size - _DIGEST
                if length > 0 and _hash_of_file(file, length) == file.read():
                    file.seek(0)
                    array = np.load(file, allow_pickle=False)
                    if array.ndim == 2 and len(array) == count:
                        _touch(path)
                        return array
        except FileNotFoundError:
            return None
        except (OSError, ValueError, EOFError):  # not readable, or no array
            pass
        self.corrupted.append(path)
        return None

    def _write(self, path: Path, array: np.ndarray) -> None:
        """Add a file and remove the oldest; a disk that is full or not ours to write to is no reason to stop."""
        if array.nbytes > self.limit:
            return
        try:
            with atomic(path) as temporary, open(temporary, "w+b") as file:
                np.save(file, array, allow_pickle=False)
                length = file.tell()
                file.seek(0)
                digest = _hash_of_file(file, length)
                file.seek(length)
                file.write(digest)
            with lock_file(path.parent / "features"):
                self._shrink()
        except (OSError, UserError) as error:
            print(f"Features are not cached in {path.parent}: {error}", file=sys.stderr)

    def _shrink(self) -> None:
        assert self.folder is not None
        sizes = {path: path.stat() for path in self.folder.glob("*.features")}
        total = sum(each.st_size for each in sizes.values())
        for path in sorted(sizes, key=lambda path: sizes[path].st_mtime):
            if total <= self.limit:
                return
            path.unlink(missing_ok=True)
            total -= sizes[path].st_size


def open_cache(choice: bool | str | os.PathLike | FeatureCache | None = None) -> FeatureCache:
    """The cache that a caller chooses.

    Args:
        choice: a folder; None or True for that of the environment variable `MIZOO_CACHE`, or `mizoo` in the user's
            folder of caches; False for none. `MIZOO_CACHE_GB` is its limit, 8 by default. Or a cache that is open.

    Raises:
        UserError: for a limit that is no number from 0 on.
    """
    if isinstance(choice, FeatureCache):
        return choice
    text = os.environ.get(LIMIT, "") or str(DEFAULT_LIMIT)
    try:
        gigabytes = float(text)
    except ValueError:
        gigabytes = -1.0
    if not 0 <= gigabytes < float("inf"):
        raise UserError(f"{LIMIT} is the largest size of the cache of features in gigabytes. Received: {text!r}")
    folder = default_folder() if choice is None or choice is True else choice
    return FeatureCache(None if folder is False else folder, int(gigabytes * 1e9))


def default_folder() -> Path:
    """`MIZOO_CACHE`, or the folder `mizoo` where the user's system keeps caches."""
    if chosen := os.environ.get(FOLDER):
        return user_path(chosen)
    return cache_folder()


def identity(encoder: Any) -> str | None:
    """A hash of all that decides what an encoder computes, None where that is not known.

    Of a Keras model of stock layers: layers, weights, precision and backend; of an encoder on ONNX Runtime: the bytes
    of its file. Layers of the user's own hold code, which a configuration does not describe.
    """
    if digest := getattr(encoder, "sha256", None):
        return f"onnx {digest}"
    if not (hasattr(encoder, "to_json") and hasattr(encoder, "get_weights") and interface.input_shape(encoder)):
        return None
    import keras

    from mizoo.export.keras_file import check_stock

    try:
        check_stock(encoder)
    except UserError:
        return None
    layers = hashlib.sha256(encoder.to_json().encode()).hexdigest()
    return f"keras {keras.backend.backend()} {layers} {hash_of_arrays(*encoder.get_weights())}"


def _hash_of_file(file: BinaryIO, length: int) -> bytes:
    """SHA-256 of the next bytes of a file, which is left behind them."""
    digest = hashlib.sha256()
    while length > 0 and (block := file.read(min(_BLOCK, length))):
        digest.update(block)
        length -= len(block)
    return digest.digest()


def _touch(path: Path) -> None:
    """Note that a file was used; who may only read a shared cache need not."""
    try:
        os.utime(path)
    except OSError:
        return
