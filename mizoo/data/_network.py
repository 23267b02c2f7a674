"""Whether a download can begin at all, in a few seconds: what downloads by itself tries again for minutes."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Iterable
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

SECONDS = 5.0
"""How long an answer is waited for, in seconds."""

_PORTS = {"http": 80, "https": 443, "ftp": 21}


def any_reachable(urls: Iterable[str], seconds: float = SECONDS) -> bool:
    """Whether the host of one of the addresses, or the proxy before it, takes a connection.

    Args:
        urls: addresses; what is no address of a host counts as reachable.
        seconds: to wait at most, for all of them together.
    """
    hosts = {_host(url) for url in urls}
    if None in hosts:
        return True
    answers: queue.Queue[bool] = queue.Queue()
    for host, port in filter(None, hosts):
        # A daemon: looking up a name has no limit of its own, and nothing waits for it after the time is over.
        threading.Thread(
            target=lambda at: answers.put(_connects(at, seconds)), args=((host, port),), daemon=True
        ).start()
    end = time.monotonic() + seconds
    for _ in hosts:
        try:
            if answers.get(timeout=max(0.0, end - time.monotonic())):
                return True
        except queue.Empty:
            return False
    return False


def _connects(address: tuple[str, int], seconds: float) -> bool:
    try:
        socket.create_connection(address, timeout=seconds).close()
    except OSError:
        return False
    return True


def _host(url: str) -> tuple[str, int] | None:
    """Host and port that a request for `url` connects to; None where that cannot be told."""
    parts = urlsplit(url)
    if not parts.hostname or parts.scheme not in _PORTS:
        return None
    proxy = getproxies().get(parts.scheme)
    if proxy and not proxy_bypass(parts.hostname):
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return (parts.hostname, parts.port or _PORTS.get(parts.scheme, 80)) if parts.hostname else None
