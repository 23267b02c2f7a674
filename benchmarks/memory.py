"""Memory of a training step of Deep InfoMax by batch size, with all scores at once and by blocks.

    python benchmarks/memory.py [--batch 8192]

conv32, a critic of width 512 and mixed_bfloat16; each case is a process of its own that trains three steps on random
pictures, or one step of the batch of 8,192, which takes long on few cores. The figure is the largest resident size that
the process reached, less that before the first step, in GiB. Writes benchmarks/memory.json, a row as soon as it is
there; `--batch` measures one batch size alone, and leaves the rows of the others as they are.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from mizoo._tools import files
from mizoo._tools.hardware import hardware

HERE = Path(__file__).parent
CASES = ((512, "at once", 3), (512, "blocks", 3), (2048, "at once", 3), (2048, "blocks", 3), (8192, "blocks", 1))


def _resident(field: str) -> int:
    """A line of /proc/self/status in bytes: VmRSS now, VmHWM at most."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def measure(batch: int, form: str, steps: int) -> dict:
    """Growth in GiB and seconds of one case, in this process."""
    import keras
    import numpy as np

    import mizoo
    from mizoo.critics import blocks

    blocks.BUDGET = {"at once": 1 << 62, "blocks": 0}[form]
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = mizoo.DeepInfoMax(mizoo.encoders.conv32(), critic_width=512)
    model.compile(keras.optimizers.Adam(1e-4), jit_compile=False)
    before = _resident("VmRSS")
    pictures = np.random.default_rng(0).integers(0, 256, (batch, 32, 32, 3), dtype="uint8")
    began = time.perf_counter()
    model.fit(pictures, batch_size=batch, epochs=steps, verbose=0)
    seconds = time.perf_counter() - began
    growth = (_resident("VmHWM") - before) / 2**30
    return {
        "batch": batch,
        "scores": form,
        "steps": steps,
        "growth_gib": round(growth, 2),
        "seconds": round(seconds, 1),
    }


def main(batch: int | None) -> None:
    """Measure every case, or those of one batch size, and write the file."""
    result = HERE / "memory.json"
    rows = json.loads(result.read_text())["rows"] if batch and result.exists() else []
    for case in CASES:
        if batch not in (None, case[0]):
            continue
        arguments = [str(each) for each in case]
        done = subprocess.run(
            [sys.executable, __file__, "--case", *arguments], capture_output=True, text=True, check=False
        )
        row = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None
        row = row or {"batch": case[0], "scores": case[1], "failed": done.stderr.strip().splitlines()[-1][:200]}
        print(row, flush=True)
        rows = [each for each in rows if (each["batch"], each["scores"]) != case[:2]] + [row]
        files.write_json(result, {"hardware": hardware(), "rows": rows})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, choices=sorted({case[0] for case in CASES}), help="measure this one alone")
    parser.add_argument("--case", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.case:
        print(json.dumps(measure(int(given.case[0]), given.case[1], int(given.case[2]))))
    else:
        main(given.batch)
