"""`mizoo evaluate` and `mizoo report`: what encoders are worth, as rows and as a page."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from mizoo._tools.files import user_path
from mizoo.errors import UserError
from mizoo.evaluate.protocols import ALL_MEASURES, MEASURES, PROBES, TABLE

_BY_CHECK = ("name", "rows", "row", "cache", "no_cache")
_BY_COMPARE = ("name", "dataset", "protocol", "endpoint", "split", "cache", "no_cache", "depth")


def evaluate(
    context: typer.Context,
    name: Annotated[
        list[str],
        typer.Argument(help="An entry of the zoo, a run folder, or a .keras or .onnx file; two of them to --compare."),
    ],
    dataset: Annotated[
        str | None,
        typer.Option(help="TFDS name, folder, or packed folder; cifar10, or spoken_digit for an encoder of sounds."),
    ] = None,
    protocol: Annotated[
        list[str] | None,
        typer.Option(
            help=f"{', '.join(PROBES)}: these by default; "
            f"{', '.join(name for name in TABLE if name not in (*PROBES, *MEASURES))}; without labels: "
            f"{', '.join(MEASURES)}, or {ALL_MEASURES} for these {len(MEASURES)}. One of your own: "
            "mypackage.module:my_protocol. Repeatable."
        ),
    ] = None,
    endpoint: Annotated[
        list[str] | None, typer.Option(help="Endpoints; all by default, for the measures `global` alone. Repeatable.")
    ] = None,
    encoder: Annotated[str, typer.Option(help="published, random (new weights) or pixels.")] = "published",
    split: Annotated[str, typer.Option(help="test, or validation (part of the training split).")] = "test",
    schedule: Annotated[str, typer.Option(help="Of mlp200: fast or paper.")] = "fast",
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    rows: Annotated[
        Path | None,
        typer.Option(
            help="results.json to merge the rows into. By default, in a clone, the entry's own gets those of mizoo's "
            "protocols on TFDS data sets."
        ),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder of the cache of features; MIZOO_CACHE, or one in the user's folder of caches."),
    ] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Extract all features anew and keep none.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Measure the rows of --rows, or of the entry, again; status 1 if any moved.")
    ] = False,
    row: Annotated[
        list[str] | None, typer.Option(help="With --check: only rows of these words, such as knn/fc. Repeatable.")
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Tell two encoders apart on the same pictures: linear, knn or svm.")
    ] = False,
    depth: Annotated[
        int | None,
        typer.Option(min=8, max=32, help="Bits of the values of 16-bit files of a folder that hold fewer, such as 12."),
    ] = None,
) -> None:
    """Measure an encoder, by probes, by training it or without labels, and add the rows to the entry's results."""
    stored = False if no_cache else cache
    if compare:
        takes = ", ".join(f"--{each.replace('_', '-')}" for each in _BY_COMPARE[1:])
        _refuse_others(context, "compare", _BY_COMPARE, f"It takes {takes}.")
        _compare(name, dataset, protocol, endpoint, split, stored, depth)
        return
    if len(name) != 1:
        raise UserError(f"One encoder is measured at a time; --compare takes two. Received: {' '.join(name)}")
    if row and not check:
        raise UserError("`--row` chooses among the rows that `--check` measures again: add --check.")
    if check:
        rows_by_words = "Each row is measured as it was; choose rows by their words: --row knn/fc."
        _refuse_others(context, "check", _BY_CHECK, rows_by_words)
        _check(name[0], rows, row or [], stored)
        return
    _evaluate(name[0], dataset, protocol, endpoint, encoder, split, schedule, seeds, rows, stored, depth)


def _refuse_others(context: typer.Context, mode: str, taken: Sequence[str], advice: str) -> None:
    """Refuse the options that were given, beside that of the mode, and that it does not take."""
    others = [
        max(each.opts, key=len)
        for each in context.command.params
        if each.name not in (mode, *taken)
        and getattr(context.get_parameter_source(str(each.name)), "name", "") == "COMMANDLINE"
    ]
    if others:
        raise UserError(f"`--{mode}` does not take {', '.join(others)}. {advice}")


def _evaluate(name, dataset, protocol, endpoint, encoder, split, schedule, seeds, rows, cache, depth) -> None:
    from mizoo import zoo
    from mizoo.evaluate import evaluate as run
    from mizoo.evaluate.keeping import Keeper
    from mizoo.report import table

    published = zoo.locate(f"models/{name}/results.json") if name in zoo.registry() and zoo.clone() else None
    keeper = Keeper(rows, published)
    try:
        new_rows = run(
            name,
            dataset,
            tuple(protocol or PROBES),
            endpoint,
            encoder,
            split,
            seeds=seeds,
            schedule=schedule,
            rows=keeper,
            cache=cache,
            depth=depth,
        )
    finally:
        for line in keeper.summary():
            print(line, file=sys.stderr)
    print(table(new_rows))


def _check(name, rows, patterns, cache) -> None:
    from mizoo import zoo
    from mizoo.evaluate import checking, read_rows

    if rows is None and name not in zoo.registry():
        raise UserError(f"{name} is no entry, which has rows of its own: name a results file, --rows results.json.")
    known = read_rows(user_path(rows) if rows else zoo.locate(f"models/{name}/results.json"))
    checks = checking.check(name, checking.select(known, patterns), lambda done: print(done.line(), flush=True), cache)
    moved = sum(each.moved for each in checks)
    print(f"{len(checks)} rows measured again, {moved} moved")
    if moved:
        raise typer.Exit(1)


def _compare(names, dataset, protocol, endpoint, split, cache, depth) -> None:
    from mizoo.evaluate import comparison

    if len(names) != 2:
        raise UserError(f"--compare takes two encoders. Received: {' '.join(names)}")
    protocols = tuple(protocol or ("linear",))
    found = comparison.compare(
        names[0], names[1], dataset or "cifar10", protocols, endpoint, split, cache=cache, depth=depth
    )
    for each in found:
        print(each.summary())


def report(
    encoders: Annotated[
        list[str] | None,
        typer.Argument(help="Entries, run folders or .keras files: a section with a verdict for each."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "--output", "-o", help="Folder of the page.")] = Path("report"),
    dataset: Annotated[
        str | None,
        typer.Option(help="Pictures to show them on; by default those that each was trained on (their test split)."),
    ] = None,
    endpoint: Annotated[str, typer.Option(help="Endpoint whose features are shown.")] = "global",
    depth: Annotated[
        int | None,
        typer.Option(min=8, max=32, help="Bits of the values of 16-bit files of --dataset that hold fewer."),
    ] = None,
) -> None:
    """Write one HTML page about the zoo, and about encoders and runs of your own: verdict, curves, map, mistakes."""
    from mizoo.report.page import report as run

    print(run(encoders or (), out, dataset, endpoint, depth=depth))
