"""Encoders on the Hugging Face hub: "hf://owner/name", or "hf://owner/name@revision" of a branch, a tag or a commit.

A repository there is a folder that `mizoo push` has written, or any that holds `encoder.keras` or `encoder.onnx`.
`huggingface_hub` downloads, keeps and resumes: its settings (`HF_HOME`, `HF_TOKEN`, `HF_ENDPOINT`, `HF_HUB_OFFLINE`)
hold here as well.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mizoo.errors import UserError

PREFIX = "hf://"
_ADDRESS = re.compile(r"hf://(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
_BESIDE = ("manifest.json", "recipe.yaml")  # what else `mizoo.load` and `mizoo embed` read


def is_address(encoder: Any) -> bool:
    """Whether this is the address of a folder on the hub."""
    return isinstance(encoder, str) and encoder.startswith(PREFIX)


def fetch(address: str | os.PathLike, *files: str) -> Path:
    """The folder on this machine into which some files of a repository were downloaded, or were before.

    Args:
        address: "hf://owner/name" or "hf://owner/name@revision".
        files: the encoder files that are wanted, as far as they are there; `manifest.json` and `recipe.yaml` come with
            them.

    Raises:
        UserError: another form of address, a repository or revision that is not there or not allowed, no network and
            nothing downloaded before.
        ModuleNotFoundError: without the extra `hub`.
    """
    repository, revision = parse(os.fspath(address))
    import huggingface_hub

    try:
        folder = huggingface_hub.snapshot_download(repository, revision=revision, allow_patterns=[*files, *_BESIDE])
    except Exception as error:  # of the server, of the network, of the disk: each library below has its own
        raise UserError(f"{address} could not be downloaded from the hub: {_first_line(error)}") from error
    return Path(folder)


def parse(address: str) -> tuple[str, str | None]:
    """("owner/name", revision or None) of an address.

    Raises:
        UserError: for another form.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise UserError(f"An address on the hub is hf://owner/name or hf://owner/name@revision. Received: {address!r}")
    return match["repository"], match["revision"]


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
