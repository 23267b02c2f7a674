"""Whether TensorFlow compiles the training step by XLA, measured where that is left open."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mizoo._tools.hardware import hardware
from mizoo.errors import UserError
from mizoo.pretrain.placement import say
from mizoo.runs.folder import read_machine

WORTH = 300.0
"""Seconds that a run has to take for a compilation to be tried: it takes half a minute or more."""

_FEWEST = 300  # steps; a shorter run is not measured
_TIMED = 6  # steps, after one that is traced
_KEY = "jit_compile"


def check(choice: Any) -> bool | str:
    """The choice, True, False or "auto", or one of their names.

    Raises:
        UserError: for anything else.
    """
    known: dict[str, bool | str] = {"auto": "auto", "true": True, "false": False}
    name = str(choice).lower()
    if name not in known:
        raise UserError(f"`jit_compile` is auto, true or false. Received: {choice!r}")
    return known[name]


def before_measuring(choice: bool | str, replicas: int) -> bool | str:
    """What a model is compiled with: JAX compiles, and TensorFlow does not until it is measured.

    Raises:
        UserError: for XLA with several replicas of TensorFlow, whose exchange is not compiled.
    """
    if keras.backend.backend() == "jax":
        return "auto" if choice == "auto" else choice
    if choice is True and replicas > 1:
        raise UserError(
            f"`jit_compile: true` is for one device on TensorFlow, and there are {replicas}: leave it at auto, or set "
            "KERAS_BACKEND=jax, which compiles the step for all devices."
        )
    return choice is True


def choose(model: Any, batches: Any, steps: int, folder: Path) -> dict[str, Any]:
    """Measure the step of a compiled model, set the faster form, and say so; the model's state stays as it is.

    A run that is resumed takes the form that it had, as far as its folder tells.

    Args:
        model: an objective, compiled without XLA.
        batches: that it trains on.
        steps: how many it will train.
        folder: the run folder.

    Returns:
        What machine.json records; {} on JAX.
    """
    if keras.backend.backend() == "jax":
        return {}
    recorded = read_machine(folder)
    earlier = recorded.get(_KEY, {})
    if "xla_ms" in earlier and recorded.get("hardware") == hardware():
        _set(model, earlier["chosen"])
        return {_KEY: earlier}
    if steps < _FEWEST:
        return {}
    state = [variable.numpy() for variable in _variables(model)]
    plain, _ = _milliseconds(model, batches)
    found: dict[str, Any] = {"chosen": False, "plain_ms": plain}
    if plain / 1000 * steps >= WORTH:
        _set(model, True)
        xla, problem = _milliseconds(model, batches)
        chosen = not problem and xla < plain
        found |= {"chosen": chosen, "xla_ms": xla} | ({"xla_failed": problem} if problem else {})
        _set(model, chosen)
    for variable, value in zip(_variables(model), state):
        variable.assign(value)
    _say(found)
    return {_KEY: found}


def _say(found: dict[str, Any]) -> None:
    if "xla_ms" not in found:
        say(f"jit_compile: not tried, as the run takes under {WORTH / 60:.0f} minutes.")
        return
    xla = "failed" if "xla_failed" in found else f"{found['xla_ms']:.1f} ms a step"
    say(f"jit_compile: {str(found['chosen']).lower()}; without {found['plain_ms']:.1f} ms a step, with XLA {xla}.")


def _variables(model: Any) -> list[Any]:
    """Everything that a step changes."""
    every = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    return list({id(variable): variable for variable in every}.values())


def _set(model: Any, jit_compile: bool) -> None:
    if model.jit_compile != jit_compile:
        model.jit_compile, model.train_function = jit_compile, None


def _milliseconds(model: Any, batches: Any) -> tuple[float, str]:
    """Median time of a step that is traced already, and what went wrong."""
    clock = _Clock()
    try:
        model.fit(batches, steps_per_epoch=_TIMED + 1, epochs=1, verbose=0, callbacks=[clock])
    except UserError:
        raise
    except Exception as error:  # XLA refuses operations by errors of many kinds
        return 0.0, f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
    return round(1000 * float(np.median(np.diff(clock.ends))), 3), ""


class _Clock(keras.callbacks.Callback):
    """Notes the end of each step, once its numbers are there."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[float] = []

    def on_train_batch_end(self, batch: int, logs=None) -> None:
        """Note the time."""
        float((logs or {}).get("loss", 0.0))
        self.ends.append(time.perf_counter())
