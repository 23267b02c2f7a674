"""Memory of a training step of Deep InfoMax by batch size, with all scores at once and by blocks.

    python benchmarks/memory.py

conv32, a critic of width 512 and mixed_bfloat16; each case is a process of its own that trains three steps on random
pictures. The figure is the largest resident size that the process reached, less that before the first step, in GiB.
Writes benchmarks/memory.json, a row as soon as it is there. The batch of 8,192 takes long on few cores.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from mizoo._tools import files
from mizoo._tools.hardware import hardware

HERE = Path(__file__).parent
CASES = ((512, "at once"), (512, "blocks"), (2048, "at once"), (2048, "blocks"), (8192, "blocks"))
STEPS = 3


def _resident(field: str) -> int:
    """A line of /proc/self/status in bytes: VmRSS now, VmHWM at most."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def measure(batch: int, form: str) -> dict:
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
    model.fit(pictures, batch_size=batch, epochs=STEPS, verbose=0)
    seconds = time.perf_counter() - began
    growth = (_resident("VmHWM") - before) / 2**30
    return {"batch": batch, "scores": form, "growth_gib": round(growth, 2), "seconds": round(seconds, 1)}


def main() -> None:
    """Measure every case, and write the file."""
    rows = []
    for batch, form in CASES:
        done = subprocess.run([sys.executable, __file__, str(batch), form], capture_output=True, text=True, check=False)
        row = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None
        rows.append(row or {"batch": batch, "scores": form, "failed": done.stderr.strip().splitlines()[-1][:200]})
        print(rows[-1], flush=True)
        files.write_json(HERE / "memory.json", {"hardware": hardware(), "steps": STEPS, "rows": rows})


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(int(sys.argv[1]), sys.argv[2])))
    else:
        main()
