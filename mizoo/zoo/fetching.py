"""Files of entries that are not installed: looked up in the cache, or downloaded into it once.

The cache, the folder of a bundle, and what `MIZOO_URL` serves have one layout: `<begin of the hash>/<entry>/<file>`. So
several versions of mizoo share a cache or a server, and a bundle that is copied to `MIZOO_HOME` is a cache.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

from mizoo._tools.files import allow_reading, atomic, cache_folder, user_path
from mizoo._tools.files import sha256 as hash_of
from mizoo._tools.locks import lock_file
from mizoo._tools.progress import Progress
from mizoo.errors import UserError, not_installed

HOME, URL = "MIZOO_HOME", "MIZOO_URL"
RETRIES = 2
"""How often a download that failed is tried again."""
_DIGITS = 16  # of the hash in a path
_CHUNK = 1 << 16  # bytes


class Wanted(NamedTuple):
    """A published file and its pinned hash.

    Attributes:
        entry: the name of the entry.
        file: "encoder.keras" or "encoder.onnx".
        sha256: 64 hexadecimal digits.
        size: in bytes.
    """

    entry: str
    file: str
    sha256: str
    size: int

    @property
    def relative(self) -> str:
        """Its path in a cache, a bundle and on a server, with forward slashes."""
        return f"{self.sha256[:_DIGITS]}/{self.entry}/{self.file}"


def home() -> Path:
    """The folder of downloaded files: `MIZOO_HOME`, or the one for caches on this system."""
    given = os.environ.get(HOME)
    return user_path(given) if given else cache_folder()


def fetch(wanted: Wanted, missing: str) -> Path:
    """A published file in the cache, downloaded from `MIZOO_URL` if it is not there; its hash is the pinned one.

    Another process that wants the same file waits, and takes what the first has downloaded. The file has its name only
    once it is whole and its hash is right.

    Args:
        wanted: the file.
        missing: begins the message where no address is set: where it would be installed, and how it gets there.

    Raises:
        UserError: neither in the cache nor to be downloaded, with what to do; nothing is left behind.
    """
    file = home() / wanted.relative
    if _is_whole(file, wanted):
        return file
    address = _address(file, missing)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(wanted, file, error) from error
    with lock_file(file):
        if not _is_whole(file, wanted):
            _download(address, wanted, file)
    return file


def keep(wanted: Wanted, content: bytes) -> Path:
    """Write a published file that was made in memory into the cache, for those who need it as a file.

    Raises:
        UserError: if the cache cannot be written.
    """
    file = home() / wanted.relative
    if not _is_whole(file, wanted):
        try:
            with atomic(file) as temporary:
                temporary.write_bytes(content)
        except OSError as error:
            raise _cannot_write(wanted, file, error) from error
    return file


def _is_whole(file: Path, wanted: Wanted) -> bool:
    try:
        return file.stat().st_size == wanted.size and hash_of(file) == wanted.sha256
    except FileNotFoundError:
        return False
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror or error}.") from error


def _address(file: Path, missing: str) -> str:
    address = os.environ.get(URL, "")
    if not address:
        raise UserError(f"{missing} In the cache, {file} {'is damaged' if file.exists() else 'is not there'}. {WAYS}")
    if not address.startswith(("http://", "https://")):
        raise UserError(f"{URL} is the http:// or https:// address of a folder of `mizoo bundle`. Received: {address}")
    return address.rstrip("/") + "/"


WAYS = (
    f"There are three ways to get a file of an entry: install mizoo from a clone; copy the folder that `mizoo bundle` "
    f"writes in a clone to where {HOME} says; or set {URL} to the address at which that folder is served."
)


def _download(address: str, wanted: Wanted, file: Path) -> None:
    try:
        import pooch
        import requests
    except ModuleNotFoundError as error:
        raise not_installed(error) or error from error
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    cache = pooch.create(
        file.parents[2], address, registry={wanted.relative: f"sha256:{wanted.sha256}"}, retry_if_failed=RETRIES
    )
    try:
        with Progress(sys.stderr.isatty()) as display:
            line = display.start(f"downloading {wanted.file} of {wanted.entry}", wanted.size, "bytes")
            cache.fetch(wanted.relative, downloader=pooch.HTTPDownloader(_Bar(line), _CHUNK))
        allow_reading(file)
    except requests.exceptions.RequestException as error:
        raise UserError(f"{address}{wanted.relative} could not be downloaded: {error}. {WAYS}") from error
    except ValueError as error:  # of pooch: another hash
        raise UserError(
            f"{address}{wanted.relative} is not the published file of {wanted.entry} and was not kept: its hash is not "
            f"the pinned one, {wanted.sha256}. {URL} serves another bundle, or a damaged one."
        ) from error
    except OSError as error:
        raise _cannot_write(wanted, file, error) from error
    finally:
        logger.setLevel(level)


def _cannot_write(wanted: Wanted, file: Path, error: OSError) -> UserError:
    return UserError(
        f"{wanted.file} of {wanted.entry} ({wanted.size:,} bytes) cannot be written to {file.parents[2]}: "
        f"{error.strerror or error}. Make room, or set {HOME} to another folder."
    )


class _Bar:
    """What pooch tells how far a download is, shown as a line of our progress."""

    def __init__(self, line: Any) -> None:
        self.line, self.total = line, 0

    def update(self, count: int) -> None:
        """Count bytes."""
        self.line.advance(count)

    def reset(self) -> None:
        """Begin anew; pooch counts the whole file once more afterwards."""
        self.total = 0

    def close(self) -> None:
        """The end of the file."""
        self.line.finish()
