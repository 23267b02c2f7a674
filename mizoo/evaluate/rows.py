"""Results as rows in a JSON file: one row for each number that a table may show."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mizoo._tools.files import write_json
from mizoo.errors import UserError

FORMAT = "mizoo-results-1"
ENCODERS = ("published", "random", "pixels")


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

    @property
    def key(self) -> tuple[str, ...]:
        """What makes two rows measurements of the same thing: the later one replaces the earlier."""
        schedule = str(self.settings.get("schedule", self.settings.get("variant", "")))
        return (self.entry, self.dataset, self.split, self.protocol, schedule, self.encoder, self.endpoint)


_TYPES: dict[str, Any] = {
    field.name: {"str": str, "int": int, "float": (int, float), "dict[str, Any]": dict}[str(field.type)]
    for field in dataclasses.fields(Row)
}


def read_rows(path: str | os.PathLike) -> list[Row]:
    """The rows of a results file.

    Args:
        path: a `results.json` that `merge_rows` wrote.

    Returns:
        Its rows, in the order of the file.

    Raises:
        UserError: if the file is missing, is no JSON, or holds anything but rows.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"No results at {path}. `mizoo evaluate` writes them") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not readable as JSON ({error}). Restore it or move it away") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT or not isinstance(content.get("rows"), list):
        raise UserError(f"{path} is not a results file of mizoo (format {FORMAT!r}). It is left as it was")
    return [_row(item, path, i) for i, item in enumerate(content["rows"])]


def merge_rows(path: str | os.PathLike, rows: Iterable[Row]) -> list[Row]:
    """Add rows to a results file; a row with the key of an older one replaces it.

    Args:
        path: the file, made when missing.
        rows: the new rows.

    Returns:
        All rows now in the file, sorted by key.

    Raises:
        UserError: if the file exists and is not a results file; it is left as it was.
    """
    path = Path(path)
    merged = {row.key: row for row in (read_rows(path) if path.exists() else [])}
    merged.update({row.key: row for row in rows})
    ordered = [merged[key] for key in sorted(merged)]
    _write(path, ordered)
    return ordered


def keep_rows(path: str | os.PathLike, wanted: Callable[[Row], bool]) -> None:
    """Take the rows that are not wanted out of a results file, and the file away where none is; errors as above."""
    path = Path(path)
    remaining = [row for row in read_rows(path) if wanted(row)]
    if remaining:
        _write(path, remaining)
    else:
        path.unlink()


def _write(path: Path, rows: list[Row]) -> None:
    write_json(path, {"format": FORMAT, "rows": [dataclasses.asdict(row) for row in rows]})


def _row(item: Any, path: Path, index: int) -> Row:
    if not isinstance(item, dict) or set(item) != set(_TYPES):
        mismatched = sorted(set(item) ^ set(_TYPES)) if isinstance(item, dict) else [type(item).__name__]
        raise UserError(
            f"Row {index} of {path} has missing or unknown keys: {', '.join(mismatched)}. It is left as it was"
        )
    for key, kind in _TYPES.items():
        if not isinstance(item[key], kind) or isinstance(item[key], bool):
            raise UserError(f"Row {index} of {path}: `{key}` has the wrong type. Received: {item[key]!r}")
    if item["encoder"] not in ENCODERS:
        raise UserError(f"Row {index} of {path}: `encoder` is one of {ENCODERS}. Received: {item['encoder']!r}")
    return Row(**item)
