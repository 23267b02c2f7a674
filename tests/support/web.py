"""A web server of a test's own, on this machine, that serves a folder and misbehaves when it is told to."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Server:
    """A folder served at `url`.

    Attributes:
        url: the address of the folder.
        requests: the paths that were asked for, in order.
        cut: of how many more answers the connection is cut in the middle.
        wrong: whether a byte of each answer is changed.
        delay: seconds before each answer.
    """

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.cut, self.wrong, self.delay, self.url = 0, False, 0.0, ""


@contextlib.contextmanager
def serve(folder: Path, handler: type[SimpleHTTPRequestHandler] | None = None) -> Iterator[Server]:
    """Serve a folder until the block ends."""
    state = Server()

    class Handler(handler or SimpleHTTPRequestHandler):  # type: ignore[misc]
        def do_GET(self) -> None:
            state.requests.append(self.path)
            time.sleep(state.delay)
            super().do_GET()

        def copyfile(self, source, outputfile) -> None:
            content = bytearray(source.read())
            if state.cut > 0:
                state.cut -= 1
                content = content[: len(content) // 2]
                self.close_connection = True
            if state.wrong:
                content[len(content) // 2] ^= 1
            outputfile.write(content)

        def log_message(self, *arguments) -> None:
            """Nothing: what is served is in `requests`."""

    with ThreadingHTTPServer(("127.0.0.1", 0), lambda *a: Handler(*a, directory=str(folder))) as server:
        state.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()
