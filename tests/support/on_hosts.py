"""Trains the tiny objectives of `one_step.py` on one device, or on several hosts: run as a script on each.

`python on_hosts.py <strategy> <host:port,... or -> <index> <folder> <objective> ...` writes the weights after two
epochs to `<folder>/<objective>.npz`, and `facts.json`.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
EPOCHS = 2


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens at."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def addresses(count: int) -> str:
    """As many workers on this machine, for `--workers`."""
    return ",".join(f"127.0.0.1:{port}" for port in free_ports(count))


def environment(backend: str, devices: int = 1) -> dict[str, str]:
    """For a process of a backend with a number of logical CPU devices."""
    settings = {
        **os.environ,
        "LOGICAL_DEVICES": str(devices),
        "KERAS_BACKEND": backend,
        "PYTHONPATH": f"{TESTS.parent}:{TESTS}",
    }
    flags = [f"--xla_force_host_platform_device_count={devices}"] if devices > 1 else []
    return {**settings, "XLA_FLAGS": " ".join(["--xla_backend_optimization_level=0", *flags])}


def start(backend: str, strategy: str, workers: str, index: int, folder: Path, *objectives: str, devices: int = 1):
    """The process of one host."""
    command = [sys.executable, __file__, strategy, workers, str(index), str(folder), *objectives]
    return subprocess.Popen(command, env=environment(backend, devices), stderr=subprocess.PIPE, text=True)


def finish(processes: list[subprocess.Popen], seconds: float = 600) -> list[tuple[int, str]]:
    """Exit status and standard error of each, once they end."""
    ended = [(each, each.communicate(timeout=seconds)[1]) for each in processes]
    return [(each.returncode, said) for each, said in ended]


def _main(strategy: str, workers: str, index: str, folder: Path, objectives: list[str]) -> None:
    from mizoo.pretrain import hosts

    named = None if workers == "-" else workers
    with hosts.group_of(strategy, named, None if named is None else int(index), 120.0) as group:
        if group is not None:
            group.join({})
        _train(strategy, group, folder, objectives)
        if group is not None:
            group.leave()


def _train(strategy: str, group: Any, folder: Path, objectives: list[str]) -> None:
    import keras
    import numpy as np

    from mizoo import data
    from mizoo.pretrain import placement, strategies
    from support import one_step

    if keras.backend.backend() == "tensorflow" and (devices := int(os.environ["LOGICAL_DEVICES"])) > 1:
        import tensorflow as tf

        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * devices)
    chosen = strategies.choose(strategy, None, group, 0)
    facts = {"replicas": chosen.replicas, "placement": type(chosen).__name__, "traces": {}, "loss": {}}
    pictures = np.random.default_rng(1).integers(0, 256, (32, 32, 32, 3), dtype="uint8")
    for objective in objectives:
        with chosen.scope():
            model = one_step._prepared(one_step.Case(objective))
        count_traces(model, facts["traces"].setdefault(objective, []))
        batches = data.batches(pictures, batch_size=16, seed=4, noise_size=model.noise_size, shard=chosen.shard)
        history = keras.callbacks.History()
        together = [] if group is None else [placement.KeepTogether(group)]
        chosen.fit(model, batches, 0, EPOCHS, [history, *together])
        facts["loss"][objective] = history.history["loss"]
        if group is None or group.is_chief:
            variables = model.trainable_variables + model.encoder.non_trainable_variables
            values = {f"{i} {v.path}".replace("/", "|"): keras.ops.convert_to_numpy(v) for i, v in enumerate(variables)}
            np.savez(folder / f"{objective}.npz", **{key: value for key, value in values.items() if "seed" not in key})
    name = "facts.json" if group is None or group.is_chief else f"facts{group.index}.json"
    (folder / name).write_text(json.dumps(facts))


def count_traces(model: Any, traces: list[int]) -> None:
    """Add to `traces` each time that the step is traced."""
    step = model.train_step

    def counted(*arguments: Any) -> Any:
        """The step, counted."""
        traces.append(1)
        return step(*arguments)

    model.train_step = counted


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    _main(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]), sys.argv[5:])
