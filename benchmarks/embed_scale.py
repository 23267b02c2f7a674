"""What `mizoo embed` costs for a folder of photographs: memory by the number of files, and CPU time for each picture.

    python benchmarks/embed_scale.py

JPEG files of 256 pixels (synthetic, then linked under many names) into shards by dim_local_cifar10, endpoint fc.
The memory is the largest resident size of the command's process; CPU seconds are its own, so that a busy machine
changes them little. Decoding (with resizing) and encoding are then timed by themselves. Writes embed_scale.json here.
A minute or two on 2 cores.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

import mizoo
from mizoo._tools import files
from mizoo._tools.hardware import hardware
from mizoo.data import pictures

HERE = Path(__file__).parent
COUNTS, DIFFERENT, SIDE = (2000, 8000), 100, 256
ENTRY = "dim_local_cifar10"


def make(folder: Path, count: int) -> None:
    """`count` JPEG files, `DIFFERENT` of them different: smooth noise, which compresses as photographs do."""
    rng = np.random.default_rng(0)
    originals = []
    for index in range(count):
        path = folder / f"{index // 1000:03d}/{index:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if index < DIFFERENT:
            small = Image.fromarray(rng.integers(0, 256, (48, 48, 3), dtype="uint8"))
            small.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(path, quality=90)
            originals.append(path)
        else:
            os.link(originals[index % DIFFERENT], path)


def command(folder: Path, out: Path) -> dict:
    """Wall and CPU seconds and peak memory of the command."""
    call = [sys.executable, "-m", "mizoo.cli", "embed", ENTRY, str(folder), "-o", str(out), "--endpoint", "fc"]
    began = time.perf_counter()
    process = subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, status
    return {
        "wall_seconds": round(time.perf_counter() - began, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mib": round(usage.ru_maxrss / 1024),
    }


def milliseconds(function, rounds: int) -> float:
    """CPU milliseconds of one of `rounds` calls."""
    function(0)
    began = time.process_time()
    for index in range(rounds):
        function(index)
    return 1000 * (time.process_time() - began) / rounds


def main() -> None:
    """Measure, and write the file."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for count in COUNTS:
            folder = Path(name, str(count))
            make(folder, count)
            rows.append({"pictures": count, **command(folder, Path(name, f"out{count}"))})
            print(rows[-1], flush=True)
        some = pictures.find(Path(name, str(COUNTS[0])))[:DIFFERENT]
        decode = milliseconds(lambda i: pictures.prepare(some[i], (32, 32, 3)), DIFFERENT)
    encoder = mizoo.load(ENTRY, "fc", runtime="onnx")
    batch = np.random.default_rng(0).integers(0, 256, (256, 32, 32, 3), dtype="uint8")
    encode = milliseconds(lambda _: encoder(batch), 8) / len(batch)
    more, cpu = COUNTS[1] - COUNTS[0], rows[1]["cpu_seconds"] - rows[0]["cpu_seconds"]
    content = {
        "hardware": hardware(),
        "rows": rows,
        "cpu_ms_a_picture": round(1000 * cpu / more, 2),
        "of_it_decoding_ms": round(decode, 2),
        "of_it_encoding_ms": round(encode, 2),
        "core_hours_a_million": round(1e6 * cpu / more / 3600, 2),
    }
    print(content)
    files.write_json(HERE / "embed_scale.json", content)


if __name__ == "__main__":
    main()
