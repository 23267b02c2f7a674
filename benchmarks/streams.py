"""What streaming costs: memory of parent and workers together, and time and CPU time of training steps.

    python benchmarks/streams.py [--count 200000] [--steps 200] [--workers 0 1 4]

JPEG files of 256 pixels (synthetic, 100 different ones linked under `--count` names) train Deep InfoMax on conv32 with
batches of 256, mixed_bfloat16. Each case is a process of its own: with the pictures of all its steps in memory, decoded
before the clock starts, and streamed from the folder of all files with each number of workers, in the order of an
epoch. The memory is the largest PSS of the process and its workers, which counts a page that several share once. Time
is that of `--steps` steps after a few to warm up, so a whole epoch is `count` times the seconds a picture. Decoding,
with resizing to 32 pixels, is timed by itself on one core. The bound is what a streamed epoch may take at most: the
time in memory, half the CPU time of decoding, and 10 % of both. Writes streams.json here, with the load of the machine
at the time: above its cores, others had a share of them, and seconds say little while CPU seconds still hold.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from embed_scale import make

from mizoo import data
from mizoo._tools import files
from mizoo._tools.hardware import hardware

HERE = Path(__file__).parent
BATCH, SIDE, WARM, DECODED = 256, 32, 4, 1000


def train(folder: Path, steps: int, workers: int | None) -> dict:
    """Seconds and CPU seconds of some steps, in this process; in memory with `workers` None."""
    import keras

    import mizoo

    class Clock(keras.callbacks.Callback):
        """Notes the time once it is warm."""

        def on_train_batch_end(self, batch, logs=None):
            """Note it."""
            if batch + 1 == WARM:
                self.began = time.perf_counter(), cpu_seconds()

    keras.config.set_dtype_policy("mixed_bfloat16")
    source = data.stream(folder, size=SIDE)
    if workers is None:
        source = source.images[: (WARM + steps) * BATCH]
    batches = data.batches(source, batch_size=BATCH, workers=workers)
    model = mizoo.DeepInfoMax(mizoo.encoders.conv32(), critic_width=256)
    model.compile(keras.optimizers.Adam(1e-4))
    clock = Clock()
    model.fit(batches, steps_per_epoch=WARM + steps, verbose=0, callbacks=[clock])
    seconds, cpu = time.perf_counter() - clock.began[0], cpu_seconds() - clock.began[1]
    batches.close()
    return {"ms_a_picture": per_picture(seconds, steps), "cpu_ms_a_picture": per_picture(cpu, steps)}


def per_picture(seconds: float, steps: int) -> float:
    """Milliseconds for each picture of `steps` steps."""
    return round(1000 * seconds / (steps * BATCH), 3)


def cpu_seconds() -> float:
    """CPU seconds of this process and of those that it has started and that run."""
    ticks = 0
    for process in multiprocessing.active_children():
        fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def decode(folder: Path) -> float:
    """CPU milliseconds of decoding and resizing a picture."""
    images = data.stream(folder, size=SIDE).images
    rows = range(min(DECODED, len(images)))
    began = time.process_time()
    images.read(rows)
    return round(1000 * (time.process_time() - began) / len(rows), 3)


def tree(process: int) -> list[int]:
    """A process and all that descend from it."""
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii").split()
    except OSError:  # it has ended
        return []
    return [process, *(each for child in children for each in tree(int(child)))]


def pss(process: int) -> int:
    """Bytes of memory of a process and all that descend from it, shared pages divided among them."""
    total = 0
    for each in tree(process):
        try:
            lines = Path(f"/proc/{each}/smaps_rollup").read_text(encoding="ascii").splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def case(folder: Path, steps: int, workers: int | None) -> dict:
    """Run one case in a process of its own, and watch its memory."""
    call = [sys.executable, __file__, "--child", str(folder), "--steps", str(steps)]
    call += [] if workers is None else ["--workers", str(workers)]
    process = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    most = 0
    while process.poll() is None:
        most = max(most, pss(process.pid))
        time.sleep(0.5)
    row = json.loads(process.stdout.read().splitlines()[-1])
    kind = "in memory" if workers is None else "streamed"
    return {"pictures": kind, "workers": workers, **row, "peak_pss_mib": round(most / 2**20)}


def main() -> None:
    """Measure every case, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200_000, help="files in the folder")
    parser.add_argument("--steps", type=int, default=200, help="steps that are timed")
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 1, 4])
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        workers = asked.workers[0] if "--workers" in sys.argv else None
        print(json.dumps(train(asked.child, asked.steps, workers)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, asked.count)
        cost = decode(folder)
        rows = []
        for workers in (None, *asked.workers):
            rows.append(case(folder, asked.steps, workers))
            print(rows[-1], flush=True)
    content = {
        "hardware": hardware(),
        "load_average": round(os.getloadavg()[1], 1),
        "files": asked.count,
        "pictures_trained_on": asked.steps * BATCH,
        "decoding_cpu_ms_a_picture": cost,
        "bound_ms_a_picture": round(1.1 * (rows[0]["ms_a_picture"] + cost / 2), 3),
        "rows": rows,
    }
    print(content)
    files.write_json(HERE / "streams.json", content)


if __name__ == "__main__":
    main()
