"""The command line: one command for each thing a user does."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mizoo._tools.quiet import quieten_tensorflow
from mizoo._version import __version__
from mizoo.commands import exporting, finetuning, searching, sharing, starting
from mizoo.errors import UserError, not_installed
from mizoo.evaluate.protocols import ALL_MEASURES, MEASURES, PROBES, TABLE

app = typer.Typer(
    help="Encoders trained by maximising mutual information: load, embed, train, measure, export.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Data sets as files.", no_args_is_help=True)
app.add_typer(data_app, name="data")
mi_app = typer.Typer(help="Estimators of mutual information.", no_args_is_help=True)
app.add_typer(mi_app, name="mi")

Name = Annotated[str, typer.Argument(help="An entry of the zoo, a run folder, or a .keras or .onnx file.")]


def main() -> None:
    """Run the command line; a user's mistake is one line on standard error and exit status 2."""
    if "--verbose" not in sys.argv[1:]:
        quieten_tensorflow()
    sys.path.append(os.getcwd())  # a class or a protocol of the user's own is named by import path
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except ModuleNotFoundError as error:
        advice = not_installed(error)
        if advice is None:
            raise
        print(f"error: {advice}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def _show_version(value: bool) -> None:
    if value:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show what TensorFlow says when it starts, too.")] = False,
) -> None:
    # The callback holds the options that come before a command.
    return None


@app.command("list")
def list_command(pattern: Annotated[str, typer.Argument(help="Wildcards, such as 'dim_*'.")] = "*") -> None:
    """List the published entries."""
    from mizoo import zoo

    for name in zoo.list_models(pattern):
        print(f"{name}  {zoo.info(name)['summary']}")


@app.command()
def info(name: Annotated[str, typer.Argument(help="An entry of the zoo.")]) -> None:
    """Print what is known about an entry, as JSON."""
    from mizoo import zoo

    print(json.dumps(zoo.info(name), indent=2))


@app.command()
def embed(
    name: Name,
    paths: Annotated[list[str], typer.Argument(help="Picture or sound files, folders, globs.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A .npz file, or a folder of shards: a name without suffix.")
    ] = Path("features.npz"),
    endpoint: Annotated[str | None, typer.Option(help="Only this endpoint.")] = None,
    runtime: Annotated[str, typer.Option(help="onnx, keras, or auto: Keras where there is no ONNX form.")] = "auto",
    batch_size: Annotated[int, typer.Option(min=1)] = 256,
    sampling_rate: Annotated[
        int | None, typer.Option(min=1, help="In Hz, of an encoder of sounds whose folder does not give it.")
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option(min=8, max=32, help="Bits of the values of 16-bit grey files that hold fewer, such as 12."),
    ] = None,
    max_pixels: Annotated[int | None, typer.Option(min=1, help="Pixels of the largest picture; 128 million.")] = None,
    max_seconds: Annotated[float | None, typer.Option(min=0, help="Length of the longest sound; 600.")] = None,
    shard_size: Annotated[int, typer.Option(min=1, help="Files in a shard of a folder.")] = 4096,
) -> None:
    """Write the features of pictures or sounds; a bad file is skipped and named, and the exit status is then 1.

    A folder of shards takes any number of files; the same command resumes it after an interruption.
    """
    from mizoo.embed import embed as run

    settings = (endpoint, runtime, batch_size, True, sampling_rate, depth, max_pixels, max_seconds, shard_size)
    report = run(name, paths, output, *settings)
    what = "sounds" if "frames" in report.shapes or report.resampled else "files"
    print(f"{report.count} {what} -> {report.written}")
    new = report.count + len(report.failed) + report.not_listed - report.resumed
    already = f"{report.resumed} were there; " if report.resumed else ""
    waited = f", {100 * report.waited / report.seconds:.0f} % of the time waiting for files" if report.waited else ""
    print(f"{already}{new / report.seconds:,.0f} {what}/s{waited}", file=sys.stderr)
    for rate, count in report.resampled.items():
        print(f"resampled {count} of {rate} Hz", file=sys.stderr)
    if report.passed_over:
        print(f"passed over: {report.passed_over_in_words()}", file=sys.stderr)
    for path, reason in report.failed:
        print(f"skipped {path}: {reason}", file=sys.stderr)
    if report.not_listed:
        print(f"and {report.not_listed} more, listed in the shards", file=sys.stderr)
    if report.failed:
        raise typer.Exit(1)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "--output", "-o", help="Picture to write.")] = Path("demo.png"),
    encoder: Annotated[str, typer.Option(help="An entry of the zoo, or the path of an encoder.")] = "dim_local_cifar10",
    endpoint: Annotated[str, typer.Option(help="Endpoint to compare by.")] = "fc",
) -> None:
    """Show which pieces of real photographs an encoder finds alike; needs no network."""
    from mizoo.demo import run

    print(run(out, encoder, endpoint))


