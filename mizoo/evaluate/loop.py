"""The loop over tasks and variants: every number that a protocol gives becomes a row, and is kept at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from mizoo._tools.progress import Progress
from mizoo.evaluate import copies
from mizoo.evaluate.protocols import TABLE, LeftOut, Options, Protocol, Score, Task
from mizoo.evaluate.rows import Row
from mizoo.evaluate.unfinished import Unfinished


class Loop:
    """Runs protocols on tasks.

    Args:
        options: fields of `Options` but the variant.
        facts: fields of `Row` that all rows share.
        provenance: settings that identify the weights.
        display: shows the progress.
        keep: called with each row as soon as it is measured.
        unfinished: the rows of the same evaluation that was interrupted.
        dataset: as `mizoo.data.load` takes it.

    Attributes:
        rows: all rows so far.
    """

    def __init__(
        self,
        options: dict[str, Any],
        facts: dict[str, Any],
        provenance: dict[str, Any],
        display: Progress,
        keep: Callable[[Row], object],
        unfinished: Unfinished,
        dataset: Any,
    ) -> None:
        self.options, self.facts, self.provenance = options, facts, provenance
        self.display, self.keep, self.unfinished, self.dataset = display, keep, unfinished, dataset
        self.rows: list[Row] = []
        self._copies: dict[tuple[int, int], int] = {}
        self._said = ""

    def begin(self, source: str) -> None:
        """Note where the data came from, once they are loaded, and read the rows of an interrupted evaluation."""
        self.facts["source"] = source
        if count := self.unfinished.begin(self.facts):
            self.display.print(f"an evaluation with these arguments was interrupted: its {count} rows are taken over")

    def run(self, protocol: Protocol, tasks: Iterable[Task]) -> None:
        """Measure one protocol: a row for each task and variant.

        Raises:
            LeftOut: if it is left out for every task and variant.
        """
        measured, left_out = 0, None
        for task in tasks:
            self._copies_in(protocol, task)  # said also where its rows are taken over
            for variant in ("",) if protocol.joint else protocol.variants:
                if done := self.unfinished.rows_of(protocol, task, variant):
                    self._add(done)
                    measured += 1
                    continue
                try:
                    self._add(list(self._measure(protocol, task, variant)))
                    measured += 1
                except LeftOut as error:
                    left_out = error
        if left_out is not None and not measured:
            raise left_out

    def _copies_in(self, protocol: Protocol, task: Task) -> int:
        """How many scored pictures a protocol was fitted on as well, which is said once."""
        fitted, scored = task.train_images, task.test_images
        if not protocol.fits or fitted is None or scored is None:
            return 0
        which = (id(fitted), id(scored))
        if which not in self._copies:
            self._copies[which] = found = copies.count(self.dataset, fitted, scored)
            said = copies.sentence(self.dataset, found, scored, task.split) if found else ""
            if said and said != self._said:  # the same pictures are loaded with labels and without
                self.display.print(said)
                self._said = said
        return self._copies[which]

    def _add(self, rows: list[Row]) -> None:
        for row in rows:
            self.rows.append(row)
            self.keep(row)
        self.unfinished.add(rows)

    def _measure(self, protocol: Protocol, task: Task, variant: str) -> Iterator[Row]:
        where = task.dataset if "/" in task.dataset and task.test_images is None else ""
        line = self.display.start(", ".join(filter(None, (protocol.name, variant, where, task.endpoint))))
        started, cpu = time.perf_counter(), time.process_time()
        try:
            scores = protocol(task, Options(**self.options, variant=variant), line)
        except LeftOut as error:
            line.finish(f"left out: {error}")
            raise
        seconds = (time.perf_counter() - started, time.process_time() - cpu)
        by_variant = asked_for(protocol, scores) if protocol.joint else {variant: scores}
        values = ", ".join(f"{score.mean:.{protocol.digits - 1}f}" for score in by_variant.values())
        line.finish(f"{values} {protocol.unit}")
        for each, score in by_variant.items():
            yield self._row(protocol, task, each, score, seconds)

    def _row(self, protocol: Protocol, task: Task, variant: str, score: Score, seconds: tuple[float, float]) -> Row:
        description: dict[str, Any] = {"variant": variant} if variant else {}
        train_size, test_size = task.sizes
        if protocol.name in TABLE:
            train_size = score.settings.get("labels", train_size)
        else:  # a table cannot look it up
            description |= {"about": protocol.about, "unit": protocol.unit, "better": protocol.better}
        if copied := self._copies_in(protocol, task):
            description["test_in_train"] = copied
        facts, provenance = self.facts, self.provenance
        if protocol.renews:
            facts = {**facts, "encoder": "random"}
            provenance = {key: value for key, value in provenance.items() if key != "weights"}
        return Row(
            **facts,
            dataset=task.dataset,
            split=task.split,
            endpoint=task.endpoint,
            protocol=protocol.name,
            value=round(score.mean, protocol.digits),
            spread=round(score.spread, protocol.digits),
            seeds=score.seeds,
            train_size=train_size if protocol.fits else 0,
            test_size=test_size,
            settings=_plain(score.settings) | description | provenance | {"cpu_seconds": round(seconds[1], 1)},
            seconds=round(seconds[0], 1),
        )


def _plain(value: Any) -> Any:
    """Numbers and arrays of NumPy as Python's, as JSON takes them, also within dicts and lists."""
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, dict):
        return {_plain(key): _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def asked_for(protocol: Protocol, scores: dict[str, Score]) -> dict[str, Score]:
    """The scores of the variants that a protocol has, or that are left of it.

    Raises:
        LeftOut: if it gave none of them.
    """
    chosen = {variant: scores[variant] for variant in protocol.variants if variant in scores}
    if not chosen:
        raise LeftOut(f"`{protocol.name}` gives no {', '.join(protocol.variants)} for so few pictures.")
    return chosen
