"""Trains tiny objectives from fixed weights, a case after the other, and saves their terms and weights.

`run` starts a process of its own for a backend, as importing TensorFlow or JAX takes longer than a case; run as a
script it takes the cases as JSON and a folder, into which it writes `<case>.npz` and `facts.json`.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

TESTS = Path(__file__).parents[1]


class Case(NamedTuple):
    """What is trained; `settings` take the place of the usual ones of `BUILDERS`, with `augment` as a name.

    Attributes:
        objective: a key of `BUILDERS`.
        settings: as pairs, so that a case can be a key.
        replicas: devices that share a batch, on TensorFlow.
        epochs: over 32 pictures in batches of 16.
        last: pictures of a second, smaller batch in the place of those.
        scan: train by `scan_epoch`, on JAX.
    """

    objective: str
    settings: tuple[tuple[str, Any], ...] = ()
    replicas: int = 1
    epochs: int = 1
    last: int = 0
    scan: bool = False


class Result(NamedTuple):
    """Terms of the last epoch, and the weights after it by path."""

    terms: dict[str, float]
    weights: dict[str, Any]
    facts: dict[str, Any]


@functools.cache
def run(backend: str, cases: tuple[Case, ...], extra: tuple[str, ...] = ()) -> tuple[dict[Case, Result], dict]:
    """Train the cases in one new process of a backend.

    Args:
        backend: "tensorflow" or "jax".
        cases: what to train.
        extra: names of further functions of this file whose results are wanted.

    Returns:
        Case -> result, and the facts about the process with what the further functions returned.
    """
    import numpy as np

    with tempfile.TemporaryDirectory(prefix="mizoo-tests-") as folder:
        environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": f"{TESTS.parent}:{TESTS}"}
        if backend == "jax":  # a compilation for one step is not worth optimising
            environment["XLA_FLAGS"] = "--xla_backend_optimization_level=0"
        command = [sys.executable, __file__, json.dumps(cases), json.dumps(extra), folder]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800)
        assert done.returncode == 0, done.stderr[-3000:]
        facts = json.loads((Path(folder) / "facts.json").read_text())
        results = {}
        for i, case in enumerate(cases):
            with np.load(Path(folder) / f"{i}.npz") as stored:
                results[case] = Result(facts["terms"][i], dict(stored), facts["cases"][i])
        arrays = Path(folder) / "extra.npz"
        if arrays.exists():
            with np.load(arrays) as stored:
                facts["extra"] |= dict(stored)
    return results, facts


def build_deep_infomax(**settings):
    """One view, with a prior."""
    from mizoo import augment
    from mizoo.objectives import DeepInfoMax

    usual = {"global_weight": 0.5, "critic_width": 12, "augment": augment.preset("dim")}
    return DeepInfoMax(_encoder(), **{**usual, **settings})


def build_views(**settings):
    """Deep InfoMax across two views, with all that can be had."""
    from mizoo import augment

    usual = {"pairs": [("local", "global"), ("conv", "conv")], "clip": 20.0, "score_penalty": 0.05}
    return build_deep_infomax(**{"views": 2, "augment": augment.preset("amdim"), **usual, **settings})


def build_in_blocks(**settings):
    """The same with all its scores formed by blocks, of 4 rows of `local` at most."""
    from mizoo.critics import blocks

    blocks.BUDGET, blocks.BLOCK = 0, 4 * 4 * 64 * 16
    return build_views(**settings)


def build_simclr(**settings):
    """SimCLR."""
    from mizoo import augment
    from mizoo.objectives import SimCLR

    return SimCLR(_encoder(), augment=augment.preset("simclr"), **settings)


def build_cpc(**settings):
    """CPC on a grid, in two directions and with augmented patches."""
    from mizoo import augment
    from mizoo.encoders import patch_grid
    from mizoo.objectives import CPC

    usual = {"steps": 2, "directions": ("down", "left"), "context": "row_gru", "context_size": 5}
    usual["patch_augment"] = augment.preset("patches")
    return CPC(patch_grid(patch=16, width=3, size=6, blocks=1), **{**usual, **settings})


def build_deep_co_training(**settings):
    """Deep co-training with an inner loop."""
    from mizoo import augment
    from mizoo.objectives import DeepCoTraining

    usual = {"form": "doe", "hidden": (7,), "inner_steps": 3, "augment": augment.preset("views")}
    if settings.get("form", "doe") == "doe":
        usual["beta"] = 0.25
    return DeepCoTraining(_encoder(), **{**usual, **settings})


def build_distillation(**settings):
    """Distillation."""
    from mizoo import augment
    from mizoo.objectives import Distillation

    usual = {"teacher_size": 6, "temperature": 0.5, "head_width": 9, "augment": augment.preset("dim")}
    return Distillation(_encoder(), **{**usual, **settings})


def build_whole_paper(**settings):
    """Deep InfoMax with the parts of its paper's appendix at once: occlusion, coordinates and a Gaussian prior."""
    return build_deep_infomax(**{"occlusion": 0.5, "coordinates_weight": 0.2, "prior": "gaussian", **settings})


