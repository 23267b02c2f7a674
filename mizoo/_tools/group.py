"""Processes on several hosts that work as one: they agree before they begin, and end together.

Each worker holds one connection to the chief, made at the chief's own address before a framework opens its server
there. Over it they compare what has to be equal, the chief hands out what it alone has, and each side notices when the
other is gone: at once where its process ended, after `lines.SILENCE` seconds where its host did. The connection is not
encrypted, and nobody is asked who he is: as for the frameworks' own connections, the network has to be trusted.
"""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Mapping
from os import _exit as end_process  # without a word to the main thread
from typing import Any

from mizoo._tools.lines import SILENCE, Line, Stranger, listen, receive, send
from mizoo._tools.workers import Workers
from mizoo.errors import UserError

STATUS_LOST = 75
"""Exit status where another worker is gone: the same command may be given again (EX_TEMPFAIL of sysexits.h)."""

JOIN_WITHIN = 300.0
"""Seconds in which all workers have to start."""

_GREETING = 15.0  # seconds for the answer to the first message
_RETRY = 0.2
_GRACE = 30.0  # seconds that the others are waited for once something is wrong, so that they hear of it
_WRITING = 20.0  # seconds that the end waits for a file that is being written
_LEAVING = 60.0  # seconds in which the others come to the end


