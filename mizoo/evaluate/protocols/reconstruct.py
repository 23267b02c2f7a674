"""How much of the pictures a decoder brings back from frozen features: MS-SSIM (Hjelm et al. 2018, section 4.1)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mizoo._tools.keras_backend import fast_precision
from mizoo.data.sampling import shuffled_batches
from mizoo.errors import UserError
from mizoo.evaluate.protocols import LeftOut, Options, Score, Task
from mizoo.evaluate.protocols.linear import standardisation, standardise
from mizoo.zoo.copies import random_copy

STEPS = 2000
BATCH_SIZE = 128
RATE = 1e-3
# Wang, Simoncelli and Bovik 2003: the filter, and the exponents of the five scales, of which each halves the picture.
FILTER_SIZE = 11
FILTER_SIGMA = 1.5
EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_BLOCK = 500


def run(task: Task, options: Options, progress) -> Score:
    """The protocol `reconstruct`."""
    progress.resize(STEPS)
    assert task.train_x is not None and task.train_images is not None and task.test_images is not None
    side = min(task.test_images.shape[1:3])
    if not scales_for(side):
        raise LeftOut(f"MS-SSIM takes pictures of {FILTER_SIZE} pixels at least. Received: {side}.")
    restored = reconstruct(task.train_x, task.train_images, task.test_x, advance=progress.advance)
    value = ms_ssim(task.test_images, restored)
    settings = {
        "decoder": "mizoo.encoders.decoder",
        "loss": "mean squared error",
        "steps": STEPS,
        "batch_size": BATCH_SIZE,
        "learning_rate": RATE,
        "scales": scales_for(side),
        "filter_size": FILTER_SIZE,
        "filter_sigma": FILTER_SIGMA,
        "mean_squared_error": round(float(np.mean((restored - task.test_images) ** 2, dtype="float64")), 2),
    }
    return Score(value, settings)


def reconstruct(
    train_x: np.ndarray,
    train_images: np.ndarray,
    test_x: np.ndarray,
    steps: int = STEPS,
    seed: int = 0,
    advance: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Train a decoder on squared errors and decode.

    Args:
        train_x: features (N, D) of the training pictures.
        train_images: those pictures (N, H, W, C), 0..255.
        test_x: features (M, D).
        steps: of Adam, whose rate falls to 0 along a cosine.
        seed: of the first weights and the order of the pictures.
        advance: called with the number of steps done.

    Returns:
        Pictures (M, H, W, C), float32 in 0..255.

    Raises:
        UserError: for fewer than two pictures to train on.
    """
    import keras

    from mizoo.encoders.decoder import decoder

    if len(train_x) < 2:
        raise UserError(f"A decoder is trained on two pictures at least. Received: {len(train_x)}")
    mean, scale = standardisation(train_x)
    model = random_copy(decoder(train_x.shape[1], train_images.shape[1:]), seed, fast_precision())
    model.compile(
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(RATE, steps)),
        loss="mean_squared_error",
    )
    for rows in shuffled_batches(len(train_x), BATCH_SIZE, steps, np.random.default_rng(seed)):
        model.train_on_batch(standardise(train_x[rows], mean, scale), train_images[rows].astype("float32") / 127.5 - 1)
        if advance is not None:
            advance(1)
    blocks = [
        np.asarray(model.predict_on_batch(standardise(test_x[start : start + _BLOCK], mean, scale)), "float32")
        for start in range(0, len(test_x), _BLOCK)
    ]
    return np.clip((np.concatenate(blocks) + 1) * 127.5, 0, 255)


def ms_ssim(images: np.ndarray, others: np.ndarray) -> float:
    """Mean multi-scale structural similarity of pictures (N, H, W, C), 0..255, by TensorFlow's `ssim_multiscale`.

    With a Gaussian filter of 11 pixels and standard deviation 1.5, on `scales_for` scales; the exponents of Wang et al.
    2003 for these are scaled to add up to 1.

    Raises:
        UserError: where TensorFlow is missing.
    """
    try:
        import tensorflow as tf
    except ImportError:
        raise UserError("MS-SSIM is computed by TensorFlow: install the `tensorflow` extra.") from None
    exponents = EXPONENTS[: scales_for(min(images.shape[1:3]))]
    powers = [exponent / sum(exponents) for exponent in exponents]
    values = [
        tf.image.ssim_multiscale(
            images[start : start + _BLOCK].astype("float32"),
            others[start : start + _BLOCK].astype("float32"),
            255.0,
            powers,
            FILTER_SIZE,
            FILTER_SIGMA,
        ).numpy()
        for start in range(0, len(images), _BLOCK)
    ]
    return float(np.concatenate(values).mean(dtype="float64"))


def scales_for(side: int) -> int:
    """How many of the five scales pictures of this smaller side allow: on the last one the filter still fits."""
    return sum(side // 2**scale >= FILTER_SIZE for scale in range(len(EXPONENTS)))
