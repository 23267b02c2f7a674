"""Progress of an evaluation: one line a step, or nothing at all."""

from __future__ import annotations

from typing import Any


class Steps:
    """A context manager that shows steps as `rich` progress bars on standard error.

    Args:
        shown: whether to show anything.
    """

    def __init__(self, shown: bool):
        self._display: Any = None
        if shown:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

            self._display = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[outcome]}"),
                console=Console(stderr=True),
            )

    def __enter__(self) -> Steps:
        if self._display is not None:
            self._display.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._display is not None:
            self._display.stop()

    def start(self, title: str, total: int) -> Step:
        """A new line for a step of `total` parts."""
        return Step(self._display, title, total)


class Step:
    """One line of the display."""

    def __init__(self, display: Any, title: str, total: int):
        self._display = display
        self._total = total
        self._id = None if display is None else display.add_task(title, total=total, outcome="")

    def advance(self, parts: int) -> None:
        """`parts` more are done."""
        if self._display is not None:
            self._display.advance(self._id, parts)

    def finish(self, outcome: str) -> None:
        """All is done, and this is what came of it."""
        if self._display is not None:
            self._display.update(self._id, completed=self._total, outcome=outcome)
