"""Work on many things in threads, with the results in their order."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from mizoo._tools.hardware import cores

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_AHEAD = 16  # for each thread


def in_order(function: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
    """The results of a function that releases Python's lock, a thread for each core, a few of them ahead.

    Args:
        function: called with one item at a time; what it raises comes in the place of its result.
        items: taken as they are needed.

    Yields:
        The results, in the order of the items.
    """
    threads = cores()
    pending, rest = deque[Future[_Result]](), iter(items)
    pool = ThreadPoolExecutor(threads)
    try:
        while True:
            for item in itertools.islice(rest, _AHEAD * threads - len(pending)):
                pending.append(pool.submit(function, item))
            if not pending:
                return
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
