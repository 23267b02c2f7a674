"""The one display of long work on standard error: what is done, how fast, the time left, and what came of it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

QUIET = 60.0  # seconds without a word, after which a log that is no terminal is told how far the work is


class Progress:
    """A context manager that shows one line for each piece of work; in a log, where it stands, once a minute.

    Args:
        shown: whether to show anything.
        keep: whether the lines stay when the work is done; without a terminal they are then written once, at the end.
    """

    def __init__(self, shown: bool = True, keep: bool = False) -> None:
        self._display: Any = None
        self._last_words = time.monotonic()
        if shown:
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as Display

            self._display = Display(
                # Without markup: a name may hold brackets, and markup is imported at each rendering, which fails in the
                # display's thread while tensorflow-datasets, with an import function of its own, is being imported.
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.fields[rate]}", markup=False),
                TimeElapsedColumn(),
                TextColumn("left", markup=False),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}", markup=False),
                console=Console(stderr=True),
                transient=not keep,
            )

    def __enter__(self) -> Progress:
        if self._display is not None:
            self._display.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._display is not None:
            self._display.stop()

    def start(self, title: str, total: int | None = None, unit: str = "") -> Line:
        """A new line for work of `total` parts; with a `unit` it shows how many of them are done in a second."""
        return Line(self, self._display, title, total, unit)

    def log(self, line: Callable[[], str]) -> None:
        """Write a line where there is no terminal and nothing was written for a while."""
        if not self._display.console.is_terminal and time.monotonic() - self._last_words > QUIET:
            self.print(line())

    def print(self, line: str) -> None:
        """Write a line above the display, with or without a terminal."""
        self._last_words = time.monotonic()
        if self._display is not None:
            self._display.console.print(line, highlight=False, markup=False, soft_wrap=True)


class Line:
    """One line of a `Progress`."""

    def __init__(self, progress: Progress, display: Any, title: str, total: int | None, unit: str) -> None:
        self._progress, self._display, self._unit = progress, display, unit
        self._id = None if display is None else display.add_task(title, total=total, note="", rate="")

    def resize(self, total: int) -> None:
        """Set the number of parts, where it was not known at the start."""
        if self._display is not None:
            self._display.update(self._id, total=total)

    def advance(self, parts: int = 1, note: str | None = None) -> None:
        """Count `parts` more as done, and show a note behind the line."""
        if self._display is not None:
            fields = {} if note is None else {"note": note}
            self._display.update(self._id, advance=parts, rate=self._rate(), **fields)
            self._progress.log(self._words)

    def finish(self, outcome: str = "") -> None:
        """Count everything as done, and show what came of it."""
        if self._display is not None:
            total = self._display.tasks[self._id].total
            self._display.update(self._id, completed=total or 0, note=outcome)

    def _words(self) -> str:
        """Where the work stands, for a log."""
        task = self._display.tasks[self._id]
        done = f"{task.completed:,.0f}" + (f" of {task.total:,.0f}" if task.total else "")
        left = f"{max(1, round(task.time_remaining / 60))} min left" if task.total and task.time_remaining else ""
        return "  ".join(each for each in (task.description, done, self._rate(), left) if each)

    def _rate(self) -> str:
        speed = self._display.tasks[self._id].speed if self._unit else None
        return f"{speed:,.0f} {self._unit}/s" if speed else ""


@contextlib.contextmanager
def bar(title: str, total: int, shown: bool = True, unit: str = "") -> Iterator[Callable[[int], None]]:
    """Show a single line, and yield the function that advances it by a number of parts."""
    with Progress(shown) as progress:
        yield progress.start(title, total, unit).advance
