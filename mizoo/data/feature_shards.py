"""Features as a folder of shards: .npy files of rows, and for each shard a list of its paths, hashes and errors.

    index.json              what was encoded by what; how many shards there are, once all are
    00000.jsonl             a line for each file of shard 0: its path and SHA-256 and its row, or its error
    00000.<endpoint>.npy    the rows of shard 0

A shard is there when its .jsonl is, which is written last. Needs NumPy only.
"""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mizoo._tools import files
from mizoo._tools.files import user_path
from mizoo.errors import UserError

INDEX = "index.json"
_HEADER = 192  # bytes in front of the rows of an .npy file, whatever their number
_SCRAP = ".writing-"
_NUMBER = re.compile(r"[0-9]{5,}")  # of a shard, in the names of its files


class ShardWriter:
    """Writes the shards of a folder one after the other, from the first that is not there.

    Args:
        folder: made when it is missing.
        identity: what determines the rows, as JSON; a folder of another identity is refused.
        size: files in a shard.

    Raises:
        UserError: if the folder holds other things, shards of another identity, or shards with one missing between.
    """

    def __init__(self, folder: Path, identity: dict[str, Any], size: int) -> None:
        self.folder, self.size = folder, size
        self.identity = {**identity, "shard_size": size}
        self.count = self._existing()
        self.complete = (_read_index(folder) or {}).get("shards") is not None
        self._open: dict[str, BinaryIO] = {}
        self._shapes: dict[str, tuple[str, tuple[int, ...]]] = {}
        self._rows: dict[str, int] = {}
        self._entries: list[dict[str, Any]] = []
        self._remove_scraps()

    def _existing(self) -> int:
        """How many shards are there; writes the index of a new folder."""
        index = _read_index(self.folder)
        if index is None:
            others = [each.name for each in self.folder.iterdir() if not each.name.startswith(".")]
            if others:
                raise UserError(
                    f"{self.folder} holds other files ({sorted(others)[0]}) and no shards. Name a new folder."
                )
            files.write_json(self.folder / INDEX, {"identity": self.identity, "shards": None})
            return 0
        differences = [key for key in self.identity if index["identity"].get(key) != self.identity[key]]
        if differences:
            was = ", ".join(f"{key} was {index['identity'].get(key)!r}" for key in differences)
            raise UserError(
                f"{self.folder} holds shards of another run: {was}. Repeat that command to resume it, or name another "
                "folder."
            )
        return len(_shard_numbers(self.folder, index))

    def _remove_scraps(self) -> None:
        """Remove what a run that was interrupted left: a shard that was open, or one whose list was not written."""
        for scrap in [*self.folder.glob(f"{_SCRAP}*"), *self.folder.glob(f"{self.count:05d}.*.npy")]:
            scrap.unlink(missing_ok=True)

    def paths(self, shard: int) -> set[str]:
        """The paths that a shard lists, with and without features."""
        return {entry["path"] for entry in _entries(self.folder, shard)}

    def failures(self, shard: int) -> list[tuple[Path, str]]:
        """The files of a shard that could not be read, with the reasons."""
        return [(Path(entry["path"]), entry["error"]) for entry in _entries(self.folder, shard) if "error" in entry]

    def add(self, entries: list[dict[str, Any]], features: dict[str, np.ndarray]) -> None:
        """Append files (`path`, `sha256`) and their features, and files that have none (`path`, `error`)."""
        row = sum("error" not in entry for entry in self._entries)
        for entry in entries:
            if "error" not in entry:
                entry, row = {**entry, "row": row}, row + 1
            self._entries.append(entry)
        for key, values in features.items():
            if key not in self._open:
                self._open[key] = open(self.folder / f"{_SCRAP}{key}.npy", "wb")
                self._open[key].write(bytes(_HEADER))
                self._rows[key] = 0
            dtype = "<i8" if np.issubdtype(values.dtype, np.integer) else "<f4"
            self._shapes[key] = (dtype, values.shape[1:])
            self._open[key].write(np.ascontiguousarray(values, dtype).tobytes())
            self._rows[key] += len(values)
        if len(self._entries) >= self.size:
            self.commit()

    def commit(self) -> None:
        """Finish the shard that is open, if it has a file."""
        if not self._entries:
            return
        for key, stream in self._open.items():
            dtype, shape = self._shapes[key]
            stream.seek(0)
            stream.write(_npy_header(dtype, (self._rows[key], *shape)))
            stream.flush()
            os.fsync(stream.fileno())
            stream.close()
            os.replace(stream.name, self.folder / f"{self.count:05d}.{key}.npy")
        # In ASCII: a file name that is not UTF-8 has surrogates, which no encoding but JSON's own takes.
        lines = "".join(json.dumps(entry, ensure_ascii=True) + "\n" for entry in self._entries)
        files.write_text(self.folder / f"{self.count:05d}.jsonl", lines)
        self._open, self._entries = {}, []
        self.count += 1

    def finish(self) -> None:
        """Finish the last shard, and record that all are there."""
        if self.complete:
            return
        self.commit()
        files.write_json(self.folder / INDEX, {"identity": self.identity, "shards": self.count})
        self.complete = True

    def close(self) -> None:
        """Give up the shard that is open; it is made again when the run is resumed."""
        for stream in self._open.values():
            stream.close()
        self._open, self._entries = {}, []
        self._remove_scraps()
        if not self.count and not self.complete:
            (self.folder / INDEX).unlink(missing_ok=True)


