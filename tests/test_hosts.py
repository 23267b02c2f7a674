"""Several devices and several hosts end with the weights of one, and go on after one of them was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from support import on_hosts
from support.encoders import TOY

from mizoo import recipes
from mizoo.data.batching import Batches
from mizoo.data.order import rows_of_host
from mizoo.errors import UserError
from mizoo.pretrain import hosts, placement, strategies
from mizoo.runs.folder import CHECKPOINT, read_log

BACKENDS = ("tensorflow", "jax")
PATIENCE = 900.0  # seconds that processes on a busy machine are waited for
EPOCHS = 6


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory) -> Path:
    """A recipe of 32 small pictures in two stretches, with batch normalisation."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(20261128)
    for i in range(32):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype="uint8")).save(folder / f"{i:02d}.png")
    content = {
        "name": "toy",
        "encoder": TOY,
        "objective": {"critic_width": 6, "prior_weight": 0.0, "occlusion": 0.5, "occlusion_from": EPOCHS - 2},
        "data": {"source": str(folder)},
        "training": {"epochs": EPOCHS, "batch_size": 16, "precision": "float32"},
    }
    path = tmp_path_factory.mktemp("recipe") / "toy.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def pretrain(recipe_file):
    """Starts the command in a process of its own; what still runs at the end is killed."""
    started: list[subprocess.Popen] = []

    def start(backend: str, out: Path, *arguments: str) -> subprocess.Popen:
        """The command for the recipe and a run folder."""
        command = [sys.executable, "-m", "mizoo.cli", "pretrain", str(recipe_file), "--out", str(out), *arguments]
        settings = on_hosts.environment(backend)
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=settings))
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.communicate()


def on_both(pretrain, backend: str, out: Path, names: str, further=((), ())) -> list[subprocess.Popen]:
    """The command on two workers."""
    each = [("--workers", names, "--index", str(i), *further[i]) for i in (0, 1)]
    return [pretrain(backend, out, *arguments) for arguments in each]


def largest_difference(one: Path, other: Path) -> float:
    """Between the weights in two checkpoints."""
    import h5py

    differences = []
    with h5py.File(one / CHECKPOINT) as first, h5py.File(other / CHECKPOINT) as second:

        def compare(name, item):
            if isinstance(item, h5py.Dataset) and item.dtype.kind == "f":
                differences.append(np.abs(item[()].astype("float64") - second[name][()]).max())

        first.visititems(compare)
    assert len(differences) > 50
    return max(differences)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_two_hosts_end_with_the_weights_of_one(backend, tmp_path):
    """Batch normalisation, the second optimiser and its inner steps included: measured 1.1e-6 at most."""
    objectives = ("deep_infomax", "deep_co_training", "simclr")
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    names = on_hosts.addresses(2)
    processes = [on_hosts.start(backend, "single", "-", 0, folders[0], *objectives)]
    processes += [on_hosts.start(backend, "multiworker", names, i, folders[1], *objectives) for i in (0, 1)]
    for status, said in on_hosts.finish(processes):
        assert status == 0, said[-3000:]
    assert_equal_weights(*folders, objectives, replicas=2)
    assert not [path.name for path in folders[1].glob("*1.npz")]


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_two_devices_of_a_host_end_with_the_weights_of_one(backend, tmp_path):
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    processes = [
        on_hosts.start(backend, "single", "-", 0, folders[0], "deep_infomax"),
        on_hosts.start(backend, "mirrored", "-", 0, folders[1], "deep_infomax", devices=2),
    ]
    for status, said in on_hosts.finish(processes):
        assert status == 0, said[-3000:]
    assert_equal_weights(*folders, ("deep_infomax",), replicas=2)


