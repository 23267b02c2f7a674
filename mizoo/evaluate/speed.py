"""How fast an encoder is on ONNX Runtime, by one core: measured here, and kept in the manifest of an entry."""

from __future__ import annotations

import dataclasses
import os
import shlex
import statistics
import time
from typing import Any

import numpy as np

from mizoo._tools import files
from mizoo._tools.checks import check_size
from mizoo._tools.hardware import cpu
from mizoo._tools.locks import lock_file
from mizoo._tools.progress import Line
from mizoo._version import __version__
from mizoo.errors import UserError
from mizoo.zoo import entries, interface, manifests
from mizoo.zoo.loading import read_encoder, recorded_sampling_rate
from mizoo.zoo.onnx_encoder import OnnxEncoder

KEY = "speed"
"""What a manifest calls it."""
ROUNDS = 7
_ROUND = 0.3  # CPU seconds of a round, at least
_BATCHES = {"pictures": 256, "sounds": 16}
_UNITS = {"pictures": "pictures", "sounds": "seconds of sound"}
_USUAL_RATE = 16_000  # Hz, of an encoder of sounds that does not record its own


@dataclasses.dataclass(frozen=True)
class Speed:
    """What one core encodes in a second of its time.

    Attributes:
        rate: pictures, or seconds of sound, in the fastest of `ROUNDS` rounds: what slows a round is the rest of the
            machine.
        median: the same of the median round.
        unit: "pictures" or "seconds of sound".
        batch_size: how many go in at a time; sounds last a second each.
        hardware: the core.
        onnxruntime, version: those of ONNX Runtime and of mizoo.
        command: the command line that measures it again.
    """

    rate: float
    median: float
    unit: str
    batch_size: int
    hardware: str
    onnxruntime: str
    version: str
    command: str

    def __str__(self) -> str:
        return f"{self.rate:,.0f} {self.unit}/s, batches of {self.batch_size}, {self.hardware}"


def measure(name: str | os.PathLike, batch_size: int | None = None, progress: Line | None = None) -> Speed:
    """Time the calls of an encoder on ONNX Runtime: all endpoints, the check of the inputs and their scaling included.

    The time is that of the processor, in one thread, so that other work on the machine disturbs little.

    Args:
        name: an entry, or the path of an `.onnx` file or of a folder that holds `encoder.onnx`.
        batch_size: how many go in at a time, uint8 pictures or sounds of a second; 256 or 16 by default.
        progress: advanced by each of the `ROUNDS` rounds.

    Raises:
        UserError: for an encoder of series, of pictures of any size or of sounds of one length, a batch size that is no
            number, and as of `mizoo.load`.
    """
    import onnxruntime

    encoder = OnnxEncoder(read_encoder(name, "onnx"), name=interface.encoder_name(name), threads=1)
    if encoder.kind not in _BATCHES or (None in encoder.input_shape[1:]) != (encoder.kind == "sounds"):
        raise UserError(
            f"The speed is that of an encoder of sounds of any length, or of pictures of one size. {encoder.name} "
            f"takes {encoder.input_shape}."
        )
    usual = _BATCHES[encoder.kind]
    size = usual if batch_size is None else check_size(batch_size, "batch_size")
    inputs = _inputs(encoder, size, name)
    encoder(inputs)
    rates = []
    for _ in range(ROUNDS):
        rates.append(_rate(encoder, inputs))
        if progress is not None:
            progress.advance()
    return Speed(
        rate=_significant(max(rates)),
        median=_significant(statistics.median(rates)),
        unit=_UNITS[encoder.kind],
        batch_size=size,
        hardware=cpu(1),
        onnxruntime=onnxruntime.__version__,
        version=__version__,
        command=f"mizoo speed {shlex.quote(os.fspath(name))}" + ("" if size == usual else f" --batch-size {size}"),
    )


def keep(name: str, speed: Speed) -> None:
    """Write the speed of an entry into its manifest; whoever publishes other weights writes another manifest.

    Raises:
        UserError: outside a clone, for an earlier version of an entry, and for a manifest that is missing or of
            another file.
    """
    clone = entries.require_clone("Speeds are kept")
    pinned = entries.entry(name)["files"][interface.FILES["onnx"]]["sha256"]
    path = entries.locate(f"export/{name}/manifest.json")
    with lock_file(clone / entries.REGISTRY):  # as a publication, which writes both
        described = read_manifest(name)
        if described.get("files", {}).get(interface.FILES["onnx"], {}).get("sha256") != pinned:
            raise UserError(f"{path} is missing or describes another file than the published one: publish it again.")
        files.write_json(path, {**described, KEY: dataclasses.asdict(speed)})


def read_manifest(name: str) -> dict[str, Any]:
    """The manifest of an entry; {} where it has none.

    Raises:
        UserError: for one that is damaged.
    """
    return manifests.read(entries.locate(f"export/{name}/manifest.json"))


def _inputs(encoder: OnnxEncoder, size: int, name: str | os.PathLike) -> np.ndarray:
    """A batch of noise."""
    rng = np.random.default_rng(0)
    if encoder.kind == "pictures":
        shape = [side for side in encoder.input_shape[1:] if side is not None]
        return rng.integers(0, 256, (size, *shape), dtype="uint8")
    rate = recorded_sampling_rate(name) or _USUAL_RATE
    return rng.uniform(-0.5, 0.5, (size, rate)).astype(np.float32)


def _rate(encoder: OnnxEncoder, inputs: np.ndarray) -> float:
    """How many inputs are encoded in a CPU second of this thread, which ONNX Runtime computes in."""
    began, calls = time.thread_time(), 0
    while (spent := time.thread_time() - began) < _ROUND:
        encoder(inputs)
        calls += 1
    return calls * len(inputs) / spent


def _significant(rate: float) -> float:
    """Three digits: rounds differ by more."""
    return float(f"{rate:.3g}")