def _read_index(folder: Path) -> dict[str, Any] | None:
    """What a folder's index says; None where it has none that a `ShardWriter` wrote."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError):
        return None
    ours = isinstance(index, dict) and isinstance(index.get("identity"), dict) and "shards" in index
    return index if ours else None


def _npy_header(dtype: str, shape: tuple[int, ...]) -> bytes:
    text = repr({"descr": dtype, "fortran_order": False, "shape": shape})
    text = text.ljust(_HEADER - 11) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode("latin1")


def _shard_numbers(folder: Path, index: dict[str, Any]) -> list[int]:
    """The shards of a folder, once none is missing.

    Raises:
        UserError: naming the first that is.
    """
    found = {int(path.stem) for path in folder.glob("*.jsonl") if _NUMBER.fullmatch(path.stem)}
    wanted = index.get("shards")
    wanted = max(found, default=-1) + 1 if wanted is None else wanted
    if missing := sorted(set(range(wanted)) - found):
        raise UserError(
            f"{folder} lacks {len(missing)} of {wanted} shards, the first of them {missing[0]:05d}.jsonl. Put them "
            "back, or embed into another folder."
        )
    return sorted(found)


def _entries(folder: Path, shard: int) -> Iterator[dict[str, Any]]:
    with open(folder / f"{shard:05d}.jsonl", encoding="utf-8") as stream:
        for line in stream:
            yield json.loads(line)


def read_shards(
    folder: str | os.PathLike, endpoint: str | None = None
) -> Iterator[tuple[list[str], dict[str, np.ndarray]]]:
    """The shards that `mizoo embed` wrote into a folder, one after the other.

    Args:
        folder: with index.json.
        endpoint: this one alone.

    Yields:
        The paths of a shard's rows (N,), and for each endpoint its rows (N, ...), float32, mapped from the file and
        read where they are used. Of sounds, as in the .npz: endpoints of frames hold the frames of all files one after
        the other, and `frames` how many belong to each.

    Raises:
        UserError: for a folder without index, one that is not complete, or one with shards or endpoints missing.
    """
    folder = user_path(folder)
    index = _read_index(folder)
    if index is None:
        raise UserError(f"A folder of shards holds {INDEX}. {folder} has none, or one of something else.")
    numbers = _shard_numbers(folder, index)
    if index["shards"] is None:
        raise UserError(f"{folder} is not complete ({len(numbers)} shards): repeat the `mizoo embed` that wrote it.")
    for number in numbers:
        paths = [entry["path"] for entry in _entries(folder, number) if "error" not in entry]
        present = {path.name.split(".", 1)[1][:-4]: path for path in folder.glob(f"{number:05d}.*.npy")}
        if paths and (not present or (endpoint and endpoint not in present)):
            raise UserError(f"Shard {number:05d} of {folder} lacks {endpoint or 'its rows'}; it has {sorted(present)}.")
        kept = {key: path for key, path in present.items() if endpoint in (None, key)}
        yield paths, {key: np.load(path, mmap_mode="r") for key, path in sorted(kept.items())}
