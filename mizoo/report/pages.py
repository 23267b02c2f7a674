"""The blocks of README.md and docs/*.md that hold tables, written again from rows. No Keras is loaded for it."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from pathlib import Path

from mizoo._tools import markdown
from mizoo._tools.files import write_text
from mizoo._tools.locks import lock_file
from mizoo.errors import UserError
from mizoo.evaluate.protocols import ALL_MEASURES, MEASURES, TABLE
from mizoo.evaluate.published import entry_rows
from mizoo.evaluate.rows import Row, read_rows
from mizoo.report import benchmark_tables
from mizoo.report.paper_models_table import paper_models_tables
from mizoo.report.tables import table
from mizoo.report.variant_table import CURVES, utility_table
from mizoo.zoo import entries

_BLOCK = re.compile(r"(<!-- table: (?P<name>[^>]*?) -->\n)(?P<body>.*?)(<!-- /table -->)", re.DOTALL)
_OPENING = re.compile(r"<!-- table: ")

# Name of a block -> the file in benchmarks/ and what makes a table of it.
_BENCHMARKS: dict[str, tuple[str, Callable[[Path], str]]] = {
    "probe schedule": ("probe_schedule.json", benchmark_tables.schedule_table),
    "ablation": ("ablation.json", benchmark_tables.ablation_table),
    "augment cost": ("augment_cost.json", benchmark_tables.augment_table),
    "training step": ("step.json", benchmark_tables.step_table),
    "label budgets": ("label_budgets.json", benchmark_tables.label_budgets_table),
    "label budgets photographs": ("label_budgets_photographs.json", benchmark_tables.label_budgets_table),
    "paper models": ("paper_models.json", lambda path: paper_models_tables(path, _untrained(_PAPERS_ENCODER))),
    "trials at length": ("trials_at_length.json", lambda path: table(read_rows(path), compare=False)),
    "dim_local_mnist": ("dim_local_mnist.json", paper_models_tables),
    "fast_cifar10": ("fast_cifar10.json", paper_models_tables),
    "batch and bounds": ("batch_and_bounds.json", benchmark_tables.batch_and_bounds_table),
    "own pictures": ("own_pictures.json", benchmark_tables.own_pictures_table),
    "shared information": ("shared_information.json", benchmark_tables.shared_information_table),
    "spoken digit": ("spoken_digit.json", benchmark_tables.spoken_digit_table),
}
_PAPERS_ENCODER = "dim_local_cifar10"  # whose network the recipes of models/paper_cifar10 train
_TRIALS = "trials "
_UTILITY = "utility"


def write_tables(root: str | os.PathLike | None = None) -> list[Path]:
    """Write the marked tables in README.md and docs/*.md again: what `mizoo tables` does.

    A block starts with `<!-- table: NAME -->` and ends with `<!-- /table -->`, each on its own line. NAME is
    `<protocol> <dataset>` (such as `mlp200 cifar10`, with `measures` for those of `docs/measures.md` and `utility` for
    the utility of pretraining by its label curves), `entries`, `trials <entry>`, or of a benchmark: `ablation`, `probe
    schedule`, `augment cost`, `training step`, `label budgets`, `label budgets photographs`, `own pictures`, `paper
    models`, `trials at length`, `dim_local_mnist`, `fast_cifar10`, `batch and bounds`, `shared information`, `spoken
    digit`. Entries that have no rows yet are left out of the tables of rows.

    Args:
        root: the clone; the one this package is imported from by default.

    Returns:
        The files that hold a block, whether their text changed or not.

    Raises:
        UserError: for an unknown NAME, a block without an end, or rows that are missing; no file is changed then.
    """
    clone = entries.require_clone("Tables are written") if root is None else Path(root)
    pages = [page for page in [clone / "README.md", *sorted((clone / "docs").glob("*.md"))] if page.is_file()]
    if not pages:
        raise UserError(f"Tables are written into the README.md of a clone of mizoo. {clone} has none")
    texts = {}
    with lock_file(clone / "README.md"):
        for page in pages:
            text = page.read_text(encoding="utf-8")
            if len(_OPENING.findall(text)) != len(_BLOCK.findall(text)):
                raise UserError(f"A table block in {page} has no end. Close it with a line `<!-- /table -->`")
            if _OPENING.search(text):
                texts[page] = (text, _BLOCK.sub(functools.partial(_filled, clone=clone, folder=page.parent), text))
        for page, (before, after) in texts.items():
            if after != before:
                write_text(page, after)
    return list(texts)


def _filled(block: re.Match, clone: Path, folder: Path) -> str:
    return f"{block[1]}{_content(block['name'], clone, folder)}\n{block[4]}"


def _content(name: str, clone: Path, folder: Path) -> str:
    if name == "entries":
        return _entries_table(os.path.relpath(clone, folder))
    if name in _BENCHMARKS:
        file, make_table = _BENCHMARKS[name]
        return make_table(clone / "benchmarks" / file)
    if name.startswith(_TRIALS):
        return benchmark_tables.trials_table(clone / "benchmarks" / "recipe_trials.json", name.removeprefix(_TRIALS))
    protocol, _, dataset = name.partition(" ")
    if protocol not in (*TABLE, ALL_MEASURES, _UTILITY) or not dataset:
        raise UserError(
            f"No table is called {name!r}. There are: entries, {', '.join(_BENCHMARKS)}, trials <entry>, and "
            f"<protocol> <dataset> with protocol one of {', '.join(TABLE)}, {ALL_MEASURES}, {_UTILITY}"
        )
    names = {ALL_MEASURES: MEASURES, _UTILITY: (*CURVES, "labels_scratch")}.get(protocol, (protocol,))
    measured = [entry for entry in entries.list_models() if entries.locate(f"models/{entry}/results.json").is_file()]
    all_rows = [row for entry in measured for row in entry_rows(entry)]
    # By TFDS alone: data of one's own may have the name of a public data set.
    of_dataset = [row for row in all_rows if row.dataset == dataset and row.tfds_name is not None]
    rows = [row for row in of_dataset if row.protocol in names and row.split == "test"]
    if not rows:
        raise UserError(f"No entry has rows of {protocol} on the test split of {dataset}. Run `mizoo evaluate` first")
    if protocol == _UTILITY:
        return utility_table(rows)
    return table(rows)


def _untrained(entry: str) -> list[Row]:
    """The rows of an entry's network with random weights, and of raw pixels."""
    return [row for row in entry_rows(entry) if row.encoder != "published"]


def _entries_table(root: str) -> str:
    """The entries, with links to their cards; `root` is the path from the page to the clone."""
    prefix = "" if root == "." else f"{root}/"
    body = []
    for name in entries.list_models():
        entry = entries.info(name)
        size = entry["files"]["encoder.keras"]["bytes"] / 1e6
        shapes = entry["endpoints"].items()
        endpoints = ", ".join(f"{markdown.code(key)} {markdown.shape(value)}" for key, value in shapes)
        summary = markdown.plain(entry["summary"])
        body.append([f"[`{name}`]({prefix}models/{name}/README.md)", summary, endpoints, f"{size:.1f} MB"])
    return markdown.table(["entry", "what it is", "endpoints", "size"], body, text_columns=3)
