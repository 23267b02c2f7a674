"""An exported encoder in an environment with tensorflow-addons: `make slow-addons`.

Run by its Python, which has TensorFlow 2.15 and no mizoo: loads a SavedModel, trains a head on its features with
`tfa.optimizers.LAMB`, and exits with 1 if that teaches it nothing.
"""

from __future__ import annotations

import sys

import numpy as np
import tensorflow as tf
import tensorflow_addons as tfa


def main(folder: str) -> None:
    """Train a head that tells light at the top of a picture from light at the bottom."""
    encoder = tf.saved_model.load(folder)
    rng = np.random.default_rng(0)
    labels = np.arange(256) % 2
    light = np.where(np.arange(32)[None, :] < 16, labels[:, None], 1 - labels[:, None]) * 60 + 90
    images = np.clip(light[:, :, None, None] + rng.normal(0, 40, (256, 32, 32, 3)), 0, 255).astype("float32")
    features = encoder.signatures["serve"](images=tf.constant(images))["fc"].numpy()
    as_bytes = encoder.signatures["serve_uint8"](images=tf.constant(images.astype("uint8")))["fc"].numpy()
    assert np.abs(features - as_bytes).max() < 0.1 * np.abs(features).max()

    head = tf.keras.Sequential([tf.keras.layers.Dense(2)])
    head.compile(
        tfa.optimizers.LAMB(0.01), tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True), ["accuracy"]
    )
    head.fit(features[:192], labels[:192], epochs=30, verbose=0)
    accuracy = head.evaluate(features[192:], labels[192:], verbose=0)[1]
    print(
        f"tensorflow {tf.__version__}, tensorflow-addons {tfa.__version__}: {100 * accuracy:.1f} % with LAMB, chance 50"
    )
    sys.exit(accuracy < 0.9)


if __name__ == "__main__":
    main(sys.argv[1])
