"""Trains a tiny DeepInfoMax from fixed weights and prints terms and weights as JSON; run by tests of the objectives."""

from __future__ import annotations

import argparse
import json
import os
import sys

parser = argparse.ArgumentParser()
parser.add_argument("--bound", default="infonce")
parser.add_argument("--negatives", default="images")
parser.add_argument("--critic", default="encode_dot")
parser.add_argument(
    "--objective", choices=("dim", "views", "simclr", "cpc", "co_training", "distillation"), default="dim"
)
parser.add_argument("--form", default="doe")
parser.add_argument("--replicas", type=int, default=1)
parser.add_argument("--epochs", type=int, default=1)
parser.add_argument("--last", type=int, help="Pictures of a second, smaller batch.")
parser.add_argument("--scan", action="store_true")
options = parser.parse_args()
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from mizoo import augment, data
from mizoo._tools import keras_private
from mizoo.encoders import conv32, patch_grid
from mizoo.objectives import CPC, DeepCoTraining, DeepInfoMax, Distillation, Objective, SimCLR


def build() -> Objective:
    if options.objective == "cpc":
        return prepared(
            CPC(
                patch_grid(patch=16, width=3, size=6, blocks=1),
                steps=2,
                negatives=options.negatives,
                directions=("down", "left"),
                context="row_gru",
                context_size=5,
                patch_augment=augment.preset("patches"),
            )
        )
    encoder = conv32(widths=(4, 6, 8), fc_size=16, global_size=5)
    if options.objective == "co_training":
        form = {"form": options.form, "beta": 0.25 if options.form == "doe" else 0.0}
        model = DeepCoTraining(encoder, hidden=(7,), inner_steps=3, augment=augment.preset("views"), **form)
        density = {"density_optimizer": keras.optimizers.SGD(0.002)} if options.form == "doe" else {}
        return prepared(model, rate=0.005, **density)
    if options.objective == "distillation":
        return prepared(Distillation(encoder, 6, temperature=0.5, head_width=9, augment=augment.preset("dim")))
    if options.objective == "simclr":
        model = SimCLR(encoder, augment=augment.preset("simclr"))
    else:
        views = {
            "views": 2,
            "pairs": [("local", "global"), ("conv", "conv")],
            "clip": 20.0,
            "score_penalty": 0.05,
            "augment": augment.preset("amdim"),
        }
        model = DeepInfoMax(
            encoder,
            global_weight=0.5,
            bound=options.bound,
            negatives=options.negatives,
            critic=options.critic,
            critic_width=12,
            **(views if options.objective == "views" else {"augment": augment.preset("dim")}),
        )
    return prepared(model)


def prepared(model: Objective, rate: float = 0.05, **settings) -> Objective:
    """The model compiled, its weights fixed."""
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        if len(variable.shape) > 1:
            variable.assign(rng.standard_normal(variable.shape) / np.sqrt(np.prod(variable.shape[:-1])))
    # Momentum, not Adam: Adam divides by the size of a gradient, so noise in a vanishing one would look like a step.
    model.compile(keras.optimizers.SGD(rate, momentum=0.9), **settings)
    return model


replicas = 1
if options.replicas > 1:
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * options.replicas)
    strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(options.replicas)])
    replicas = strategy.num_replicas_in_sync
    with strategy.scope():
        model = build()
else:
    model = build()

pictures = np.random.default_rng(1).integers(0, 256, (32, 32, 32, 3), dtype="uint8")
targets = {}
if options.objective == "distillation":
    targets = {"targets": np.random.default_rng(3).standard_normal((32, 6), dtype="float32")}
batches = data.batches(pictures, batch_size=16, seed=4, noise_size=model.noise_size, **targets)
if options.scan:
    for epoch in range(options.epochs):
        terms = model.scan_epoch(pictures, 16, 4, epoch, **targets)
else:
    arguments = {"x": batches}
    if options.last:
        noise = np.random.default_rng(2).random((16 + options.last, model.noise_size), dtype="float32")
        images = pictures[: 16 + options.last]
        last = {key: values[: len(images)] for key, values in targets.items()}
        arguments = {"x": {"images": images, "noise": noise, **last}, "batch_size": 16, "shuffle": False}
    history = model.fit(**arguments, epochs=options.epochs, verbose=0).history
    terms = {name: values[-1] for name, values in history.items()}
norms = [layer for layer in keras_private.all_layers(model) if isinstance(layer, keras.layers.BatchNormalization)]
print(
    json.dumps(
        {
            "backend": keras.backend.backend(),
            "replicas": replicas,
            "tensorflow_imported": "tensorflow" in sys.modules,
            "synchronised_in_config": any(norm.get_config()["synchronized"] for norm in norms),
            "terms": {name: float(value) for name, value in terms.items()},
            "weights": {
                f"{i} {v.path}": np.asarray(keras.ops.convert_to_numpy(v)).tolist()
                for i, v in enumerate(model.trainable_variables + model.encoder.non_trainable_variables)
                if not v.path.startswith("seed_generator")
            },
        }
    )
)
