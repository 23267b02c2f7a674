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
from mizoo.commands import (
    evaluating,
    exporting,
    finetuning,
    listing,
    needs,
    packing,
    publishing,
    searching,
    sharing,
    starting,
    tuning,
)
from mizoo.commands.changes import parse_changes as _changes
from mizoo.errors import NotInstalled, UserError, not_installed

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
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file name need not be UTF-8
    sys.path.append(os.getcwd())  # a class or a protocol of the user's own is named by import path
    try:
        app()
    except NotInstalled as error:
        print(f"error: {needs.advice(error, sys.argv[1:])}", file=sys.stderr)
        sys.exit(2)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except ModuleNotFoundError as error:
        missing = not_installed(error)
        if missing is None:
            raise
        print(f"error: {needs.advice(missing, sys.argv[1:])}", file=sys.stderr)
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


app.command("list")(listing.list_entries)
app.command()(listing.speed)


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
    crops: Annotated[
        str | None, typer.Option(help="grid:3 encodes 3 x 3 overlapping crops of each picture, and takes their mean.")
    ] = None,
    each_crop: Annotated[bool, typer.Option("--each-crop", help="Keep the features of every crop.")] = False,
) -> None:
    """Write the features of pictures or sounds; a bad file is skipped and named, and the exit status is then 1.

    A folder of shards takes any number of files; the same command resumes it after an interruption.
    """
    from mizoo.embed import embed as run

    settings = (endpoint, runtime, batch_size, True, sampling_rate, depth, max_pixels, max_seconds, shard_size)
    report = run(name, paths, output, *settings, crops=crops, each_crop=each_crop)
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
    scan: Annotated[bool | None, typer.Option(help="JAX: an epoch as one compiled scan, on one device.")] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also log for TensorBoard, in the folder `tensorboard` of the run.")
    ] = False,
    strategy: Annotated[
        str, typer.Option(help="auto, single (one device), mirrored (all of this host) or multiworker (several hosts).")
    ] = "auto",
    workers: Annotated[
        str | None, typer.Option(help="host:port of every host, the same on each, with commas; TF_CONFIG otherwise.")
    ] = None,
    index: Annotated[int | None, typer.Option(min=0, help="Of this host among --workers; 0 leads and writes.")] = None,
    join_within: Annotated[float, typer.Option(min=1, help="Seconds in which all hosts have to start.")] = 300.0,
    jit_compile: Annotated[
        str | None,
        typer.Option(help="TensorFlow: the step by XLA: true, false, or auto: measured; as the recipe says."),
    ] = None,
) -> None:
    """Train an encoder. The same command resumes an interrupted run."""
    from mizoo import recipes
    from mizoo._tools.files import user_path
    from mizoo._tools.workers import named_workers
    from mizoo.runs.checks import check_first

    checked = recipes.load(recipe, _changes(changes or []))
    named = None if strategy in ("single", "mirrored") else named_workers(workers, index)
    if named is None:  # several hosts check together
        check_first(checked, user_path(out or Path("runs") / checked.name))
    from mizoo.pretrain import pretrain as run  # imports Keras and its backend: a recipe is refused before that

    hosts: dict[str, Any] = {"strategy": strategy, "workers": workers, "index": index, "join_within": join_within}
    folder = run(checked, out, scan, jit_compile, stop_after, tensorboard=tensorboard, **hosts)
    if named is None or named.index == 0:
        print(folder)


app.command()(tuning.tune)


@app.command()
def curves(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    out: Annotated[Path | None, typer.Option("--output", "-o", help="Picture; curves.png in the folder.")] = None,
) -> None:
    """Draw everything that a run logs by epoch, each bound with its ceiling."""
    from mizoo.runs.curves import plot

    print(plot(run, out))


app.command()(evaluating.evaluate)
app.command()(finetuning.finetune)
app.command()(searching.search)
app.command()(exporting.export)
app.command()(publishing.publish)
app.command()(sharing.bundle)
app.command()(sharing.push)
app.command()(publishing.card)
app.command()(publishing.tables)
app.command()(evaluating.report)


data_app.command()(packing.pack)


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
    from mizoo._tools.files import user_path
    from mizoo.mi import staircase

    kinds = kind or staircase.KINDS
    staircase.staircase(out, estimator or staircase.ESTIMATORS, kinds, steps, batch_size, seed, tau)
    print((user_path(out) / "staircase.md").read_text(encoding="utf-8"))


@mi_app.command("estimate")
def mi_estimate(
    table: Annotated[Path, typer.Argument(help="A table: .csv with a line of names, or .npz with an array for each.")],
    x: Annotated[str, typer.Option(help="Columns of one side, by name, with commas between.")],
    y: Annotated[str, typer.Option(help="Columns of the other side.")],
    given: Annotated[str | None, typer.Option(help="Columns to condition on: I(x; y | given).")] = None,
    groups: Annotated[str | None, typer.Option(help="A column that names what belongs together.")] = None,
    bound: Annotated[str, typer.Option(help="auto, infonce, ksg, doe, smile, ...")] = "auto",
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
    options |= {"permutations": permutations} if permutations else {}
    options |= {"repeats": repeats} if repeats > 1 else {}
    if groups is not None:
        options["groups"] = tables.labels(read, groups)
    sides = [tables.side(read, names) for names in (x, y, given) if names is not None]
    texts = {name: count for _, of_side in sides for name, count in of_side.items()}
    for name, count in texts.items():
        print(f"column {name} is text: each of its {count} values but the last is a column of 0 and 1", file=sys.stderr)
    arrays = [values for values, _ in sides]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # printed below
        if given is None:
            result = estimate(arrays[0], arrays[1], **options)
        else:
            result = conditional(arrays[0], arrays[1], arrays[2], **options)
    print(result)
    for message in result.warnings:
        print(f"warning: {message}", file=sys.stderr)
    if plot is not None:
        result.plot(str(plot))
        print(plot)


if __name__ == "__main__":
    main()
