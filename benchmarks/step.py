"""Views a CPU second of one core: forward and backward pass of the three-stage network, in Keras and in PyTorch alone.

    python -m venv /somewhere/torch && /somewhere/torch/bin/pip install torch==2.13.0 ".[tensorflow]"
    python benchmarks/step.py /somewhere/torch/bin/python

512 views in bfloat16, or float32, through `mizoo.encoders.three_stage`, InfoNCE between the two halves, gradients of
all weights; no augmentation and no optimiser. "mizoo" is the step as objectives take it, with the kernels of
mizoo/objectives/_cpu.py, "keras" the same network without them, and "torch alone" the network written in PyTorch,
channels last, by its autocast; "valid" has a first convolution without padding, which makes the maps of each stage
smaller. Each case is a process of its own on one core, the cases in turns. Writes benchmarks/step.json. About ten
minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
VIEWS, STEPS, ROUNDS, SIDES, TEMPERATURE = 512, 4, 3, (16, 24), 0.2
CASES = (
    "mizoo on tensorflow",
    "mizoo on tensorflow, valid",
    "mizoo on tensorflow, valid, float32",
    "keras on tensorflow, valid",
    "keras on tensorflow, valid, float32",
    "keras on torch, valid",
    "torch alone",
    "torch alone, valid",
)


def keras_step(backend: str, side: int, padding: str, precision: str, kernels: bool):
    """A function that makes one step of the network in Keras, with the kernels of mizoo or not."""
    os.environ |= {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    if backend == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    import keras
    from keras import ops

    from mizoo.encoders import three_stage

    keras.config.set_dtype_policy(precision)
    encoder = three_stage(side=side, padding=padding)
    images = np.random.default_rng(0).integers(0, 256, (VIEWS, side, side, 3)).astype("float32")

    def loss_of(images):
        """InfoNCE, minus its constant."""
        z = ops.normalize(ops.cast(encoder(images, training=True)["global"], "float32"), axis=-1)
        scores = ops.matmul(z, ops.transpose(z)) / TEMPERATURE - 1e9 * ops.eye(VIEWS)
        positive = ops.sum(z * ops.roll(z, VIEWS // 2, axis=0), axis=-1) / TEMPERATURE
        return ops.mean(ops.logsumexp(scores, axis=-1) - positive)

    variables = [variable.value for variable in encoder.trainable_variables]
    if backend == "torch":
        import torch

        torch.set_num_threads(1)
        batch = torch.tensor(images)

        def step() -> float:
            """One step by autograd."""
            loss = loss_of(batch)
            torch.autograd.grad(loss, variables)
            return float(loss.detach())

        return step

    from mizoo.objectives._cpu import cpu_kernels

    @tf.function
    def compiled(images):
        """Loss and gradients."""
        with tf.GradientTape() as tape, cpu_kernels(encoder.layers if kernels else []):
            loss = loss_of(images)
        return loss, tape.gradient(loss, variables)

    batch = tf.constant(images)
    return lambda: float(compiled(batch)[0])


def torch_step(side: int, padded: bool):
    """The same of the network in PyTorch alone."""
    import torch
    from torch import nn

    torch.set_num_threads(1)

    def stage(before: int, width: int) -> list[nn.Module]:
        """Two convolutions, the first with pooling."""
        first, second = (nn.Conv2d(each, width, 3, padding=1, bias=False) for each in (before, width))
        norms = [nn.BatchNorm2d(width) for _ in range(2)]
        return [first, nn.MaxPool2d(2), norms[0], nn.SiLU(), second, norms[1], nn.SiLU()]

    whitening = nn.Conv2d(3, 24, 2, bias=False)
    whitening.weight.requires_grad_(False)
    pad = [nn.ZeroPad2d((0, 1, 0, 1))] if padded else []
    maps = nn.Sequential(*pad, whitening, nn.SiLU(), *stage(24, 64), *stage(64, 256), *stage(256, 256))
    maps = maps.to(memory_format=torch.channels_last)
    head = nn.Sequential(
        nn.Linear(256, 512, bias=False), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 128, bias=False)
    )
    batch = torch.randn(VIEWS, 3, side, side).to(memory_format=torch.channels_last)
    itself = 1e9 * torch.eye(VIEWS)

    def step() -> float:
        """One step by autograd under autocast."""
        with torch.autocast("cpu", torch.bfloat16):
            z = head(maps(batch).mean((2, 3)))
        z = nn.functional.normalize(z.float(), dim=1)
        scores = z @ z.T / TEMPERATURE - itself
        loss = (scores.logsumexp(1) - (z * z.roll(VIEWS // 2, 0)).sum(1) / TEMPERATURE).mean()
        for module in (maps, head):
            module.zero_grad()
        loss.backward()
        return float(loss.detach())

    return step


def rate(case: str, side: int) -> float:
    """Views a CPU second of this process."""
    network, *options = case.split(", ")
    kind, _, backend = network.partition(" on ")
    padding = "valid" if "valid" in options else "same"
    precision = "float32" if "float32" in options else "mixed_bfloat16"
    if kind == "torch alone":
        step = torch_step(side, padding == "same")
    else:
        step = keras_step(backend, side, padding, precision, kernels=kind == "mizoo")
    step(), step()
    seconds = []
    for _ in range(STEPS):
        began = time.process_time()
        step()
        seconds.append(time.process_time() - began)
    return VIEWS / statistics.median(seconds)


def main(python: str) -> None:
    """Measure all cases in turns, each in a process of its own."""
    from mizoo._tools import files
    from mizoo._tools.hardware import hardware

    found: dict[tuple[str, int], list[float]] = {}
    for turn in range(ROUNDS):
        for side in SIDES:
            for case in CASES:
                interpreter = python if "torch" in case else sys.executable
                command = [interpreter, __file__, "--case", case, "--side", str(side)]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, preexec_fn=_one_core)
                found.setdefault((case, side), []).append(json.loads(done.stdout.splitlines()[-1]))
                print(f"turn {turn + 1}: {case}, {side} px: {found[case, side][-1]:.0f} views a CPU second", flush=True)
    rows = [
        {"case": case, "side": side, "views_per_cpu_second": round(statistics.median(rates)), "turns": len(rates)}
        for (case, side), rates in found.items()
    ]
    files.write_json(HERE / "step.json", {"hardware": hardware(), "views": VIEWS, "rows": rows})


def _one_core() -> None:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", nargs="?", default=sys.executable, help="an interpreter that has torch and mizoo")
    parser.add_argument("--case", choices=CASES, help="measure this one alone, in this process")
    parser.add_argument("--side", type=int, default=SIDES[0])
    given = parser.parse_args()
    if given.case:
        print(json.dumps(rate(given.case, given.side)))
    else:
        main(given.python)
