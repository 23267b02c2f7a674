"""The trials of a search as rows, as a table and as a picture."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mizoo._tools import files, markdown
from mizoo.recipes.search import Range

TABLE = "trials.md"
ROWS = "trials.csv"
PICTURE = "trials.png"


@dataclass(frozen=True)
class Trial:
    """One trial of a search.

    Attributes:
        number: of the trial, as keras-tuner counts.
        values: dotted key -> value.
        first, last: the epochs of the run that it begins after and ends with; `first` is 0 but for one that continues.
        continues: the number of the trial whose run it continues, or "".
        score: of the probe, in its unit; None where the trial failed.
        seconds: of training, as the run logged them; None where it logged none.
        note: why it failed, or "".
    """

    number: str
    values: Mapping[str, Any]
    first: int
    last: int
    continues: str = ""
    score: float | None = None
    seconds: float | None = None
    note: str = ""

    @property
    def spent(self) -> int:
        """The epochs that it trained for."""
        return self.last - self.first


@dataclass(frozen=True)
class Results:
    """The ended trials of a search.

    Attributes:
        name: of the recipe.
        trials: in the order in which they were run.
        column: of the probe, such as "probe_knn".
        unit: of its values.
        higher: whether higher values are better.
        endpoint: that is probed.
        source: of the labelled pictures.
        scored: how many of them are scored; 0 of sounds.
        epochs: of a whole run.
    """

    name: str
    trials: Sequence[Trial]
    column: str
    unit: str
    higher: bool
    endpoint: str
    source: str
    scored: int
    epochs: int

    @property
    def ranked(self) -> list[Trial]:
        """The trials with a score, the best first, of equal ones the shortest; then those without."""
        done = [each for each in self.trials if each.score is not None]
        sign = -1 if self.higher else 1
        done.sort(key=lambda each: (sign * (each.score or 0.0), each.last))
        return done + [each for each in self.trials if each.score is None]

    @property
    def best(self) -> Trial | None:
        """The trial with the best score; None where none has one."""
        return next((each for each in self.ranked if each.score is not None), None)

    @property
    def spent(self) -> int:
        """The epochs that all trials trained for."""
        return sum(each.spent for each in self.trials)

    def about(self) -> str:
        """What the numbers are, and from which difference on they tell two trials apart."""
        probe = self.column.removeprefix("probe_")
        text = f"`{probe}` of `{self.endpoint}` ({self.unit}) on the validation part of {markdown.plain(self.source)}"
        best = self.best
        if self.scored and best is not None and self.unit == "top-1 %" and 0 < (best.score or 0) < 100:
            share = (best.score or 0) / 100
            error = 100 * (share * (1 - share) / self.scored) ** 0.5
            text += (
                f", {self.scored:,} pictures: the best score has a standard error of {error:.2f}, and is, as the best "
                "of several, a little too high"
            )
        return f"{text}. {len(self.trials)} trials of {self.spent} epochs in all; a whole run has {self.epochs}."


def write(folder: Path, results: Results) -> None:
    """Write the rows and the table of the trials."""
    keys = list(results.trials[0].values) if results.trials else []
    with files.atomic(folder / ROWS) as path, open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["trial", "continues", "from_epoch", "to_epoch", results.column, "seconds", *keys, "note"])
        for each in results.trials:
            values = [_text(each.values[key]) for key in keys]
            known = ["" if value is None else f"{value:.6g}" for value in (each.score, each.seconds)]
            writer.writerow([each.number, each.continues, each.first, each.last, *known, *values, each.note])
    files.write_text(folder / TABLE, table(results) + "\n")


def table(results: Results) -> str:
    """The trials as a Markdown table, the best first, with a line about the numbers."""
    keys = list(results.trials[0].values) if results.trials else []
    probe = results.column.removeprefix("probe_")
    head = ["trial", *(f"`{key}`" for key in keys), probe, "epochs", "seconds"]
    body = [
        [
            f"{each.number}, continues {each.continues}" if each.continues else each.number,
            *(markdown.plain(_text(each.values[key])) for key in keys),
            markdown.plain(each.note.partition("\n")[0] or "failed") if each.score is None else f"{each.score:.2f}",
            str(each.last),
            "" if each.seconds is None else f"{each.seconds:.0f}",
        ]
        for each in results.ranked
    ]
    return f"{results.about()}\n\n{markdown.table(head, body, 1 + len(keys))}"


def plot(folder: Path, results: Results, space: Mapping[str, Range | tuple[Any, ...]]) -> Path | None:
    """Draw the scores in the order of the trials, and against each key; None where no trial has a score.

    Args:
        folder: of the search.
        results: its trials.
        space: the keys with their choices or ranges.
    """
    from matplotlib.figure import Figure

    done = [each for each in results.trials if each.score is not None]
    if not done:
        return None
    panels = 1 + len(space)
    columns = min(panels, 3)
    rows = -(-panels // columns)
    figure = Figure(figsize=(4.2 * columns, 3.4 * rows + 0.4), layout="constrained")
    figure.suptitle(f"{results.name}: {len(results.trials)} trials")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    label = f"{results.column.removeprefix('probe_')} of {results.endpoint}, {results.unit}"
    numbers = list(range(len(done)))
    points = _draw(axes[0], numbers, done, results, label)
    axes[0].set(xlabel="trial")
    axes[0].xaxis.get_major_locator().set_params(integer=True)
    for panel, (key, each) in zip(axes[1:], space.items()):
        if isinstance(each, Range):
            _draw(panel, [trial.values[key] for trial in done], done, results, label)
            panel.set_xscale(each.scale)
            if each.scale == "log":  # one tick a decade would leave short ranges without any
                ticks = [each.low, (each.low * each.high) ** 0.5, each.high]
                panel.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
                panel.minorticks_off()
        else:
            names = [_text(choice) for choice in each]
            _draw(panel, [names.index(_text(trial.values[key])) for trial in done], done, results, label)
            panel.set_xticks(range(len(names)), [name if len(name) <= 16 else f"{name[:15]}…" for name in names])
            panel.set_xlim(-0.5, len(names) - 0.5)
        panel.set(xlabel=key)
    for panel in axes[panels:]:
        panel.set_axis_off()
    figure.colorbar(points, ax=list(axes), label="epochs of the run")
    with files.atomic(folder / PICTURE) as temporary:
        figure.savefig(temporary, dpi=120)
    return folder / PICTURE


def _draw(axes: Any, places: Sequence[float], done: Sequence[Trial], results: Results, label: str) -> Any:
    """One panel: scores at their places, coloured by the epochs of the run, the best one circled; the points."""
    points = axes.scatter(
        places, [each.score for each in done], c=[each.last for each in done], vmin=0, vmax=results.epochs, s=28
    )
    best = done.index(results.best)
    axes.plot([places[best]], [done[best].score], "o", markersize=11, fillstyle="none", color="tab:red")
    axes.set(ylabel=label)
    return points


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)
