"""Results as rows in a JSON file: one row for each number that a table may show."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mizoo._tools.files import write_json
from mizoo._tools.locks import lock_file
from mizoo.errors import UserError

FORMAT = "mizoo-results-1"
ENCODERS = ("published", "random", "pixels")
TFDS = "tfds:"
CONTENT = "sha256:"
UNKNOWN = "unknown"  # in the place of a version
FULL_PRECISION = "float32"


@dataclasses.dataclass(frozen=True)
class Row:
    """One measured number and what it takes to measure it again.

    Args:
        entry: name of the entry, or of the run folder.
        encoder: `published` (the entry's weights), `random` (its architecture, new weights) or `pixels` (no encoder).
        dataset: name of the data.
        endpoint: name of the features.
        protocol: a name of `mizoo.evaluate.protocols.TABLE`, which has its unit and which way is better; or another,
            whose settings have `about`, `unit` and `better`.
        value: in the unit of the protocol (of probes top-1 accuracy in percent), the mean over seeds.
        spread: standard deviation over seeds (0 for one seed or a deterministic protocol).
        seeds: number of probes trained.
        split: `test`, `validation`, or `whole` for measures of data that have one split.
        train_size: pictures that something was fitted on; 0 where nothing is fitted.
        test_size: pictures that were scored.
        settings: the protocol's settings, among them its schedule or variant.
        command: the command line that makes this row.
        version: version of mizoo.
        hardware: what it ran on.
        seconds: wall-clock time of the fit and the score.
        source: where the data came from: "tfds:NAME/VERSION", or "sha256:..." of the content of a folder or an array
            (`mizoo.evaluate.source`); "" in rows of version 0.1.0, which are taken for those of the TFDS data set that
            they name.
        precision: in which the features were computed, "float32" or a policy of Keras; "" in rows of version 0.1.0,
            which are of float32.
    """

    entry: str
    encoder: str
    dataset: str
    endpoint: str
    protocol: str
    value: float
    spread: float
    seeds: int
    split: str
    train_size: int
    test_size: int
    settings: dict[str, Any]
    command: str
    version: str
    hardware: str
    seconds: float
    source: str = ""
    precision: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        """The names that say what was measured, by which rows are sorted; `measures_the_same` has all of it."""
        schedule = str(self.settings.get("schedule", self.settings.get("variant", "")))
        return (self.entry, self.dataset, self.split, self.protocol, schedule, self.encoder, self.endpoint)

    @property
    def tfds_name(self) -> str | None:
        """The TFDS data set that was measured, without its version; None for other data."""
        if not self.source:  # a row of 0.1.0; those of sounds are named after their labels too
            return self.dataset.removesuffix("/digit").removesuffix("/speaker")
        return self.source.removeprefix(TFDS).rpartition("/")[0] if self.source.startswith(TFDS) else None

    def measures_the_same(self, other: Row) -> bool:
        """Whether both rows measure the same thing, so that the later one replaces the earlier.

        That takes the same names (`key`), the same data, as many of them, and the same precision.
        """
        if (self.key, self.train_size, self.test_size) != (other.key, other.train_size, other.test_size):
            return False
        if (self.precision or FULL_PRECISION) != (other.precision or FULL_PRECISION):
            return False
        if self.source and other.source:
            return self.source == other.source
        return self.tfds_name is not None and self.tfds_name == other.tfds_name


def public_command(row: Row) -> str:
    """The command of a row without the paths of the machine that it ran on: of those the last name is left."""
    try:
        words = shlex.split(row.command)
        quoted = any(mark in row.command for mark in "'\"") and not row.command.startswith("mizoo.")
    except ValueError:  # a quotation mark without its other
        quoted = False
    if not quoted:
        words = row.command.split(" ")
    public: list[str] = []
    path: list[str] = []
    for word in [*words, "--"]:  # the last ends a path, and is left out below
        if path and not quoted and not word.startswith("-"):  # unquoted, a path goes on behind its spaces
            path.append(word)
            continue
        if path:
            public.append(re.split(r"[\\/]", " ".join(path).rstrip("\\/ "))[-1])
            path = []
        if word.startswith(("/", "~", "..", "\\")) or re.match(r"[A-Za-z]:[\\/]", word):
            path = [word]
        else:
            public.append(word)
    return (shlex.join if quoted else " ".join)(public[:-1])


_TYPES: dict[str, Any] = {
    field.name: {"str": str, "int": int, "float": (int, float), "dict[str, Any]": dict}[str(field.type)]
    for field in dataclasses.fields(Row)
}
_SINCE_0_1_0 = ("source", "precision")  # keys that older rows do not have


def read_rows(path: str | os.PathLike) -> list[Row]:
    """The rows of a results file.

    Args:
        path: a `results.json` that `merge_rows` wrote.

    Returns:
        Its rows, in the order of the file.

    Raises:
        UserError: if the file is missing or cannot be read, is no JSON, or holds anything but rows.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"No results at {path}. `mizoo evaluate` writes them") from None
    except OSError as error:
        raise UserError(f"A results file is a JSON file that can be read. Received: {path}, {error.strerror}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not readable as JSON ({error}). Restore it or move it away") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT or not isinstance(content.get("rows"), list):
        raise UserError(f"{path} is not a results file of mizoo (format {FORMAT!r}). It is left as it was")
    return [_row(item, path, i) for i, item in enumerate(content["rows"])]


