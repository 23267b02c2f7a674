"""Files and folders that are either whole or not there."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mizoo.errors import UserError

_TEMPORARY = ".writing-"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_PLACE = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG,
)  # fmt: skip
_PROCESSES = "/proc/self/ns/pid"  # on Linux: in which numbers of processes mean what they mean for this one


class NoPlace(OSError, UserError):
    """A file or folder cannot be made or replaced where it is wanted; an `OSError` for callers that do without it."""

    def __init__(self, number: int, reason: str, message: str = "") -> None:
        super().__init__(number, reason)
        self.message = message

    def __str__(self) -> str:
        return self.message


@contextlib.contextmanager
def atomic(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` if the block succeeds, remove it if it raises.

    The temporary name keeps the suffix of `path`, because writers such as Keras choose the format by it.
    The folder is created when it is missing. What processes that were killed left in it is removed.

    Raises:
        UserError: naming `path`, if there is no room for the file, or it cannot be made or replaced there.
    """
    path = Path(path)
    with needing_room(path):
        with _placing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_abandoned(path.parent.absolute())
            suffix = "".join(path.suffixes[-2:])
            handle, name = tempfile.mkstemp(prefix=_temporary_prefix(), suffix=suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        allow_reading(temporary)
        try:
            yield temporary
            with _placing(path):
                os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def needing_room(path: Path) -> Iterator[None]:
    """Say that a disk is full, or a quota or a limit reached, where that is why the block raises.

    Args:
        path: what is written, for the message.

    Raises:
        UserError: naming `path`.
    """
    try:
        yield
    except Exception as error:
        reason = None if isinstance(error, UserError) else _no_room(error)
        if reason is None:
            raise
        raise UserError(
            f"{path} cannot be written: {reason}. What was there before is as it was: make room, and repeat the "
            "command."
        ) from error


@contextlib.contextmanager
def _placing(path: Path) -> Iterator[None]:
    """Say what stands in the way of `path` where the block cannot make it, its folder or what is beside it."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_PLACE:
            raise
        reason = os.strerror(error.errno)
        there = next((each for each in (path, *path.parents) if os.path.lexists(each)), path)
        folder_wanted = there != path or error.errno in (errno.EEXIST, errno.ENOTDIR)
        if folder_wanted and not there.is_dir():
            obstacle = f"{there} is a file, and a folder is needed there"
        else:
            obstacle = "it is a folder" if error.errno == errno.EISDIR else f"{reason} ({there})"
        raise NoPlace(error.errno, reason, f"{path} cannot be written: {obstacle}. Choose another place.") from error


def reserve(path: Path, size: int) -> None:
    """Make sure that there is room for a file that a library is about to write, because HDF5 ends the process by a
    signal after a write that found none.

    Args:
        path: of the file, which is emptied.
        size: in bytes, at most.

    Raises:
        OSError: if there is no room.
    """
    with open(path, "wb") as stream:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(stream.fileno(), 0, max(1, size))
            stream.truncate(0)
        elif shutil.disk_usage(path.parent).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _no_room(error: BaseException | None) -> str | None:
    """What the system says of a write that found no room, if that is what made the error; libraries wrap it."""
    while error is not None:
        for number in _NO_ROOM:
            reason = os.strerror(number)
            if getattr(error, "errno", None) == number or reason in str(error):
                return reason
        error = error.__cause__ or error.__context__
    return None


def _temporary_prefix(process: int | None = None) -> str:
    """How the names of the temporary files of a process of this machine begin.

    Containers may have a host name in common, and a folder, but number their processes each for itself.
    """
    try:
        numbers = f" {os.stat(_PROCESSES).st_ino}"
    except OSError:
        numbers = ""
    machine = hashlib.sha256(f"{platform.node()}{numbers}".encode()).hexdigest()[:8]
    return f"{_TEMPORARY}{machine}-{os.getpid() if process is None else process}-"


@functools.cache
def remove_abandoned(folder: Path) -> None:
    """Remove, once for a folder, the temporary files and folders in it of processes of this machine that are no more.

    Args:
        folder: an absolute path.
    """
    if os.name == "nt":  # where a process cannot be asked for without harm
        return
    for left in folder.glob(f"{_TEMPORARY}*"):
        process = left.name.split("-")[2:3]
        if not process or not process[0].isdigit() or not left.name.startswith(_temporary_prefix(int(process[0]))):
            continue
        try:
            os.kill(int(process[0]), 0)
        except ProcessLookupError:
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
        except (OSError, OverflowError):  # of another user, or no number of a process
            continue


def allow_reading(path: Path) -> None:
    """Make a file that was created as a temporary one, mode 0600, as readable as any other that the umask allows."""
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(0o666 & ~umask)


def user_path(path: str | os.PathLike) -> Path:
    """`path` as a user wrote it: an existing name is taken as it is, otherwise a leading `~` is the home folder.

    A file may be called `~backup.keras`. A `~name` of nobody, which `Path.expanduser` refuses, stays as it is too.

    Raises:
        UserError: for what is no path, or longer than the system allows.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise UserError(f"A file or a folder is given as text or as a path. Received: {path!r}")
    path = Path(path)
    try:
        os.lstat(path)
        return path
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise UserError(f"The name of a file or folder is too long: {str(path)[:60]}...") from error
    except ValueError as error:  # a zero byte
        raise UserError(f"This is no name of a file or folder: {path!r}") from error
    return Path(os.path.expanduser(path))


def cache_folder() -> Path:
    """The folder `mizoo` where the user's system keeps caches."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.path.expanduser(base)) / "mizoo"


def sha256(path: str | os.PathLike) -> str:
    """SHA-256 of a file as 64 hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write `text` as UTF-8, atomically; bytes of file names that are none are written as backslash escapes."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def temporary_folder(out: Path) -> Iterator[Path]:
    """Yield an empty folder inside `out`, removed at the end together with an `out` that was made and stays empty.

    Raises:
        UserError: naming `out`, if there is no room, or the folder cannot be made or written to.
    """
    with needing_room(out):
        with _placing(out):
            made = not out.exists()
            out.mkdir(parents=True, exist_ok=True)
            remove_abandoned(out.absolute())
            folder = Path(tempfile.mkdtemp(prefix=_temporary_prefix(), dir=out))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            if made and not any(out.iterdir()):
                out.rmdir()


def move_into(folder: Path, out: Path, names: tuple[str, ...]) -> None:
    """Move finished files and folders from `folder` to `out`, on one file system, replacing what is there."""
    for name in names:
        with _placing(out / name):
            if (out / name).is_dir():
                os.replace(out / name, folder / f"{name}.old")
            os.replace(folder / name, out / name)


def facts(path: Path) -> dict[str, Any]:
    """SHA-256 and size of a file, as manifests and the registry hold them."""
    return {"sha256": sha256(path), "bytes": path.stat().st_size}


def checked(folder: Path, entry: dict[str, Any], what: str, by_hash: bool = True) -> Path:
    """A file of packed data, once it is there and whole.

    Args:
        folder: in which it has to lie directly.
        entry: its "file", "bytes" and "sha256", as an index holds them.
        what: what messages call it.
        by_hash: whether to compare its hash, which reads all of it; its size is compared in any case.

    Raises:
        UserError: naming the file, if it is missing or damaged.
    """
    file = folder / Path(entry["file"]).name
    remedy = "Copy it again from where it was packed, or pack the data again with `mizoo data pack`."
    if not file.is_file():
        raise UserError(f"A {what} of the packed data is missing: {file}. {remedy}")
    size = file.stat().st_size
    if size == entry["bytes"] and not by_hash:
        return file
    actual = sha256(file)
    if actual != entry["sha256"]:
        raise UserError(
            f"A {what} of the packed data is damaged and was not opened: {file} ({size:,} bytes of "
            f"{entry['bytes']:,}; SHA-256 {actual}, expected {entry['sha256']}). {remedy}"
        )
    return file