app.command()(starting.new)


@app.command()
def pretrain(
    recipe: Annotated[str, typer.Argument(help="An entry whose recipe to use, or a recipe file (.yaml).")],
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/<name> by default.")] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="Change a key: --set training.epochs=5. Repeatable.")
    ] = None,
    stop_after: Annotated[int | None, typer.Option(min=1, help="Stop after this many epochs of the recipe.")] = None,
    scan: Annotated[bool | None, typer.Option(help="JAX: an epoch as one compiled scan.")] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also log for TensorBoard, in the folder `tensorboard` of the run.")
    ] = False,
) -> None:
    """Train an encoder. The same command resumes an interrupted run."""
    from mizoo import recipes
    from mizoo.runs.checks import check_first

    checked = recipes.load(recipe, _changes(changes or []))
    check_first(checked, out or Path("runs") / checked.name)
    from mizoo.pretrain import pretrain as run  # imports Keras and its backend: a recipe is refused before that

    print(run(checked, out, scan=scan, stop_after=stop_after, tensorboard=tensorboard))


@app.command()
def curves(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    out: Annotated[Path | None, typer.Option("--output", "-o", help="Picture; curves.png in the folder.")] = None,
) -> None:
    """Draw everything that a run logs by epoch, each bound with its ceiling."""
    from mizoo.runs.curves import plot

    print(plot(run, out))


@app.command()
def evaluate(
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
) -> None:
    """Measure an encoder, by probes, by training it or without labels, and add the rows to the entry's results."""
    stored = False if no_cache else cache
    if compare:
        _compare(name, dataset, protocol, endpoint, split, stored)
        return
    if len(name) != 1:
        raise UserError(f"One encoder is measured at a time; --compare takes two. Received: {' '.join(name)}")
    if row and not check:
        raise UserError("`--row` chooses among the rows that `--check` measures again: add --check.")
    if check:
        _check(name[0], rows, row or [], stored)
        return
    _evaluate(name[0], dataset, protocol, endpoint, encoder, split, schedule, seeds, rows, stored)


def _evaluate(name, dataset, protocol, endpoint, encoder, split, schedule, seeds, rows, cache) -> None:
    from mizoo import report, zoo
    from mizoo.evaluate import evaluate as run
    from mizoo.evaluate.keeping import Keeper

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
        )
    finally:
        for line in keeper.summary():
            print(line, file=sys.stderr)
    print(report.table(new_rows))


def _check(name, rows, patterns, cache) -> None:
    from mizoo import zoo
    from mizoo.evaluate import checking, read_rows

    if rows is None and name not in zoo.registry():
        raise UserError(f"{name} is no entry, which has rows of its own: name a results file, --rows results.json.")
    known = read_rows(rows or zoo.locate(f"models/{name}/results.json"))
    checks = checking.check(name, checking.select(known, patterns), lambda done: print(done.line(), flush=True), cache)
    moved = sum(each.moved for each in checks)
    print(f"{len(checks)} rows measured again, {moved} moved")
    if moved:
        raise typer.Exit(1)


def _compare(names, dataset, protocol, endpoint, split, cache) -> None:
    from mizoo.evaluate import comparison

    if len(names) != 2:
        raise UserError(f"--compare takes two encoders. Received: {' '.join(names)}")
    protocols = tuple(protocol or ("linear",))
    for each in comparison.compare(names[0], names[1], dataset or "cifar10", protocols, endpoint, split, cache=cache):
        print(each.summary())


app.command()(finetuning.finetune)
app.command()(searching.search)
app.command()(exporting.export)


@app.command()
def publish(
    run_folder: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    name: Annotated[str, typer.Argument(help="The entry to write.")],
    licence: Annotated[
        str | None,
        typer.Option(
            "--licence", "--license", help="Of the weights, such as CC-BY-4.0; an entry that is replaced keeps its own."
        ),
    ] = None,
    dataset_name: Annotated[
        str | None,
        typer.Option(help="What the data are called; needed where they were read from a path, which is not published."),
    ] = None,
    replace: Annotated[bool, typer.Option(help="Replace a published encoder.")] = False,
    new_version: Annotated[
        bool, typer.Option("--new-version", help="Keep the published encoder loadable as NAME@1, and add the next one.")
    ] = False,
) -> None:
    """Turn a run into an entry: half-precision weights in both forms, recipe, pinned hashes. Run it in a clone."""
    from mizoo.publish import publish as run

    described: dict[str, Any] = {} if dataset_name is None else {"dataset": dataset_name}
    print(
        json.dumps(
            run(run_folder, name, licence=licence, replace=replace, new_version=new_version, **described), indent=2
        )
    )


app.command()(sharing.bundle)
app.command()(sharing.push)


