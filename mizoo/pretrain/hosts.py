"""What the hosts of a run compare and hand to each other."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras

from mizoo import recipes
from mizoo._tools.checks import check_choice
from mizoo._tools.group import Group
from mizoo._tools.keras_backend import precision_here
from mizoo._tools.locks import lock_folder
from mizoo._tools.workers import named_workers
from mizoo._version import __version__
from mizoo.errors import UserError
from mizoo.pretrain.inputs import Job
from mizoo.pretrain.placement import say
from mizoo.pretrain.strategies import STRATEGIES
from mizoo.runs.checks import busy, check_first
from mizoo.runs.folder import CHECKPOINT, saved_state


@contextlib.contextmanager
def group_of(
    strategy: str, workers: str | Sequence[str] | None, index: int | None, join_within: float
) -> Iterator[Group | None]:
    """The workers of a run on several hosts; None on one.

    Args:
        strategy, workers, index, join_within: as of `mizoo.pretrain.pretrain`.

    Raises:
        UserError: for another strategy, workers that are named for one host or not for several, and as of
            `named_workers`.
    """
    check_choice(strategy, "strategy", STRATEGIES)
    one_host = strategy in ("single", "mirrored")
    if one_host and (workers is not None or index is not None):
        raise UserError(f"`--strategy {strategy}` is for one host: leave out --workers and --index, or choose another.")
    named = None if one_host else named_workers(workers, index)
    if named is None and strategy == "multiworker":
        raise UserError(
            "`--strategy multiworker` takes two workers or more: name them on every host by "
            "--workers host:port,host:port --index I, or in TF_CONFIG."
        )
    if named is None:
        yield None
        return
    with Group(named, join_within) as group:
        yield group


def facts(recipe: recipes.Recipe, last: int, jit_compile: bool | str) -> dict[str, Any]:
    """What has to be equal on all hosts before anything is read: programs, recipe, devices."""
    backend = keras.backend.backend()
    versions = {name: importlib.metadata.version(name) for name in ("keras", _distribution_of(backend))}
    asked = {"epochs to train": last, "jit_compile": jit_compile}
    devices = {"devices": _devices()} if backend == "tensorflow" else {}
    asked |= {"precision": precision_here()} if recipe.training.precision == "auto" else {}
    return {"mizoo": __version__, "backend": backend, **versions, "recipe": recipe.identity(), **asked, **devices}


def data_facts(job: Job) -> dict[str, Any]:
    """What has to be equal on all hosts once the data are read; of the data their number and the first ones."""
    pictures = hashlib.sha256(job.sample.tobytes()).hexdigest()[:16]
    data = {"number of inputs": len(job.inputs), "hash of the first inputs": pictures, "targets": job.targets_hash}
    devices = {"devices": _devices()} if keras.backend.backend() == "jax" else {}
    return {"data": data, **devices}


@contextlib.contextmanager
def own_folder(group: Group, recipe: recipes.Recipe, folder: Path) -> Iterator[Path]:
    """The run folder on the chief, locked; elsewhere a temporary one that holds the chief's checkpoint.

    Raises:
        UserError: as of `check_first` and `lock_folder`.
    """
    if group.is_chief:
        check_first(recipe, folder)
        with lock_folder(folder, busy(folder)):
            state = saved_state(folder, recipe)
            group.share(state.epochs, (folder / state.file).read_bytes() if state.file else b"")
            yield folder
        return
    epochs, checkpoint = group.share()
    begins = f"goes on after {epochs} epochs" if checkpoint else "begins"
    say(f"{group.workers.name(group.index)} of {group.count} {begins}; {group.workers.name(0)} shows and writes.")
    with tempfile.TemporaryDirectory(prefix="mizoo-worker-") as temporary:
        if checkpoint:
            (Path(temporary) / CHECKPOINT).write_bytes(checkpoint)
        check_first(recipe, Path(temporary))
        yield Path(temporary)


def hand_out_checkpoint(group: Group | None, folder: Path) -> None:
    """Give the chief's checkpoint to the other workers, as each stretch of a run begins with one."""
    path = folder / CHECKPOINT
    if group is None:
        return
    if group.is_chief:
        group.share(payload=path.read_bytes())
        return
    _, checkpoint = group.share()
    path.write_bytes(checkpoint)


def _devices() -> int:
    """How many devices of this host train; TensorFlow is asked without being started."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.local_device_count()
    import tensorflow as tf

    return len(tf.config.list_physical_devices("GPU")) or 1


def _distribution_of(backend: str) -> str:
    """The installed package of a backend: TensorFlow has several names."""
    if backend == "jax":
        return "jax"
    found = importlib.metadata.packages_distributions().get("tensorflow", ["tensorflow"])
    return found[0]
