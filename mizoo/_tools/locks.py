"""One writer at a time: locks of files and folders that several processes may write to."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from mizoo.errors import UserError

_PATIENCE = 600.0  # seconds; a writer holds a lock for a moment
_POLL = 0.01
LOCK = ".lock"


@contextlib.contextmanager
def lock_file(path: str | os.PathLike) -> Iterator[None]:
    """Hold the lock of a file while it is read, changed and written; another process waits for it.

    The lock is the empty hidden file `.<name>.lock` beside it. It stays: removing it could let two processes in.

    Args:
        path: the file, which need not exist; its folder is made when it is missing.

    Raises:
        UserError: if another process holds the lock for ten minutes, or no lock can be made there.
    """
    path = Path(path)
    lock = path.parent / f".{path.name}.lock"
    with _held(lock, _PATIENCE, f"{path} is being written by another process ({lock} is locked). Try again later."):
        yield


@contextlib.contextmanager
def lock_folder(folder: str | os.PathLike, busy: str) -> Iterator[None]:
    """Hold the lock of a folder, its hidden file `.lock`; where another process holds it, refuse at once.

    Args:
        folder: made when it is missing; removed again where it stays empty.
        busy: what the other process does and what to do, for the message.

    Raises:
        UserError: `busy`, if another process holds the lock.
    """
    folder = Path(folder)
    lock = folder / LOCK
    made = not folder.exists()
    with _held(lock, 0, busy):
        try:
            yield
        finally:
            if made and [each.name for each in folder.iterdir()] == [LOCK]:
                with contextlib.suppress(OSError):  # Windows removes no file that is open
                    lock.unlink()
                    folder.rmdir()


@contextlib.contextmanager
def _held(lock: Path, patience: float, busy: str) -> Iterator[None]:
    from filelock import FileLock, Timeout

    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(lock, timeout=patience)
        held.acquire(poll_interval=_POLL)
    except Timeout:
        raise UserError(busy) from None
    except OSError as error:
        raise UserError(f"{lock.parent} cannot be written to ({error.strerror or error}): choose another.") from None
    try:
        yield
    finally:
        held.release()
