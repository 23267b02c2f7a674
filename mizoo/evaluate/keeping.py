"""Which rows of `mizoo evaluate` are kept, and where; and what to tell about it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mizoo._tools.files import user_path
from mizoo.evaluate.protocols import TABLE
from mizoo.evaluate.rows import TFDS, Row, merge_rows, read_rows


class Keeper:
    """Keeps each row as soon as it is measured: the `rows` of `evaluate`.

    A published entry's results change by themselves only through what anyone can measure again: rows of the protocols
    of `TABLE` on data sets of TFDS. All other rows go where `chosen` says, or nowhere.

    Args:
        chosen: the results file that the caller asked for, or None.
        published: that of the published entry that is measured, or None.

    Raises:
        UserError: if the file is there and is no results file.
    """

    def __init__(self, chosen: Path | None, published: Path | None) -> None:
        self.chosen, self.published = None if chosen is None else user_path(chosen), published
        self.kept, self.passed_over = 0, 0
        self.replaced: list[tuple[Row, Row]] = []
        if self.path is not None and self.path.exists():
            read_rows(self.path)

    @property
    def path(self) -> Path | None:
        """The file that rows go to."""
        return self.chosen or self.published

    def __call__(self, row: Row) -> None:
        """Keep a row, or pass it over."""
        reproducible = row.protocol in TABLE and row.source.startswith(TFDS)
        if self.path is None or (self.chosen is None and not reproducible):
            self.passed_over += 1
            return
        merge_rows(self.path, [row], lambda old, new: self.replaced.append((old, new)))
        self.kept += 1

    def summary(self) -> Iterator[str]:
        """Lines that say how many rows went where, and what each one replaced."""
        if self.kept:
            yield f"{self.kept} row{'s' * (self.kept > 1)} -> {self.path}"
        for old, new in self.replaced:
            variant = new.settings.get("schedule", new.settings.get("variant"))
            what = f"{new.protocol} ({variant})" if variant else new.protocol
            whose = "" if new.encoder == "published" else f"{new.encoder}, "
            yield (
                f"  replaced: {whose}{what} of {new.endpoint} on {new.dataset}, {new.split}: "
                f"{old.value:g} -> {new.value:g}"
            )
        if self.passed_over and self.published is None:
            yield "These rows are shown and not saved; `--rows results.json` saves them."
        elif self.passed_over:
            yield (
                f"{self.passed_over} of the rows not saved: those of a published entry change by themselves only "
                f"through mizoo's own protocols on data sets of TFDS. `--rows {self.published}` adds these as well."
            )
