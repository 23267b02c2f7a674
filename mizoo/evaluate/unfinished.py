"""The rows of an evaluation that was interrupted, which the same command takes over instead of measuring them again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from mizoo.errors import UserError
from mizoo.evaluate.protocols import TABLE, Protocol, Task
from mizoo.evaluate.rows import Row, read_rows, write_rows

_FOLDER = "unfinished"
_FORMAT = 1  # another one where the rows of a protocol come to mean something else within one version


class Unfinished:
    """A results file in the cache with the rows done so far; it goes when the evaluation ends.

    It is found again by the encoder's content, the data's content or version, and all arguments. Only protocols of
    `TABLE` are taken over: what one of the user's own computes may have changed.

    Args:
        cache: the folder of the cache; None keeps nothing.
        identity: what decides the rows beside the facts that they state: the encoder's hash first, None where it has
            none, so that nothing is kept.
    """

    def __init__(self, cache: Path | None, identity: tuple[Any, ...]) -> None:
        self.folder = None if cache is None or identity[0] is None else cache / _FOLDER
        self.identity = identity
        self.path: Path | None = None
        self.earlier: list[Row] = []
        self.done: list[Row] = []

    def begin(self, facts: dict[str, Any]) -> int:
        """Read the rows of an evaluation with the same facts; returns how many there are."""
        if self.folder is None:
            return 0
        text = json.dumps([_FORMAT, facts, self.identity], sort_keys=True, default=str)
        self.path = self.folder / f"{hashlib.sha256(text.encode()).hexdigest()}.json"
        try:
            self.earlier = read_rows(self.path)
        except (UserError, OSError):  # none, or none that can be trusted
            self.earlier = []
        return len(self.earlier)

    def rows_of(self, protocol: Protocol, task: Task, variant: str) -> list[Row]:
        """The rows of one protocol, task and variant that are done; all variants of a protocol that is `joint`."""
        if protocol.name not in TABLE or protocol.run != TABLE[protocol.name].run:
            return []
        return [
            row
            for row in self.earlier
            if (row.protocol, row.dataset, row.endpoint) == (protocol.name, task.dataset, task.endpoint)
            and str(row.settings.get("variant", "")) in (protocol.variants if protocol.joint else (variant,))
        ]

    def add(self, rows: list[Row]) -> None:
        """Note rows as done, beside those of earlier that are still to be taken over, should this be interrupted too.

        A cache that cannot be written to is no reason to stop.
        """
        self.done += rows
        if self.path is not None:
            try:
                write_rows(self.path, self.done + [row for row in self.earlier if row not in self.done])
            except (OSError, UserError):  # the latter of a full disk
                self.path = None

    def clear(self) -> None:
        """The evaluation has ended: nothing is left to take over."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
