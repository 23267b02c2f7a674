"""The folder that `MIZOO_URL` serves: the files of entries under the paths of the cache."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from mizoo._tools.files import atomic, user_path, write_json
from mizoo._tools.files import sha256 as hash_of
from mizoo._tools.progress import bar
from mizoo.errors import UserError
from mizoo.zoo import entries

INDEX = "index.json"


def bundle(out: str | os.PathLike, names: Iterable[str] = (), progress: bool = True) -> Path:
    """Write the files of entries into a folder that any web server can serve, or that is copied to `MIZOO_HOME`.

    A folder may be written again: files that are there and whole are left, and those of earlier bundles stay, so that
    older versions of mizoo find theirs. `index.json` lists what the folder was written with last: entry -> licence and
    files (path, sha256, bytes). It is for people; the hashes that count are pinned in the package.

    Args:
        out: the folder.
        names: entries, or their versions such as "simclr_cifar10@1"; all of them, in every version, if none is given.
        progress: show a bar.

    Returns:
        The folder.

    Raises:
        UserError: for an unknown name, a file that is missing or damaged, or a folder that cannot be written.
    """
    out = user_path(out)
    if out.exists() and not out.is_dir():
        raise UserError(f"A bundle is a folder. Received the file {out}")
    names = tuple(names) or _all_versions()
    pairs = [(name, file) for name in names for file in sorted(entries.info(name)["files"])]
    index: dict[str, dict] = {}
    with bar("bundling", len(pairs), progress) as advance:
        for name, file in pairs:
            wanted = entries.wanted(name, file)
            try:
                _copy(name, file, out / wanted.relative, wanted.sha256)
            except OSError as error:
                raise UserError(f"{out} cannot be written: {error.strerror or error}.") from error
            listed = index.setdefault(name, {"license": entries.info(name)["license"], "files": {}})
            listed["files"][file] = {"path": wanted.relative, "sha256": wanted.sha256, "bytes": wanted.size}
            advance(1)
    write_json(out / INDEX, index)
    return out


def _copy(name: str, file: str, target: Path, sha256: str) -> None:
    if target.is_file() and hash_of(target) == sha256:
        return
    content = entries.read(name, file).content
    with atomic(target) as temporary, open(temporary, "wb") as stream:
        stream.write(content)


def _all_versions() -> tuple[str, ...]:
    earlier = [f"{name}@{version}" for name, each in entries.registry().items() for version in each.get("earlier", ())]
    return (*entries.list_models(), *earlier)
