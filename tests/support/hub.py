"""A stand-in for the Hugging Face hub on this machine: enough of its addresses for `snapshot_download`."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote

from support.web import Server, serve

COMMIT = "c0ffee" + 34 * "0"


class _Hub(SimpleHTTPRequestHandler):
    """Serves <folder>/<owner>/<name>/... as the repository owner/name, with the branches "main" and "v1"."""

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        path = unquote(self.path.partition("?")[0]).strip("/")
        root = Path(self.directory)
        if path.startswith("api/models/"):
            owner, name, kind, revision, *_ = [*path.split("/")[2:], "", ""]
            folder = root / owner / name
            if not folder.is_dir() or revision not in ("main", "v1", COMMIT, ""):
                code = "RepoNotFound" if not folder.is_dir() else "RevisionNotFound"
                return self.send(404, b"", body, {"X-Error-Code": code})
            files = [
                {"type": "file", "path": p.name, "size": p.stat().st_size, "oid": etag(p)} for p in folder.iterdir()
            ]
            info = {"id": f"{owner}/{name}", "sha": COMMIT, "siblings": [{"rfilename": f["path"]} for f in files]}
            return self.send(200, json.dumps(files if kind == "tree" else info).encode(), body)
        owner, name, _, _, file = path.split("/")
        target = root / owner / name / file
        if not target.is_file():
            return self.send(404, b"", body, {"X-Error-Code": "EntryNotFound"})
        self.send(200, target.read_bytes(), body, {"ETag": f'"{etag(target)}"', "X-Repo-Commit": COMMIT})

    def send(self, status: int, content: bytes, body: bool, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(content)


def etag(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()


@contextlib.contextmanager
def hub(folder: Path) -> Iterator[Server]:
    """Serve the repositories in a folder until the block ends; `HF_ENDPOINT` is the address."""
    with serve(folder, _Hub) as server:
        yield server
