"""A connection between two processes that carries messages, and tells when the other end is gone."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any

from mizoo.errors import UserError

BEAT = 2.0
"""Seconds from one sign of life to the next."""

SILENCE = 30.0
"""Seconds without a sign of life after which the other end is taken for dead."""

_HEAD = struct.Struct("!4sIQ")  # a mark, the bytes of the message and those of what comes with it
_MARK = b"mzo1"
_LONGEST = 1 << 24  # bytes of a message; what comes with it may be a checkpoint


class Stranger(Exception):
    """The other end does not speak as this module does."""


def send(connection: socket.socket, content: dict[str, Any], payload: bytes = b"") -> None:
    """Send one message, with bytes that come with it."""
    text = json.dumps(content).encode()
    connection.sendall(_HEAD.pack(_MARK, len(text), len(payload)) + text + payload)


def receive(connection: socket.socket) -> tuple[dict[str, Any], bytes]:
    """The next message, and the bytes that come with it.

    Raises:
        Stranger: for anything that is no message.
        OSError: where nothing comes within the time-out of the connection, or the other end is gone.
    """
    mark, length, extra = _HEAD.unpack(_exactly(connection, _HEAD.size))
    if mark != _MARK or length > _LONGEST:
        raise Stranger
    try:
        content = json.loads(_exactly(connection, length))
    except ValueError:
        raise Stranger from None
    return content, _exactly(connection, extra)


def _exactly(connection: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = connection.recv(min(count - len(parts), 1 << 20))
        if not part:
            raise ConnectionError("closed")
        parts += part
    return bytes(parts)


class Line:
    """An open connection: threads of its own read it and send signs of life.

    Args:
        connection: an open socket.
        on_message: called with (content, payload) of each message.
        on_end: called once with the reason when the other end is gone or silent for `SILENCE` seconds.
    """

    def __init__(
        self,
        connection: socket.socket,
        on_message: Callable[[dict[str, Any], bytes], None],
        on_end: Callable[[str], None],
    ) -> None:
        connection.settimeout(SILENCE)
        self._connection, self._on_message, self._on_end = connection, on_message, on_end
        self._sending = threading.Lock()
        self._closed = threading.Event()
        for work in (self._read, self._beat):
            threading.Thread(target=work, daemon=True).start()

    def send(self, content: dict[str, Any], payload: bytes = b"") -> None:
        """Send a message; one that cannot be sent is lost, and the reading thread says why."""
        with self._sending, contextlib.suppress(OSError):
            send(self._connection, content, payload)

    def close(self) -> None:
        """Close the connection; nothing is told of it here."""
        self._closed.set()
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()

    def _read(self) -> None:
        try:
            while True:
                content, payload = receive(self._connection)
                if content.get("kind") != "beat":
                    self._on_message(content, payload)
        except (OSError, Stranger) as error:
            silent = isinstance(error, TimeoutError)
            if not self._closed.is_set():
                self._on_end(f"gave no sign of life for {SILENCE:.0f} s" if silent else "ended without a word")

    def _beat(self) -> None:
        while not self._closed.wait(BEAT):
            self.send({"kind": "beat"})


def listen(address: tuple[str, int], name: str) -> socket.socket:
    """A socket that listens at the port of an address, on all interfaces.

    Raises:
        UserError: if the port is in use or may not be opened.
    """
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("", address[1]))
        listener.listen()
    except OSError as error:
        listener.close()
        raise UserError(
            f"The port {address[1]} of {name} cannot be opened ({error.strerror or error}): another program may hold "
            "it. Give another port in the list of workers, the same list on every host."
        ) from None
    return listener