class Group:
    """This process among the workers of a run; a context manager, inside which the death of one ends all.

    An exception inside is told to the others, which end with it: with status 2 for a `UserError`, otherwise with 75.

    Args:
        workers: all of them, and which one this is.
        join_within: seconds in which all have to start.
    """

    def __init__(self, workers: Workers, join_within: float = JOIN_WITHIN) -> None:
        self.workers, self.join_within = workers, join_within
        self.index, self.count = workers.index, len(workers.addresses)
        self.is_chief = self.index == 0
        self._lines: dict[int, Line] = {}
        self._messages: dict[int, queue.Queue] = {}
        self._writing = threading.Lock()
        self._over = threading.Event()  # from then on the end of another is no news

    def __enter__(self) -> Group:
        return self

    def __exit__(self, kind, error, trace) -> None:
        if error is not None and not self._over.is_set():
            self._tell_failure(error)
        self._over.set()
        for line in self._lines.values():
            line.close()

    def join(self, facts: Mapping[str, Any]) -> None:
        """Find the others, and go on once all are there with equal facts.

        Args:
            facts: what has to be equal on all, as JSON; nested mappings are compared key by key.

        Raises:
            UserError: on every worker that is there: for unequal facts, a port in use, two workers of one index, and
                workers that do not start in time.
        """
        facts = {"workers": list(self.workers.addresses), **facts}
        if self.is_chief:
            problem = self._await_workers()
            self._compare(facts, problem)
        else:
            self._find_chief()
            self.agree(facts)

    def agree(self, facts: Mapping[str, Any]) -> None:
        """Compare facts with those of the others.

        Raises:
            UserError: the same on every worker, where they are not equal.
        """
        if self.is_chief:
            self._compare(facts)
            return
        self._lines[0].send({"kind": "facts", "facts": _flat(facts)})
        verdict, _ = self._messages[0].get()
        if verdict["problem"]:
            raise UserError(verdict["problem"])

    def share(self, content: Any = None, payload: bytes = b"") -> tuple[Any, bytes]:
        """What the chief gives, as JSON and bytes: it returns on all workers once it is there."""
        if self.is_chief:
            self._send_all({"kind": "shared", "content": content}, payload)
            return content, payload
        message, payload = self._messages[0].get()
        return message["content"], payload

    def writing(self) -> contextlib.AbstractContextManager:
        """A context in which this process is not ended because of another for some seconds, while it writes files."""
        return self._writing

    def leave(self) -> None:
        """Wait until all have come to their end: none is missed any more.

        Raises:
            UserError: if one has not within a minute.
        """
        try:
            if self.is_chief:
                for index in self._lines:
                    self._messages[index].get(timeout=_LEAVING)
                self._over.set()
                self._send_all({"kind": "done"})
            else:
                self._lines[0].send({"kind": "done"})
                self._messages[0].get(timeout=_LEAVING)
        except queue.Empty:
            raise UserError(f"The run is at its end, and another worker is not after {_LEAVING:.0f} s.") from None

    # The first meeting.

    def _await_workers(self) -> str:
        """Answer every worker; what keeps them from working together, or ""."""
        problems: dict[int, str] = {}
        deadline = time.monotonic() + self.join_within
        with contextlib.closing(listen(self.workers.address(0), self.workers.name(0))) as listener:
            while len(self._lines) < self.count - 1:
                listener.settimeout(max(deadline - time.monotonic(), 0.001))
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    break
                self._answer(connection, problems)
                if problems:
                    deadline = min(deadline, time.monotonic() + _GRACE)
        return " ".join(problems.values()) or self._missing()

    def _answer(self, connection: socket.socket, problems: dict[int, str]) -> None:
        connection.settimeout(_GREETING)
        try:
            hello, _ = receive(connection)
            index, problem = int(hello["index"]), str(hello["problem"])
            send(connection, {"kind": "welcome"})
        except (OSError, Stranger, KeyError, ValueError):  # a scan of ports, or a worker that ended meanwhile
            connection.close()
            return
        if not 0 < index < self.count or index in self._lines:
            taken = "another process is that already" if index in self._lines else f"there are {self.count} workers"
            problem = f"A process calls itself worker {index}, and {taken}: give each host its own --index."
            send(connection, {"kind": "verdict", "problem": problem})
            connection.close()
            problems[index] = problem
            return
        if problem:
            problems[index] = problem
        self._open(index, connection)

    def _missing(self) -> str:
        """Which workers are not there; "" if all are."""
        missing = [self.workers.name(i) for i in range(1, self.count) if i not in self._lines]
        if not missing:
            return ""
        there = "is" if len(missing) == 1 else "are"
        return (
            f"{' and '.join(missing)} {there} not there after {self.join_within:.0f} s. Give the same command on every "
            "host, with its own --index, and see that the hosts reach each other's ports."
        )

    def _find_chief(self) -> None:
        try:
            listen(self.workers.address(self.index), self.workers.name(self.index)).close()
            problem = ""
        except UserError as error:
            problem = str(error)
        connection = self._connect()
        chief = self.workers.name(0)
        try:
            send(connection, {"kind": "hello", "index": self.index, "problem": problem})
            connection.settimeout(_GREETING)
            answer, _ = receive(connection)
        except (OSError, Stranger):
            connection.close()
            raise UserError(
                f"What answers at {chief} is no chief that waits for workers: another program may hold the port, or "
                "the run has begun already. Stop it, or give another port in the list of workers on every host."
            ) from None
        self._open(0, connection)

    def _connect(self) -> socket.socket:
        deadline = time.monotonic() + self.join_within
        reason = "no answer"
        while (left := deadline - time.monotonic()) > 0:
            try:
                connection = socket.create_connection(self.workers.address(0), timeout=min(left, _GREETING))
            except OSError as error:
                reason = error.strerror or str(error)
                time.sleep(min(_RETRY, left))
                continue
            if connection.getsockname() != connection.getpeername():  # a free local port may meet itself
                return connection
            connection.close()
        raise UserError(
            f"{self.workers.name(0)}, the chief, does not answer within {self.join_within:.0f} s ({reason}). Give the "
            "same command on every host, with its own --index, and see that the hosts reach each other's ports."
        )

    def _open(self, index: int, connection: socket.socket) -> None:
        self._messages[index] = queue.Queue()
        self._lines[index] = Line(
            connection,
            lambda content, payload: self._on_message(index, content, payload),
            lambda reason: self._on_end(index, reason),
        )

    # Comparing.

    def _compare(self, facts: Mapping[str, Any], problem: str = "") -> None:
        """The chief's part of `agree`: the verdict for all, by what the others send."""
        own = _flat(facts)
        for index in [] if problem else sorted(self._lines):
            other = self._messages[index].get()[0]["facts"]
            problem = problem or self._difference(own, other, index)
        if problem:
            self._over.set()
        self._send_all({"kind": "verdict", "problem": problem})
        if problem:
            raise UserError(problem)

    def _difference(self, own: dict[str, Any], other: dict[str, Any], index: int) -> str:
        keys = [key for key in dict.fromkeys([*own, *other]) if own.get(key) != other.get(key)]
        if not keys:
            return ""
        said = "; ".join(f"`{key}` is {own.get(key)!r} on one and {other.get(key)!r} on the other" for key in keys[:5])
        return (
            f"{self.workers.name(0)} and {self.workers.name(index)} do not do the same: {said}. Give the same command, "
            "with the same files, on every host, but for --index."
        )

    # What comes in, and the end.

    def _on_message(self, index: int, content: dict[str, Any], payload: bytes) -> None:
        if content["kind"] == "failed":
            self._end_all(content["message"], content["status"], besides=index)
            return
        if content["kind"] == "done" and not self.is_chief or content.get("problem"):
            self._over.set()
        self._messages[index].put((content, payload))

    def _on_end(self, index: int, reason: str) -> None:
        if self._over.is_set():
            return
        message = f"{self.workers.name(index)} {reason}."
        advice = "Give the same command again on every host: the run goes on from its last checkpoint."
        self._end_all(f"{message} {advice}", STATUS_LOST, besides=index)

    def _end_all(self, message: str, status: int, besides: int) -> None:
        """End this process from a thread, as the main one may wait for ever in a collective operation."""
        if self._over.is_set():
            return
        self._over.set()
        self._send_all({"kind": "failed", "message": message, "status": status}, besides=besides)
        show_cursor = "\x1b[?25h" if sys.stderr.isatty() else ""
        self._writing.acquire(timeout=_WRITING)
        os.write(2, f"{show_cursor}\nerror: {message}\n".encode())
        end_process(status)

    def _tell_failure(self, error: BaseException) -> None:
        if not isinstance(error, (UserError, KeyboardInterrupt, SystemExit)):
            # A framework notices the death of another worker too, and says less of it: its thread ends this process.
            time.sleep(SILENCE + 5)
        name, usage = self.workers.name(self.index), isinstance(error, UserError)
        first = str(error).strip().partition("\n")[0]
        message = f"{name} ended: {first}" if usage else f"{name} ended by {type(error).__name__}: {first}"
        self._over.set()
        self._send_all({"kind": "failed", "message": message, "status": 2 if usage else STATUS_LOST})

    def _send_all(self, content: dict[str, Any], payload: bytes = b"", besides: int | None = None) -> None:
        for index, line in self._lines.items():
            if index != besides:
                line.send(content, payload)


def _flat(facts: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in facts.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat
