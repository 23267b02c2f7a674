"""An entry or a run on the Hugging Face hub: card, recipe, rows and weights in one repository."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import Any

from mizoo import recipes
from mizoo._tools import files
from mizoo._tools.progress import bar
from mizoo.errors import UserError
from mizoo.evaluate.rows import Row, public_command, read_rows, write_rows
from mizoo.export.keras_file import check_stock
from mizoo.publish import check_run, describe, public_facts, public_recipe
from mizoo.report import cards
from mizoo.runs.folder import ENCODER, RECIPE
from mizoo.runs.provenance import training_facts
from mizoo.zoo import entries, interface, manifests
from mizoo.zoo.hub import PREFIX
from mizoo.zoo.loading import read_keras

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_ROWS, _MANIFEST, _CARD, _ONNX = "results.json", manifests.FILE, "README.md", interface.FILES["onnx"]
_OPTIONAL = (_ONNX, _MANIFEST, _ROWS)


def push(
    source: str | os.PathLike,
    repository: str,
    *,
    licence: str | None = None,
    dataset: str | None = None,
    private: bool = False,
) -> str:
    """Upload an entry or a run, so that `mizoo.load("hf://owner/name")` loads it.

    The token is that of `huggingface_hub`: `hf auth login`, or `HF_TOKEN`. The repository is made if it is missing.

    Args:
        source, repository, licence, dataset: as for `write_folder`.
        private: make the repository private, where it is made.

    Returns:
        The address of the repository.

    Raises:
        UserError: as `write_folder`, or if the hub refuses.
        ModuleNotFoundError: without the extra `hub`.
    """
    _check_repository(repository)
    from huggingface_hub import HfApi

    with tempfile.TemporaryDirectory(prefix="mizoo-") as folder:
        written = write_folder(source, folder, repository, licence=licence, dataset=dataset)
        api = HfApi(library_name="mizoo")
        try:
            with bar(f"uploading to {repository}", 1) as advance:
                address = api.create_repo(repository, private=private, exist_ok=True)
                api.upload_folder(
                    repo_id=repository,
                    folder_path=written,
                    delete_patterns=list(_OPTIONAL),  # those of an earlier push would be of other weights
                    commit_message=f"{interface.encoder_name(source)}, by mizoo",
                )
                advance(1)
        except Exception as error:  # of the server, of the network: each library below has its own
            raise UserError(f"{repository} could not be written: {error}") from error
    return str(address)


def write_folder(
    source: str | os.PathLike,
    out: str | os.PathLike,
    repository: str,
    *,
    licence: str | None = None,
    dataset: str | None = None,
) -> Path:
    """Write the folder that `push` uploads: card, recipe, rows, weights and manifest.

    Of a run, whose weights are uploaded as they are, `encoder.onnx` and `manifest.json` go along where `mizoo export`
    has put them into its folder, and `results.json` where `mizoo evaluate --rows` has; those of an earlier push are
    removed. No path of this machine is in what is written: see `mizoo.publish.publish`.

    Args:
        source: an entry, or the folder of a finished run.
        out: the folder to write, another than `source`; files of the same names are replaced.
        repository: "owner/name", which the card names.
        licence: of the weights of a run, such as "CC-BY-4.0"; an entry has its own.
        dataset: what the data of a run are called, where they were read from a path.

    Raises:
        UserError: an unknown entry, no run folder, no licence, an encoder that is not of stock layers, or an
            `encoder.onnx` that was made of another Keras file.
    """
    _check_repository(repository)
    out = files.user_path(out)
    if entries.is_entry(source):
        if licence is not None or dataset is not None:
            raise UserError(f"{source} is published, with a licence and the name of its data: give neither again.")
        return _write_entry(str(source), out, PREFIX + repository)
    run = check_run(source)
    if out.resolve() == run.resolve():
        raise UserError(
            f"What is pushed is written into a folder of its own: in {run} it would replace the recipe and the rows of "
            "the run. Name another folder (--out)."
        )
    if stale := manifests.why_stale(run):
        folder = shlex.quote(str(run))
        raise UserError(
            f"{stale}, and both would be pushed as one encoder. Make it again with `mizoo export {folder} --out "
            f"{folder}`, or remove it: it is optional."
        )
    return _write_run(run, out, repository, licence, dataset)


def _check_repository(repository: str) -> None:
    if not isinstance(repository, str) or not _REPOSITORY.fullmatch(repository):
        raise UserError(f"A repository on the hub is owner/name. Received: {repository!r}")


def _write_entry(name: str, out: Path, address: str) -> Path:
    card, folder = cards.card(name, address), entries.folder(name)
    for file in entries.info(name)["files"]:
        _write_bytes(out / file, entries.read(name, file).content)
    for relative in (f"models/{folder}/{RECIPE}", f"models/{folder}/{_ROWS}", f"export/{folder}/{_MANIFEST}"):
        _copy(entries.locate(relative), out)
    files.write_text(out / _CARD, card)
    return out


def _write_run(run: Path, out: Path, repository: str, licence: str | None, dataset: str | None) -> Path:
    recipe = recipes.load(run / RECIPE)
    fields: dict[str, Any] = describe(recipe, {} if dataset is None else {"dataset": dataset}, licence)
    encoder = read_keras(run / ENCODER)[0]
    check_stock(encoder)
    forms = [file for file in interface.FILES.values() if (run / file).is_file()]
    info = {**fields, "input": _input(encoder, recipe), "endpoints": _endpoints(encoder), "files": forms}
    public = public_recipe(recipe, info["dataset"])
    rows = [_public_row(row) for row in read_rows(run / _ROWS)] if (run / _ROWS).is_file() else []
    trained = public_facts(training_facts(run, recipe.init_from))
    written = cards.describe(PREFIX + repository, info, public.model_dump(mode="json"), trained, rows)
    if all((out / file).is_file() for file in (_CARD, ENCODER)):  # of an earlier push
        for left in _OPTIONAL:
            (out / left).unlink(missing_ok=True)
    for file in forms:
        _copy(run / file, out)
    files.write_text(out / RECIPE, public.dump())
    if rows:
        write_rows(out / _ROWS, rows)
    if (run / _MANIFEST).is_file():
        files.write_json(out / _MANIFEST, _manifest(run / _MANIFEST, out))
    files.write_text(out / _CARD, cards.page(repository.partition("/")[2], info, rows, written))
    return out


def _public_row(row: Row) -> Row:
    return dataclasses.replace(row, command=public_command(row))


def _manifest(path: Path, out: Path) -> dict[str, Any]:
    """The manifest of an export, of the files that go along alone."""
    manifest = manifests.read(path)
    listed = {name: facts for name, facts in manifest.get("files", {}).items() if (out / name).is_file()}
    return {**manifest, "files": listed}


def _input(encoder: Any, recipe: recipes.Recipe) -> dict[str, Any]:
    shape, limits = list(interface.input_shape(encoder)), interface.input_range(encoder)
    rate = getattr(recipe.encoder, "sampling_rate", None)
    return {"shape": shape, "range": limits, **({"sampling_rate": rate} if rate else {})}


def _endpoints(encoder: Any) -> dict[str, list[int | None]]:
    return {name: list(tensor.shape[1:]) for name, tensor in interface.outputs(encoder).items()}


def _copy(file: Path, out: Path) -> None:
    with files.atomic(out / file.name) as temporary:
        shutil.copyfile(file, temporary)


def _write_bytes(path: Path, content: bytes) -> None:
    with files.atomic(path) as temporary:
        temporary.write_bytes(content)
