"""`mizoo search`: pictures that are like a picture."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from mizoo.errors import UserError


def search(
    index: Annotated[str, typer.Argument(help="`index` to make one, otherwise the file of an index.")],
    pictures: Annotated[
        list[str] | None, typer.Argument(help="Files, folders, globs: what to index, or the queries.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Of `index`: the file.")] = Path("photos.index"),
    encoder: Annotated[
        str, typer.Option(help="Of `index`: an entry of the zoo, a run folder, or a .keras or .onnx file.")
    ] = "simclr_views_cifar10",
    endpoint: Annotated[str | None, typer.Option(help="Of `index`: what is compared; fc or global by default.")] = None,
    runtime: Annotated[str, typer.Option(help="Of `index`: onnx, keras or auto.")] = "auto",
    count: Annotated[int, typer.Option("-k", "--count", min=1, help="Pictures for each query.")] = 12,
    picture: Annotated[
        Path | None, typer.Option(help="Also draw the queries and what was found, to this file.")
    ] = None,
    duplicates: Annotated[
        bool, typer.Option("--duplicates", help="Groups of pictures that are nearly the same.")
    ] = False,
    threshold: Annotated[float | None, typer.Option(help="Of --duplicates: cosine of the features, at most 1.")] = None,
    depth: Annotated[
        int | None,
        typer.Option(min=8, max=32, help="Of `index`: bits of 16-bit grey files that hold fewer, such as 12."),
    ] = None,
    max_pixels: Annotated[
        int | None, typer.Option(min=1, help="Of `index`: pixels of the largest picture; 128 million.")
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Compare with all, also of 50,000 pictures and more.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find the pictures of a folder that are like a picture, and near-duplicates.

    mizoo search index photos/ -o photos.index; mizoo search photos.index query.jpg -k 12 --picture hits.png
    """
    if index == "index":
        _build(pictures or [], output, encoder, endpoint, runtime, exact, depth, max_pixels)
    elif duplicates:
        _duplicates(index, threshold, exact, as_json)
    else:
        _search(index, pictures or [], count, picture, exact, as_json)


def _build(pictures, output, encoder, endpoint, runtime, exact, depth, max_pixels) -> None:
    from mizoo import search as searching

    read_as = {"depth": depth, "max_pixels": max_pixels}
    index, report = searching.build(pictures, output, encoder, endpoint, runtime, exact, **read_as)
    for path, reason in report.failed:
        print(f"skipped {path}: {reason}", file=sys.stderr)
    if report.passed_over:
        print(f"passed over: {report.passed_over_in_words()}", file=sys.stderr)
    kind = "exact" if index.graph is None else "by a graph of neighbours"
    print(f"{len(index):,} pictures by {index.endpoint} of {index.encoder} -> {index.file} ({kind})")
    if report.failed:
        raise typer.Exit(1)


def _search(index, queries, count, picture, exact, as_json) -> None:
    from mizoo import search as searching

    if not queries:
        raise UserError("Name a picture to look for: `mizoo search photos.index query.jpg`; or --duplicates.")
    read = searching.read(index)
    found = read.search(queries, count, exact)
    if as_json:
        listed = [
            {"query": str(query), "hits": [{"path": str(hit.path), "similarity": hit.similarity} for hit in hits]}
            for query, hits in found
        ]
        print(json.dumps(listed, indent=2))
    else:
        for query, hits in found:
            if len(found) > 1:
                print(query)
            for hit in hits:
                print(f"{hit.similarity:.3f}  {hit.path}{'' if hit.path.exists() else '  (gone)'}")
    if picture is not None:
        print(searching.draw(found, picture, read.depth, read.max_pixels), file=sys.stderr)


def _duplicates(index, threshold, exact, as_json) -> None:
    from mizoo import search as searching

    groups = searching.near_duplicates(searching.read(index), threshold or searching.SIMILAR, exact)
    if as_json:
        print(json.dumps([[str(path) for path in group] for group in groups], indent=2))
        return
    for group in groups:
        print("  ".join(map(str, group)))
    print(
        f"{len(groups)} groups, {sum(map(len, groups)) - len(groups)} pictures more than one of each", file=sys.stderr
    )
