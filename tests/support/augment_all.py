"""Applies every preset to fixed pictures with fixed noise and saves the result; run by test_augment.py."""

from __future__ import annotations

import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from mizoo import augment

rng = np.random.default_rng(0)
images = rng.integers(0, 256, (16, 32, 32, 3), dtype="uint8")
chains = [preset for preset in augment.PRESETS.values() if preset]
chains.append(
    augment.Compose(
        [
            augment.RandomResizedCrop(),
            augment.Blur(),
            augment.ColourJitter(),
            augment.Solarise(),
            augment.Occlude(0.3),
        ]
    )
)
made = [
    keras.ops.convert_to_numpy(chain(images, rng.random((16, chain.noise_size), dtype="float32"))) for chain in chains
]
np.save(sys.argv[1], np.stack(made))
print(json.dumps(keras.backend.backend()))
