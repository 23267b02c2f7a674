"""Precision and XLA where a recipe leaves them open; the step is traced once either way."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.encoders import TOY
from support.on_hosts import count_traces

from mizoo import data, recipes
from mizoo.errors import UserError
from mizoo.pretrain import compiling
from mizoo.runs.folder import MACHINE

keras = pytest.importorskip("keras")
pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="JAX always compiles")


@pytest.fixture
def model():
    """A small objective, compiled without XLA."""
    from mizoo.encoders import conv32
    from mizoo.objectives import DeepInfoMax

    keras.utils.set_random_seed(3)
    built = DeepInfoMax(conv32(**TOY), critic_width=6, prior_weight=0.1)
    built.compile(keras.optimizers.Adam(1e-3), jit_compile=False)
    return built


@pytest.fixture
def batches(model):
    pictures = np.random.default_rng(0).integers(0, 256, (32, 32, 32, 3), dtype="uint8")
    return data.batches(pictures, batch_size=16, seed=1, noise_size=model.noise_size)


def state(model) -> list[np.ndarray]:
    return [np.array(variable) for variable in compiling._variables(model)]


@pytest.mark.parametrize("times, chosen", [((30.0, 20.0), True), ((20.0, 30.0), False)])
def test_the_faster_form_is_taken_and_recorded(times, chosen, model, batches, tmp_path, monkeypatch, capsys):
    left = list(times)
    monkeypatch.setattr(compiling, "_milliseconds", lambda *_: (left.pop(0), ""))
    found = compiling.choose(model, batches, 100_000, tmp_path)["jit_compile"]
    assert found == {"chosen": chosen, "plain_ms": times[0], "xla_ms": times[1]}
    assert model.jit_compile is chosen and model.train_function is None
    said = capsys.readouterr().err
    assert said == f"jit_compile: {str(chosen).lower()}; without {times[0]} ms a step, with XLA {times[1]} ms a step.\n"


def test_a_form_that_xla_refuses_is_not_taken(model, batches, tmp_path, monkeypatch, capsys):
    results = [(30.0, ""), (0.0, "InvalidArgumentError: no such operation")]
    monkeypatch.setattr(compiling, "_milliseconds", lambda *_: results.pop(0))
    found = compiling.choose(model, batches, 100_000, tmp_path)["jit_compile"]
    assert found["chosen"] is False and "no such operation" in found["xla_failed"] and model.jit_compile is False
    assert "with XLA failed" in capsys.readouterr().err


def test_a_resumed_run_takes_the_form_that_it_had(model, batches, tmp_path, monkeypatch):
    from mizoo._tools.hardware import hardware

    monkeypatch.setattr(compiling, "_milliseconds", lambda *_: pytest.fail("measured again"))
    recorded = {"chosen": True, "plain_ms": 3.0, "xla_ms": 2.0}
    (tmp_path / MACHINE).write_text(json.dumps({"hardware": hardware(), "jit_compile": recorded}))
    assert compiling.choose(model, batches, 100_000, tmp_path) == {"jit_compile": recorded}
    assert model.jit_compile is True


def test_measuring_leaves_the_state_and_its_trace_is_that_of_the_run(model, batches, tmp_path):
    traces: list[int] = []
    count_traces(model, traces)
    before = state(model)
    found = compiling.choose(model, batches, 400, tmp_path)["jit_compile"]
    assert set(found) == {"chosen", "plain_ms"} and found["plain_ms"] > 0  # far too short a run to try XLA
    for old, new in zip(before, state(model)):
        np.testing.assert_array_equal(old, new)
    model.fit(batches, epochs=2, verbose=0)
    assert len(traces) == 1


def test_a_short_run_is_not_measured(model, batches, tmp_path, monkeypatch):
    monkeypatch.setattr(compiling, "_milliseconds", lambda *_: pytest.fail("measured"))
    assert compiling.choose(model, batches, 299, tmp_path) == {}


@pytest.mark.slow
def test_the_step_by_xla_is_the_step_without(batches, model):
    from mizoo.encoders import conv32
    from mizoo.objectives import DeepInfoMax

    def trained(jit_compile: bool) -> tuple[list[np.ndarray], int]:
        """Weights after two epochs with SGD, and how often the step was traced."""
        keras.utils.set_random_seed(3)
        built = DeepInfoMax(conv32(**TOY), critic_width=6, prior_weight=0.1)
        built.compile(keras.optimizers.SGD(0.05), jit_compile=jit_compile)
        traces: list[int] = []
        count_traces(built, traces)
        built.fit(batches, epochs=2, verbose=0)
        return [np.array(variable) for variable in built.encoder.variables], len(traces)

    (plain, once), (compiled, again) = trained(False), trained(True)
    assert once == again == 1
    for one, other in zip(plain, compiled):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("value, choice", [("auto", "auto"), ("True", True), ("false", False), (True, True)])
def test_choices_are_read(value, choice):
    assert compiling.check(value) is choice or compiling.check(value) == choice == "auto"


def test_what_is_no_choice_is_refused_and_xla_takes_one_device():
    with pytest.raises(UserError, match="auto, true or false"):
        compiling.check("yes please")
    assert compiling.before_measuring("auto", 4) is False and compiling.before_measuring(True, 1) is True
    with pytest.raises(UserError, match="one device on TensorFlow, and there are 4"):
        compiling.before_measuring(True, 4)


def test_a_recipe_says_it_and_the_weights_do_not_depend_on_it():
    content = {"name": "toy", "data": {"source": "cifar10"}}
    plain, chosen = (recipes.validate({**content, "training": {"jit_compile": each}}) for each in ("auto", True))
    assert chosen.training.jit_compile is True and plain.identity() == chosen.identity()
    with pytest.raises(UserError, match="jit_compile"):
        recipes.validate({**content, "training": {"jit_compile": "fast"}})


@pytest.mark.parametrize(
    "accelerator, seconds, precision",
    [
        ("", {"float32": 4.0, "bfloat16": 3.9}, "float32"),
        ("", {"float32": 4.0, "bfloat16": 9.0}, "float32"),
        ("", {"float32": 4.0, "bfloat16": 2.2}, "mixed_bfloat16"),
        ("GPU", {}, "mixed_bfloat16"),
    ],
)
def test_an_open_precision_is_the_one_that_multiplies_clearly_faster(accelerator, seconds, precision, monkeypatch):
    from mizoo._tools import hardware, keras_backend

    clock = [0.0]

    def matmul(one, other):
        clock[0] += seconds[keras.backend.standardize_dtype(one.dtype)]
        return one

    monkeypatch.setattr(hardware, "accelerator", lambda: accelerator)
    monkeypatch.setattr(keras.ops, "matmul", matmul)
    monkeypatch.setattr(keras_backend.time, "perf_counter", lambda: clock[0])
    keras_backend._bfloat16_gain.cache_clear()
    try:
        assert keras_backend.precision_here() == precision
    finally:
        keras_backend._bfloat16_gain.cache_clear()