@app.command()
def card(name: Annotated[str, typer.Argument(help="An entry of the zoo.")]) -> None:
    """Write the model card of an entry from its recipe, rows and manifest."""
    from mizoo import report

    print(report.write_card(name))


@app.command()
def tables() -> None:
    """Write the tables of README.md and docs/ again from the rows of all entries. Run it in a clone."""
    from mizoo import report

    for path in report.write_tables():
        print(path)


@app.command("report")
def report_command(
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
) -> None:
    """Write one HTML page about the zoo, and about encoders and runs of your own: verdict, curves, map, mistakes."""
    from mizoo.report.page import report as run

    print(run(encoders or (), out, dataset, endpoint))


@data_app.command("pack")
def pack(
    name: Annotated[str, typer.Argument(help="TFDS name or folder of pictures.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    chunk_mb: Annotated[int, typer.Option(min=1, help="Largest size of a chunk, in megabytes.")] = 40,
    size: Annotated[
        int | None, typer.Option(min=1, help="Height and width to resize the pictures to; needed where they differ.")
    ] = None,
) -> None:
    """Write a data set as lossless chunks that need neither TFDS nor TensorFlow to read."""
    from mizoo import data
    from mizoo.data import packed

    index = packed.write({split: data.load(name, split, size=size) for split in data.splits(name)}, out, chunk_mb)
    for split, content in index["splits"].items():
        print(f"{split}: {content['count']} pictures in {len(content['chunks'])} chunks")
    print(out)


@mi_app.command("bench")
def bench(
    out: Annotated[Path, typer.Option(help="Folder of the numbers, the table and the plot.")] = Path("runs/staircase"),
    estimator: Annotated[list[str] | None, typer.Option(help="infonce, nwj, jsd, ...; all by default.")] = None,
    kind: Annotated[list[str] | None, typer.Option(help="linear, cubic; both by default.")] = None,
    steps: Annotated[int, typer.Option(min=8, help="Steps of a level.")] = 4000,
    batch_size: Annotated[int, typer.Option(min=2)] = 64,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    tau: Annotated[
        float | None, typer.Option(help="Clip of SMILE; the log of the mismatched pairs by default.")
    ] = None,
) -> None:
    """Run the staircase: every estimator at 2, 4, 6, 8 and 10 nats. The same command resumes an interrupted run."""
    from mizoo.mi import staircase

    kinds = kind or staircase.KINDS
    staircase.staircase(out, estimator or staircase.ESTIMATORS, kinds, steps, batch_size, seed, tau)
    print((out / "staircase.md").read_text(encoding="utf-8"))


@mi_app.command("estimate")
def mi_estimate(
    table: Annotated[Path, typer.Argument(help="A table: .csv with a line of names, or .npz with an array for each.")],
    x: Annotated[str, typer.Option(help="Columns of one side, by name, with commas between.")],
    y: Annotated[str, typer.Option(help="Columns of the other side.")],
    given: Annotated[str | None, typer.Option(help="Columns to condition on: I(x; y | given).")] = None,
    groups: Annotated[str | None, typer.Option(help="A column that names what belongs together.")] = None,
    bound: Annotated[str, typer.Option(help="infonce, auto, ksg, doe, smile, ...")] = "infonce",
    permutations: Annotated[int, typer.Option(min=0, help="Test independence by as many permutations.")] = 0,
    repeats: Annotated[int, typer.Option(min=1, help="Average as many estimates.")] = 1,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    plot: Annotated[Path | None, typer.Option(help="Picture of the curves and the estimate to write.")] = None,
) -> None:
    """Estimate the mutual information of columns of a table, in nats."""
    import warnings

    from mizoo.mi import tables
    from mizoo.mi.derived import conditional
    from mizoo.mi.estimator import estimate

    read = tables.read(table, [x, y, *filter(None, [given, groups])])
    options: dict[str, Any] = {"bound": bound, "seed": seed}
    if groups is not None:
        options["groups"] = tables.labels(read, groups)
    rows, columns = tables.side(read, x), tables.side(read, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # printed below
        if given is not None:
            result = conditional(rows, columns, tables.side(read, given), **options)
        else:
            result = estimate(rows, columns, permutations=permutations, repeats=repeats, **options)
    print(result)
    for message in result.warnings:
        print(f"warning: {message}", file=sys.stderr)
    if plot is not None:
        result.plot(str(plot))
        print(plot)


def _changes(pairs: list[str]) -> dict[str, Any]:
    """Turn ["training.epochs=5"] into {"training.epochs": 5}; values are YAML."""
    from mizoo._tools import yaml_text

    changes = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UserError(f"--set takes KEY=VALUE, such as training.epochs=5. Received: {pair!r}")
        changes[key] = yaml_text.parse(value)
    return changes


if __name__ == "__main__":
    main()
