"""Files, folders and patterns -> the files that hold pictures or sounds, and what was passed over."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from mizoo._tools.files import user_path
from mizoo.errors import UserError

_LISTED = 10


def find(
    paths: str | os.PathLike | Iterable[str | os.PathLike],
    missing: list[tuple[Path, str]] | None,
    passed_over: dict[str, int] | None,
    suffixes: frozenset[str],
    what: str,
    readable: Callable[[Path], bool],
    uncertain: frozenset[str] = frozenset(),
) -> list[Path]:
    """List files of one kind: in the order of `paths`, sorted within a folder or pattern, each file once.

    Args:
        paths: files, with any suffix; folders, searched recursively for the files with one of `suffixes` that are not
            hidden; glob patterns, `**` included, which give the files with one of `suffixes` and those that are
            `readable`. A name that exists is never taken for a pattern.
        missing: list to which (path, reason) is appended for each argument that holds nothing, instead of raising, as
            long as another one does.
        passed_over: to which the files of folders and patterns that were left out are added: suffix -> how many.
        suffixes: in lower case.
        what: what messages call such a file.
        readable: whether a file of another suffix begins like one of the kind.
        uncertain: other suffixes, of which the files in folders count as well if they are `readable`.

    Returns:
        The files, as they were named.

    Raises:
        UserError: naming each argument that is not there or holds no such file.
    """
    arguments = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    if not arguments:
        raise UserError(f"No path was given. Pass {what} files, folders or patterns.")
    search = _Search(suffixes, readable, uncertain)
    by_path: dict[str, Path] = {}
    for argument in arguments:
        path = user_path(argument)
        before = len(search.problems)
        search.matches, search.left_out = 0, Counter()
        files = list(search.expand(path))
        if not files and len(search.problems) == before:
            search.problems.append((path, _reason(path, search, what)))
        for file in files:
            by_path.setdefault(os.path.abspath(file), file)
    if search.problems and (missing is None or not by_path):
        raise _nothing_found(search, what)
    if missing is not None:
        missing.extend(search.problems)
    if passed_over is not None:
        rest = [path for path in search.passed_over if path not in by_path]
        passed_over.update(Counter(passed_over) + Counter(_suffix(path) for path in rest))
    return list(by_path.values())


def stream(
    paths: str | os.PathLike | Iterable[str | os.PathLike],
    missing: list[tuple[Path, str]],
    passed_over: Counter[str],
    suffixes: frozenset[str],
    what: str,
    readable: Callable[[Path], bool],
    uncertain: frozenset[str] = frozenset(),
) -> Iterator[Path]:
    """The files of `find` one by one, in the same order, without a list of all of them.

    Memory grows with the files of one folder, the number of folders, and what patterns match.

    Raises:
        UserError: if no path was given or, at the end, if there was no such file.
    """
    arguments = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    if not arguments:
        raise UserError(f"No path was given. Pass {what} files, folders or patterns.")
    search = _Search(suffixes, readable, uncertain)
    search.counts = passed_over
    # Absolute paths of the arguments so far that are folders, and of other files that have been given.
    folders, given = set[str](), set[str]()
    found = False
    for argument in arguments:
        path = user_path(argument)
        problems, any_here, is_folder = len(search.problems), False, path.is_dir()
        search.matches, search.left_out = 0, Counter()
        for file in search.expand(path):
            any_here = found = True
            absolute = os.path.abspath(file)
            if absolute in given or (folders and any(above in folders for above in _folders_above(absolute))):
                continue
            if not is_folder:
                given.add(absolute)
            yield file
        if is_folder:
            folders.add(os.path.abspath(path))
        if not any_here and len(search.problems) == problems:
            search.problems.append((path, _reason(path, search, what)))
    missing.extend(search.problems)
    if not found:
        raise _nothing_found(search, what)


def _nothing_found(search: _Search, what: str) -> UserError:
    listed = "\n".join(f"  {path}: {reason}" for path, reason in search.problems[:_LISTED])
    more = f"\n  and {len(search.problems) - _LISTED} more" if len(search.problems) > _LISTED else ""
    return UserError(f"No {what} was found at:\n{listed}{more}")


def count(passed_over: Mapping[str, int]) -> str:
    """Files by their suffix in words: "3 .heic, 2 without suffix"; "" for none."""
    ordered = sorted(passed_over.items(), key=lambda item: (-item[1], item[0]))
    words = [f"{number} {suffix or 'without suffix'}" for suffix, number in ordered]
    return ", ".join(words[:_LISTED] + (["..."] if len(words) > _LISTED else []))


def _reason(path: Path, search: _Search, what: str) -> str:
    """Why an argument that is there, or a pattern, gave no file."""
    found = count(search.left_out)
    if not path.is_dir():
        if not search.matches:
            return "the pattern matches no file"
        return f"the pattern matches no {what} in a known format" + (f", but {found}" if found else "")
    known = " ".join(sorted(search.suffixes))
    return f"no file with the suffix of a {what} ({known})" + (f", but {found}" if found else "")


class _Search:
    """One call of `find`: what it looks for, and what it came across.

    Attributes:
        problems: (path, reason) of arguments and folders that could not be read.
        passed_over: absolute paths of the files that were left out, unless they are only counted.
        counts: suffix -> how many were left out, in the place of that; None where their paths are kept.
        matches, left_out: of the present argument: how many names its pattern matches; suffix -> files left out.
    """

    def __init__(
        self, suffixes: frozenset[str], readable: Callable[[Path], bool], uncertain: frozenset[str] = frozenset()
    ) -> None:
        self.suffixes, self.readable, self.uncertain = suffixes, readable, uncertain
        self.problems: list[tuple[Path, str]] = []
        self.passed_over: dict[str, None] = {}
        self.counts: Counter[str] | None = None
        self.matches = 0
        self.left_out: Counter[str] = Counter()

    def expand(self, path: Path) -> Iterator[Path]:
        """The files that one argument stands for."""
        if path.is_dir():
            yield from self.walk(path)
        elif path.exists():
            yield path
        elif not glob.has_magic(str(path)):
            self.problems.append((path, "no such file or folder"))
        else:
            for match in sorted(glob.glob(str(path), recursive=True)):
                self.matches += 1
                if not os.path.isdir(match):
                    if self.takes(Path(match), by_content=True):
                        yield Path(match)
                elif "**" not in path.parts:  # `**` lists the files below by itself
                    yield from self.walk(Path(match))

    def walk(self, folder: Path) -> Iterator[Path]:
        """The files below a folder, in the order of their paths."""
        seen: set[str] = set()

        def unreadable(error: OSError) -> None:
            """Record a folder that could not be read."""
            self.problems.append((Path(error.filename), error.strerror or "cannot be read"))

        def below(folder: Path) -> Iterator[Path]:
            """The files of a folder and its subfolders, in the order of their paths, a folder in memory at a time."""
            if (real := os.path.realpath(folder)) in seen:  # a link that leads back up
                return
            seen.add(real)
            try:
                with os.scandir(folder) as listed:
                    entries = sorted(listed, key=lambda entry: entry.name)
            except OSError as error:
                unreadable(error)
                return
            for entry in entries:
                path = Path(folder, entry.name)
                if _is_folder(entry):
                    if not entry.name.startswith("."):
                        yield from below(path)
                elif self.takes(path, by_content=False):
                    yield path

        yield from below(folder)

    def takes(self, path: Path, by_content: bool) -> bool:
        """Whether a file that was come across counts; one that does not is noted, unless it is hidden."""
        if path.name.startswith("."):
            return False
        looked_at = by_content or _suffix(path) in self.uncertain
        if _suffix(path) in self.suffixes or (looked_at and self.readable(path)):
            return True
        self.left_out[_suffix(path)] += 1
        if self.counts is None:
            self.passed_over[os.path.abspath(path)] = None
        else:
            self.counts[_suffix(path)] += 1
        return False


def _is_folder(entry: os.DirEntry) -> bool:
    """Whether an entry leads to a folder; a link that leads back to itself is a file, which then cannot be read."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _folders_above(path: str) -> Iterator[str]:
    """The folders that an absolute path lies in, the innermost first."""
    while (above := os.path.dirname(path)) != path:
        yield above
        path = above


def _suffix(path: str | os.PathLike) -> str:
    return os.path.splitext(os.path.basename(path))[1].lower()