def build_vae(**settings):
    """A variational autoencoder."""
    from mizoo import augment
    from mizoo.objectives import VAE

    return VAE(_encoder(), augment=augment.preset("dim"), **settings)


def build_aae(**settings):
    """An adversarial autoencoder."""
    from mizoo import augment
    from mizoo.objectives import AAE

    return AAE(_encoder(), augment=augment.preset("dim"), **settings)


def build_supervised(**settings):
    """Training with labels."""
    from mizoo import augment
    from mizoo.objectives import Supervised

    return Supervised(_encoder(), classes=3, augment=augment.preset("dim"), **settings)


BUILDERS = {
    "deep_infomax": build_deep_infomax,
    "whole_paper": build_whole_paper,
    "views": build_views,
    "in_blocks": build_in_blocks,
    "simclr": build_simclr,
    "cpc": build_cpc,
    "deep_co_training": build_deep_co_training,
    "distillation": build_distillation,
    "vae": build_vae,
    "aae": build_aae,
    "supervised": build_supervised,
}


def _encoder():
    from support.encoders import toy_encoder

    return toy_encoder(seed=None)  # the weights are set below


def _prepared(case: Case):
    """The model compiled, its weights fixed."""
    import keras
    import numpy as np

    from mizoo import augment
    from mizoo.critics import blocks

    settings = dict(case.settings)
    if "augment" in settings:
        settings["augment"] = augment.preset(settings["augment"])
    blocks.BUDGET = 1 << 28  # a case with blocks sets another
    model = BUILDERS[case.objective](**settings)
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        if len(variable.shape) > 1:
            variable.assign(rng.standard_normal(variable.shape) / np.sqrt(np.prod(variable.shape[:-1])))
    # Momentum, not Adam: Adam divides by the size of a gradient, so noise in a vanishing one would look like a step.
    co_training = case.objective == "deep_co_training"
    second = keras.optimizers.SGD(0.002) if co_training and model.form == "doe" else None
    model.compile(keras.optimizers.SGD(0.005 if co_training else 0.05, momentum=0.9), second)
    return model


def train(case: Case) -> tuple[dict[str, float], dict[str, Any], dict[str, Any]]:
    """Terms, weights and facts of one case."""
    import keras
    import numpy as np

    from mizoo import data
    from mizoo._tools import keras_private

    keras.utils.clear_session()  # so that weights have the same paths whatever was built before
    with strategy(case.replicas) if case.replicas > 1 else _nothing():
        model = _prepared(case)
    pictures = np.random.default_rng(1).integers(0, 256, (32, 32, 32, 3), dtype="uint8")
    targets = {}
    if case.objective == "distillation":
        targets = {"targets": np.random.default_rng(3).standard_normal((32, 6), dtype="float32")}
    elif case.objective == "supervised":
        targets = {"targets": np.eye(3, dtype="float32")[np.random.default_rng(3).integers(0, 3, 32)]}
    if case.scan:
        for epoch in range(case.epochs):
            terms = model.scan_epoch(pictures, 16, 4, epoch, **targets)
    else:
        arguments = {"x": data.batches(pictures, batch_size=16, seed=4, noise_size=model.noise_size, **targets)}
        if case.last:
            size = 16 + case.last
            noise = np.random.default_rng(2).random((size, model.noise_size), dtype="float32")
            parts = {"images": pictures, "noise": noise, **targets}
            arguments = {"x": {key: value[:size] for key, value in parts.items()}, "batch_size": 16, "shuffle": False}
        history = model.fit(**arguments, epochs=case.epochs, verbose=0).history
        terms = {name: values[-1] for name, values in history.items()}
    norms = [layer for layer in keras_private.all_layers(model) if isinstance(layer, keras.layers.BatchNormalization)]
    facts = {  # configurations are read where there are replicas alone: Keras imports TensorFlow for them
        "replicas": 1 if case.scan else getattr(model, "replicas", 1),
        "synchronised_in_config": case.replicas > 1 and any(norm.get_config()["synchronized"] for norm in norms),
    }
    weights = {
        f"{i} {v.path}".replace("/", "|"): np.asarray(keras.ops.convert_to_numpy(v))
        for i, v in enumerate(model.trainable_variables + model.encoder.non_trainable_variables)
        if not v.path.startswith("seed_generator")
    }
    return {name: float(value) for name, value in terms.items()}, weights, facts


class _nothing:
    def __enter__(self):
        return None

    def __exit__(self, *_):
        return None


def strategy(replicas: int):
    """The scope of a strategy over the first logical CPUs."""
    import tensorflow as tf

    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(replicas)]).scope()