def merge_rows(
    path: str | os.PathLike, rows: Iterable[Row], replaced: Callable[[Row, Row], None] | None = None
) -> list[Row]:
    """Add rows to a results file; a row that measures the same as an older one replaces it.

    Several processes may do so at once: each waits until the others have written.

    Args:
        path: the file, made when missing.
        rows: the new rows.
        replaced: called with each row that was taken out and the one in its place, once the file is written.

    Returns:
        All rows now in the file, sorted by key.

    Raises:
        UserError: if the file exists and is not a results file; it is left as it was.
    """
    path = Path(path)
    if path.exists():  # before a lock is left beside what is no results file
        read_rows(path)
    pairs = []
    with lock_file(path):
        merged = read_rows(path) if path.exists() else []
        for row in rows:
            pairs += [(old, row) for old in merged if row.measures_the_same(old)]
            merged = [old for old in merged if not row.measures_the_same(old)] + [row]
        ordered = sorted(merged, key=lambda row: (row.key, row.train_size, row.test_size, row.source, row.precision))
        write_rows(path, ordered)
    if replaced is not None:
        for old, new in pairs:
            replaced(old, new)
    return ordered


def keep_rows(path: str | os.PathLike, wanted: Callable[[Row], bool]) -> None:
    """Take the rows that are not wanted out of a results file, and the file away where none is; errors as above."""
    path = Path(path)
    with lock_file(path):
        remaining = [row for row in read_rows(path) if wanted(row)]
        if remaining:
            write_rows(path, remaining)
        else:
            path.unlink()


def write_rows(path: str | os.PathLike, rows: Iterable[Row]) -> None:
    """Write a results file of these rows alone, atomically; `merge_rows` is for one that others may write to."""
    items = [dataclasses.asdict(row) for row in rows]
    for item in items:
        for key in _SINCE_0_1_0:
            if not item[key]:  # a row of 0.1.0 stays as it was written
                del item[key]
    write_json(path, {"format": FORMAT, "rows": items})


def _row(item: Any, path: Path, index: int) -> Row:
    known = set(_TYPES)
    if isinstance(item, dict):
        known -= {key for key in _SINCE_0_1_0 if key not in item}
    if not isinstance(item, dict) or set(item) != known:
        mismatched = sorted(set(item) ^ known) if isinstance(item, dict) else [type(item).__name__]
        raise UserError(
            f"Row {index} of {path} has missing or unknown keys: {', '.join(mismatched)}. It is left as it was"
        )
    for key in item:
        kind = _TYPES[key]
        if not isinstance(item[key], kind) or isinstance(item[key], bool):
            raise UserError(f"Row {index} of {path}: `{key}` has the wrong type. Received: {item[key]!r}")
    if item["encoder"] not in ENCODERS:
        raise UserError(f"Row {index} of {path}: `encoder` is one of {ENCODERS}. Received: {item['encoder']!r}")
    return Row(**item)
