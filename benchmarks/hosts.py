"""What two hosts exchange in a training step, and what it costs: two processes on this machine beside one.

    python benchmarks/hosts.py

conv32 and Deep InfoMax (critic 512, prior) at a batch of 256 random pictures, float32, 10 steps after 10 that are not
counted. Per step: what has to be exchanged, from the shapes; the bytes that the loopback device carried (so nothing
else should use it: `unshare -n` gives the processes one of their own); and seconds of CPU time, all processes together,
which other programs on the machine change less than the time on the clock. Writes benchmarks/hosts.json, a row as soon
as it is there; the same command goes on where it was stopped, and a file that is removed is measured anew.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
import time
from pathlib import Path

from mizoo._tools import files
from mizoo._tools.hardware import hardware

HERE = Path(__file__).parent
BACKENDS = ("tensorflow", "jax")
BATCH, STEPS = 256, 10


def _model():
    """The objective."""
    import mizoo

    return mizoo.DeepInfoMax(mizoo.encoders.conv32(), critic_width=512, prior_weight=0.1)


def exchanged() -> dict[str, float]:
    """Megabytes of float32 that a step exchanges, each counted once: of gradients, gathered rows and statistics."""
    import keras
    import numpy as np

    from mizoo._tools import keras_private

    model = _model()
    gathered: list[int] = []

    def counted(x):
        """The rows, counted."""
        gathered.append(int(np.prod(x.shape)))
        return x

    model.gather = counted
    images = np.random.default_rng(0).integers(0, 256, (BATCH, 32, 32, 3)).astype("float32")
    model.compute_terms(images, np.random.default_rng(1).random((BATCH, model.noise_size), dtype="float32"))
    norms = [each for each in keras_private.all_layers(model) if isinstance(each, keras.layers.BatchNormalization)]
    numbers = {
        "gradients": sum(int(np.prod(variable.shape)) for variable in model.trainable_variables),
        "gathered_rows": 2 * sum(gathered),  # and as much on the way back
        "statistics": sum(2 * (2 * int(norm.gamma.shape[0]) + 1) for norm in norms),
    }
    return {key: round(4 * value / 1e6, 3) for key, value in numbers.items()}


def _carried() -> int:
    """Bytes that the loopback device has carried."""
    line = next(each for each in Path("/proc/net/dev").read_text().splitlines() if each.strip().startswith("lo:"))
    return int(line.split(":")[1].split()[0])


def measure(workers: str, index: int) -> dict:
    """Bytes, CPU seconds and seconds a step, in this process; "-" for one process alone."""
    import keras
    import numpy as np

    from mizoo import data
    from mizoo.pretrain import hosts, placement, strategies

    marks: list[tuple[int, float, float]] = []

    class Marks(keras.callbacks.Callback):
        """The counters at the end of each epoch."""

        def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
            """Read them."""
            used = resource.getrusage(resource.RUSAGE_SELF)
            marks.append((_carried(), used.ru_utime + used.ru_stime, time.perf_counter()))

    alone = workers == "-"
    with hosts.group_of("auto", None if alone else workers, None if alone else index, 120.0) as group:
        if group is not None:
            group.join({})
        chosen = strategies.choose("auto", False, group)
        with chosen.scope():
            model = _model()
            model.compile(keras.optimizers.Adam(1e-4), jit_compile=keras.backend.backend() == "jax")
        pictures = np.random.default_rng(0).integers(0, 256, (BATCH * STEPS, 32, 32, 3), dtype="uint8")
        batches = data.batches(pictures, batch_size=BATCH, noise_size=model.noise_size)
        together = [] if group is None else [placement.KeepTogether(group)]
        chosen.fit(model, batches, 0, 2, [Marks(), *together])
        if group is not None:
            group.leave()
    carried, cpu, seconds = (after - before for before, after in zip(*marks))
    return {"carried_mb": carried / STEPS / 1e6, "cpu_s": cpu / STEPS, "seconds": seconds / STEPS}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _run(backend: str, count: int) -> list[dict]:
    names = ",".join(f"127.0.0.1:{_free_port()}" for _ in range(count)) if count > 1 else "-"
    settings = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    commands = [[sys.executable, __file__, names, str(i)] for i in range(count)]
    started = [subprocess.Popen(each, env=settings, stdout=subprocess.PIPE, text=True) for each in commands]
    said = [each.communicate()[0] for each in started]
    if any(each.returncode for each in started):
        raise SystemExit(f"{backend} with {count} processes failed")
    return [json.loads(each.splitlines()[-1]) for each in said]


def main() -> None:
    """Measure what the file lacks, and write it."""
    file = HERE / "hosts.json"
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.exists() else []
    shapes = subprocess.run([sys.executable, __file__, "shapes"], capture_output=True, text=True, check=True).stdout
    exchange = json.loads(shapes.splitlines()[-1])
    content = {"hardware": hardware(), "batch": BATCH, "exchanged_mb": exchange, "rows": rows}
    for backend in BACKENDS:
        for count in (1, 2):
            if any((row["backend"], row["processes"]) == (backend, count) for row in rows):
                continue
            each = _run(backend, count)
            row = {"backend": backend, "processes": count, "carried_mb": round(each[0]["carried_mb"], 2)}
            row["cpu_seconds"] = round(sum(part["cpu_s"] for part in each), 3)
            row["seconds"] = round(max(part["seconds"] for part in each), 3)
            rows.append(row)
            print(row, flush=True)
            files.write_json(file, content)


if __name__ == "__main__":
    if sys.argv[1:] == ["shapes"]:
        print(json.dumps(exchanged()))
    elif len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
    else:
        main()