def augmented() -> dict[str, Any]:
    """Every preset, and the operations of none, on fixed pictures and sounds with fixed noise."""
    import keras
    import numpy as np

    from mizoo import augment

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (16, 32, 32, 3), dtype="uint8")
    chains = [preset for preset in augment.PRESETS.values() if preset and preset.takes == "pictures"]
    several = ("RandomResizedCrop", "Blur", "ColourJitter", "Solarise")
    chains.append(augment.Compose([*(getattr(augment, name)() for name in several), augment.Occlude(0.3)]))
    noise = [rng.random((16, chain.noise_size), dtype="float32") for chain in chains]
    made = [keras.ops.convert_to_numpy(chain(images, part)) for chain, part in zip(chains, noise)]
    voice, samples = augment.preset("voice"), rng.normal(0.0, 0.2, (4, 900)).astype("float32")
    heard = voice(samples, rng.random((4, voice.noise_size), dtype="float32"))
    return {"augmented": np.stack(made), "sounds": keras.ops.convert_to_numpy(heard)}


def message(call, *arguments, **settings) -> str:
    """What a call is refused with; empty if it is not."""
    from mizoo.errors import UserError

    try:
        call(*arguments, **settings)
    except UserError as error:
        return str(error)
    return ""


def small_model():
    """Deep InfoMax with a narrow encoder."""
    from mizoo.encoders import conv32
    from mizoo.objectives import DeepInfoMax

    return DeepInfoMax(conv32(widths=(4, 4, 4), fc_size=8, global_size=4), critic_width=4)


def refused_by_scan() -> dict[str, Any]:
    """The messages of batches that an epoch by scan cannot take."""
    import keras
    import numpy as np

    model = small_model()
    model.compile(keras.optimizers.SGD(0.1))
    pictures = np.zeros((4, 32, 32, 3), np.uint8)
    messages = [message(model.scan_epoch, pictures, size, 0, 0) for size in (1, 5, 1.5)]
    return {"scan": [*messages, message(small_model().scan_epoch, pictures, 4, 0, 0)]}


def compiled_again() -> dict[str, Any]:
    """How far an epoch by scan moves the weights, and how far once it was compiled again with tiny gradients."""
    import keras
    import numpy as np

    model, moved = small_model(), []
    pictures = np.random.default_rng(1).integers(0, 256, (8, 32, 32, 3), dtype="uint8")
    for clip in (None, 1e-9):
        model.compile(keras.optimizers.SGD(1.0, clipnorm=clip))
        before = [np.array(v) for v in model.trainable_variables]
        model.scan_epoch(pictures, 4, 0, 0)
        moved.append(sum(float(np.abs(np.array(v) - w).sum()) for v, w in zip(model.trainable_variables, before)))
    return {"moved": moved}


def refused_with_two_replicas() -> dict[str, Any]:
    """The messages of what cannot work with two replicas, and how many of their draws of noise differ."""
    import keras
    import numpy as np
    import tensorflow as tf

    from mizoo import data

    replicated = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

    def compile_message(model, accumulate: int | None = None, **settings) -> str:
        optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=accumulate)
        return message(model.compile, optimizer, **settings)

    found = {}
    outside = small_model()
    with replicated.scope():
        found["outside"] = compile_message(outside)
        found["steps"] = compile_message(small_model(), steps_per_execution=4)
        found["accumulation"] = compile_message(small_model(), accumulate=2)
        model = small_model()
        found["good"] = compile_message(model)
        pictures = np.zeros((15, 32, 32, 3), np.uint8)
        inputs = ((data.batches(pictures, batch_size=15),), (pictures, None, 20), (pictures,))
        found["batches"] = [message(model.fit, *each) for each in inputs]
        found["last"] = message(model.fit, pictures, None, 2)

    @tf.function
    def drawn():
        return replicated.run(lambda: model.draw_noise((2, 3)))

    parts = [part.numpy() for _ in range(3) for part in replicated.experimental_local_results(drawn())]
    found["draws"], found["different_draws"] = len(parts), len({part.tobytes() for part in parts})
    return found


def _main(cases: list[Case], extra: list[str], folder: Path) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import numpy as np

    backend = keras.backend.backend()
    replicas = max([case.replicas for case in cases] + [2 if "refused_with_two_replicas" in extra else 1])
    if replicas > 1:
        import tensorflow as tf

        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * replicas)
    facts: dict[str, Any] = {"backend": backend, "terms": [], "cases": [], "extra": {}}
    for i, case in enumerate(cases):
        terms, weights, about = train(case)
        facts["terms"].append(terms)
        facts["cases"].append(about)
        np.savez(folder / f"{i}.npz", **weights)
    arrays = {}
    for name in extra:
        for key, value in globals()[name]().items():
            (arrays if isinstance(value, np.ndarray) else facts["extra"])[key] = value
    if arrays:
        np.savez(folder / "extra.npz", **arrays)
    facts["tensorflow_imported"] = "tensorflow" in sys.modules
    (folder / "facts.json").write_text(json.dumps(facts))


def _case(content: list) -> Case:
    objective, settings, *rest = content
    return Case(objective, tuple((key, value) for key, value in settings), *rest)


if __name__ == "__main__":
    _main([_case(each) for each in json.loads(sys.argv[1])], json.loads(sys.argv[2]), Path(sys.argv[3]))
