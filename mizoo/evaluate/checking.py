"""Rows measured again: which of them moved by more than chance explains."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from mizoo.errors import UserError
from mizoo.evaluate.cache import FeatureCache, open_cache
from mizoo.evaluate.protocols import TABLE
from mizoo.evaluate.rows import TFDS, Row
from mizoo.evaluate.run import evaluate

POINTS = 0.5
SHARE = 0.02
_SEEDED = ("mlp200", "finetune", "scratch")  # the protocols that run as often as a caller asks for


@dataclasses.dataclass(frozen=True)
class Check:
    """A row and the same row measured again."""

    old: Row
    new: Row

    @property
    def tolerance(self) -> float:
        """How far a row may move: half a point or twice the spread over its seeds, whichever is more.

        Of a quantity that is no percentage, in the place of half a point: twice the standard error that the row states,
        or 2 % of its value.
        """
        protocol = TABLE.get(self.old.protocol)
        unit = protocol.unit if protocol else str(self.old.settings.get("unit", ""))
        if "%" in unit:
            least = POINTS
        else:
            error = self.old.settings.get("standard_error")
            least = 2 * float(error) if error is not None else SHARE * abs(self.old.value)
        return max(least, 2 * self.old.spread)

    @property
    def moved(self) -> bool:
        """Whether it moved by more."""
        return abs(self.new.value - self.old.value) > self.tolerance + 1e-9

    def line(self) -> str:
        """The check in one line."""
        verdict = "MOVED" if self.moved else "same"
        text = (
            f"{verdict:5}  {label(self.old)}: {self.old.value:g} -> {self.new.value:g} "
            f"({self.new.value - self.old.value:+.3g}, allowed {self.tolerance:.3g})"
        )
        if self.old.source and self.new.source != self.old.source:
            text += f"; the data are others: {self.old.source} -> {self.new.source}"
        return text


def label(row: Row) -> str:
    """What identifies a row for a person: protocol, variant, endpoint, encoder, data and split, with slashes between.

    `--row` selects by some of these words.
    """
    variant = str(row.settings.get("schedule", row.settings.get("variant", "")))
    words = (row.protocol, variant, row.endpoint, row.encoder, row.dataset, row.split)
    return "/".join(word for word in words if word)


def select(rows: Sequence[Row], patterns: Sequence[str]) -> list[Row]:
    """The rows that any pattern selects; all without patterns.

    Args:
        rows: rows of a results file.
        patterns: words of `label` with slashes between, in any order, such as "linear/fc" or "knn/random".

    Raises:
        UserError: for a pattern that selects none.
    """
    chosen: list[Row] = []
    for pattern in patterns:
        matching = [row for row in rows if set(pattern.split("/")) <= set(label(row).split("/"))]
        if not matching:
            known = "\n  ".join(label(row) for row in rows)
            raise UserError(f"No row is selected by {pattern!r}. There are:\n  {known}")
        chosen += [row for row in matching if row not in chosen]
    return chosen if patterns else list(rows)


def check(
    name: Any,
    rows: Sequence[Row],
    report: Callable[[Check], object] = lambda check: None,
    cache: Any = None,
    progress: bool = True,
) -> list[Check]:
    """Measure rows again, with the settings that they state; nothing is kept.

    Args:
        name: the encoder, as `evaluate` takes it.
        rows: rows of it.
        report: called with each check as soon as it is done.
        cache: as of `evaluate`, but by default a temporary folder, so that features are extracted anew, once.
        progress: as of `evaluate`.

    Raises:
        UserError: for rows of other data than those of TFDS, and of a protocol that is not in the table.
    """
    for row in rows:
        if row.protocol not in TABLE or row.tfds_name is None or (row.source and not row.source.startswith(TFDS)):
            raise UserError(
                f"Rows of mizoo's own protocols on data sets of TFDS are measured again. Received: {label(row)} of "
                f"{row.source or row.dataset}"
            )
    if cache is None:
        with tempfile.TemporaryDirectory(prefix="mizoo-check-") as folder:
            return check(name, rows, report, folder, progress)
    soon = sorted({row.endpoint for row in rows if "features" in TABLE[row.protocol].takes})
    chosen = open_cache(cache)
    store = FeatureCache(chosen.folder, chosen.limit, soon)
    checks: list[Check] = []
    for row in rows:
        variant = row.settings.get("variant")
        again = evaluate(
            name,
            row.tfds_name,
            (row.protocol if variant is None else f"{row.protocol}:{variant}",),
            [row.endpoint],
            encoder="published" if TABLE[row.protocol].renews else row.encoder,
            split="test" if row.split == "whole" else row.split,
            seeds=row.seeds if row.protocol in _SEEDED else 3,
            schedule=row.settings.get("schedule", "fast"),
            entry=row.entry,
            cache=store,
            progress=progress,
        )
        checks.append(Check(row, next(each for each in again if each.dataset == row.dataset)))
        report(checks[-1])
    return checks
