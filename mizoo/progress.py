"""A progress bar on standard error, or nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def bar(title: str, total: int, shown: bool) -> Iterator[Callable[[int], None]]:
    """Yield a function that moves the bar on by a number of steps."""
    if not shown:
        yield lambda steps: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as display:
        task = display.add_task(title, total=total)
        yield lambda steps: display.advance(task, steps)