def assert_equal_weights(one: Path, two: Path, objectives, replicas: int) -> None:
    """The weights and losses of one device and of several are equal, and no step was traced twice."""
    facts = [json.loads((folder / "facts.json").read_text()) for folder in (one, two)]
    assert [each["replicas"] for each in facts] == [1, replicas]
    for objective in objectives:
        losses = [each["loss"][objective] for each in facts]
        np.testing.assert_allclose(losses[0], losses[1], rtol=1e-6, atol=2e-6)
        assert len(set(losses[0])) == on_hosts.EPOCHS
        with np.load(one / f"{objective}.npz") as first, np.load(two / f"{objective}.npz") as second:
            assert set(first) == set(second) and any("moving" in name for name in first)
            for name in first:
                np.testing.assert_allclose(first[name], second[name], atol=2e-6, err_msg=name)
        in_one_process = replicas if facts[1]["placement"] == "Mirrored" else 1  # each replica is traced by itself
        assert [len(each["traces"][objective]) for each in facts] == [1, in_one_process]


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_killed_worker_ends_the_run_and_the_same_command_goes_on(backend, pretrain, tmp_path):
    out, whole = tmp_path / "run", tmp_path / "whole"
    names = on_hosts.addresses(2)
    processes = on_both(pretrain, backend, out, names)
    wait_for_epochs(out, 2, processes)
    assert_the_other_ends(processes, 1, names)
    assert 2 <= len(read_log(out)) < EPOCHS
    assert not list(out.glob(".writing-*"))  # the chief ends between two files

    again = [*on_both(pretrain, backend, out, names), pretrain(backend, whole, "--strategy", "single")]
    for status, said in on_hosts.finish(again, PATIENCE):
        assert status == 0, said[-3000:]
    resumed, unbroken = read_log(out), read_log(whole)
    assert [line["epoch"] for line in resumed] == list(range(1, EPOCHS + 1))
    np.testing.assert_allclose([line["loss"] for line in resumed], [line["loss"] for line in unbroken], rtol=1e-3)
    assert largest_difference(out, whole) < 2e-3  # Adam turns rounding in vanishing gradients into steps
    assert json.loads((out / "machine.json").read_text())["hosts"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_killed_chief_ends_the_run(backend, pretrain, tmp_path):
    names = on_hosts.addresses(2)
    processes = on_both(pretrain, backend, tmp_path / "run", names)
    wait_for_epochs(tmp_path / "run", 1, processes)
    assert_the_other_ends(processes, 0, names)


def assert_the_other_ends(processes: list[subprocess.Popen], victim: int, names: str) -> None:
    """Once one of two is killed the other ends within a minute, with status 75 and the name of the one."""
    processes[victim].send_signal(signal.SIGKILL)
    _, said = processes[1 - victim].communicate(timeout=60)
    assert processes[1 - victim].returncode == 75, said[-3000:]
    assert f"worker {victim} ({names.split(',')[victim]}) ended without a word" in said


def wait_for_epochs(out: Path, count: int, processes: list[subprocess.Popen]) -> None:
    """Until the log of a run has so many lines."""
    deadline = time.monotonic() + PATIENCE
    while not (out / "log.csv").exists() or len(read_log(out)) < count:
        ended = [each.communicate()[1][-3000:] for each in processes if each.poll() is not None]
        assert not ended and time.monotonic() < deadline, ended
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_another_recipe_on_one_worker_is_named_on_every_host(backend, pretrain, tmp_path):
    seed = ("--set", "training.seed=5")
    processes = on_both(pretrain, backend, tmp_path / "run", on_hosts.addresses(2), ((), seed))
    ended = on_hosts.finish(processes, PATIENCE)
    assert [status for status, _ in ended] == [2, 2]
    assert all("`recipe.training.seed` is 0 on one and 5 on the other" in said for _, said in ended), ended
    assert not (tmp_path / "run").exists()


def test_the_shares_of_the_hosts_are_the_batch():
    images = np.arange(40 * 3, dtype="uint8").reshape(40, 1, 1, 3)
    shares = [Batches(images, 12, seed=3, noise_size=2, shard=(i, 3)) for i in range(3)]
    for key, whole in Batches(images, 12, seed=3, noise_size=2)[4].items():
        parts = [share[4][key] for share in shares]
        assert [len(part) for part in parts] == [4, 4, 4]
        np.testing.assert_array_equal(np.concatenate(parts), whole, err_msg=key)
    with pytest.raises(UserError, match="a multiple of 5"):
        rows_of_host(12, 0, 5)


def test_a_batch_that_devices_cannot_share_is_refused_with_sizes_that_they_can():
    several = placement.Placement()
    several.replicas = 8
    placement.check_shared(128, several)
    with pytest.raises(UserError, match="give 120 or 128"):
        placement.check_shared(127, several)
    with pytest.raises(UserError, match="give 8 "):
        placement.check_shared(5, several)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("both", None, None), "`strategy` is"),
        (("multiworker", None, None), "takes two workers or more"),
        (("multiworker", "a:1", 0), "takes two workers or more"),
        (("mirrored", "a:1,b:2", 0), "is for one host"),
        (("auto", "a:1,b:2", None), "belong together"),
    ],
)
def test_strategies_and_workers_that_do_not_fit_are_refused(arguments, message, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(UserError, match=message), hosts.group_of(*arguments, 1.0):
        pass


def test_one_host_is_no_group_and_trains_on_one_device(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with hosts.group_of("auto", None, None, 1.0) as group:
        assert group is None
    for strategy in ("auto", "single"):
        chosen = strategies.choose(strategy, None, None)
        assert type(chosen) is placement.Placement and chosen.replicas == 1 and chosen.facts() == {}
    with pytest.raises(UserError, match="KERAS_BACKEND=jax"):
        strategies.choose("auto", True, None)


def test_hosts_compare_what_determines_the_weights():
    content = {"name": "toy", "encoder": TOY, "data": {"source": "cifar10"}}
    one = hosts.facts(recipes.validate(content), 5, "auto")
    assert one == hosts.facts(recipes.validate({**content, "name": "other"}), 5, "auto")
    other = hosts.facts(recipes.validate({**content, "training": {"batch_size": 64}}), 4, True)
    differing = {key for key in one if one[key] != other[key]}
    assert differing == {"recipe", "epochs to train", "jit_compile"}
    assert one["devices"] == 1 and one["backend"] == os.environ.get("KERAS_BACKEND", "tensorflow")


_CHOICES = """
import json
from mizoo.errors import UserError
from mizoo.pretrain import strategies

chosen = {}
for strategy, scan in (("auto", None), ("auto", True), ("single", None), ("mirrored", None), ("mirrored", True)):
    try:
        placed = strategies.choose(strategy, scan, None)
        chosen[f"{strategy} {scan}"] = [type(placed).__name__, placed.replicas]
    except UserError as error:
        chosen[f"{strategy} {scan}"] = str(error)
print(json.dumps(chosen))
"""


def test_a_scan_takes_one_device_of_several_and_says_so():
    pytest.importorskip("jax")
    command = [sys.executable, "-c", _CHOICES]
    settings = on_hosts.environment("jax", devices=3)
    done = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    chosen = json.loads(done.stdout)
    assert chosen["auto None"] == chosen["mirrored None"] == ["DataParallel", 3]
    assert chosen["auto True"] == ["Scan", 1] and chosen["single None"] == ["Placement", 1]
    assert "`scan` trains on one device" in chosen["mirrored True"]
    assert "Epochs by scan train on one device; the other 2 do nothing." in done.stderr
